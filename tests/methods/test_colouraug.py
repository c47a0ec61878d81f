"""What colour augmentation shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.consistency import colouraug
from s4kit.methods.consistency.colouraug import PERTURBATIONS, contrast_of
from s4kit.views import draw_shift, warp

MIDDLE = Clock(50, 100)
EACH = pytest.mark.parametrize("kind", PERTURBATIONS)


def shaken(method):
    """Move the teacher away from the student."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in method.teacher.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g))
    return method


def test_without_colour_it_is_cutmix_bit_for_bit(build, draw):
    ours, theirs = build("colouraug", colour=False, tau=0.0), build("cutmix", tau=0.0)
    batch = draw(theirs)
    losses = [shaken(method).eval().losses(batch, MIDDLE) for method in (ours, theirs)]
    assert list(ours.views) == list(theirs.views) and ours.views["u"].strong == ()
    assert torch.equal(losses[0]["u"][0], losses[1]["u"][0]) and losses[0]["u"][0] > 0
    assert torch.equal(losses[0].total, losses[1].total)


@EACH
@pytest.mark.parametrize("colour", [True, False])
def test_a_step_of_each_perturbation(kind, colour, build, draw):
    method = shaken(build("colouraug", perturbation=kind, colour=colour, tau=0.0)).train()
    losses = method.losses(draw(method), MIDDLE)
    losses.total.backward()
    assert losses["u"][0] > 0 and losses["u"][0].isfinite() and losses["u"][1] == (0.1 if kind == "vat" else 1)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.student.parameters())
    assert all(p.grad is None for p in method.teacher.parameters()) and not method.teacher.training


@EACH
def test_the_teacher_and_the_labelled_images_stay_plain(kind, build, draw):
    method = build("colouraug", perturbation=kind)
    batch, seen = draw(method), []
    batch.u.strong = [torch.rand_like(batch.u.weak)]
    for net in (method.teacher, method.student):
        encode = net.encode
        net.encode = lambda image, start=None, encode=encode, net=net: seen.append((net, image)) or encode(image, start)
    method.losses(batch, MIDDLE)
    plain = [batch.u.weak, *([batch.v.weak] if "v" in batch else [])]
    asked = [image for net, image in seen if net is method.teacher]
    if kind == "vat":  # the direction of the noise is the teacher's view of the student's image
        asked = asked[:1]
    assert all(any(torch.equal(image, w) for w in plain) for image in asked)
    assert torch.equal(next(image for net, image in seen if net is method.student), batch.x.weak)


def slow_blend(z, q_u, q_v, share, valid_u, valid_v, tau) -> float:
    """The term of "blend", pixel by pixel."""
    errors, sure = [], []
    for b, y, x in np.ndindex(*valid_u.shape):
        part = float(share[b])
        q = (1 - part) * q_u[b, :, y, x] + part * q_v[b, :, y, x]
        valid = (1 - part) * float(valid_u[b, y, x]) + part * float(valid_v[b, y, x])
        errors.append(valid * float(((z[b, :, y, x].softmax(0) - q) ** 2).sum()))
        sure.append(float((1 - part) * q_u[b, :, y, x].max() + part * q_v[b, :, y, x].max() >= tau))
    return np.mean(errors) * np.mean(sure)


def test_blend_by_loops(build, draw, monkeypatch):
    method = shaken(build("colouraug", perturbation="blend", tau=0.3)).eval()
    batch = draw(method)
    u, v = batch.u, batch.v
    u.valid[0, :5], v.valid[1, :, 9:] = 0.5, 0
    share = torch.tensor([0.3, 0.9]).view(2, 1, 1, 1)
    monkeypatch.setattr(colouraug, "draw_blend", lambda *_: share)
    with torch.no_grad():
        z = method.student((1 - share) * u.strong[0] + share * v.strong[0]).double()
        q_u, q_v = (method.teacher(w.weak).softmax(1).double() for w in (u, v))
        found = method.losses(batch, MIDDLE)["u"][0].item()
    assert found == pytest.approx(slow_blend(z, q_u, q_v, share.flatten(), u.valid, v.valid, 0.3), rel=1e-4)


def test_a_blend_of_one_is_the_other_image(build, draw, monkeypatch):
    method = shaken(build("colouraug", perturbation="blend", tau=0.0)).eval()
    batch = draw(method)
    for share, view in ((0.0, batch.u), (1.0, batch.v)):
        monkeypatch.setattr(colouraug, "draw_blend", lambda *_, s=share: torch.full((2, 1, 1, 1), s))
        seen = method.losses(batch, MIDDLE).seen
        assert torch.equal(seen["mixed"], view.strong[0])
        assert torch.allclose(seen["target"].soft, method.teach(view).softmax(1))


