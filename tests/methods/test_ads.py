"""ADS's warp, exchange and critics (parity with the release: tests/golden)."""

from __future__ import annotations

import numpy as np
import torch
from toy import toy_task

from s4kit.methods import Clock, Optim, create
from s4kit.methods.cotraining.ads import BENT, NAMES, OWN, exchange, stable
from s4kit.views import Batch, draw_step, render
from s4kit.views.blocks import control_points, draw_noise, warped, warping

CLOCK = Clock(50, 100)
CRITICS = ("critic1", "critic2")


def made(**options) -> tuple[torch.nn.Module, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("ads", task, net="tiny", width=4, **options)
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def logits(*pixels: tuple[float, float]) -> torch.Tensor:
    """(1, 2, 1, n) of two classes."""
    return torch.tensor(pixels).T[None, :, None]


def test_a_warp_without_noise_changes_nothing() -> None:
    x = torch.rand(2, 3, 24, 33)
    source, to = control_points(torch.zeros(4, 9), x.shape[-2:])
    assert torch.equal(source, to) and source.shape == (13, 2)
    torch.testing.assert_close(warped(x, warping(source, to, x.shape[-2:])), x, atol=1e-5, rtol=0)


def test_a_warp_takes_control_points_to_their_goals() -> None:
    torch.manual_seed(1)
    size = torch.Size((31, 31))
    source, to = control_points(draw_noise(torch.zeros(1)), size)
    assert (source != to).any() and torch.equal(source, source.round())
    assert source.min() >= 0 and source.max() <= 30 and torch.equal(source[:4], to[:4]), "corners stay"
    ramp = torch.stack(torch.meshgrid(torch.arange(31.0), torch.arange(31.0), indexing="ij"))[None]
    found = warped(ramp, warping(source, to, size))  # of each pixel, where it comes from
    at = to.long()
    torch.testing.assert_close(found[0, :, at[:, 0], at[:, 1]].T, source, atol=1e-3, rtol=0)


def test_points_that_meet_bend_the_plane_but_do_not_break_it() -> None:
    source, to = control_points(torch.zeros(4, 9), torch.Size((32, 32)))
    to[5] = to[6]
    assert warping(source, to, torch.Size((32, 32))).isfinite().all()


def test_outside_of_the_image_is_the_colour_that_is_asked_for() -> None:
    image, grid = torch.full((2, 3, 8, 8), 0.5), torch.full((1, 8, 8, 2), 3.0)
    colour = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(warped(image, grid, colour), colour.expand_as(image))


def test_stable_is_of_one_class_and_once_sure() -> None:
    a = logits((3.0, 0.0), (3.0, 0.0), (0.1, 0.0), (0.1, 0.0))
    b = logits((0.1, 0.0), (0.0, 3.0), (0.2, 0.0), (3.0, 0.0))
    assert stable(a, b, 0.8).flatten().tolist() == [True, False, False, True]


def test_the_stable_student_teaches_and_of_two_the_one_that_moves_less() -> None:
    sure, doubt = (3.0, 0.0), (0.1, 0.0)
    a1, b1 = logits(sure, doubt, doubt, sure, sure), logits(sure, doubt, doubt, (3.5, 0.0), (3.5, 0.0))
    a2, b2 = (
        logits(doubt, (0.0, 3.0), doubt, (0.0, 3.0), (0.0, 3.0)),
        logits(doubt, (0.0, 3.0), doubt, (0.0, 4.0), (0.0, 3.1)),
    )
    says = exchange(a1, b1, a2, b2, 0.8)
    assert says.by1.flatten().tolist() == [True, False, False, True, False]
    assert says.by2.flatten().tolist() == [False, True, False, False, True]
    assert torch.equal(says.t2, torch.where(says.by1, a1, a2)) and torch.equal(says.t1, torch.where(says.by2, a2, a1))
    back = exchange(a2, b2, a1, b1, 0.8)
    assert torch.equal(back.t1, says.t2) and torch.equal(back.by1, says.by2)


def test_equal_students_and_unstable_ones_have_nothing_to_teach() -> None:
    method, batch = made()
    method.net2.load_state_dict(method.net1.state_dict())
    assert method.losses(batch, CLOCK)["stab"][0] < 1e-12
    method, batch = made(tau=1.0)
    losses = method.losses(batch, CLOCK)
    assert losses["stab"][0] == 0 < losses["con"][0]
    assert not any(losses.seen[f"{name}/target"].weight.any() for name in NAMES)


def test_who_learns_from_what() -> None:
    method, batch = made(trust=0.0, tau=0.26)
    losses = method.losses(batch, CLOCK)
    students = [*method.net1.parameters(), *method.net2.parameters()]
    critics = [*method.critic1.parameters(), *method.critic2.parameters()]

    def reached(name: str, parameters: list) -> bool:
        grads = torch.autograd.grad(losses[name][0], parameters, retain_graph=True, allow_unused=True)
        return any(g is not None and g.abs().sum() > 0 for g in grads)

    for name in ("con", "stab", "self", "match"):
        assert reached(name, students) and not reached(name, critics), name
    assert all(reached(name, critics) and not reached(name, students) for name in CRITICS)


def test_the_costs_that_are_shown_are_the_terms() -> None:
    method, batch = made(tau=0.26)
    losses = method.losses(batch, CLOCK)
    own = sum(losses.seen[f"{name}/loss"].mean() for name in BENT)
    torch.testing.assert_close(own, losses["con"][0].detach())
    taught = sum(losses.seen[f"{name}/loss"].mean() for name in NAMES)
    torch.testing.assert_close(taught, losses["stab"][0].detach())


def test_no_image_is_trusted_at_a_threshold_of_one_and_all_at_zero() -> None:
    method, batch = made(trust=1.0)
    assert method.losses(batch, CLOCK)["self"][0] == 0
    method, batch = made(trust=0.0)
    losses = method.losses(batch, CLOCK)
    cost = sum(losses.seen[f"{name}/loss"].mean() for name in OWN)
    torch.testing.assert_close(losses["self"][0].detach(), cost)
    rule = method.pseudo_labels(method.teach(batch.u), batch.u, CLOCK)
    assert list(rule) == [*BENT, *NAMES, *OWN] and all((rule[name].weight == 1).all() for name in OWN)


def test_the_rule_is_the_same_each_time_it_is_asked() -> None:
    method, batch = made(tau=0.26)
    first, again = (method.pseudo_labels(method.teach(batch.u), batch.u, CLOCK) for _ in range(2))
    assert all(torch.equal(first[name].weight, again[name].weight) for name in NAMES)
    assert any(first[name].weight.any() for name in NAMES)


def test_the_ramp_and_four_optimisers() -> None:
    method, batch = made(ramp=0.5)
    first, late = (method.losses(batch, Clock(t, 100)) for t in (0, 60))
    assert np.isclose(first["stab"][1], 100 * np.exp(-5)) and (late["con"][1], late["stab"][1]) == (10, 100)
    specs = method.optimisers(Optim([], 1e-2))
    assert [spec.nets[0] for spec in specs.values()] == [method.net1, method.net2, method.critic1, method.critic2]
    spec = specs["critic2"]
    assert (spec.kind, spec.lr, spec.betas, spec.weight_decay) == ("adam", 1e-4, (0.9, 0.99), 0.0)
    assert spec.schedule(CLOCK) == specs["net1"].schedule(CLOCK) < 1
