"""What a correct ClassMix shows."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from s4kit import methods
from s4kit.methods import Clock
from s4kit.methods.consistency import classmix
from s4kit.methods.parts.masks import class_mask, draw_class_mask
from s4kit.views import Strong, recolour

MIDDLE = Clock(50, 100)


def shaken(method):
    """Move the teacher away from the student, so that it predicts several classes."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g))
    return method


def test_half_of_the_classes_and_each_whole():
    label = torch.randint(0, 7, (6, 12, 12), generator=torch.Generator().manual_seed(0))
    label[4], label[5] = 3, label[5] % 2
    for seed in range(5):
        torch.manual_seed(seed)
        mask = draw_class_mask(label, 9)
        for found, inside in zip(label, mask):
            chosen = [c for c in found.unique().tolist() if inside[found == c].any()]
            assert len(chosen) == len(found.unique()) // 2
            assert all(inside[found == c].all() for c in chosen)
    assert not mask[4].any() and 0 < mask[5].sum() < 144


def test_all_classes_are_drawn_alike():
    torch.manual_seed(0)
    label = torch.tensor([0, 2, 3, 5]).view(1, 2, 2).expand(2000, 2, 2)
    share = draw_class_mask(label, 6).float().mean(0)
    assert ((share - 0.5).abs() < 0.05).all()


def test_void_belongs_to_no_class():
    label = torch.tensor([[[0, 1], [255, 255]]])
    assert class_mask(label, torch.tensor([[0.9, 0.1]])).tolist() == [[[False, True], [False, False]]]


def slow(z, t_u, mask, valid, tau) -> float:
    """The unlabelled term, pixel by pixel."""
    terms, sure, n = [], [], len(mask)
    for b, y, x in np.ndindex(*mask.shape):
        source = b if mask[b, y, x] else (b + 1) % n
        q = t_u[source, :, y, x].softmax(0)
        terms.append(float(valid[source, y, x]) * float(-z[b, :, y, x].log_softmax(0)[int(q.argmax())]))
        sure.append(float(q.max() >= tau))
    return sum(terms) / len(terms) * sum(sure) / len(sure)


def test_the_term_by_loops(build, draw, monkeypatch):
    method = shaken(build("classmix", colour=False)).eval()
    batch = draw(method, batch=3)
    u = batch.u
    u.valid[0, :5] = 0
    masks = []
    monkeypatch.setattr(classmix, "draw_class_mask", lambda *a: masks.append(draw_class_mask(*a)) or masks[-1])
    with torch.no_grad():
        t_u = method.teacher(u.weak).double()
        method.tau = t_u.softmax(1).amax(1).median().item()
        losses = method.losses(batch, MIDDLE)
        mixed = losses.seen["mixed"]
        z = method.student(mixed).double()
    assert 0 < masks[0].float().mean() < 1
    assert torch.equal(mixed, torch.where(masks[0][:, None], u.weak, u.weak[[1, 2, 0]]))
    expected = slow(z, t_u, masks[0], u.valid, method.tau)
    assert expected > 0 and losses["u"][0].item() == pytest.approx(expected, rel=3e-3)  # a pixel at tau
    weight = losses.seen["target"].weight
    assert len(weight.unique()) == 1 and 0 < weight.mean() < 1


def test_flips_can_be_off(build):
    assert all(s.weak.flip == 0.5 for s in build("classmix").views.values())
    assert all(s.weak.flip == 0 for s in build("classmix", flip=0.0).views.values())
    assert all(methods.recipe("classmix", data)["method"]["flip"] == 0 for data in ("voc", "cityscapes"))


def test_one_class_pastes_nothing(build, draw):
    method = build("classmix", colour=False).eval()
    method.teacher.decoder.classifier.bias.data[2] = 100
    batch = draw(method, batch=3)
    assert torch.equal(method.losses(batch, MIDDLE).seen["mixed"], batch.u.weak.roll(-1, 0))


def test_twice_the_sure_pixels_twice_the_loss(build, draw):
    method = shaken(build("classmix", colour=False)).eval()
    batch = draw(method)
    values = []
    for share in (0.25, 0.5):
        with torch.no_grad():
            method.tau = method.teacher(batch.u.weak).softmax(1).amax(1).quantile(1 - share).item()
        torch.manual_seed(0)
        seen = method.losses(batch, MIDDLE)
        values.append(seen["u"][0].item() / seen.seen["target"].weight.mean().item())
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_colours_come_after_the_mixing_and_are_decided_once(build, draw):
    """The labels are of the plain mix; jitter touches all images of the batch or none."""
    plain, coloured = shaken(build("classmix", colour=False)).eval(), shaken(build("classmix")).eval()
    batch = draw(plain, batch=4)
    changed = set()
    for seed in range(12):
        seen = []
        for method in (plain, coloured):
            torch.manual_seed(seed)
            random.seed(seed)
            seen.append(method.losses(batch, MIDDLE).seen)
        assert torch.equal(seen[0]["target"].label, seen[1]["target"].label)
        touched = [not torch.equal(a, b) for a, b in zip(seen[0]["mixed"], seen[1]["mixed"])]
        assert len(set(touched)) == 1
        changed.add(touched[0])
    assert changed == {True, False}


def test_recolour_follows_the_seed_and_each_image_has_its_own_factors():
    image, recipe = torch.rand(1, 3, 8, 8).expand(3, 3, 8, 8), Strong(0.5, 0, 0, 0, jitter=1.0, grey=0.0, blur=0.0)
    random.seed(1)
    first = recolour(image, recipe, together=True)
    random.seed(1)
    assert torch.equal(first, recolour(image, recipe, together=True))
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])


def test_the_first_update_copies_the_student(build):
    method = shaken(build("classmix"))
    method.after_step(Clock(0, 100))
    for ours, theirs in zip(method.teacher.parameters(), method.student.parameters()):
        assert torch.equal(ours, theirs)
