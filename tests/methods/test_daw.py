"""What a correct DAW shows."""

from __future__ import annotations

import math

import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency.daw import crossing

MIDDLE = Clock(50, 100)


def density(x: float, mean: float, variance: float) -> float:
    return math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(variance)


def cross(m_p, m_n, v_p, v_n, alpha=1.0) -> float:
    return crossing(torch.tensor([m_p, m_n]), torch.tensor([v_p, v_n]), alpha, torch.tensor(-1.0)).item()


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize(("v_p", "v_n"), [(0.01, 0.03), (0.03, 0.01), (0.02, 0.020001)])
def test_the_threshold_is_where_the_densities_cross(v_p, v_n, alpha):
    """Found by halving the interval between the means, in double precision."""
    low, high = 0.6, 0.95
    while high - low > 1e-9:
        middle = (low + high) / 2
        wrong_wins = alpha * density(middle, 0.6, v_n) > density(middle, 0.95, v_p)
        low, high = (middle, high) if wrong_wins else (low, middle)
    assert cross(0.95, 0.6, v_p, v_n, alpha) == pytest.approx(low, abs=2e-4)


def test_equal_variances_cross_half_way_and_more_wrong_ones_raise_it():
    assert cross(0.9, 0.6, 0.02, 0.02) == pytest.approx(0.75, abs=1e-5)
    assert cross(0.9, 0.6, 0.02, 0.021, 2.0) > cross(0.9, 0.6, 0.02, 0.021) > cross(0.9, 0.5, 0.02, 0.021)
    assert cross(0.5, 0.5, 0.2, 0.2) == -1, "no root: the old threshold"


def test_the_statistics_by_loops(build):
    method = build("daw", momentum=0.5)
    g = torch.Generator().manual_seed(0)
    z, label = 3 * torch.randn(2, 4, 5, 6, generator=g), torch.randint(4, (2, 5, 6), generator=g)
    label[z.argmax(1) != 1] = z.argmax(1)[z.argmax(1) != 1]  # only class 1 is ever mistaken
    label[0, 0], valid = 255, (torch.rand(2, 5, 6, generator=g) < 0.7).float()
    groups, of_class = {True: [], False: []}, {k: [] for k in range(4)}
    for b in range(2):
        for y in range(5):
            for x in range(6):
                p = z[b, :, y, x].double().softmax(0)
                if label[b, y, x] != 255:
                    groups[bool(p.argmax() == label[b, y, x])].append(p.max().item())
                if valid[b, y, x]:
                    of_class[int(p.argmax())].append(p.max().item())
    few = len(groups[False]) < 10
    method.move_threshold(z, label)
    for i, (group, kept) in enumerate(((groups[True], True), (groups[False], not few))):
        mean = sum(group) / len(group)
        variance = sum((c - mean) ** 2 for c in group) / (len(group) - 1)
        assert method.mean[i].item() == pytest.approx(0.5 * 0.25 + 0.5 * mean if kept else 0.25)
        assert method.variance[i].item() == pytest.approx(0.5 * 0.5 + 0.5 * variance if kept else 0.5)
    method.compare_confidence(z, label, z, valid)
    for k, group in of_class.items():
        assert method.seen_u[k].item() == pytest.approx(0.125 + 0.5 * sum(group) / len(group) if group else 0.25)


def test_alignment_is_a_distribution_and_nothing_where_both_sides_agree(build):
    method, z = build("daw"), torch.randn(2, 4, 3, 3)
    method.seen_x.copy_(method.seen_u.uniform_(0.3, 0.9))
    assert torch.allclose(method.probabilities(z), z.softmax(1), atol=1e-6)
    method.seen_x[2] *= 2
    q = method.probabilities(z)
    assert torch.allclose(q.sum(1), torch.ones(2, 3, 3)) and (q[:, 2] > z.softmax(1)[:, 2]).all()


def test_unlabelled_pixels_do_not_move_the_threshold(build, draw):
    taus = []
    for change in (False, True):
        method = build("daw").eval()
        batch = draw(method)
        if change:
            batch.u.weak, batch.v.weak = 1 - batch.u.weak, 1 - batch.v.weak
        method.losses(batch, MIDDLE)
        taus.append(method.mean.clone())
    assert torch.equal(*taus)


def test_with_a_fixed_threshold_and_no_alignment_it_is_unimatch(build, draw):
    method, unimatch = build("daw", drop=0.0, tau=0.3).eval(), build("unimatch", drop=0.0, tau=0.3).eval()
    method.compare_confidence = method.move_threshold = lambda *_: None
    batch = draw(method)
    ours, theirs = method.losses(batch, MIDDLE), unimatch.losses(batch, MIDDLE)
    assert all(torch.allclose(ours[k][0], theirs[k][0], rtol=1e-5) and ours[k][1] == theirs[k][1] for k in theirs)


def test_the_averaged_network_follows_and_is_only_evaluated(build, draw):
    method = build("daw", decay=0.5)
    before = [p.clone() for p in method.average.parameters()]
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1)
    method.after_step(Clock(9, 100))
    assert all(torch.allclose(p, b + 0.5) for p, b in zip(method.average.parameters(), before))
    method.average.forward = None
    method.train().losses(draw(method), MIDDLE)


def test_half_precision_does_not_reach_the_statistics(build):
    z, label, found = 3 * torch.randn(2, 4, 40, 40), torch.randint(4, (2, 40, 40)), []
    for half in (False, True):
        method = build("daw", momentum=0.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            method.move_threshold(z, label)
            method.compare_confidence(z, label, z, torch.ones(2, 40, 40))
        found.append(torch.cat([method.mean, method.variance, method.seen_x, method.seen_u, method.threshold[None]]))
    assert torch.equal(*found)
