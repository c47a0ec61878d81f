"""What a correct DGCL shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from s4kit.methods import Clock, Method, create
from s4kit.methods.parts.sparsity import density, masked_contrast, spread

MIDDLE = Clock(50, 100)


def test_many_copies_are_dense_and_an_almost_empty_memory_judges_nothing() -> None:
    torch.manual_seed(0)
    f = torch.randn(1, 6)
    memory = torch.cat([3 * f.expand(8, -1), torch.randn(20, 6)])
    assert density(f, memory, torch.tensor(28), (2, 8)).item() == pytest.approx(1, abs=1e-6)
    assert density(f, memory[8:], torch.tensor(20), (2, 8)) < 0.95
    assert density(f, memory, torch.tensor(4), (2, 8)) == -torch.inf


def test_spread_takes_everything_or_evenly() -> None:
    torch.manual_seed(0)
    mask = torch.zeros(3, 200, dtype=torch.bool)
    mask[0, ::3], mask[1, 5:12] = True, True
    index, real = spread(mask, 20)
    assert real.sum(1).tolist() == [20, 7, 0]
    assert index[1][real[1]].tolist() == list(range(5, 12))
    gaps = index[0].diff()
    assert mask[0, index[0]].all() and gaps.min() >= 9 and gaps.max() <= 12


def test_without_negatives_the_loss_is_nothing_and_unreal_anchors_do_not_count() -> None:
    torch.manual_seed(0)
    anchor, positive, negative = torch.randn(1, 4, 5), torch.randn(1, 5), torch.randn(1, 6, 5)
    none, real = torch.zeros(1, 6, dtype=torch.bool), torch.tensor([[True, True, False, False]])
    assert masked_contrast(anchor, real, positive, negative, none, 0.5).abs() < 1e-6
    found = masked_contrast(anchor, real, positive, negative, ~none, 0.5)
    anchor[:, 2:] = 9.0
    assert torch.equal(masked_contrast(anchor, real, positive, negative, ~none, 0.5), found)
    assert masked_contrast(anchor, ~real & real, positive, negative, ~none, 0.5) == 0


def full(task, **options) -> tuple[Method, int]:
    """A method whose memories are full."""
    torch.manual_seed(0)
    method = create("dgcl", task, net="tiny", bank=40, fresh=40, least=10, **options)
    width = method.memory.rows.shape[1]
    offered = torch.eye(4, dtype=torch.bool).repeat_interleave(40, 1)
    method.memory.write(torch.randn(160, width), offered)
    assert (method.memory.count == 40).all()
    return method, (width - 1) // 2


def pixels(dim: int, n: int = 300) -> tuple[Tensor, Tensor, Tensor]:
    label = torch.randint(0, 4, (n,))
    label[::9] = 255
    return torch.randn(n, dim, requires_grad=True), torch.randn(n, dim, requires_grad=True), label


def test_the_sparsest_pixels_are_the_anchors_and_alone_get_a_gradient(task) -> None:
    method, dim = full(task, low=15, high=10)
    f, z, label = pixels(dim)
    memory = [method.memory.take(k, torch.arange(40))[:, :dim] for k in range(4)]
    method.sparse(f, z, label).backward()
    assert f.grad is None
    touched = z.grad.abs().sum(1) > 0
    for k in range(4):
        own = (label == k).nonzero()[:, 0]
        d = density(f.detach()[own], memory[k], torch.tensor(40), method.scales)
        wanted = set(own[d.argsort()[:15]].tolist()) if k > 0 else set()
        assert set(own[touched[own]].tolist()) == wanted
    assert not touched[label == 255].any()


def test_nothing_is_contrasted_until_every_memory_is_full(task) -> None:
    method, dim = full(task)
    f, z, label = pixels(dim)
    assert method.sparse(f, z, label) > 0
    method.memory.count[2] = 39
    assert method.sparse(f, z, label) == 0


def test_the_memory_takes_features_labels_and_densities(task) -> None:
    method = create("dgcl", task, net="tiny", bank=50, fresh=8, least=10)
    dim = (method.memory.rows.shape[1] - 1) // 2
    torch.manual_seed(0)
    f, z, label = pixels(dim)
    label[label == 3] = 0
    for _ in range(3):
        method.sparse(f, z, label)
    assert method.memory.count.tolist() == [24, 24, 24, 0]
    stored = method.memory.take(1, torch.arange(24))
    assert (stored[:16, -1] == 0).all(), "while it holds no more than ten rows"
    own = label == 1
    for row in stored:
        at = (f[own] - row[:dim]).abs().sum(1).argmin()
        torch.testing.assert_close(row[:dim], f[own][at].detach())
        torch.testing.assert_close(row[dim:-1], z[own][at].detach())


def test_schedules_and_entropy(build, draw) -> None:
    method = build("dgcl", warmup=0.5)
    assert [method.progress(Clock(t, 100)) for t in (0, 50, 75)] == [0, 0, 0.5]
    view = draw(method).u
    view.valid = torch.ones(1, 10, 10)
    logits = torch.zeros(1, 4, 10, 10)
    logits[:, 1] = torch.arange(100).view(10, 10) / 10
    for t, kept in ((50, 80), (75, 90)):
        assert method.pseudo_labels(logits, view, Clock(t, 100)).weight.sum() == kept
    for t, known in ((50, 20), (99, 90)):
        assert ((method.sure(logits, view.valid, Clock(t, 100)) != 255).sum() - known).abs() <= 1


def test_a_whole_step_with_full_memories(build, draw) -> None:
    method = build("dgcl", bank=5, fresh=5, least=2, scales=(1, 2), first=0)
    batch = draw(method)
    batch.x.label[:, :8], batch.x.label[:, 8:16], batch.x.label[:, 16:24], batch.x.label[:, 24:] = 0, 1, 2, 3
    method.train().losses(batch, MIDDLE)
    losses = method.losses(batch, MIDDLE)
    assert losses["contrast"][0] > 0
    losses.total.backward()
    assert all(p.grad.abs().sum() > 0 for p in method.student.heads["projection"][1].parameters())
