"""What a correct MVCC shows."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.contrastive.mvcc import disagreement, self_correlation

ONES = torch.ones(2, 7)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 5, 7, requires_grad=True), torch.randn(2, 5, 7, requires_grad=True)


def test_the_loss_is_the_mean_over_pairs_pixel_by_pixel() -> None:
    one, two = pair()
    valid = torch.tensor([[1, 1, 0, 1, 1, 1, 0], [1, 0, 1, 1, 0, 1, 1.0]])
    total, number = 0.0, 0

    def cosine(f, b, i, j):
        return (f[b, :, i] @ f[b, :, j]) / (f[b, :, i].norm() * f[b, :, j].norm())

    for b in range(2):
        for i in range(7):
            for j in range(7):
                if valid[b, i] and valid[b, j]:
                    total, number = total + (cosine(one, b, i, j) - cosine(two, b, i, j)) ** 2, number + 1
    loss = disagreement(one, two, valid)
    torch.testing.assert_close(loss, total / number)
    grads = torch.autograd.grad(loss, (one, two))
    wanted = torch.autograd.grad(total / number, (one, two))
    for found, whole in zip(grads, wanted):  # each view is drawn to the other, which stands still: half of the slope
        torch.testing.assert_close(found, whole / 2, atol=1e-6, rtol=1e-4)


def test_relations_not_coordinates() -> None:
    one, two = pair()
    c = self_correlation(one)
    torch.testing.assert_close(c, c.mT)
    torch.testing.assert_close(c.diagonal(dim1=1, dim2=2), ONES)
    turned = torch.linalg.qr(torch.randn(5, 5))[0] @ two
    torch.testing.assert_close(disagreement(one, turned, ONES), disagreement(one, two, ONES))
    order = torch.randperm(7)
    torch.testing.assert_close(disagreement(one[..., order], two[..., order], ONES), disagreement(one, two, ONES))
    assert (disagreement(one, two[..., order], ONES) - disagreement(one, two, ONES)).abs() > 1e-3
    torch.testing.assert_close(disagreement(3 * one, two, ONES), disagreement(one, two, ONES))


def test_identical_views_cost_nothing() -> None:
    one, _ = pair()
    loss = disagreement(one, 2 * one, ONES)
    (grad,) = torch.autograd.grad(loss, one)
    assert loss < 1e-10 and grad.abs().max() < 1e-5


def test_both_views_show_the_same_point_in_the_same_place(build, draw) -> None:
    method = build("mvcc", tau=0.0).train()
    batch = draw(method)
    for part in (batch.u, batch.v):
        part.strong = [part.weak, part.weak]
    losses = method.losses(batch, Clock(50, 100))
    assert torch.equal(losses.seen["first view/mixed"], losses.seen["second view/mixed"])
    assert losses["corr"][0] < 1e-8 and losses["corr"][1] == 1
    assert method.losses(batch, Clock(0, 100))["corr"][1] == pytest.approx(0.0067, abs=1e-4)
