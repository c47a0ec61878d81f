"""Warp-refine: what the refining network is told, what it begins as, and how labels spread from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.kept import Kept
from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.parts.rounds import KEPT, NOW
from s4kit.methods.video.warp_refine import nearest
from s4kit.views.motion import along

SMALL = dict(batch=2, lr=1e-2, optimiser="sgd", probes=2, progress=False, device="cpu", evaluate_every=99)
LAST = Clock(0, 10, stage=2)


def cross_entropy(scores: torch.Tensor, label: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """The sum over the pixels used, one after the other."""
    log = scores - scores.exp().sum(1, keepdim=True).log()
    total = torch.zeros(())
    for b, y, x in used.nonzero().tolist():
        total = total - log[b, int(label[b, y, x]), y, x]
    return total


def gradients(method, value: torch.Tensor) -> list[torch.Tensor]:
    method.zero_grad()
    value.backward()
    return [p.grad.clone() for p in method.parameters() if p.grad is not None]


def same(method, one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other)
    for a, b in zip(gradients(method, one), gradients(method, other), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_the_refining_network_learns_to_undo_the_damage(build, draw) -> None:
    """Channels put together pixel by pixel: red, green, blue, one for each class, and whether one is known."""
    method = build("warp_refine", drop=1.0).eval()
    plan = method.stages()[1].views
    batch = draw(method, batch=1, crop=32, plan=plan)
    x, spoilt, box = batch.x, batch.x.maps["cycle"], batch.x.masks[0]
    assert (spoilt == 255).any() and (spoilt != 255).any() and box.any()
    given = torch.zeros(len(x), 3 + 4 + 1, 32, 32)
    given[:, :3] = x.weak
    for b, row, column in np.ndindex(len(x), 32, 32):
        said = int(spoilt[b, row, column])
        if said != 255 and not box[b, row, column]:
            given[b, 3 + said, row, column] = given[b, 7, row, column] = 1
    known = x.label != 255
    trust = torch.einsum("kc,bchw->bkhw", method.refiner.heads["trust"].weight[..., 0, 0], given[:, 3:])
    expected = cross_entropy(method.refiner(given) + trust, x.label, known) / known.sum()
    same(method, method.refine(batch, Clock(0, 10, stage=1)).total, expected)


def test_one_mean_over_labels_and_carried_labels_that_are_sure(build, draw) -> None:
    method = build("warp_refine", sure=0.99).eval()
    batch = draw(method, crop=16)
    u, doubt = batch.u, torch.randint(0, 6, batch.u.label.shape, generator=torch.Generator().manual_seed(0))
    u.maps["doubt"] = doubt
    sure = (u.maps["label"] != 255) & (1 - doubt / 254 >= 0.99) & (u.valid > 0)
    assert 0 < sure.sum() < sure.numel()
    known = batch.x.label != 255
    total = cross_entropy(method.student(batch.x.weak), batch.x.label, known)
    total = total + cross_entropy(method.student(u.weak), u.maps["label"], sure)
    losses = method.losses(batch, LAST)
    same(method, losses.total, total / (known.sum() + sure.sum()))
    target = losses.seen[f"{KEPT}/target"]
    assert torch.equal(target.weight > 0, sure | (u.valid == 0) & (target.weight > 0))
    torch.testing.assert_close(target.confidence, 1 - doubt / 254.0)


def test_it_begins_as_the_semantic_network_and_hears_nothing_of_unknown_labels(build, draw) -> None:
    method = build("warp_refine", trust=0.0).eval()
    image, label = draw(method).x.weak, draw(method).x.label
    with torch.no_grad():
        method.inherit()
        assert torch.equal(method.refined(image, label), method.student(image)), "it does not listen yet"
        first = next(p for p in method.refiner.parameters() if p.dim() == 4 and p.shape[1] == 8)
        first[:, 3:] += 1.0
        nothing = torch.full_like(label, 255)
        assert torch.equal(method.refined(image, nothing), method.student(image))
        assert not torch.allclose(method.refined(image, label), method.student(image))
        believing = build("warp_refine", trust=50.0).eval()
        known = label != 255
        assert torch.equal(believing.refined(image, label).argmax(1)[known], label[known])


def test_each_frame_learns_from_the_nearest_label() -> None:
    task = toy_task()
    assert list(task.train.clip(13)) == [1, 7, 13, 19]
    ways = nearest(task, 1)
    assert ways[1] == (0, 1) and ways[7] == (0, 7) and ways[13] == (1, 7) and 19 not in ways
    assert nearest(task, 2)[19] == (2, 13) and nearest(task, 4)[20] == (3, 14), "through frames that have one by then"


def echo(method):
    """A refining network that repeats what it is told, and is sure of it."""
    return lambda image, label: 50 * F.one_hot(label % 255, method.classes).movedim(-1, 1).float()


@pytest.mark.parametrize("reach", [1, 3])
def test_labels_spread_from_frame_to_frame(reach, tmp_path) -> None:
    task = toy_task(n_labelled=4, n_unlabelled=12)
    torch.manual_seed(0)
    method = methods.create("warp_refine", task, net="tiny", reach=reach, sure=0.8)
    method.refined = echo(method)
    method.refine = lambda batch, clock: method.semantic(batch, clock).add("r", sum(
        p.sum() for p in method.refiner.parameters()), 0.0)  # fmt: skip
    run = fit(method, task, steps=12, out=tmp_path / "run", **SMALL)
    assert [(stage["name"], stage["steps"]) for stage in run.config["stages"]] == [
        ("semantic", 3), ("refine", 3), ("final", 6)
    ]  # fmt: skip
    kept = Kept(str(run.path / "store"), 2)
    for row in task.labelled:
        clip = list(task.train.clip(row))
        assert clip[0] == row, "the first frame of each clip is labelled"
        truth = task.train.label(row)
        assert np.array_equal(kept.read("label", row), truth)
        for k in range(1, 4):
            found = kept.read("label", clip[k])
            assert (found is not None) == (k <= reach)
            if found is None:
                continue
            carried = along(task.train, truth, clip[: k + 1])
            known = carried != 255
            assert known.any() and np.array_equal(found[known], carried[known]), "frame by frame, as it was warped"
            assert kept.read("doubt", clip[k]).max() == 0
    assert int(method.reached.sum()) == reach * len(task.labelled)
    names = {row["name"] for row in run.pseudo()}
    assert names == {KEPT, NOW}


def test_wrong_options(build) -> None:
    with pytest.raises(S4Error, match="holes='no'"):
        build("warp_refine", holes="no")
    with pytest.raises(S4Error, match="reach=0"):
        build("warp_refine", reach=0)
