"""What a correct RC2L shows."""

from __future__ import annotations

from itertools import permutations

import torch
import torch.nn.functional as F

from s4kit.methods import Clock
from s4kit.methods.contrastive.rc2l import Targets, merged, pooled
from s4kit.methods.parts.regions import class_loss, costs, dice, focal_map, mask_loss, masked_nce, match
from s4kit.nets import Regions, regions_of

LATE = Clock(50, 100)


def test_the_match_takes_the_cheapest_pair_first_and_nobody_twice() -> None:
    torch.manual_seed(0)
    cost, there = torch.rand(6, 3, 5), torch.ones(6, 3, dtype=torch.bool)
    there[1, 0] = False
    found = match(cost, there)
    for b in range(6):
        left = {(t, n): float(cost[b, t, n]) for t in range(3) if there[b, t] for n in range(5)}
        while left:
            t, n = min(left, key=left.get)
            assert found[b, t] == n
            left = {pair: c for pair, c in left.items() if pair[0] != t and pair[1] != n}
        assert len(set(found[b].tolist())) == 3
    sure = torch.full((1, 3, 4), 5.0)
    for order in permutations(range(4), 3):
        sure.fill_(5.0)
        sure[0, torch.arange(3), torch.tensor(order)] = 0.0
        assert match(sure, torch.ones(1, 3, dtype=torch.bool))[0].tolist() == list(order), "the assignment of least sum"


def test_losses_by_loops() -> None:
    torch.manual_seed(0)
    masks, targets = 2 * torch.randn(2, 3, 7), torch.randint(0, 2, (2, 3, 7)).float()
    there, classes = torch.tensor([[True, False, True], [True, True, True]]), torch.randn(2, 4, 5)
    wanted, total = torch.tensor([[0, 1, 3], [2, 2, 1]]), 0.0
    for b, t in there.nonzero().tolist():
        p, y = masks[b, t].sigmoid(), targets[b, t]
        pt, alpha = torch.where(y > 0, p, 1 - p), torch.where(y > 0, 0.25, 0.75)
        focal = (-alpha * (1 - pt) ** 2 * pt.log()).mean()
        total = total + 20 * focal + 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
        found = costs(classes[:, :3], masks, wanted, targets)[b, t]
        for n in range(3):
            q = masks[b, n].sigmoid()
            f = torch.where(y > 0, focal_map(masks[b, n], True), focal_map(masks[b, n], False)).mean()
            each = 20 * f + 1 - (2 * (q * y).sum() + 1) / (q.sum() + y.sum() + 1)
            torch.testing.assert_close(found[n], each - classes[b].softmax(1)[n, wanted[b, t]])
    torch.testing.assert_close(mask_loss(masks, targets, there), total / 5)
    matched = torch.tensor([[3, 0, 1], [2, 1, 0]])
    label = torch.tensor([[4, 3, 4, 0], [1, 2, 2, 4]])
    weight = torch.where(label == 4, 0.1, 1.0)
    ce = F.cross_entropy(classes.mT, label, reduction="none")
    every = torch.ones(2, dtype=torch.bool)
    torch.testing.assert_close(class_loss(classes, wanted, matched, there, every), (weight * ce).sum() / weight.sum())


def test_dice_and_the_contrast_of_regions() -> None:
    a = torch.tensor([[[1.0, 1, 0, 0], [0, 0, 1, 0]]])
    torch.testing.assert_close(dice(a, a), torch.tensor([[[1.0, 0], [0, 1]]]))
    score = torch.randn(3, 3)
    there, negative = torch.tensor([True, True, False]), torch.tensor([[0, 1, 1], [0, 0, 1], [1, 1, 0]]).bool()
    first = -score[0, 0] + torch.logsumexp(score[0, :2], 0)
    torch.testing.assert_close(masked_nce(score, negative, there), first / 2)


def alone(masks: torch.Tensor, classes: torch.Tensor, map: torch.Tensor) -> Regions:
    logits = 20.0 * F.one_hot(classes, 5).float()
    return Regions(logits, masks, map)


def test_a_student_that_says_the_same_agrees_and_the_order_of_queries_does_not_matter(build) -> None:
    method = build("rc2l")
    torch.manual_seed(0)
    part = torch.randint(0, 4, (2, 6, 6))
    masks = 40.0 * F.one_hot(part, 4).permute(0, 3, 1, 2).float() - 20
    classes, map = torch.tensor([[0, 1, 1, 3], [2, 0, 4, 1]]), torch.randn(2, 8, 6, 6)
    found = alone(masks, classes, map)
    goal = method.regions(found)
    assert goal.there.tolist() == [[True] * 4, [True, True, False, True]]
    terms = method.agree(found, goal)[:4]
    least = [torch.log(1 + (n - 1) * torch.exp(torch.tensor(-10.0))) for n in (4, 4, 4, 4, 3, 3, 3)]
    torch.testing.assert_close(terms[0], sum(least) / 7, atol=1e-4, rtol=1e-3)
    assert terms[2] < 1e-5 and terms[3] < 1e-4
    order = torch.tensor([2, 0, 3, 1])
    mixed = Regions(found.classes[:, order], found.masks[:, order], map)
    for one, other in zip(terms, method.agree(mixed, goal)[:4]):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_masks_of_a_class_are_one_and_those_of_no_object_none() -> None:
    masks = torch.tensor([[[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.3, 0.3, 0.3]]])
    found = merged(masks, torch.tensor([[1, 1, 2]]), 2)
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0, 0], [0.9, 0.8, 0.0]]]))


def test_features_of_regions_are_means_over_their_masks() -> None:
    map, masks = torch.randn(1, 3, 2, 2), torch.tensor([[[1.0, 0, 0, 1], [0.5, 0.5, 0, 0]]])
    flat = map.flatten(2)[0]
    wanted = torch.stack([flat[:, 0] + flat[:, 3], flat[:, 0] + flat[:, 1]])
    torch.testing.assert_close(pooled(map, masks)[0], F.normalize(wanted, dim=1))


def test_probabilities_add_up_the_queries() -> None:
    torch.manual_seed(0)
    r = Regions(torch.randn(1, 6, 4), torch.randn(1, 6, 2, 2), torch.zeros(1))
    p = torch.zeros(3, 2, 2)
    for n in range(6):
        p += r.classes[0, n].softmax(0)[:3, None, None] * r.masks[0, n].sigmoid()
    torch.testing.assert_close(r.semantic()[0], p / p.sum(0))


def test_only_the_student_learns_and_a_warm_up_knows_labels_alone(build, draw) -> None:
    method = build("rc2l", tau=0.0, warmup=0.1, queries=8).train()
    batch = draw(method)
    early, late = (method.losses(batch, Clock(t, 100)) for t in (5, 50))
    assert all(early[name][0] == 0 for name in ("masks", "features", "classes", "semantic"))
    late.total.backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert method.student.heads["masks"].queries.grad.abs().sum() > 0
    with torch.no_grad():
        found = regions_of(method.student, batch.u.weak)
    goal = method.regions(found)
    empty = Targets(goal.classes, goal.masks, torch.zeros_like(goal.there), goal.features)
    terms = method.agree(found, empty)
    assert all(term == 0 for term in terms[:4]), "an image without regions teaches nothing, not that there are none"
    assert late.total.isfinite()
