"""What a correct GuidedMix-Net shows."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.consistency import guidedmix
from s4kit.methods.consistency.guidedmix import draw_share, sigmoid_focal
from s4kit.methods.parts.schedules import schedule

MIDDLE = Clock(50, 100)


def test_focal_by_loops():
    torch.manual_seed(0)
    z, y = 3 * torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randint(0, 4, (2, 3, 5))
    found = sigmoid_focal(z, y, 0.5, 0.3)
    for b, i, j in np.ndindex(2, 3, 5):
        total = 0.0
        for c in range(4):
            p = 1 / (1 + math.exp(-z[b, c, i, j].item()))
            own = y[b, i, j].item() == c
            total += -0.3 * (1 - p) ** 0.5 * math.log(p) if own else -0.7 * p**0.5 * math.log(1 - p)
        assert found[b, i, j].item() == pytest.approx(total / 4)


def test_focal_of_sure_pixels_has_a_gradient():
    z = torch.tensor([200.0, -200.0, 0.0]).view(1, 3, 1, 1).requires_grad_()
    sigmoid_focal(z, torch.zeros(1, 1, 1, dtype=torch.long), 0.5, 0.5).sum().backward()
    assert z.grad.isfinite().all()


def test_the_labelled_share_is_even_below_its_end():
    random.seed(0)
    drawn = np.array([draw_share(0.2) for _ in range(4000)])
    assert drawn.max() < 0.2 and abs(drawn.mean() - 0.1) < 0.005
    assert all(draw_share(0.5) < 0.5 for _ in range(100))


def decoupled(method, batch, share, monkeypatch):
    """d of one step with a given labelled share and the labelled images in their order."""
    found = []

    def watch(d, *rest):
        found.append(d.detach())
        return sigmoid_focal(d, *rest)

    monkeypatch.setattr(guidedmix, "draw_share", lambda most: share)
    monkeypatch.setattr(guidedmix.torch, "randperm", lambda n, **_: torch.arange(n))
    monkeypatch.setattr(guidedmix, "sigmoid_focal", watch)
    method.losses(batch, MIDDLE)
    return found[0]


def test_without_a_share_no_labelled_influence(build, draw, monkeypatch):
    method = build("guidedmix").eval()
    batch = draw(method)
    net, size = method.student, batch.u.weak.shape[-2:]
    d = decoupled(method, batch, 0.0, monkeypatch)
    map = net.fuse(net.encode(batch.u.strong[0])).map
    assert torch.allclose(d, net.branch("blend", map, size), atol=1e-5)


def test_equal_linear_heads_leave_the_unlabelled_part(build, draw, monkeypatch):
    """g = h linear without bias: lam h(A_x) + (1 - lam) h(A_u) - lam h(A_x) = (1 - lam) z_u."""
    method = build("guidedmix").eval()
    net, batch = method.student, draw(method)
    linear = torch.nn.Conv2d(net.decoder.fused_channels, 4, 1, bias=False)
    net.heads["blend"] = linear
    monkeypatch.setattr(net.decoder, "classify", lambda map: (linear(map), map))
    d = decoupled(method, batch, 0.3, monkeypatch)
    assert torch.allclose(d, 0.7 * net(batch.u.strong[0]), atol=1e-5)


def test_the_first_head_learns_through_the_subtraction(build, draw):
    method = build("guidedmix")
    batch = draw(method)
    method.train().losses(batch, MIDDLE)["u"][0].backward()
    assert method.student.decoder.classifier.weight.grad.abs().sum() > 0


def test_a_share_above_one_half_is_refused(build):
    with pytest.raises(S4Error, match=r"0\.5"):
        build("guidedmix", most=0.6)


def test_the_rate_ends_at_a_hundredth():
    """mmsegmentation's poly of 0.01 with min_lr=1e-4."""
    factor = schedule("poly_to_hundredth")
    for step in (0, 1, 5_000, 19_999):
        expected = (0.01 - 1e-4) * (1 - step / 20_000) ** 0.9 + 1e-4
        assert 0.01 * factor(Clock(step, 20_000)) == pytest.approx(expected)
