"""MLLC's graphs against slow ones, and what its levels learn (parity of the semantic graph: tests/golden)."""

from __future__ import annotations

import torch

from s4kit.methods import Clock
from s4kit.methods.parts.graphs import class_graph, semantic_graph, settled_pixels, spread
from s4kit.methods.selftraining.mllc import GraphLayer, full

LATE = Clock(90, 100)


def test_the_semantic_graph_against_a_loop() -> None:
    torch.manual_seed(0)
    f = torch.randn(1, 3, 3, 4)
    rows = f.flatten(2)[0].T
    a = torch.zeros(12, 12)
    for i in range(12):
        cosines = torch.tensor([max(0.0, float(torch.cosine_similarity(rows[i], rows[j], dim=0))) for j in range(12)])
        for j in cosines.argsort(descending=True)[:5].tolist():
            a[i, j] = cosines[j]
    a = a + a.T
    d = a.sum(1)
    expected = a / (d[:, None] * d[None, :]).sqrt()
    torch.testing.assert_close(semantic_graph(f, 4)[0], expected)
    torch.testing.assert_close(semantic_graph(f, 4), semantic_graph(f, 4).mT)


def test_alike_pixels_share_and_isolated_ones_keep() -> None:
    z = torch.randn(1, 4, 2, 3)
    same = spread(semantic_graph(torch.ones(1, 5, 2, 3), 20), z)
    torch.testing.assert_close(same, z.mean((2, 3), keepdim=True).expand_as(z))
    alone = torch.eye(6).view(1, 6, 2, 3)
    torch.testing.assert_close(spread(semantic_graph(alone, 3), z), z)


def test_the_class_graph_joins_pixels_of_one_class_alone() -> None:
    z = torch.tensor([[3.0, 2.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0]]).view(1, 2, 2, 2)
    graph = class_graph(z, z)[0]
    joined = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).bool()
    assert torch.equal(graph > 0, joined)
    torch.testing.assert_close(graph.sum(1), torch.ones(4), atol=0.05, rtol=0)


def test_settled_pixels_and_how_much_they_take() -> None:
    torch.manual_seed(0)
    z, f = torch.randn(2, 3, 4, 4), torch.randn(2, 6, 4, 4)
    assert bool(settled_pixels(z, torch.zeros(3), 0.95).all()), "nothing was sure so far"
    seen = torch.tensor([100.0, 100.0, 100.0])
    confidence = z.softmax(1).amax(1)
    assert torch.equal(settled_pixels(z, seen, 0.6), confidence >= 0.6)
    rare = settled_pixels(z, torch.tensor([100.0, 100.0, 10.0]), 0.6)
    assert torch.equal(rare, (confidence >= 0.6) | ((z.argmax(1) == 2) & (confidence >= 0.06)))
    layer = GraphLayer(3, 6, 5, 0.6)
    out, settled = layer.mixed(z, f, seen)
    new = spread(semantic_graph(f, 5), z)
    mask = settled[:, None].expand_as(z)
    torch.testing.assert_close(out[mask], (0.2 * new + 0.8 * z)[mask])
    torch.testing.assert_close(out[~mask], (0.8 * new + 0.2 * z)[~mask])


def test_no_gradient_through_the_graphs() -> None:
    z, f = torch.randn(1, 3, 3, 3, requires_grad=True), torch.randn(1, 4, 3, 3, requires_grad=True)
    layer = GraphLayer(3, 4, 3, 0.9)
    out, _ = layer.mixed(z, f, torch.ones(3))
    out.sum().backward()
    assert f.grad is None and z.grad is not None


def test_all_levels_learn_from_labels_that_are_the_last_one_s(build, draw) -> None:
    method = build("mllc", sure=0.0).eval()
    batch = draw(method)
    losses = method.losses(batch, LATE)
    assert torch.equal(losses.seen["target"].label, full(method.levels(batch.u.weak)[-1].logits, batch.u.weak,
                                                         method.student).argmax(1))  # fmt: skip
    levels = method.levels(batch.x.weak)
    expected = sum(
        torch.nn.functional.cross_entropy(
            full(level.logits, batch.x.weak, method.student), batch.x.label, ignore_index=255
        )
        for level in levels
    )
    torch.testing.assert_close(losses["x"][0], expected)
    losses["u"][0].backward()
    assert all(p.grad is not None and p.grad.any() for layer in method.graphs for p in layer.labels.parameters())


def test_the_uniform_weight_is_the_share_of_sure_pixels(build, draw) -> None:
    method = build("mllc", sure=0.5)
    view = draw(method).u
    z = torch.zeros(2, 4, 32, 32)
    z[:, 1, :8] = 9.0
    assert torch.allclose(method.pseudo_labels(z, view, LATE).weight, torch.tensor(0.25))


def test_prototypes_come_late_and_counts_only_grow(build, draw) -> None:
    method = build("mllc", late=0.5, level=0.3).train()
    batch = draw(method)
    first = method.losses(batch, Clock(0, 100))
    assert first["prototypes"][1] == 0 and all(bool((bank.moves > 0).any()) for bank in method.banks)
    before = method.seen.clone()
    assert float(before.sum()) > 0
    late = method.losses(batch, LATE)
    assert late["prototypes"][1] == 0.1 and float(late["prototypes"][0].detach()) > 0
    assert bool((method.seen >= before).all())


def test_classmix_moves_labels_with_pixels(build, draw) -> None:
    method = build("mllc", mix=True).train()
    torch.manual_seed(0)
    losses = method.losses(draw(method), LATE)
    assert not torch.equal(losses.seen["mixed"], losses.seen["weak"]) and losses.total.isfinite()
