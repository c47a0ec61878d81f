"""What a correct FixMatch, UniMatch and CutMix-Seg shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.methods import Clock
from s4kit.methods.parts.losses import ce

MIDDLE = Clock(50, 100)


def no_boxes(batch):
    batch.u.masks = [torch.zeros_like(m) for m in batch.u.masks]
    return batch


def slow_weak_to_strong(z_s, z_w, z_v, mask, valid_u, valid_v, tau) -> float:
    """The unlabelled term of FixMatch, pixel by pixel."""
    total, divisor = 0.0, 0.0
    for b, y, x in np.ndindex(*mask.shape):
        inside = bool(mask[b, y, x])
        teacher, valid = (z_v, valid_v) if inside else (z_w, valid_u)
        p = teacher[b, :, y, x].softmax(0)
        v = float(valid[b, y, x])
        divisor += v
        if float(p.max()) >= tau:
            total += v * float(-z_s[b, :, y, x].log_softmax(0)[int(p.argmax())])
    return total / divisor


def test_fixmatch_term_by_loops(build, draw):
    method = build("fixmatch").eval()  # eval: the joint forward equals separate ones
    batch = draw(method)
    batch.u.valid[0, :5], batch.v.valid[1, :, 9:] = 0, 0
    u, v, m = batch.u, batch.v, batch.u.masks[0]
    m[0, 4:20, 4:20] = True
    mixed = torch.where(m[:, None], v.strong[0], u.strong[0])
    with torch.no_grad():
        z_s, z_w, z_v = (method.student(i).double() for i in (mixed, u.weak, v.weak))
    method.tau = z_w.softmax(1).amax(1).median().item()
    expected = slow_weak_to_strong(z_s, z_w, z_v, m, u.valid, v.valid, method.tau)
    losses = method.losses(batch, MIDDLE)
    assert expected > 0 and losses["u"][0].item() == pytest.approx(expected, rel=3e-3)  # a pixel at tau
    assert torch.equal(losses.seen["mixed"], mixed)
    assert losses.total.item() == pytest.approx((losses["x"][0] + losses["u"][0]).item() / 2)


def test_fixmatch_without_boxes_and_threshold_is_plain_cross_entropy(build, draw):
    method = build("fixmatch", tau=0.0).eval()
    batch = no_boxes(draw(method))
    z_w, z_s = method.student(batch.u.weak), method.student(batch.u.strong[0])
    assert torch.allclose(method.losses(batch, MIDDLE)["u"][0], ce(z_s, z_w.argmax(1)), rtol=1e-5)


@pytest.mark.parametrize("name", ["fixmatch", "unimatch"])
def test_nothing_is_above_one(name, build, draw):
    method = build(name, tau=1.1)
    losses = method.losses(draw(method), MIDDLE)
    assert losses.total.item() == pytest.approx(losses["x"][0].item() / 2)


@pytest.mark.parametrize("name", ["fixmatch", "unimatch"])
def test_labels_come_without_gradient_and_modes_in_order(name, build, draw):
    method = build(name, tau=0.0).train()
    seen = []
    encode = method.student.encode

    def watched(image, start=None):
        seen.append((method.student.training, torch.is_grad_enabled()))
        return encode(image, start)

    method.student.encode = watched
    target = method.losses(draw(method), MIDDLE).seen["target"]
    assert seen == [(False, False), (True, True), (True, True)]
    assert not target.confidence.requires_grad


def test_inside_the_box_all_comes_from_the_partner(build, draw):
    method = build("fixmatch", tau=0.0)
    batch = draw(method)
    batch.u.masks = [torch.ones_like(m) for m in batch.u.masks]
    batch.v.valid[:, :3] = 0
    rule = method.pseudo_labels(method.teach(batch.v), batch.v, MIDDLE)
    seen = method.losses(batch, MIDDLE).seen
    assert torch.equal(seen["mixed"], batch.v.strong[0])
    for field in ("label", "confidence", "weight", "valid"):
        assert torch.equal(getattr(seen["target"], field), getattr(rule, field))


def test_unimatch_without_dropout_boxes_and_with_equal_views(build, draw):
    """The two strong streams are equal, and the feature stream teaches the network its own weak prediction."""
    method = build("unimatch", tau=0.0, drop=0.0).eval()
    batch = no_boxes(draw(method))
    batch.u.strong[1] = batch.u.strong[0]
    losses = method.losses(batch, MIDDLE)
    z_w = method.student(batch.u.weak)
    assert torch.allclose(losses["s1"][0], losses["s2"][0], rtol=1e-5)
    assert torch.allclose(losses["fp"][0], ce(z_w, z_w.argmax(1)), rtol=1e-5)


def test_one_strong_stream_of_unimatch_is_fixmatch(build, draw):
    """In eval mode (no joint BN statistics) L_1 alone with full weight gives FixMatch's loss."""
    unimatch, fixmatch = build("unimatch", tau=0.0, drop=0.0).eval(), build("fixmatch", tau=0.0).eval()
    batch = draw(unimatch)
    ours, theirs = unimatch.losses(batch, MIDDLE), fixmatch.losses(batch, MIDDLE)
    assert torch.allclose(ours["s1"][0], theirs["u"][0], rtol=1e-5)
    assert torch.allclose(ours["x"][0], theirs["x"][0], rtol=1e-5)
    assert ours["x"][1] == theirs["x"][1]
    assert sum(ours[k][1] for k in ("s1", "s2", "fp")) == theirs["u"][1]


