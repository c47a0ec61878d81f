"""What a correct CPSR shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency.cpsr import last_removed, reshape

MIDDLE = Clock(50, 100)


def slow(z: np.ndarray, p: np.ndarray, valid: np.ndarray, sure: float, intended: bool) -> tuple[float, float, int]:
    """One image: the search and both terms, pixel by pixel."""
    classes, height, width = p.shape
    order = [[sorted(range(classes), key=lambda k: -p[k, y, x]) for x in range(width)] for y in range(height)]
    cut = classes - 1
    for c in range(2, classes):
        certain = True
        for y, x in np.ndindex(height, width):
            left = [p[k, y, x] for r, k in enumerate(order[y][x], 1) if r == 1 or r > c]
            left = left if intended else [math.exp(v) for v in left]
            certain &= max(left) / sum(left) >= sure
        if certain:
            cut = c
            break
    ckr = tps = 0.0
    for y, x in np.ndindex(height, width):
        e = np.exp(z[:, y, x])
        s, kept = e / e.sum(), [k for r, k in enumerate(order[y][x], 1) if r == 1 or r > cut]
        ckr -= valid[y, x] * math.log(e[kept[0]] / e[kept].sum())
        tps -= sum(math.log(1 - s[k] + 1e-10) for k in kept[1:])
    return ckr / valid.sum(), tps / (height * width), cut


@pytest.mark.parametrize("intended", [True, False])
def test_terms_by_loops(intended):
    torch.manual_seed(0)
    z, sharp = torch.randn(3, 5, 4, 4, dtype=torch.float64), torch.tensor([2.0, 9.0, 14.0]).view(3, 1, 1, 1)
    p = (sharp * torch.rand(3, 5, 4, 4, dtype=torch.float64)).softmax(1)
    valid = torch.ones(3, 4, 4, dtype=torch.float64)
    valid[:, 0] = 0
    found, cuts = reshape(z, p, valid, 0.55, intended), set()
    for i in range(3):
        ckr, tps, cut = slow(z[i].numpy(), p[i].numpy(), valid[i].numpy(), 0.55, intended)
        cuts.add(cut)
        assert found.cut[i] == cut
        assert found.ckr[i].item() == pytest.approx(ckr) and found.tps[i].item() == pytest.approx(tps)
    assert len(cuts) > 1 or not intended


def test_the_search_stops_where_the_rest_is_clear():
    p = torch.tensor([0.9, 0.09, 0.005, 0.005]).view(1, 4, 1, 1)
    assert last_removed(p, 0.95, True) == 2 and last_removed(p, 0.95, False) == 3
    two = torch.tensor([0.6, 0.4]).view(1, 2, 1, 1)
    assert last_removed(two, 0.95, True) == 1


def test_a_sure_image_adds_nothing_and_all_is_positive():
    p = torch.tensor([[0.97, 0.02, 0.01], [0.6, 0.3, 0.1]]).view(2, 3, 1, 1).expand(2, 3, 4, 4)
    found = reshape(torch.randn(2, 3, 4, 4), p, torch.ones(2, 4, 4), 0.95, True)
    assert found.ckr[0] == found.tps[0] == 0 and found.ckr[1] > 0 and found.tps[1] > 0


def test_only_the_classes_that_are_left_learn():
    torch.manual_seed(1)
    z, p = torch.randn(2, 6, 5, 5, requires_grad=True), torch.randn(2, 6, 5, 5).softmax(1).requires_grad_()
    found = reshape(z, p, torch.ones(2, 5, 5), 0.95, False)
    found.ckr.sum().backward()
    learned = z.grad.gather(1, p.argsort(1, descending=True)).abs()
    assert (learned[:, [0, 5]] > 0).all() and (learned[:, 1:5] == 0).all() and p.grad is None


def test_without_weights_it_is_unimatch(build, draw):
    ours, theirs = build("cpsr", tau=0.3, ckr=0.0, tps=0.0), build("unimatch", tau=0.3)
    batch, totals = draw(ours), []
    for method in (ours, theirs):
        torch.manual_seed(1)
        totals.append(method.train().losses(batch, MIDDLE).total)
    assert torch.equal(*totals)
