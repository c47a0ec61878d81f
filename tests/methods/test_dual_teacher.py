"""The turns of two temporary teachers (parity with the release: tests/golden)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from s4kit.methods import Clock
from s4kit.methods.cotraining.dual_teacher import NAMES, share
from s4kit.methods.parts.schedules import schedule

CUT, CLASS = Clock(0, 40, labelled_steps=4), Clock(4, 40, labelled_steps=4)


def sharp(method, factor: float = 60.0) -> None:
    """Teachers that are sure of nearly every pixel."""
    for teacher in method.teachers:
        teacher.decoder.classifier.weight.data *= factor


def test_one_teacher_moves_in_a_turn_and_begins_as_the_student(build) -> None:
    method = build("dual_teacher")
    key = "decoder.classifier.weight"
    for step in range(12):
        clock = Clock(step, 40, labelled_steps=4)
        idle = {k: v.clone() for k, v in method.teachers[1 - step // 4 % 2].state_dict().items()}
        method.student.decoder.classifier.weight.data += 1.0
        method.after_step(clock)
        now, other = method.teachers[step // 4 % 2], method.teachers[1 - step // 4 % 2]
        gap = (method.student.state_dict()[key] - now.state_dict()[key]).mean().item()
        assert gap == pytest.approx((step % 4) / 2, abs=1e-5), "the mean of the student since the turn began"
        assert all(torch.equal(v, idle[k]) for k, v in other.state_dict().items())
        assert method.active.item() == (step + 1) // 4 % 2


def test_statistics_of_teachers_are_their_own(build, draw) -> None:
    method = build("dual_teacher").train()
    method.losses(draw(method), CUT)
    means = [n.state_dict()["decoder.reduce.1.running_mean"].clone() for n in (method.student, *method.teachers)]
    assert means[1].any() and not means[2].any(), "the active teacher labels in train mode, the other one sleeps"
    method.after_step(CUT)
    assert torch.equal(method.teacher1.state_dict()["decoder.reduce.1.running_mean"], means[1])
    assert torch.equal(method.teacher1.decoder.classifier.weight, method.student.decoder.classifier.weight)


def test_the_rule_is_of_the_teacher_whose_turn_it_is(build, draw) -> None:
    method = build("dual_teacher")
    view = draw(method).u
    method.teacher2.decoder.classifier.bias.data += torch.arange(4.0)
    method.eval()
    for teacher in method.teachers:
        teacher.eval()
    for step, teacher in ((2, method.teacher1), (3, method.teacher2), (7, method.teacher1)):
        method.active.fill_(0)
        weights = [p.clone() for p in teacher.parameters()]
        method.after_step(Clock(step, 40, labelled_steps=4))
        for p, w in zip(teacher.parameters(), weights):
            p.data.copy_(w)
        with torch.no_grad():
            assert torch.equal(method.teach(view), teacher(view.weak))


def test_shares() -> None:
    confidence = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)).numpy()
    image, whole = (share(torch.from_numpy(confidence), 0.6, of).numpy() for of in ("image", "batch"))
    for b in range(3):
        assert np.allclose(image[b], sum(c >= 0.6 for c in confidence[b].ravel().tolist()) / 35)
    assert np.allclose(whole, (confidence >= 0.6).sum() / 105)


def test_the_cutmix_term_by_hand(build, draw) -> None:
    """Box, partner, mirror and weight of every image are told from the picture that the student saw."""
    method = build("dual_teacher").train()
    sharp(method)
    batch = draw(method, batch=3)
    batch.u.valid[0, :5] = 0
    batch.u.masks[0][0, 4:20, 4:20] = True
    losses = method.losses(batch, CUT)
    target, z = losses.seen[f"{NAMES[0]}/target"], losses.seen[f"{NAMES[0]}/student"].double()
    nll = -z.log_softmax(1).gather(1, target.label[:, None])[:, 0]
    weight = torch.stack([(c >= 0.95).double().mean() for c in target.confidence])
    assert 0 < weight.min() < 1
    wanted = (nll * weight[:, None, None] * target.valid).sum() / target.valid.sum()
    assert losses["mixed"][0].item() == pytest.approx(wanted.item(), rel=1e-4)
    assert target.valid.sum() < target.valid.numel(), "padding is not taught"


def test_labels_are_mirrored_with_their_image(build, draw, monkeypatch) -> None:
    method = build("dual_teacher").train()
    batch = draw(method, batch=4)
    module = "s4kit.methods.cotraining.dual_teacher"
    monkeypatch.setattr(f"{module}.recolour", lambda image, _: image)
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n).roll(1))
    turned = torch.tensor([True, False, False, True]).view(4, 1, 1)
    with torch.no_grad():
        t_u = method.teachers[0](batch.u.weak)
        monkeypatch.setattr(f"{module}.draw_upright_mask", lambda like: ~turned.expand_as(like))
        image, target = method.cutmix(batch.u, t_u, CUT)
        monkeypatch.setattr(f"{module}.draw_upright_mask", lambda like: torch.ones_like(like, dtype=torch.bool))
        plain, label = method.cutmix(batch.u, t_u, CUT)
    assert torch.equal(image, torch.where(turned[:, None], plain.flip(-1), plain)) and not torch.equal(image, plain)
    for field in ("label", "confidence", "weight", "valid"):
        a, b = getattr(target, field), getattr(label, field)
        assert torch.equal(a, torch.where(turned, b.flip(-1), b))
    m = batch.u.masks[0][:, None]
    assert torch.equal(plain, torch.where(m, batch.u.weak.roll(1, 0), batch.u.weak))


def test_a_sure_teacher_weighs_one_and_a_doubtful_one_nothing(build, draw) -> None:
    method = build("dual_teacher").train()
    batch = draw(method)
    for clock in (CUT, CLASS):
        doubtful = method.losses(batch, clock)
        assert doubtful["mixed"][0] == 0 and doubtful["implicit"][0] == 0
        method.tau = 0.0
        sure = method.losses(batch, clock)
        assert (sure.seen[f"{NAMES[0]}/target"].weight == 1).all() and sure["mixed"][0] > 0
        plain = sure.seen[f"{NAMES[1]}/target"]
        z = sure.seen[f"{NAMES[1]}/student"]
        ce = nn.functional.cross_entropy(z, plain.label, reduction="none")[plain.valid > 0].mean()
        torch.testing.assert_close(sure["implicit"][0], ce)
        method.tau = 0.95


def test_turns_mix_in_ways_of_their_own(build, draw) -> None:
    method = build("dual_teacher").train()
    batch = draw(method)
    batch.u.masks[0].zero_()
    batch.u.strong[0] = torch.full_like(batch.u.weak, 0.5)
    assert (method.losses(batch, CLASS).seen[f"{NAMES[0]}/mixed"] == 0.5).all(), "ClassMix mixes the strong view"
    assert not (method.losses(batch, CUT).seen[f"{NAMES[0]}/mixed"] == 0.5).all(), "CutMix the weak one"


def test_blocks_are_dropped_in_the_student_alone(build, draw) -> None:
    from timm.layers import DropPath

    method = build("dual_teacher", net="mit_tiny(drop_path=0.5, dropout=0.0)").train()
    rates = [
        [m.drop_prob for m in net.modules() if isinstance(m, DropPath)] for net in (method.student, *method.teachers)
    ]
    assert max(rates[0]) == 0.5 and rates[1] == rates[2] == [0.0] * len(rates[0])
    image = draw(method).u.weak
    for net, same in ((method.student, False), (method.teacher1, True)):
        features = [net.encode(image).high for _ in range(4)]
        assert all(torch.equal(features[0], f) for f in features) == same
    losses = method.losses(draw(method), CLASS)
    assert losses.total.isfinite()


def test_turns_can_be_a_share_of_the_training(build) -> None:
    method = build("dual_teacher", turn=0.05)
    assert [method.place(Clock(s, 600)) for s in (0, 29, 30, 65)] == [(0, 0), (0, 29), (1, 0), (0, 5)]
    assert method.place(Clock(3, 10)) == (1, 0), "a turn has a step at least"


def test_the_linear_schedule() -> None:
    rate = schedule("linear", warmup=10)
    assert [rate(Clock(s, 100)) for s in (0, 9, 10, 75)] == pytest.approx([0.1, 1.0, 0.9, 0.25])
