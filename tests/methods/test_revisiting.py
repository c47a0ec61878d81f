"""What a correct one-way consistency baseline shows."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.consistency import revisiting
from s4kit.methods.consistency.revisiting import QUADRANTS, exchange
from s4kit.views.hsv import Shift, change_colours, draw_colours, to_hsv, to_rgb
from s4kit.views.spline import bend, spline_grid

MIDDLE = Clock(50, 100)
POINTS = torch.tensor(QUADRANTS)


def test_the_spline_moves_the_control_points_where_they_shall_go():
    """At c + offset the grid points to c, and in between it is the textbook's sum, solved by numpy."""
    torch.manual_seed(0)
    offsets = 0.1 * torch.randn(1, 4, 2)
    to = (POINTS + offsets[0]).double().numpy()
    system, wanted = np.zeros((7, 7)), np.zeros((7, 2))
    for i in range(4):
        for j in range(4):
            r = math.dist(to[i], to[j])
            system[i, j] = r * r * math.log(r) if r else 0
        system[i, 4:] = system[4:, i] = 1, *to[i]
        wanted[i] = QUADRANTS[i]
    weight = np.linalg.solve(system, wanted)

    def source(x, y):
        bumps = [math.dist(p, (x, y)) for p in to]
        row = [*(r * r * math.log(r) if r else 0 for r in bumps), 1, x, y]
        return np.array(row) @ weight

    for target, point in zip(to, QUADRANTS):
        assert source(*target) == pytest.approx(np.array(point), abs=1e-9)
    grid = spline_grid(POINTS, offsets, (5, 9))[0]
    for i, j in np.ndindex(5, 9):
        assert grid[i, j].numpy() == pytest.approx(2 * source(j / 8, i / 4) - 1, abs=1e-4)


def test_no_displacement_and_no_jitter_change_nothing():
    image = torch.rand(2, 3, 9, 12)
    assert torch.allclose(bend(image, spline_grid(POINTS, torch.zeros(2, 4, 2), (9, 12))), image, atol=1e-5)
    one, zero = torch.ones(2), torch.zeros(2)
    assert torch.allclose(change_colours(image, Shift(zero, one, zero, one, torch.arange(3))), image, atol=1e-6)


def test_colours_by_the_standard_library():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 6, 5)
    hsv = to_hsv(image)
    for y, x in np.ndindex(6, 5):
        assert hsv[0, :, y, x].tolist() == pytest.approx(colorsys.rgb_to_hsv(*image[0, :, y, x].tolist()), abs=1e-5)
        back = colorsys.hsv_to_rgb(*hsv[0, :, y, x].tolist())
        assert to_rgb(*hsv.unbind(1))[0, :, y, x].tolist() == pytest.approx(back, abs=1e-5)


def test_colours_leave_the_range():
    torch.manual_seed(0)
    image = torch.rand(16, 3, 8, 8)
    changed = change_colours(image, draw_colours(image))
    assert changed.max() > 1.2 and changed.min() < 0


def test_neighbours_exchange_boxes():
    x, mask = torch.rand(5, 3, 4, 4), torch.rand(2, 4, 4) < 0.5
    mixed = exchange(x, mask)
    for k, y, c in np.ndindex(2, 4, 4):
        a, b = (x[2 * k], x[2 * k + 1])[:: -1 if mask[k, y, c] else 1]
        assert torch.equal(mixed[2 * k, :, y, c], a[:, y, c]) and torch.equal(mixed[2 * k + 1, :, y, c], b[:, y, c])
    assert torch.equal(mixed[4], x[4])


def test_a_perturbed_forward_leaves_the_statistics_alone(build, draw):
    """After a step they are those of the labelled images alone, or, without a mean teacher, of all clean ones."""
    for mean_teacher in (True, False):
        method, other = (build("revisiting", mean_teacher=mean_teacher).train() for _ in range(2))
        batch = draw(method)
        method.losses(batch, MIDDLE)
        if not mean_teacher:
            other.student(batch.u.weak)
        other.student(batch.x.weak)
        assert all(torch.equal(a, b) for a, b in zip(method.student.buffers(), other.student.buffers()))


def decided(method):
    """The method with a network whose predictions are far from even."""
    with torch.no_grad():
        method.student.decoder.classifier.weight.mul_(30)
    return method.eval()


def test_without_perturbation_the_simple_variant_has_nothing_to_learn(build, draw, monkeypatch):
    method = decided(build("revisiting", mean_teacher=False))
    batch = draw(method)
    monkeypatch.setattr(revisiting, "draw_bend", lambda image, _: torch.zeros(len(image), 4, 2))
    assert method.losses(batch, MIDDLE)["u"][0] > 1e-4
    monkeypatch.setattr(revisiting, "change_colours", lambda image, _: image)
    assert method.losses(batch, MIDDLE)["u"][0].abs() < 1e-6


def test_gradients_go_one_way(build, draw):
    """The step's gradient of L_u is that of a KL to a constant; logits are bent before the softmax."""
    method = decided(build("revisiting", mean_teacher=False))
    batch = draw(method)
    torch.manual_seed(1)
    losses = method.losses(batch, MIDDLE)
    weight = method.student.decoder.classifier.weight
    found = torch.autograd.grad(losses["u"][0], weight, retain_graph=True)[0]
    torch.manual_seed(1)
    shift = draw_colours(batch.u.weak)
    grid = spline_grid(POINTS, revisiting.draw_bend(batch.u.weak, 0.1), (32, 32))
    q = bend(method.student(batch.u.weak), grid).softmax(1).detach()
    log_p = method.student(bend(change_colours(batch.u.weak, shift), grid)).log_softmax(1)
    inside = bend(torch.ones(2, 32, 32), grid) >= 1 - 1e-6
    expected = (q * (q.log() - log_p)).sum(1)[inside].mean()
    assert losses["u"][0].item() == pytest.approx(expected.item(), rel=1e-3)
    assert torch.allclose(found, torch.autograd.grad(expected, weight)[0], rtol=1e-3, atol=1e-7)
    assert 0 < inside.float().mean() <= 1


@pytest.mark.parametrize("options", [{"perturbation": "cutmix"}, {"mean_teacher": False}])
def test_its_other_forms_train(options, build, draw):
    method = build("revisiting", **options).train()
    for size in (1, 3):
        losses = method.losses(draw(method, batch=size), MIDDLE)
        losses.total.backward()
        method.after_step(MIDDLE)
        assert losses.total.isfinite()
    with pytest.raises(S4Error, match="phtps"):
        build("revisiting", perturbation="phtp")
