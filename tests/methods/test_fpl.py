"""What a correct FPL shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.parts.fuzzy import CLARITY, amount, clarity, set_loss, with_value_of
from s4kit.methods.parts.losses import ce_map

MIDDLE = Clock(50, 100)


def maps(classes=5):
    g = torch.Generator().manual_seed(0)
    return (2 * torch.randn(2, classes, 6, 7, generator=g, dtype=torch.float64) for _ in range(2))


def slow(z, p, threshold, most, kind):
    """(n, l, w) of one pixel as the paper tells it: classes are added until they reach the threshold together."""
    order = sorted(range(len(p)), key=lambda c: -p[c])
    n = most
    for j in range(1, most):
        if sum(p[c] for c in order[: j + 1]) >= threshold:
            n = j
            break
    low, high = (sum(math.exp(s * z[c]) for c in part) for s, part in ((-1, order[:n]), (1, order[n:])))
    m, q = sum(p[c] for c in order[: n + 1]) / (n + 1), p[order[n]]
    weights = {
        "none": 1.0,
        "linear": (m - q) / m,
        "convex": (m - q) / (m + q),
        "concave": math.log(1 + 50 * (m - q)) / math.log(1 + 50 * m),
    }
    return n, math.log(1 + low * high), min(1.0, weights[kind])


@pytest.mark.parametrize("kind", CLARITY)
def test_sets_losses_and_weights_by_loops(kind):
    z, t = maps()
    p = t.softmax(1)
    number = amount(p, 0.9, 3)
    loss, weight = set_loss(z, p, number), clarity(p, number, kind)
    seen = set()
    for b, y, x in np.ndindex(2, 6, 7):
        n, l, w = slow(z[b, :, y, x].tolist(), p[b, :, y, x].tolist(), 0.9, 3, kind)  # noqa: E741
        assert number[b, 0, y, x] == n
        assert loss[b, y, x].item() == pytest.approx(l) and weight[b, y, x].item() == pytest.approx(w)
        seen.add(n)
    assert seen == {1, 2, 3}


def test_one_positive_is_cross_entropy():
    z, t = maps()
    p = t.softmax(1)
    assert torch.allclose(set_loss(z, p, amount(p, 0.0, 3)), ce_map(z, p.argmax(1)))


def test_positives_rise_others_fall_and_the_set_has_no_order():
    z, t = maps()
    p = t.softmax(1)
    number = torch.full((2, 1, 6, 7), 2)
    z.requires_grad_()
    set_loss(z, p, number).sum().backward()
    positive = torch.zeros_like(p).scatter(1, p.topk(2, 1).indices, 1) > 0
    up, down = (torch.where(where, z.grad, 0) for where in (positive, ~positive))
    assert (up <= 0).all() and (down >= 0).all() and torch.allclose(up.sum(1), -down.sum(1))
    first, second = p.topk(2, 1).indices.split(1, 1)
    swapped = z.detach().scatter(1, first, z.detach().gather(1, second)).scatter(1, second, z.detach().gather(1, first))
    assert torch.allclose(set_loss(swapped, p, number), set_loss(z.detach(), p, number))


def test_the_loss_vanishes_when_the_set_stands_apart():
    p = torch.tensor([0.5, 0.3, 0.1, 0.1]).view(1, 4, 1, 1)
    z = torch.tensor([20.0, 35.0, -20.0, -21.0]).view(1, 4, 1, 1)
    assert set_loss(z, p, torch.full((1, 1, 1, 1), 2)).item() < 1e-12


def test_weights_are_shares_and_concave_is_above_linear():
    _, t = maps()
    p = t.softmax(1)
    linear, concave = (clarity(p, amount(p, 0.9, 3), kind) for kind in ("linear", "concave"))
    assert linear.min() >= 0 and concave.max() <= 1 and (concave >= linear - 1e-12).all()


def test_value_of_one_gradient_of_the_other():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    term, reference = (w**2).sum(), 3 * w.sum()
    mixed = with_value_of(term, reference)
    (grad,) = torch.autograd.grad(mixed, w)
    assert mixed.item() == 9 and torch.allclose(grad, 2 * w.detach() * 9 / 5)


def test_the_value_is_that_of_cps_whatever_the_sets(build, draw):
    found = []
    for options in ({}, {"threshold": 0.99, "most": 2}, {"clear": "concave"}, {"threshold": 0.0}):
        method = build("fpl", **options).train()
        losses = method.losses(draw(method), MIDDLE)
        losses["fpl"][0].backward()
        found.append((losses["fpl"][0].item(), next(method.net1.parameters()).grad.clone()))
    cps = build("cps").train()
    value = cps.losses(draw(cps), MIDDLE)["cps"][0]
    value.backward()
    assert all(v == pytest.approx(value.item(), rel=1e-5) for v, _ in found)
    assert not torch.allclose(found[0][1], found[1][1], rtol=1e-3)
    assert torch.allclose(found[3][1], next(cps.net1.parameters()).grad, atol=1e-5), "at threshold 0 it is CPS"


def test_two_classes_have_one_positive():
    p = torch.tensor([0.6, 0.4]).view(1, 2, 1, 1)
    assert amount(p, 0.999, 3).item() == 1
    assert clarity(p, amount(p, 0.999, 3), "linear").item() == pytest.approx(0.2)


def test_an_unknown_weight_names_the_known_ones(build):
    with pytest.raises(S4Error, match="concave"):
        build("fpl", clear="concav")
