"""What a correct C3-SemiSeg shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock, create
from s4kit.methods.contrastive.c3_semiseg import C3SemiSeg, class_quantiles, exchange, slot_contrast, soft_ce

MIDDLE = Clock(50, 100)


def test_an_exchange_undoes_itself_and_pairs_are_mutual() -> None:
    torch.manual_seed(0)
    for number in (1, 2, 5, 8):
        partner = C3SemiSeg.draw_partners(number, torch.device("cpu"))
        assert torch.equal(partner[partner], torch.arange(number))
        assert (partner == torch.arange(number)).sum() == number % 2
        own = (torch.rand(number, 6, 7) < 0.5)[torch.minimum(partner, torch.arange(number))]
        map = torch.randn(number, 3, 6, 7)
        assert torch.equal(exchange(exchange(map, own, partner), own, partner), map)


def test_quantiles_of_each_class_from_the_top() -> None:
    torch.manual_seed(0)
    confidence, label = torch.rand(2, 9, 9), torch.randint(0, 3, (2, 9, 9))
    label[0, 0] = 255
    value, number = class_quantiles(confidence, label, 4, 0.8)
    assert number.tolist() == [int((label == k).sum()) for k in range(4)]
    for k in range(3):
        falling = confidence[label == k].sort(descending=True).values
        assert value[k] == falling[int(len(falling) * 0.8)]


def test_thresholds_follow_and_a_class_that_is_never_predicted_keeps_its_own(task) -> None:
    method = create("c3_semiseg", task, net="tiny")
    torch.manual_seed(0)
    confidence, label = 0.5 + 0.5 * torch.rand(1, 50, 50), torch.randint(0, 3, (1, 50, 50))
    for _ in range(80):
        method.follow(confidence, label, torch.ones_like(confidence))
    assert method.thresholds[3] == pytest.approx(0.9)
    kept = (confidence >= method.thresholds[label] - 1e-4).float().mean()
    assert kept == pytest.approx(0.8, abs=0.01), "four fifths of each class"


def test_equal_predictions_cost_their_entropy_over_the_classes() -> None:
    z = torch.randn(1, 4, 3, 3)
    p = z.softmax(1)
    torch.testing.assert_close(soft_ce(z, p), -(p * p.log()).sum(1) / 4)


def test_one_class_costs_nothing_and_slots_that_are_not_filled_do_not_count() -> None:
    torch.manual_seed(0)
    a, k = (torch.nn.functional.normalize(torch.randn(8, 5), dim=1) for _ in range(2))
    label, real = torch.tensor([1, 1, 1, 2, 2, 2, 3, 3]), torch.tensor([True] * 6 + [False] * 2)
    assert slot_contrast(a, k, torch.ones(8), real, 0.15).abs() < 1e-6
    found = slot_contrast(a, k, label, real, 0.15)
    torch.testing.assert_close(found, slot_contrast(a[:6], k[:6], label[:6], real[:6], 0.15))
    assert slot_contrast(a, k, label, ~real & real, 0.15) == 0


def test_groups_are_half_wrong_and_half_right_as_far_as_there_are(task) -> None:
    torch.manual_seed(0)
    method = create("c3_semiseg", task, net="tiny", each=6, groups=9)
    label = torch.zeros(2, 60).long()
    label[0, :20], label[0, 20:40], label[1, :7], label[1, 7:13] = 1, 2, 3, 1
    wrong = torch.zeros(2, 60, dtype=torch.bool)
    wrong[0, :10], wrong[0, 20:21], wrong[1, :6] = True, True, True
    index = method.draw_groups(label, wrong)
    assert index.shape == (9, 6)
    found = {(int(row[0]) // 60, int(label.flatten()[row[0]])): row for row in index if row[0] >= 0}
    assert set(found) == {(0, 1), (0, 2), (1, 3)}, "more than six pixels, and never class 0"
    for group, hard in (((0, 1), 3), ((0, 2), 1), ((1, 3), 5)):
        row = found[group]
        assert len(set(row.tolist())) == 6 and wrong.flatten()[row].sum() == hard
        assert (row // 60 == group[0]).all() and (label.flatten()[row] == group[1]).all()


def test_phases(build, draw) -> None:
    method = build("c3_semiseg", each=1, start=0.5, begin=0.1).train()  # the embedding has four pixels
    batch = draw(method)
    batch.x.label[:, :, :16], batch.x.label[:, :, 16:] = 1, 2
    early, labelled, late = (method.losses(batch, Clock(t, 100)) for t in (5, 20, 60))
    assert early["contrast"][0] == 0 and early["u"][0] == 0
    assert labelled["contrast"][0] > 0 and labelled["u"][0] == 0
    assert late["u"][1] == pytest.approx(50 * 2.718281828 ** (-5 * (1 - 0.1 / 0.64) ** 2))
    assert late["contrast"][1] == pytest.approx(0.1)
    (grad,) = torch.autograd.grad(late["contrast"][0], method.student.heads["project"][0].weight)
    assert grad.isfinite().all()


def test_keys_get_no_gradient_but_among_labels_alone(task) -> None:
    torch.manual_seed(0)
    method = create("c3_semiseg", task, net="tiny", each=4, groups=6)
    e, key = (torch.nn.functional.normalize(torch.randn(2, 5, 8, 8), dim=1).requires_grad_() for _ in range(2))
    label, z = torch.randint(0, 4, (2, 8, 8)), torch.randn(2, 4, 8, 8)
    one, other = torch.autograd.grad(method.cross(e, key, label, z), (e, key))
    assert one.abs().sum() > 0 and other.abs().sum() > 0, "`losses` detaches the keys where they are to be constants"
    assert (one.abs().sum(1)[label == 0] == 0).all()
