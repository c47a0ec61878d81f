"""What a correct s4GAN shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.engine import optimise
from s4kit.methods import Clock, Optim
from s4kit.methods.parts.judging import human

EARLY, LATER = Clock(5, 100), Clock(50, 100)


def step(method, batch, clock=LATER):
    torch.manual_seed(0)
    return method.train().losses(batch, clock)


def gradients(module):
    return [p.grad for p in module.parameters()]


def without_dropout(method):
    for part in method.critic.modules():
        if isinstance(part, torch.nn.Dropout2d):
            part.p = 0.0
    return method


def test_whole_predictions_pass_by_loops(build, draw):
    method = without_dropout(build("als4gan", net="tiny(norm='group')"))
    batch = draw(method, batch=3)
    with torch.no_grad():
        z = method.student(batch.u.weak)
        d = [torch.sigmoid(method.critic(z.softmax(1), batch.u.weak).score)[b, 0, 0].item() for b in range(3)]
    method.tau = sorted(d)[0] + 1e-7  # all but one pass
    total, count, kept = 0.0, 0, torch.zeros(3)
    for b in (b for b in range(3) if d[b] > method.tau):
        kept[b] = 1
        for y, x in np.ndindex(32, 32):
            if batch.u.valid[b, y, x]:
                total, count = total - z[b, :, y, x].log_softmax(0).max().item(), count + 1
    losses = step(method, batch)
    assert 0 < count < 3 * 32 * 32 and losses["self"][0].item() == pytest.approx(total / count, rel=1e-4)
    assert torch.equal(losses.seen["target"].weight, kept[:, None, None].expand(3, 32, 32))


def test_padding_teaches_nothing(build, draw):
    method = without_dropout(build("als4gan", tau=0.0))
    batch = draw(method)
    batch.u.valid[:, 20:] = 0
    losses = step(method, batch)
    z = losses.seen["student"]
    expected = -z.log_softmax(1).max(1).values[batch.u.valid > 0].mean()
    assert losses["self"][0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_nothing_passes_before_the_start_nor_above_one(build, draw):
    method, strict = build("als4gan", tau=0.0), build("als4gan", tau=1.0)
    batch = draw(method)
    assert step(method, batch, EARLY)["self"][0] == 0 < step(method, batch, Clock(6, 100))["self"][0]
    losses = step(strict, batch)
    assert losses["self"][0] == 0 and set(losses) == {"x", "match", "self", "critic"}
    rule = {clock: method.pseudo_labels(method.teach(batch.u), batch.u, clock).weight for clock in (EARLY, LATER)}
    assert rule[EARLY].sum() == 0 and (rule[LATER] == 1).all()


def test_each_side_stands_still_for_the_other(build, draw):
    method = build("als4gan", tau=0.0)
    losses = step(method, draw(method))
    losses["critic"][0].backward(retain_graph=True)
    assert all(g is None for g in gradients(method.student))
    assert all(g.abs().sum() > 0 for g in gradients(method.critic))
    method.zero_grad(set_to_none=True)
    for name in ("match", "self"):
        losses[name][0].backward(retain_graph=True)
        assert all(g is None for g in gradients(method.critic))
        assert sum(g.abs().sum() for g in gradients(method.student) if g is not None) > 0, name
        method.zero_grad(set_to_none=True)


def test_matching_compares_the_means_of_traits_and_is_nothing_between_equals(build, draw):
    method = without_dropout(build("als4gan"))
    batch = draw(method)
    losses = step(method, batch)
    of_fake = method.critic(losses.seen["student"].softmax(1), batch.u.weak).traits
    of_real = method.critic(human(batch.g.label, 4), batch.g.weak).traits
    expected = sum(abs(of_fake[:, k].mean() - of_real[:, k].mean()) for k in range(of_fake.shape[1])) / of_fake.shape[1]
    assert losses["match"][0].item() == pytest.approx(expected.item(), rel=1e-4)

    batch.g.label, batch.g.weak = batch.x.label.clamp(max=3), batch.u.weak
    method.student.forward = lambda image: 200.0 * human(batch.g.label, 4)  # sure of the very same maps
    assert step(method, batch)["match"][0].item() == pytest.approx(0, abs=1e-6)


def test_the_human_maps_are_another_draw(build, draw):
    method = build("als4gan")
    batch = draw(method)
    assert set(batch.g.index.tolist()) <= set(range(8)) and batch.g.index.tolist() != batch.x.index.tolist()


def test_the_critic_has_adam_of_its_own(build):
    method = build("als4gan")
    specs = method.optimisers(Optim([], 1e-2, kind="sgd", clip=1.0))
    assert [spec.nets for spec in specs.values()] == [[method.student], [method.critic]]
    spec = specs["critic"]
    assert (spec.kind, spec.lr, spec.head, spec.weight_decay) == ("adam", 1e-4, 1.0, 0.0)
    (group,) = optimise.build({"critic": spec})["critic"].param_groups
    assert group["betas"] == (0.9, 0.99) and spec.schedule(LATER) < 1
