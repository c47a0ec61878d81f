"""What a correct CAC shows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from toy import toy_task

from s4kit.methods import Clock
from s4kit.methods.consistency import cac
from s4kit.methods.consistency.cac import CAC, pull
from s4kit.methods.parts import banks
from s4kit.nets import bn_untouched
from s4kit.views import Stream, ViewPlan, align, draw_step, overlapping, render
from s4kit.views.geometry import Window

MIDDLE = Clock(50, 100)
PAIR = ViewPlan(u=Stream("unlabelled"), v=Stream("unlabelled", weak=overlapping(), of="u"))


@pytest.mark.parametrize("micro", range(4))
def test_aligned_cells_show_the_same_pixels(micro):
    """Also of flipped crops, and of images that are smaller than the crop."""
    task = toy_task(size=40).with_(crop=32, scale=(0.7, 1.8))
    batch = render(draw_step(task, PAIR, 4, 0, 0, micro), PAIR)
    u, v = batch.u, batch.v
    assert torch.equal(u.index, v.index) and not torch.equal(u.weak, v.weak)
    shown, seen = F.avg_pool2d(v.weak, 8), F.avg_pool2d(u.weak, 8)
    found, inside = align(shown, v, u)
    real = F.avg_pool2d(v.valid[:, None], 8)[:, 0] == 1
    inside = inside & align(real, v, u)[0]
    assert inside.any()
    assert ((found - seen).abs().amax(1)[inside] < 2 / 255).all()
    back = align(align(shown, v, u)[0], u, v)[0]
    there = align(inside, u, v)[0] & align(shown, u, v)[1]
    assert torch.equal(back[there[:, None].expand_as(back)], shown[there[:, None].expand_as(back)])


def test_crops_overlap_at_multiples_of_the_stride():
    rng, geometry, shares = np.random.default_rng(0), overlapping(iou=(0.3, 0.7)), []
    for _ in range(300):
        first = Window(100, 130, int(rng.integers(37)), int(rng.integers(67)), False)
        second = geometry.beside(rng, first, 64)
        dy, dx = second.top - first.top, second.left - first.left
        assert dy % 8 == 0 and dx % 8 == 0 and 0 <= second.top <= 36 and 0 <= second.left <= 66
        shared = max(0, 64 - abs(dy)) * max(0, 64 - abs(dx))
        shares.append(shared / (2 * 64**2 - shared))
    assert min(shares) >= 0.3 and max(s for s in shares if s < 1) <= 0.7
    assert overlapping(iou=(0.99, 0.995)).beside(rng, Window(100, 130, 5, 6, True), 64)[2:4] == (5, 6)
    assert overlapping().beside(rng, Window(40, 200, -12, 100, False), 64).top == -12


def slow_pull(anchor, positive, label, bank, bank_label, heat) -> torch.Tensor:
    """Vector by vector."""
    out = torch.zeros(label.shape)
    for b, y, x in np.ndindex(*label.shape):
        a = anchor[b, :, y, x].tolist()
        near = math.exp(np.dot(a, positive[b, :, y, x].tolist()) / heat)
        far = sum(
            math.exp(np.dot(a, vector.tolist()) / heat)
            for vector, k in zip(bank, bank_label.tolist())
            if k >= 0 and k != label[b, y, x]
        )
        out[b, y, x] = -math.log(near / (near + far))
    return out


def setting(seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    unit = lambda *shape, dim: F.normalize(torch.randn(*shape, generator=g), dim=dim)  # noqa: E731
    label, bank_label = torch.randint(0, 3, (2, 3, 4), generator=g), torch.randint(-1, 3, (20,), generator=g)
    return unit(2, 5, 3, 4, dim=1), unit(2, 5, 3, 4, dim=1), label, unit(20, 5, dim=1), bank_label


def test_the_pull_by_loops():
    anchor, positive, label, bank, bank_label = setting()
    found = pull(anchor, positive, label, bank, bank_label.float(), 0.2)
    assert torch.allclose(found, slow_pull(anchor, positive, label, bank, bank_label, 0.2), rtol=1e-4)


def test_the_gradient_in_closed_form_is_that_of_autograd():
    anchor, positive, label, bank, bank_label = setting()
    grads = []
    for plain in (False, True):
        a = anchor.clone().double().requires_grad_()
        if plain:
            score = torch.einsum("bdhw,nd->bnhw", a, bank.double()) / 0.2
            use = (bank_label[None, :, None, None] != label[:, None]) & (bank_label >= 0)[None, :, None, None]
            near = (a * positive.double()).sum(1) / 0.2
            value = torch.log1p((score.exp() * use).sum(1) / near.exp())
        else:
            value = pull(a, positive.double(), label, bank.double(), bank_label.double(), 0.2)
        (value * torch.arange(24).view(2, 3, 4)).sum().backward()
        grads.append(a.grad)
    assert torch.allclose(grads[0], grads[1], rtol=1e-3)  # the 1e-8 inside the logarithm


def test_only_the_anchor_learns_and_no_negatives_are_no_loss():
    anchor, positive, label, bank, _ = setting()
    a, p, b = (t.clone().requires_grad_() for t in (anchor, positive, bank))
    pull(a, p, label, b, torch.zeros(20), 0.1).sum().backward()
    assert a.grad.abs().sum() > 0 and p.grad is None and b.grad is None
    for labels in (torch.full((20,), -1.0), torch.zeros(20)):
        assert pull(anchor, positive, torch.zeros_like(label), bank, labels, 0.1).abs().max() < 1e-6


def shown(method: CAC, draw, **options):
    batch = draw(method, batch=4, **options)
    return batch, [method.features(crop.strong[0]) for crop in (batch.u, batch.v)]


def test_the_less_sure_is_pulled_and_swapping_swaps(build, draw):
    method = build("cac", tau=0.2).eval()
    batch, f = shown(method, draw)
    (_, m_1), (_, m_2) = method.contrast(f, (batch.u, batch.v))
    (_, n_2), (_, n_1) = method.contrast(f[::-1], (batch.v, batch.u))
    assert torch.equal(m_1, n_1) and torch.equal(m_2, n_2) and m_1.sum() > 0 and m_2.sum() > 0
    assert not ((align(m_2, batch.v, batch.u)[0] * m_1) > 0).any(), "one of the two is surer, not both"
    c = [method.student.decoder.classifier(k).softmax(1).amax(1) for k in f]
    surer = align(c[1], batch.v, batch.u)[0]
    assert (surer[m_1 > 0] > c[0][m_1 > 0]).all() and (surer[m_1 > 0] > 0.2).all()


def test_equal_crops_select_nothing(build, draw):
    method = build("cac", tau=0.0).eval()
    batch, f = shown(method, draw)
    for _, m in method.contrast([f[0], f[0]], (batch.u, batch.u)):
        assert m.sum() == 0
    batch.v = batch.u
    losses = method.losses(batch, MIDDLE)
    assert losses["u"][0] == 0 == losses["v"][0]


def test_nobody_is_pulled_to_padding(build, draw):
    method = build("cac", tau=0.0).eval()
    batch, f = shown(method, draw)
    batch.v.valid.zero_()
    assert all(m.sum() == 0 for _, m in method.contrast(f, (batch.u, batch.v)))


def test_the_classifier_learns_from_labels_alone(build, draw):
    method = build("cac", tau=0.2).train()
    losses = method.losses(draw(method, batch=4), MIDDLE)
    (losses["u"][0] + losses["v"][0]).backward()
    net = method.student
    assert net.decoder.classifier.weight.grad is None
    for part in (net.backbone, net.heads["project"]):
        assert sum(p.grad.abs().sum() for p in part.parameters()) > 0


def test_the_bank_saturates_and_holds_both_crops(build, draw):
    method = build("cac", samples=5, keep=2).train()
    batch, sizes = draw(method), []
    for _ in range(4):
        method.losses(batch, MIDDLE)
        sizes.append(int(method.bank.count))
    assert sizes == [10, 20, 20, 20]
    held = method.bank.take(0, torch.arange(20))
    assert torch.allclose(held[:, :-1].norm(dim=1), torch.ones(20), atol=1e-5)
    assert set(held[:, -1].tolist()) <= {0.0, 1.0, 2.0, 3.0}


def test_the_bank_holds_as_much_on_any_number_of_processes(build, draw, monkeypatch):
    """Each gives its part of the positions, and all parts go into every bank."""
    monkeypatch.setattr(cac, "number_of_processes", lambda: 2)
    monkeypatch.setattr(banks, "_all_ranks", lambda new, number: [(new, number), (new, number)])
    method = build("cac", samples=6, keep=2).train()
    batch, sizes = draw(method), []
    for _ in range(3):
        method.losses(batch, MIDDLE)
        sizes.append(int(method.bank.count))
    assert sizes == [12, 24, 24]


def test_labelled_images_are_jittered_on_request(build, draw):
    for jitter in (False, True):
        method, seen = build("cac", jitter=jitter, start=1.0).train(), []
        batch = draw(method)
        method.student.register_forward_hook(lambda net, given, out: seen.append(given[0]))  # noqa: B023
        method.losses(batch, Clock(0, 100))
        assert torch.equal(seen[0], batch.x.weak) != jitter


def test_the_crops_see_different_masks_of_the_papers_dropout(build, draw):
    """Equal crops are then no longer equally sure; the projection reads features that the last mask has not touched."""
    method = build("cac", net="tiny(dropout=(0, 0, 0.5), dropout_kind='element')", tau=0.0).train()
    batch = draw(method, batch=4)
    with bn_untouched(method.student):
        f = [method.features(batch.u.strong[0]) for _ in range(2)]
    assert torch.equal(f[0], f[1])
    assert all(m.sum() > 0 for _, m in method.contrast(f, (batch.u, batch.u)))


def test_it_starts_late(build, draw):
    method = build("cac", start=0.5).train()
    batch = draw(method)
    early = method.losses(batch, Clock(49, 100))
    assert early["u"][0] == 0 == early["v"][0] and method.bank.count == 0
    late = method.losses(batch, MIDDLE)
    assert late.keys() == early.keys() and late.seen and not early.seen and method.bank.count > 0
