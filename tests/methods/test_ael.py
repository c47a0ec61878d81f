"""What a correct AEL shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.consistency.ael import (
    balanced_ce,
    class_confidence,
    cut_probabilities,
    draw_object_mask,
    keep_rates,
    paste_probabilities,
)
from s4kit.methods.parts.draws import by_weight
from s4kit.methods.parts.losses import ce_map

MIDDLE = Clock(50, 100)


def test_the_term_by_loops():
    torch.manual_seed(0)
    z, t, q = 2 * torch.randn(2, 4, 5, 6), 2 * torch.randn(2, 4, 5, 6), torch.tensor([0.9, 0.2, 0.6, 1.0])
    conf, label = t.softmax(1).max(1)
    uniform, valid = torch.rand(4, 5, 6), torch.ones(2, 5, 6)
    valid[0, :2] = 0
    target = PseudoLabels(label, conf, (conf >= 0.6).float(), valid)
    top = bottom = 0.0
    for b, i, j in np.ndindex(2, 5, 6):
        c = z[b, :, i, j].argmax().item()
        if valid[b, i, j] and uniform[c, i, j] > 1 - (1 - q[c]) / 0.8:
            w = conf[b, i, j].item() ** 2
            bottom += w
            if conf[b, i, j] >= 0.6:
                top += w * -z[b, :, i, j].log_softmax(0)[label[b, i, j]].item()
    assert balanced_ce(z, target, q, uniform, 2.0, 1.0).item() == pytest.approx(top / bottom, rel=1e-5)


def test_equal_confidences_are_even_and_keep_all():
    q = torch.full((5,), 0.4)
    assert torch.allclose(paste_probabilities(q, torch.tensor([1, 3])), torch.tensor([0.5, 0.5]))
    assert torch.allclose(cut_probabilities(q), torch.full((5,), 0.2)) and (keep_rates(q) == 1).all()
    rates = keep_rates(torch.tensor([1.0, 0.1, 0.5]))
    assert rates[0] == 0 and rates[1] == 1 and 0 < rates[2] < 1
    assert keep_rates(torch.ones(3)).isfinite().all()


def test_confidence_of_classes_by_loops():
    z, y = torch.randn(2, 3, 4, 4), torch.randint(0, 2, (2, 4, 4))
    y[0, 0] = 255
    p, found = z.softmax(1), class_confidence(z, y)
    for c in range(3):
        own = [p[b, c, i, j].item() for b, i, j in np.ndindex(2, 4, 4) if y[b, i, j] == c]
        assert found[c].item() == pytest.approx(np.mean(own) if own else 0.0, rel=1e-5)


def test_the_box_is_that_of_one_region_of_the_class():
    label = torch.zeros(1, 12, 12, dtype=torch.long)
    label[0, 1:4, 1:5], label[0, 7:11, 6:9], label[0, 0, 11] = 2, 2, 2  # the last is too small
    boxes = set()
    for seed in range(20):
        torch.manual_seed(seed)
        taken = ~draw_object_mask(label, torch.tensor([2]), torch.zeros(1, 12, 12, dtype=torch.bool), 0.02)[0]
        rows, columns = taken.nonzero().unbind(1)
        boxes.add((rows.min().item(), columns.min().item(), rows.max().item(), columns.max().item()))
        assert (label[0][taken] == 2).all()
    assert boxes == {(1, 1, 3, 4), (7, 6, 10, 8)}
    half = torch.zeros(1, 12, 12, dtype=torch.bool)
    half[:, :6] = True
    assert torch.equal(~draw_object_mask(label, torch.tensor([3]), half, 0.02), half)


def test_images_are_found_by_the_bank(build, draw):
    method = build("ael")
    v = draw(method, batch=4).v
    method.q.copy_(torch.tensor([1.0, 1.0, -50.0, 1.0]))  # class 2 for sure
    method.remember(v.index, torch.full((4, 32, 32), 1))
    label = torch.zeros(1, 32, 32, dtype=torch.long)
    label[:, :1] = 2
    method.remember(v.index[3:], label)
    assert method.bank[:, v.index].T.tolist() == [[0, 1, 0, 0]] * 3 + [[1, 0, 1, 0]]
    k, place = method.find(v, 6)
    assert (k == 2).all() and (place == 3).all()
    method.bank.zero_()
    assert len(method.find(v, 50)[1].unique()) > 1


def test_drawn_classes_are_pasted_with_their_labels(build, draw):
    method = build("ael", exclude=(0, 1, 3), paste_number=1)
    batch, changed = draw(method, batch=4), 0
    for seed in range(6):
        torch.manual_seed(seed)
        image, label, _ = method.copy_paste(batch.x, batch.p)
        taken = batch.p.label == 2
        for i in range(4):
            here = label[i] != batch.x.label[i]
            assert (label[i][here] == 2).all() and taken[i][here].all()
            if here.any():
                changed += 1
                assert torch.equal(image[i][:, taken[i]], batch.p.weak[i][:, taken[i]])
                assert torch.equal(image[i][:, ~taken[i]], batch.x.weak[i][:, ~taken[i]])
    assert changed
    with pytest.raises(S4Error, match="no class"):
        build("ael", exclude=(0, 1, 2, 3))


def test_absent_classes_lose_confidence(build, draw):
    method = build("ael", momentum=0.9)
    batch, before = draw(method), method.q.clone()
    for view in (batch.x, batch.p):
        view.label.fill_(1)
    method.train().losses(batch, MIDDLE)
    others = torch.tensor([0, 2, 3])
    assert torch.allclose(method.q[others], 0.9 * before[others]) and method.q[1] > 0.9 * before[1]


def test_what_is_shown_is_what_is_trained_on(build, draw):
    """Of the pixels, too, that the sampling leaves out: they have no weight in what the explorer gets."""
    method = build("ael", gamma2=2.0).train()
    method.q.copy_(torch.tensor([0.9, 0.1, 0.85, 0.8]))
    losses = method.losses(draw(method, batch=4), MIDDLE)
    target, student = losses.seen["target"], losses.seen["student"]
    used = target.weight * target.valid
    assert 0 < (used > 0).sum() < 0.9 * target.valid.sum()
    again = (used * ce_map(student, target.label)).sum() / used.sum()
    assert losses["u"][0].item() == pytest.approx(again.item(), rel=1e-4)


def test_the_teacher_labels_with_its_own_batch_statistics(build, draw):
    method = build("ael").train()
    before = {k: b.clone() for k, b in method.teacher.named_buffers() if "running" in k}
    method.losses(draw(method), MIDDLE)
    assert method.teacher.training
    assert any(not torch.equal(b, before[k]) for k, b in method.teacher.named_buffers() if k in before)


def test_a_column_is_drawn_as_multinomial_draws_it():
    weight = torch.rand(500, 6, generator=torch.Generator().manual_seed(0))
    weight[:, 2] = 0
    torch.manual_seed(1)
    usual = weight.multinomial(1)[:, 0]
    torch.manual_seed(1)
    assert torch.equal(by_weight(weight), usual) and (usual != 2).all()