def test_the_second_stream_has_its_own_box_and_the_feature_stream_none(build, draw):
    method = build("unimatch", tau=0.0)
    batch = draw(method)
    batch.u.masks = [torch.ones_like(batch.u.masks[0]), torch.zeros_like(batch.u.masks[0])]
    seen = method.losses(batch, MIDDLE).seen
    assert torch.equal(seen["mixed"], batch.v.strong[0]) and torch.equal(seen["second view/mixed"], batch.u.strong[1])
    assert torch.equal(seen["second view/target"].label, seen["dropped features/target"].label)


def test_feature_dropout_changes_the_feature_stream_alone(build, draw):
    batch = draw(build("unimatch"))
    terms = []
    for drop in (0.0, 0.5):
        method = build("unimatch", tau=0.0, drop=drop).eval()
        torch.manual_seed(0)
        terms.append({k: v.item() for k, (v, _) in method.losses(batch, MIDDLE).items()})
    assert terms[0]["fp"] != terms[1]["fp"]
    assert all(terms[0][k] == pytest.approx(terms[1][k], rel=1e-5) for k in ("x", "s1", "s2"))


def shaken(method):
    """Move the teacher away from the student."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return method


def slow_cutmix(z, t_u, t_v, mask, valid_u, valid_v, tau, per_pixel) -> float:
    """The consistency term of CutMix-Seg, pixel by pixel."""
    errors, sure = [], []
    for b, y, x in np.ndindex(*mask.shape):
        t, valid = (t_v, valid_v) if mask[b, y, x] else (t_u, valid_u)
        q, p = t[b, :, y, x].softmax(0), z[b, :, y, x].softmax(0)
        errors.append(float(valid[b, y, x]) * float(((p - q) ** 2).sum()))
        sure.append(float(q.max() >= tau))
    rates = sure if per_pixel else [sum(sure) / len(sure)] * len(sure)
    return sum(e * c for e, c in zip(errors, rates)) / len(errors)


@pytest.mark.parametrize("per_pixel", [False, True])
def test_cutmix_term_by_loops(per_pixel, build, draw):
    method = shaken(build("cutmix", per_pixel=per_pixel)).eval()
    batch = draw(method)
    batch.u.valid[0, :5], batch.v.valid[1, :, 9:] = 0.5, 0
    u, v, m = batch.u, batch.v, batch.u.masks[0]
    mixed = torch.where(m[:, None], v.weak, u.weak)
    with torch.no_grad():
        z, t_u, t_v = method.student(mixed).double(), method.teacher(u.weak).double(), method.teacher(v.weak).double()
    method.tau = t_u.softmax(1).amax(1).median().item()
    expected = slow_cutmix(z, t_u, t_v, m, u.valid, v.valid, method.tau, per_pixel)
    losses = method.losses(batch, MIDDLE)
    assert expected > 0 and losses["u"][0].item() == pytest.approx(expected, rel=3e-3)  # a pixel at tau
    weight = losses.seen["target"].weight
    assert 0 < weight.mean() < 1 and (len(weight.unique()) == (2 if per_pixel else 1))


def test_cutmix_agrees_with_itself(build, draw):
    method = build("cutmix", tau=0.0).eval()
    losses = method.losses(no_boxes(draw(method)), MIDDLE)
    losses["u"][0].backward()
    assert losses["u"][0] == 0
    assert all(p.grad.abs().max() == 0 for p in method.student.parameters())


def test_half_the_validity_is_half_the_loss(build, draw):
    method = shaken(build("cutmix", tau=0.0)).eval()
    batch = draw(method)
    whole = method.losses(batch, MIDDLE)["u"][0].item()
    batch.u.valid *= 0.5
    batch.v.valid *= 0.5
    assert method.losses(batch, MIDDLE)["u"][0].item() == pytest.approx(whole / 2)


def test_the_cutmix_box_has_half_the_area(build, draw):
    method = build("cutmix")
    area = torch.stack([draw(method, micro=i).u.masks[0].float().mean((1, 2)) for i in range(5)])
    assert ((area - 0.5).abs() < 0.05).all()


def test_cutmix_draws_from_labelled_images_too(build, task, draw):
    method = build("cutmix")
    rows = {int(i) for micro in range(12) for i in draw(method, micro=micro).u.index}
    assert rows == {*task.labelled, *task.unlabelled}


def test_the_cutmix_teacher_averages_from_the_first_step_buffers_included(build):
    method = shaken(build("cutmix", decay=0.9))
    before = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    for buffer in method.student.buffers():
        buffer.add_(1)
    method.after_step(Clock(0, 100))
    student = method.student.state_dict()
    for key, value in method.teacher.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, 0.9 * before[key] + 0.1 * student[key], atol=1e-6)
    assert next(iter(method.predictors())) == "teacher" and not method.train().teacher.training
