"""What a correct AugSeg shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.consistency.augseg import confidence_of_images, inject, known
from s4kit.methods.parts.losses import ce

MIDDLE = Clock(50, 100)


def slow_inject(image, label, conf, image_x, label_x, wanted, order, small, large):
    """The two pastes, pixel by pixel; label 255 = none."""
    copy = [(image[i].copy(), label[i].copy(), conf[i].copy()) for i in range(len(image))]
    for i, y, x in np.ndindex(*label.shape):
        if wanted[i] and small[i, y, x]:
            copy[i][0][:, y, x], copy[i][1][y, x], copy[i][2][y, x] = (
                image_x[order[i]][:, y, x],
                label_x[order[i], y, x],
                1,
            )
    out = image.copy(), label.copy(), conf.copy()
    for i, y, x in np.ndindex(*label.shape):
        if large[i, y, x]:
            a, b, c = copy[order[i]]
            out[0][i, :, y, x], out[1][i, y, x], out[2][i, y, x] = a[:, y, x], b[y, x], c[y, x]
    return out


def test_injection_by_loops():
    rng = np.random.default_rng(0)
    image, image_x = rng.random((2, 4, 3, 9, 8)).astype(np.float32)
    label, label_x = rng.integers(0, 5, (2, 4, 9, 8))
    label_x[:, 0] = 255
    conf, (small, large) = rng.random((4, 9, 8)).astype(np.float32), rng.random((2, 4, 9, 8)) < 0.5
    wanted, order = np.array([True, False, True, True]), np.array([2, 0, 3, 1])
    expected = slow_inject(image, label, conf, image_x, label_x, wanted, order, small, large)
    t = torch.from_numpy
    target = PseudoLabels(t(label), t(conf), torch.ones(4, 9, 8), torch.ones(4, 9, 8))
    mixed, found = inject(t(image), target, t(image_x), known(t(label_x)), t(wanted), t(order), t(small), t(large))
    assert np.array_equal(mixed.numpy(), expected[0])
    assert np.array_equal(found.label.where(found.valid > 0, 255).numpy(), expected[1])
    assert np.array_equal(found.confidence.numpy(), expected[2]) and (expected[1] == 255).any()


def test_confidence_of_an_image_by_loops():
    z = 2 * torch.randn(2, 5, 4, 3, dtype=torch.float64)
    for b in range(2):
        total = 0.0
        for y, x in np.ndindex(4, 3):
            p = z[b, :, y, x].softmax(0).tolist()
            total += max(p) * (1 + sum(q * math.log(q) for q in p) / math.log(5))
        assert confidence_of_images(z)[b].item() == pytest.approx(total / 12)


def test_sure_images_get_nothing_and_unsure_ones_always():
    hot = torch.zeros(1, 4, 3, 3)
    hot[:, 1] = 200
    assert confidence_of_images(hot).item() == pytest.approx(1)
    assert confidence_of_images(torch.zeros(1, 4, 3, 3)).item() == pytest.approx(0, abs=1e-6)


def test_a_sure_teacher_leaves_plain_cutmix(build, draw):
    """rho = 1: no labelled pixel, but boxes of other images."""
    method = build("augseg")
    batch = draw(method, batch=4)
    hot = torch.zeros(4, 4, 32, 32)
    hot[:, 2] = 200
    method.teach = lambda view: hot
    batch.u.masks[1] = torch.ones_like(batch.u.masks[1])
    losses = method.losses(batch, MIDDLE)
    rows = [[torch.equal(a, b) for b in batch.u.strong[0]] for a in losses.seen["mixed"]]
    assert all(sum(row) == 1 for row in rows) and (losses.seen["target"].label == 2).all()


def test_an_unsure_teacher_lets_labels_in(build, draw):
    method = build("augseg", tau=0.9)
    batch = draw(method, batch=4)
    method.teach = lambda view: torch.zeros(4, 4, 32, 32)
    batch.u.masks = [torch.ones_like(m) for m in batch.u.masks]
    seen = method.losses(batch, MIDDLE).seen
    kept = seen["target"].weight * seen["target"].valid > 0
    assert kept.any() and (seen["target"].confidence[kept] == 1).all()
    rows = [[torch.equal(a, b) for b in batch.x.weak] for a in seen["mixed"]]
    assert all(sum(row) == 1 for row in rows)


def test_without_boxes_and_threshold_it_is_plain_cross_entropy(build, draw):
    method = build("augseg", tau=-0.1).eval()
    batch = draw(method)
    batch.u.masks = [torch.zeros_like(m) for m in batch.u.masks]
    batch.u.valid[:, :9] = 0  # padding counts, as released
    z = method.student(batch.u.strong[0])
    y = method.teach(batch.u).argmax(1)
    assert torch.allclose(method.losses(batch, MIDDLE)["u"][0], ce(z, y), rtol=1e-5)


def test_the_teacher_is_the_student_for_an_epoch(build):
    method = build("augseg", decay=0.9)
    for step, same in ((0, True), (3, True), (4, False)):
        with torch.no_grad():
            for p in method.student.parameters():
                p.add_(0.1)
        method.after_step(Clock(step, 100, epoch_steps=4))
        pairs = zip(method.teacher.parameters(), method.student.parameters())
        assert all(torch.allclose(t, s, atol=1e-7) for t, s in pairs) == same


def test_extra_weak_images_move_the_batch_statistics_alone(build, draw):
    terms = {}
    for extra in (False, True):
        method = build("augseg", extra_weak=extra).eval()
        torch.manual_seed(0)
        terms[extra] = {k: v.item() for k, (v, _) in method.losses(draw(method), MIDDLE).items()}
    assert terms[False] == pytest.approx(terms[True], rel=1e-5)
    sizes = []
    method = build("augseg", extra_weak=True).train()
    method.student.encode = lambda image, encode=method.student.encode: sizes.append(len(image)) or encode(image)
    method.losses(draw(method), MIDDLE)
    assert sizes == [6]
