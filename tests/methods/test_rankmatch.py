"""What a correct RankMatch shows."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.consistency.rankmatch import paste_enlarged
from s4kit.methods.parts.ranking import agents, likings, ranking_kl, rankings
from s4kit.nets.segnet import resize
from s4kit.report.planning.memory import tracked
from s4kit.views import paste

MIDDLE = Clock(50, 100)


def slow_term(weak, strong, first, amount, k):
    """L_c of one image in float64, pixel by pixel and ordering by ordering; weak, strong are (N, D)."""
    unit = weak / weak.norm(dim=1, keepdim=True)
    chosen = [first]
    while len(chosen) < amount:
        likeness = [
            (max(abs(float(unit[i] @ unit[c])) for c in chosen), i) for i in range(len(weak)) if i not in chosen
        ]
        chosen.append(min(likeness)[1])
    total = []
    for i in range(len(weak)):
        p_w = torch.stack([weak[i] @ weak[c] for c in chosen]).softmax(0).tolist()
        p_s = torch.stack([strong[i] @ strong[c] for c in chosen]).softmax(0).tolist()
        top = sorted(range(amount), key=lambda n: -p_w[n])[:k]
        for order in permutations(top):
            chance = []
            for p in (p_w, p_s):
                left, product = sum(p[n] for n in top), 1.0
                for n in order:
                    product *= p[n] / left
                    left -= p[n]
                chance.append(product)
            total.append(chance[0] * (torch.tensor(chance[0]).log() - torch.tensor(chance[1]).log()).item())
    return sum(total) / len(total), sorted(chosen)


def test_the_term_by_loops():
    g = torch.Generator().manual_seed(0)
    weak, strong = (0.6 * torch.randn(2, 20, 6, generator=g) for _ in range(2))  # far from the 1e-10 in the logarithms
    first = torch.tensor([3, 17])
    slow = [slow_term(w.double(), s.double(), int(f), 7, 3) for w, s, f in zip(weak, strong, first)]
    chosen = agents(weak, 7, first)
    assert chosen.tolist() == [positions for _, positions in slow]
    found = ranking_kl(likings(weak, chosen), likings(strong, chosen), 3)
    assert found.item() == pytest.approx(sum(value for value, _ in slow) / 2, rel=1e-4)


def test_orderings_are_a_distribution_and_equal_ones_cost_nothing():
    p, q = torch.rand(5, 9).softmax(-1), torch.rand(5, 9).softmax(-1)
    assert torch.allclose(rankings(p, p.topk(4).indices).sum(-1), torch.ones(5))
    assert abs(ranking_kl(p, p.clone(), 4).item()) < 1e-7 < ranking_kl(p, q, 4).item()


def test_the_order_alone_counts():
    """A constant on all scores, and agents outside the teacher's best, change nothing."""
    teacher, scores = torch.randn(5, 9).softmax(-1), torch.randn(5, 9)
    base = ranking_kl(teacher, scores.softmax(-1), 4)
    assert torch.allclose(ranking_kl(teacher, (scores + 3).softmax(-1), 4), base, atol=1e-6)
    others = torch.zeros_like(scores).scatter(1, teacher.topk(4).indices, 1) == 0
    assert torch.allclose(ranking_kl(teacher, (scores - 2 * others).softmax(-1), 4), base, atol=1e-5)
    assert not torch.allclose(ranking_kl(teacher, (2 * scores).softmax(-1), 4), base, atol=1e-3)


def test_agents_are_different_and_visit_every_cluster():
    clusters = torch.eye(6).repeat_interleave(5, 0)[torch.randperm(30)][None] * torch.rand(1, 30, 1).add(0.5)
    for first in range(0, 30, 7):
        chosen = agents(clusters, 6, torch.tensor([first]))[0]
        assert len(set(clusters[0, chosen].argmax(1).tolist())) == 6
    assert len(set(agents(torch.zeros(1, 30, 3), 30, torch.tensor([4]))[0].tolist())) == 30


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize("small, large", [((5, 7), (65, 97)), ((4, 4), (32, 32)), ((3, 5), (10, 9))])
def test_pasting_at_image_size_needs_no_map_of_that_size(small, large, align_corners):
    inside, outside = torch.randn(2, 2, 6, *small).double()
    mask = torch.rand(2, *large) < 0.5
    full = paste(mask, *(resize(f, large, align_corners) for f in (inside, outside)))
    expected = resize(full, small, align_corners)
    found = paste_enlarged(mask, inside.float(), outside.float(), align_corners)
    assert torch.allclose(found.double(), expected, atol=1e-5) and expected.std() > 0.3


def test_pasting_takes_the_memory_of_small_maps():
    inside, outside, mask = *torch.randn(2, 1, 64, 13, 13), torch.rand(1, 193, 193) < 0.5
    with tracked() as peak:
        paste_enlarged(mask, inside, outside, True)
    assert peak.bytes < 64 * 193**2 * 4 / 4


def test_weak_features_get_no_gradient_and_the_rest_is_unimatch(build, draw):
    method, unimatch = build("rankmatch", tau=0.0, drop=0.0).eval(), build("unimatch", tau=0.0, drop=0.0).eval()
    batch = draw(method, crop=64)
    ours, theirs = method.losses(batch, MIDDLE), unimatch.losses(batch, MIDDLE)
    assert all(torch.allclose(ours[k][0], theirs[k][0], rtol=1e-5) and ours[k][1] == theirs[k][1] for k in theirs)
    weak, strong = (torch.randn(2, 8, 4, 4, requires_grad=True) for _ in range(2))
    method.rank_term(method.pasted(batch.u.masks[0], weak, weak), strong).backward()
    assert weak.grad is None and strong.grad.abs().sum() > 0


def test_equal_features_agree(build):
    method, f = build("rankmatch"), torch.randn(2, 8, 4, 4)
    empty = torch.zeros(2, 4, 4, dtype=torch.bool)
    assert abs(method.rank_term(method.pasted(empty, f, f), f).item()) < 1e-6
