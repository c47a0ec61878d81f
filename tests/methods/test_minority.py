"""STPG: the selection, the anchors and their match, the memory (parity with the release: tests/golden)."""

from __future__ import annotations

import itertools

import torch
from scipy.optimize import linear_sum_assignment

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.parts.anchors import anchored, best_match, simplex
from s4kit.methods.selftraining.minority import GENERAL, PROFESSIONAL, first_last, mismatch

EARLY, LATE = Clock(0, 100), Clock(50, 100)


def test_anchors_are_evenly_spread() -> None:
    for classes in (2, 5, 19):
        a = simplex(classes, 24)
        expected = torch.full((classes, classes), -1 / (classes - 1)).fill_diagonal_(1.0)
        torch.testing.assert_close(a @ a.mT, expected)


def test_the_match_is_that_of_scipy() -> None:
    torch.manual_seed(0)
    for n in (1, 2, 7, 19):
        gain = torch.randn(n, n)
        found = best_match(gain)
        assert sorted(found.tolist()) == list(range(n))
        rows, columns = linear_sum_assignment(gain.numpy(), maximize=True)
        torch.testing.assert_close(gain[torch.arange(n), found].sum(), gain[rows, columns].sum())


def test_the_mismatch_score() -> None:
    label = torch.tensor([[[0, 0, 0, 1, 1, 2]]])
    found = torch.tensor([[[0, 0, 1, 1, 1, 0]]])
    counts = torch.eye(4)
    for a, b in zip(label.flatten().tolist(), found.flatten().tolist()):
        counts[a, b] += 1
    d, as_label, as_found = counts.diag(), counts.sum(1), counts.sum(0)
    w = (as_found - d) / as_found + (as_label - d) / as_label
    torch.testing.assert_close(mismatch(label, found, 4), w / w.sum())
    assert bool((mismatch(label, label, 4) == 0).all()), "no mistake, no score"
    for order in itertools.islice(itertools.permutations(range(4)), 1, None, 7):
        new = torch.tensor(order)
        renamed = mismatch(new[label], new[found], 4)
        torch.testing.assert_close(renamed[new], mismatch(label, found, 4))


def test_a_disagreement_counts_where_it_leads_to_the_harder_class(build) -> None:
    method = build("minority")
    label, found = torch.zeros(1, 4, 5).long(), torch.zeros(1, 4, 5).long()
    label[0, 0, :3], found[0, 1, 0] = 1, 1  # three times 1 is taken for 0, once 0 for 1
    score = mismatch(label, found, 4)
    assert score[1] > score[0]
    chosen = method.selected(label, found)
    assert bool(chosen[0, 0].all()) and not chosen[0, 1, 0] and int((~chosen).sum()) == 1


def test_who_teaches_whom(build, draw) -> None:
    method = build("minority").train()
    losses = method.losses(draw(method), EARLY)
    heard = {}
    for name in ("general", "professional"):
        method.zero_grad()
        losses[name][0].backward(retain_graph=True)
        moved = {
            n
            for n, net in method.named_children()
            if any(p.grad is not None and p.grad.any() for p in net.parameters())
        }
        heard[name] = moved
    assert heard == {"general": {"net1"}, "professional": {"net2"}}
    seen = losses.seen
    assert torch.equal(seen[f"{GENERAL}/target"].weight, seen[f"{GENERAL}/target"].confidence)
    chosen = method.selected(seen[f"{PROFESSIONAL}/target"].label, seen[f"{PROFESSIONAL}/student"].argmax(1))
    torch.testing.assert_close(
        seen[f"{PROFESSIONAL}/target"].weight, seen[f"{PROFESSIONAL}/target"].confidence * chosen
    )


def test_contrast_against_a_loop() -> None:
    torch.manual_seed(0)
    f, label = torch.randn(20, 6), torch.randint(0, 3, (20,))
    label[0], label[1] = 3, VOID  # one pixel of class 3: left out
    anchors, memory, count = simplex(4, 6), torch.randn(4, 5, 6), torch.tensor([3, 1, 5, 4])
    total = torch.zeros(())
    for c in range(3):
        own = [i for i in range(20) if label[i] == c]
        cosines = torch.stack([torch.cosine_similarity(f[i][None], anchors) for i in own])
        total += -(cosines / 0.5).log_softmax(1)[:, c].mean()
        if count[c] > 1:
            total += torch.stack([1 - torch.cosine_similarity(f[i][None], memory[c, : count[c]]) for i in own]).mean()
    torch.testing.assert_close(anchored(f, label, anchors, memory, count), total / 4)


def test_the_memory_fills_before_there_is_contrast(build, draw) -> None:
    method = build("minority", sure=0.0, memory=0.2, late=0.6, fresh=5).train()
    batch = draw(method)
    assert method.losses(batch, EARLY)["contrast_x"][0] == 0 and int(method.bank.count.sum()) == 0
    centres = method.centres.clone()
    assert method.losses(batch, LATE)["contrast_u"][0] == 0 and int(method.bank.count.sum()) > 0
    assert not torch.equal(method.centres, centres)
    assert all(bool((method.anchors == row).all(1).any()) for row in method.assigned)
    assert float(method.losses(batch, Clock(80, 100))["contrast_x"][0].detach()) > 0


def test_rows_are_turned_round() -> None:
    chosen = torch.arange(8).view(2, 4, 1)
    turned = first_last(chosen, torch.tensor([3, 0]))
    assert turned[0, 1:, 0].tolist() == [3, 2, 1]
