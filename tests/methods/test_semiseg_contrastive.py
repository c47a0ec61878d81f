"""What a correct SemiSeg-Contrastive shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from s4kit.methods import Clock
from s4kit.methods.parts.class_frequencies import ClassTable
from s4kit.methods.parts.selectors import Selectors, memory_distance, shares, standardised

LATE = Clock(50, 100)


def filled(classes: int = 3, q: int = 5, m: int = 6, dim: int = 4):
    torch.manual_seed(0)
    features, memory = torch.randn(classes, q, dim), torch.randn(classes, m, dim)
    real, held = torch.rand(classes, q) < 0.7, torch.rand(classes, m) < 0.7
    real[:, :2], held[:, :2] = True, True
    return features, real, memory, held


def test_equal_weights_give_the_mean_cosine_distance_and_few_rows_nothing() -> None:
    features, real, memory, held = filled()
    real[2, 1:] = False
    found = memory_distance(features, real, memory, held, real.float(), held.float())
    each = [
        (1 - F.cosine_similarity(features[c][real[c]][:, None], memory[c][held[c]], dim=2)).mean() for c in range(2)
    ]
    torch.testing.assert_close(found, sum(each) / 3)
    one = torch.ones_like(memory) * torch.arange(1, 4)[:, None, None]
    assert memory_distance(3 * one[:, :5], real, one, held, real.float(), held.float()).abs() < 1e-6


def test_a_class_is_normalised_by_its_own_rows_and_shares_have_a_mean_of_one() -> None:
    features, real, _, _ = filled()
    x = standardised(features, real)
    for c in range(3):
        own = x[c][real[c]]
        torch.testing.assert_close(own.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    select = Selectors(3, 4)
    scores = select(features, real)
    changed = features.clone()
    changed[~real] = 100.0
    torch.testing.assert_close(
        Selectors.forward(select := Selectors(3, 4), changed, real)[real], select(features, real)[real]
    )
    a = shares(scores, real)
    torch.testing.assert_close(a.sum(1) / real.sum(1), torch.ones(3))
    assert (a[~real] == 0).all()


def test_class_weights_wait_for_full_tables_and_favour_what_is_rare() -> None:
    table = ClassTable(3, 2, 2)
    label = torch.zeros(1, 4, 4).long()
    label[0, 0, 0] = 1
    table.count(label, label)
    assert (table.weights() == 1).all()
    table.count(label, label)
    w = table.weights()
    torch.testing.assert_close(w, torch.tensor([4 / 60, 4 / 4, 1.0]).sqrt())  # the median of 60, 4 and 0 is 4
    table.count(torch.ones_like(label), torch.ones_like(label))
    assert table.labelled[:2].sum(0).tolist() == [30, 2, 0], "filled once"
    assert table.unlabelled[:2].sum(0).tolist() == [15, 17, 0], "the newest ones"


def test_the_memory_holds_what_the_teacher_gets_right_and_is_sure_of(build, draw) -> None:
    method = build("semiseg_contrastive", sure=0.3, rows=20).train()
    x = draw(method).x
    with torch.no_grad():
        z, _ = method.through(method.teacher, x.weak)
    confidence, says = z.softmax(1).max(1)
    good = (says == x.label) & (confidence > 0.3)
    method.remember(x.weak, x.label)
    met = torch.tensor([(good & (x.label == c)).any() for c in range(4)])
    assert (method.memory.count[~met] == 0).all() and method.memory.count.sum() > 0
    method.sure = 1.0
    before = method.memory.count.clone()
    method.remember(x.weak, x.label)
    assert torch.equal(method.memory.count, before)


def test_the_rows_that_the_selector_likes_best_are_kept(build) -> None:
    method = build("semiseg_contrastive", rows=8, dim=6)
    method.per_image = 1
    torch.manual_seed(1)
    features, real = torch.randn(4, 10, 6), torch.ones(4, 10, dtype=torch.bool)
    real[3] = False
    score = method.teacher.heads["choose"](features, real)
    method.write(features, real, 3)
    assert method.memory.count.tolist() == [3, 3, 3, 0]
    for c in range(3):
        best = features[c][score[c].topk(3).indices]
        torch.testing.assert_close(method.memory.take(c, torch.arange(3)), best)


def test_only_features_and_selectors_learn_from_the_contrast(build, draw) -> None:
    method = build("semiseg_contrastive", rows=8, sure=0.0, most=32).train()
    batch = draw(method)
    for _ in range(3):
        method.remember(batch.x.weak, batch.x.label)
    losses = method.losses(batch, LATE)
    assert losses["u_contrast"][1] == losses["x_contrast"][1] == pytest.approx(0.1)
    net = method.student
    (losses["x_contrast"][0] + losses["u_contrast"][0]).backward()
    for part in (net.backbone, net.heads["project"], net.heads["choose"], net.heads["choose_memory"]):
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0
    assert net.decoder.classifier.weight.grad is None
    early = method.losses(batch, Clock(0, 100))
    assert early["x_contrast"][0] == 0 and early["u"][1] == pytest.approx(0.0067, abs=1e-4)


def test_the_teacher_is_the_student_first_then_an_average(build) -> None:
    method = build("semiseg_contrastive")
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1)
    method.after_step(Clock(0, 100))
    pairs = list(zip(method.teacher.parameters(), method.student.parameters()))
    assert all(torch.equal(a, b) for a, b in pairs)
    before = [a.clone() for a, _ in pairs]
    with torch.no_grad():
        for _, b in pairs:
            b.add_(11)
    method.after_step(Clock(1, 100))
    assert all(torch.allclose(a, old + 1, atol=1e-4) for (a, _), old in zip(pairs, before))
