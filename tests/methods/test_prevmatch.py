"""What a correct PrevMatch shows."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import toy_task

import s4kit as s4
from s4kit import methods
from s4kit.errors import S4Error
from s4kit.methods import Clock, PseudoLabels
from s4kit.report.verify import fake
from s4kit.views import draw_step, render

MIDDLE = Clock(50, 100)


def filled(method, number=3):
    """Store `number` students that differ."""
    for i in range(number):
        with torch.no_grad():
            for p in method.student.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
        method.remember(Clock(i, 100, score=0.1 * (i + 1)))
    return method


def slow_guidance(z, models, weights, u, v, mask, tau):
    """L_1^p by loops: the logits of the drawn models are mixed, then softmax, box and threshold, pixel by pixel."""
    with torch.no_grad():
        e_u, e_v = (sum(w * g(view.weak).double() for g, w in zip(models, weights)) for view in (u, v))
    total, divisor = 0.0, 0.0
    for b, y, x in np.ndindex(*mask.shape):
        e, view = (e_v, v) if mask[b, y, x] else (e_u, u)
        p, valid = e[b, :, y, x].softmax(0), float(view.valid[b, y, x])
        divisor += valid
        if float(p.max()) >= tau:
            total += valid * float(-z[b, :, y, x].log_softmax(0)[int(p.argmax())])
    return total / divisor


def test_the_guidance_by_loops(build, draw):
    method = filled(build("prevmatch")).eval()
    batch = draw(method)
    batch.u.valid[0, :5], batch.u.masks[0][0, 4:20, 4:20] = 0, True
    random.seed(5)
    chosen = method.draw()
    method.draw = lambda: chosen
    with torch.no_grad():
        e_u = method.ensemble(batch.u.weak, chosen, method.student(batch.u.weak))
    method.tau_prev = e_u.softmax(1).amax(1).median().item()
    losses = method.losses(batch, MIDDLE)
    z = method.student(losses.seen["mixed"]).double().detach()
    models, weights = zip(*chosen)
    expected = slow_guidance(z, models, weights, batch.u, batch.v, batch.u.masks[0], method.tau_prev)
    assert expected > 0 and losses["s1_prev"][0].item() == pytest.approx(expected, rel=3e-3)
    assert sum(losses[k][1] for k in losses) == pytest.approx((1 + 1 + 1) / 3)  # r = 1 in the middle
    assert method.losses(batch, Clock(0, 100))["fp_prev"][1] == 0


def test_without_models_it_is_unimatch(build, draw):
    ours, theirs = build("prevmatch", tau=0.0, drop=0.0).eval(), build("unimatch", tau=0.0, drop=0.0).eval()
    batch = draw(ours)
    a, b = ours.losses(batch, MIDDLE), theirs.losses(batch, MIDDLE)
    assert all(torch.allclose(a[k][0], b[k][0], rtol=1e-5) and a[k][1] == b[k][1] for k in b)
    assert torch.allclose(a.total, b.total, rtol=1e-5)


def test_copies_of_the_student_say_what_it_says(build, draw):
    method = build("prevmatch")
    for score in (0.1, 0.2, 0.3):
        method.remember(Clock(0, 100, score=score))
    view = draw(method).u
    for _ in range(4):
        z = method.ensemble(view.weak, method.draw(), torch.zeros(2, 4, 32, 32))
        assert torch.allclose(z, method.teach(view)[0], atol=1e-5)


def test_draws_are_a_mixture_of_different_models(build):
    method = filled(build("prevmatch"), 5)
    sizes, shares = set(), []
    for seed in range(300):
        random.seed(seed)
        models, weights = zip(*method.draw())
        assert len(set(map(id, models))) == len(models) <= 3 and min(weights) >= 0
        assert sum(weights) == pytest.approx(1)
        sizes.add(len(models))
        shares += weights if len(weights) == 2 else []
    assert sizes == {1, 2, 3}
    assert np.allclose(np.histogram(shares, 4, (0, 1))[0] / len(shares), 0.25, atol=0.08), "Dirichlet(1, 1) is uniform"


def test_the_list_holds_the_last_bests_and_only_them(build):
    method = build("prevmatch", models=3, start=0.1)
    scores, kept = [0.2, 0.3, 0.25, 0.3, 0.4, 0.5, 0.6, 0.6, 0.1, 0.7], []
    for i, score in enumerate(scores):
        with torch.no_grad():
            next(method.student.parameters()).fill_(i)
        clock = Clock(5 if i == 0 else 50, 100, score=score)  # the first one is before the start
        method.remember(clock)
        method.remember(clock)  # the same evaluation again: no second copy
        if i and score > max(scores[:i]):
            kept.append(i)
        held = [next(g.parameters()).flatten()[0].item() for g in method.held]
        assert held == kept[-3:]
    assert kept == [1, 4, 5, 6, 9]


def test_a_best_before_the_start_is_to_be_beaten(build):
    """An early peak is not stored, and what is stored later is a best of all, not of those since the start."""
    method = build("prevmatch", models=5, start=0.5)
    for i, score in enumerate([0.1, 0.2, 0.6, 0.3, 0.4, 0.5, 0.55, 0.58, 0.6, 0.61]):
        method.remember(Clock(10 * i, 100, score=score))
    assert method.stored == 1 and method.best == 0.61


def test_at_even_distances_no_score_is_asked_for(build):
    method = build("prevmatch", select="regular")
    for step in range(100):
        method.remember(Clock(step, 100))
    assert method.stored == 19
    with pytest.raises(S4Error, match="regular"):
        build("prevmatch", select="best")


def test_stored_models_never_change(build, draw):
    method = filled(build("prevmatch", tau_prev=0.0)).train()
    before = {k: v.clone() for k, v in method.previous.state_dict().items()}
    method.losses(draw(method), MIDDLE).total.backward()
    assert all(torch.equal(v, before[k]) for k, v in method.previous.state_dict().items())
    assert all(p.grad is None for p in method.previous.parameters())


def test_an_image_counts_by_its_mean_confidence(build):
    method = filled(build("prevmatch", average=True))
    confidence, valid = torch.rand(2, 4, 5), (torch.rand(2, 4, 5) < 0.6).float()
    found = method.weigh(PseudoLabels(torch.zeros(2, 4, 5).long(), confidence, confidence, valid))
    for b in range(2):
        assert torch.allclose(found.weight[b], confidence[b][valid[b] > 0].mean().expand(4, 5))


def test_a_step_with_models_never_asks_the_device(task):
    method = methods.create("prevmatch", task, net="tiny")
    method.stored = 3
    batch = render(draw_step(task, method.views, 2, 0, 0, 0), method.views)
    with fake.no_values():
        losses = fake.step(fake.move(method), batch.map(fake.on_device), MIDDLE)
        assert all(value.device == fake.DEVICE for value, _ in losses.values())


def test_a_training_fills_the_list_and_a_checkpoint_has_it(tmp_path, build):
    method, task = build("prevmatch"), replace(toy_task(), crop=32)
    settings = {"batch": 2, "evaluate_every": 1, "checkpoint_every": 4, "probes": 2, "progress": False, "device": "cpu"}
    s4.fit(method, task, steps=4, out=tmp_path / "run", **settings)
    assert method.stored >= 1
    other = build("prevmatch")
    other.load_state_dict(s4.engine.checkpoint.load(tmp_path / "run" / "last.pt")["method"])
    assert (other.stored, other.best) == (method.stored, method.best)
    assert all(torch.equal(a, b) for a, b in zip(other.held[0].parameters(), method.held[0].parameters()))
