"""What a correct PCR shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.contrastive.pcr import draw_grid, read
from s4kit.methods.parts.prototypes import PrototypeSets, k_means

MIDDLE = Clock(50, 100)


def sets(each: int = 3, seed: int = 0) -> PrototypeSets:
    torch.manual_seed(seed)
    made = PrototypeSets(4, each, 5)
    made.mean.copy_(torch.randn(4, each, 5))
    return made


def test_order_and_length_of_prototypes_do_not_matter_and_scores_are_cosines() -> None:
    one, features = sets(), torch.randn(20, 5)
    score, match = one.nearest(features)
    other = sets()
    other.mean.copy_(7 * one.mean[:, [2, 0, 1]])
    torch.testing.assert_close(other.nearest(3 * features)[0], score)
    assert score.abs().max() <= 1 + 1e-6 and match.max() == 2
    single = sets(each=1)
    wanted = torch.nn.functional.cosine_similarity(features[:, None], single.mean[:, 0], dim=2)
    torch.testing.assert_close(single.nearest(features)[0], wanted)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_a_prototype_moves_to_the_pixels_nearest_to_it(momentum: float) -> None:
    made, features, label = sets(), torch.randn(40, 5), torch.randint(0, 3, (40,))
    label[::7] = 255
    before = made.mean.clone()
    _, match = made.nearest(features)
    made.average(features, label, match, momentum)
    assert torch.equal(made.mean[3], before[3]), "no pixel of class 3"
    for c in range(3):
        for k in range(3):
            own = features[(label == c) & (match[:, c] == k)]
            wanted = momentum * before[c, k] + (1 - momentum) * own.mean(0) if len(own) else before[c, k]
            torch.testing.assert_close(made.mean[c, k], wanted)


def test_k_means_finds_clusters_and_leaves_out_what_is_not_there() -> None:
    torch.manual_seed(0)
    centre = torch.tensor([[0.0, 10], [10, 0], [-10, -10]])
    rows = torch.cat([(centre[:, None] + 0.1 * torch.randn(3, 20, 2)).flatten(0, 1), torch.full((30, 2), 500.0)])
    found = k_means(rows, torch.tensor(60), 3)
    assert torch.cdist(found, centre).amin(0).max() < 0.1
    assert k_means(rows, torch.tensor(1), 4).allclose(rows[0].expand(4, -1), atol=1e-4), "a single row"
    one = sets()
    before = one.mean.clone()
    one.seed(torch.zeros(4, 6, 5), torch.tensor([6, 0, 0, 0]))
    assert (one.mean[0] == 0).all() and torch.equal(one.mean[1:], before[1:])


@pytest.mark.parametrize(("size", "cells"), [((32, 48), 8), ((33, 47), 8), ((5, 40), 8)])
def test_one_pixel_of_each_cell(size: tuple[int, int], cells: int) -> None:
    rows, columns = draw_grid(size, cells, torch.device("cpu"))
    down, across = (min(cells, side) for side in size)
    heights, widths = size[0] // down, size[1] // across
    assert (rows // heights * across + columns // widths).tolist() == list(range(down * across))


@pytest.mark.parametrize("align_corners", [True, False])
def test_reading_is_enlarging_and_choosing(align_corners: bool) -> None:
    map, size = torch.randn(2, 3, 6, 8), (21, 30)
    places = draw_grid(size, 5, torch.device("cpu"))
    whole = torch.nn.functional.interpolate(map, size, mode="bilinear", align_corners=align_corners)
    wanted = whole[:, :, places[0], places[1]].mT.flatten(0, 1)
    torch.testing.assert_close(read(map, places, size, align_corners), wanted, atol=1e-5, rtol=1e-5)


def test_prototype_terms_reach_the_encoder_and_not_the_classifier(build, draw) -> None:
    method = build("pcr", grid=8, tau=0.0)
    method.prototypes.mean.normal_(generator=torch.Generator().manual_seed(0))
    losses = method.train().losses(draw(method), MIDDLE)
    for name in ("x_proto", "u_proto"):
        net = method.student
        of = {"encoder": net.backbone, "classifier": net.decoder.convs}
        for part, module in of.items():
            grads = torch.autograd.grad(
                losses[name][0], list(module.parameters()), retain_graph=True, allow_unused=True
            )
            reached = sum(g.abs().sum() for g in grads if g is not None)
            assert (reached > 0) == (part == "encoder")
    assert not method.prototypes.mean.requires_grad


def test_the_warm_up_gathers_features_and_ends_with_prototypes(build, draw) -> None:
    method = build("pcr", warmup=0.5, grid=8, seeds=32).train()
    batch = draw(method)
    for t in (0, 1):
        losses = method.losses(batch, Clock(t, 4))
        assert losses["u"][0] == 0 and (method.prototypes.mean == 0).all()
    present = [k for k in range(4) if (batch.x.label == k).any()]
    assert (method.seeds.count[present] > 0).any()
    method.after_step(Clock(1, 4))
    seeded = method.prototypes.mean.abs().sum((1, 2)) > 0
    assert torch.equal(seeded, method.seeds.count > 0)
    for p in method.student.parameters():
        p.data.fill_(0.5)
    method.after_step(Clock(1, 4))
    assert all((p == 0.5).all() for p in method.teacher.parameters()), "until then the teacher copies"
