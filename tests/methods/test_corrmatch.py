"""What a correct CorrMatch shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.parts import correlation
from s4kit.methods.parts.losses import ce

MIDDLE = Clock(50, 100)


def slow_spread(label, kept, regions, where, tau):
    """Region propagation for one image, in plain numpy, as the paper tells it."""
    label, wide = label.copy(), kept.copy()
    for shape in regions:
        region = shape & where
        sure = region & kept
        if not sure.any() or sure.sum() / region.sum() < tau:
            continue
        found, votes = np.unique(label[sure], return_counts=True)
        if votes.max() / sure.sum() > tau:
            label[region] = found[votes.argmax()]
            wide |= region
    return label, wide


def test_regions_spread_as_by_loops():
    rng = np.random.default_rng(0)
    size, classes, tau = (3, 12, 13), 4, 0.6
    label = np.kron(rng.integers(0, classes, (3, 3, 4)), np.ones((1, 4, 4), int))[:, :12, :13]
    label = np.pad(label, ((0, 0), (0, 0), (0, 13 - label.shape[2])), mode="edge")
    kept, where = rng.random(size) < 0.75, rng.random(size) < 0.8
    corners = rng.integers(0, 8, (3, 40, 2))
    regions = np.zeros((3, 40, 12, 13), bool)
    for (b, k), (y, x) in zip(np.ndindex(3, 40), corners.reshape(-1, 2)):
        regions[b, k, y : y + 5, x : x + 4] = True
    pl = PseudoLabels(
        torch.from_numpy(label),
        torch.rand(size),
        torch.from_numpy(kept).float(),
        torch.ones(size),
        torch.rand(3, 4, 12, 13),
    )
    found = correlation.spread(pl, torch.from_numpy(regions), torch.from_numpy(where), tau, classes)
    changed = 0
    for b in range(3):
        expected, wide = slow_spread(label[b], kept[b], regions[b], where[b], tau)
        assert np.array_equal(found.label[b].numpy(), expected)
        assert np.array_equal(found.weight[b].numpy() > 0, wide)
        changed += (expected != label[b]).sum()
    assert changed > 0 and (found.weight >= pl.weight).all()
    assert torch.equal(found.label[torch.from_numpy(~where)], pl.label[torch.from_numpy(~where)])


def test_logits_pass_along_similarities_as_by_loops():
    left, right, z = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2)
    g1, g2, flat = (t[0].flatten(1).double() for t in (left, right, z))
    passed = torch.zeros(3, 4, dtype=torch.float64)
    for i in range(4):
        weights = torch.stack([(g1[:, i] * g2[:, j]).sum() / 3**0.5 for j in range(4)]).exp()
        for j in range(4):
            passed[:, j] += flat[:, i] * weights[j] / weights.sum()
    found = correlation.propagate(z, correlation.similarity(left, right))
    assert torch.allclose(found[0].flatten(1).double(), passed, atol=1e-6)


def test_without_similarity_every_position_gets_the_mean():
    z = torch.randn(2, 3, 4, 5)
    similar = correlation.similarity(torch.zeros(2, 3, 4, 5), torch.randn(2, 3, 4, 5))
    assert torch.allclose(correlation.propagate(z, similar), z.mean((2, 3), keepdim=True).expand_as(z), atol=1e-6)


def test_the_branch_learns_from_its_own_terms_and_the_main_head_does_not(build, draw):
    method = build("corrmatch", tau=0.0).train()
    losses = method.losses(draw(method), MIDDLE)
    sum(losses[k][0] for k in ("x_corr", "corr_s", "corr_w")).backward()
    head, student = method.student.heads["correlation"], method.student
    assert all(p.grad.abs().sum() > 0 for p in (head.left.weight, head.right.weight, head.project[0].weight))
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.backbone.parameters())
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in student.decoder.parameters())


def test_without_shapes_the_strong_term_is_plain_cross_entropy(build, draw):
    method = build("corrmatch", tau=0.0, momentum=1.0).eval()
    batch = draw(method)
    batch.u.masks = [torch.zeros_like(m) for m in batch.u.masks]
    method.shapes = lambda similar, grid, size: torch.zeros(len(similar), 4, *size, dtype=torch.bool)
    losses = method.losses(batch, MIDDLE)
    z_w, z_s = method.student(batch.u.weak), method.student(batch.u.strong[0])
    assert torch.allclose(losses["s"][0], ce(z_s, z_w.argmax(1)), rtol=1e-5)
    slow = torch.nn.functional.kl_div(z_s.log_softmax(1), z_w.softmax(1), reduction="none").sum(1).mean()
    assert torch.allclose(losses["kl"][0], slow, rtol=1e-4)


def test_inside_the_box_the_soft_target_is_the_partners(build, draw):
    method = build("corrmatch", tau=0.0)
    batch = draw(method)
    batch.u.masks = [torch.ones_like(m) for m in batch.u.masks]
    z_v, _ = method.teach(batch.v)
    target = method.losses(batch, MIDDLE).seen["target"]
    assert torch.equal(target.soft, z_v.softmax(1)) and torch.equal(target.label, z_v.argmax(1))


def test_the_threshold_follows_slowly_and_never_counts_padding(build):
    method = build("corrmatch", tau=0.5, momentum=0.9)
    logits, valid = torch.zeros(1, 4, 2, 2), torch.ones(1, 2, 2)
    logits[0, 1, 0, 0], logits[0, 2, 0, 1], logits[0, 1, 1, 0] = 9.0, 2.0, 1.0
    valid[0, 1, 1] = 0
    p = logits.softmax(1)
    expected = (p[0, 1, 0, 0] + p[0, 2, 0, 1]) / 2
    method.observe(logits, valid)
    assert method.tau.item() == pytest.approx(0.9 * 0.5 + 0.1 * expected.item())
    before = method.tau.clone()
    method.observe(logits, torch.zeros(1, 2, 2))
    assert torch.equal(method.tau, before)


def test_looking_is_without_chance_and_training_draws(build, draw):
    method = build("corrmatch", rows=3)
    batch = draw(method, crop=64)
    first, again = method.teach(batch.u), method.teach(batch.u)
    assert torch.equal(first[1], again[1])
    rows = [correlation.places(3, 16, torch.device("cpu"), at_random=True) for _ in range(9)]
    assert len({tuple(r.tolist()) for r in rows}) > 1
    assert any(15 in correlation.places(64, 16, torch.device("cpu"), True) for _ in range(9)), "the last one counts"