def test_shares_of_blends_are_near_the_ends(build, draw):
    method = build("colouraug", perturbation="blend")
    shares = torch.cat([colouraug.draw_blend(draw(method).u, 0.1).flatten() for _ in range(100)])
    assert ((shares < 0.05) | (shares > 0.95)).float().mean() > 0.6 and shares.mean().item() == pytest.approx(
        0.5, abs=0.1
    )


def test_shifts_move_whole_pixels():
    torch.manual_seed(0)
    x = torch.rand(40, 2, 24, 17)
    theta = draw_shift(x, reach=5)
    moved, where = warp(x, theta), (theta[:, :, 2] * torch.tensor([16.0, 23.0]) / 2).round().int().tolist()
    for image, out, (dx, dy), sign in zip(x, moved, where, theta[:, 0, 0].tolist()):
        assert abs(dx) <= 5 and abs(dy) <= 5
        expected = torch.zeros_like(image)
        for y, c in np.ndindex(24, 17):
            sy, sx = y + dy, (c if sign > 0 else 16 - c) + dx
            if 0 <= sy < 24 and 0 <= sx < 17:
                expected[:, y, c] = image[:, sy, sx]
        assert torch.allclose(out, expected, atol=1e-4)
    assert {-1.0, 1.0} == set(theta[:, 0, 0].tolist()) and len(set(map(tuple, where))) > 10


def test_a_shift_of_nothing_is_plain_consistency(build, draw, monkeypatch):
    method = shaken(build("colouraug", perturbation="shift", tau=0.0)).eval()
    batch = draw(method)
    monkeypatch.setattr(colouraug, "draw_shift", lambda *_: torch.eye(2, 3).expand(2, 2, 3))
    with torch.no_grad():
        far = method.student(batch.u.strong[0]).softmax(1) - method.teach(batch.u).softmax(1)
    expected = (far.square().sum(1) * batch.u.valid).mean()
    assert method.losses(batch, MIDDLE)["u"][0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_box_of_a_cut_out_is_kept_and_the_rest_has_no_loss(build, draw):
    method = shaken(build("colouraug", perturbation="cutout", tau=0.0)).eval()
    batch = draw(method)
    keep = torch.zeros_like(batch.u.masks[0])
    batch.u.masks = [keep]
    assert method.losses(batch, MIDDLE)["u"][0] == 0
    keep[:, 5:20, 8:30] = True
    losses = method.losses(batch, MIDDLE)
    seen, target = losses.seen["mixed"], losses.seen["target"]
    assert torch.equal(seen[:, :, 5:20, 8:30], batch.u.strong[0][:, :, 5:20, 8:30]) and losses["u"][0] > 0
    assert (method.student.normalise(seen)[~keep[:, None].expand_as(seen)] == 0).all()
    assert torch.equal(target.valid > 0, keep & (batch.u.valid > 0))


def test_what_a_shift_brings_in_is_the_mean_colour(build, draw, monkeypatch):
    method = build("colouraug", perturbation="shift").eval()
    batch, theta = draw(method), torch.eye(2, 3).repeat(2, 1, 1)
    theta[:, 0, 2] = 2 * 4 / 31  # four columns from the right, which the image does not have
    monkeypatch.setattr(colouraug, "draw_shift", lambda *_: theta)
    seen = method.student.normalise(method.losses(batch, MIDDLE).seen["mixed"])
    assert seen[..., 28:].abs().max() < 1e-5 and seen[..., :28].abs().amin((1, 2, 3)).max() > 0


def test_the_radius_follows_the_contrast(build, draw):
    method = shaken(build("colouraug", perturbation="vat", radius=0.5))
    flat = torch.full((1, 3, 16, 16), 0.4)
    assert contrast_of(flat) == 0 and method.noise(flat, method.teacher(flat).detach()).abs().max() == 0
    ramp = torch.arange(16.0).expand(1, 3, 16, 16) / 16
    assert contrast_of(ramp).item() == pytest.approx(0.5 * (3 * 16 * 14 * (2 / 16) ** 2) ** 0.5)
    u = draw(method).u
    noise = method.noise(u.strong[0], method.teach(u))
    assert torch.allclose(noise.flatten(1).norm(dim=1), 0.5 * contrast_of(u.strong[0]).flatten(), rtol=1e-3)


def test_an_unknown_perturbation(build):
    with pytest.raises(S4Error, match="cutmix"):
        build("colouraug", perturbation="cutmx")
