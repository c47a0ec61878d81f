"""What a correct RRN shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.engine import optimise
from s4kit.methods import Clock, Optim
from s4kit.methods.consistency.rrn import NAMES, OWN
from s4kit.methods.parts.judging import accepted, human, judging, sharpening
from s4kit.nets import Critic

FIRST, LATER = Clock(0, 100, epoch_steps=10), Clock(50, 100, epoch_steps=10)
CRITICS = ("critic1", "critic2")


def step(method, batch, clock=LATER):
    torch.manual_seed(0)
    return method.train().losses(batch, clock)


def gradients(module):
    return [p.grad for p in module.parameters()]


def without_dropout(method):
    for critic in (method.critic1, method.critic2):
        for part in critic.modules():
            if isinstance(part, torch.nn.Dropout2d):
                part.p = 0.0
    return method


@pytest.mark.parametrize("regions", [True, False])
def test_the_self_training_by_loops(regions, build, draw):
    """Both critics judge both networks' answers; each pair has a mean of its own."""
    method = without_dropout(build("rrn", tau=0.5, regions=regions, width=64))  # some scores are high, some low
    batch = draw(method)
    losses = step(method, batch)
    seen, expected = losses.seen["mixed"], 0.0
    shares = []
    for k, (s, path) in enumerate(
        [(losses.seen[f"{NAMES[1]}/student"], OWN[0]), (losses.seen[f"{NAMES[0]}/student"], OWN[1])]
    ):
        share = torch.zeros(2, 32, 32)
        for critic in (method.critic1, method.critic2):
            d = torch.sigmoid(critic(s.softmax(1), seen).score)
            assert d.shape == ((2, 2, 2) if regions else (2, 1, 1))
            total, count = 0.0, 0
            for b, y, x in np.ndindex(2, 32, 32):
                cell = d[b, y // 16, x // 16] if regions else d[b, 0, 0]
                if cell > 0.5:
                    total -= s[b, :, y, x].log_softmax(0).max().item()
                    count += 1
                    share[b, y, x] += 0.5
            expected += total / max(count, 1)
        assert torch.equal(losses.seen[f"{path}/target"].weight, share), k
        shares.append(share)
    assert losses["self"][0].item() == pytest.approx(expected, rel=1e-4)
    assert 0 < torch.stack(shares).mean() < 1


def test_without_critics_it_is_cps(build, draw):
    """With tau = 1 nobody trains on itself; without matching either, networks learn as in CPS, bit for bit."""
    method, host = build("rrn", tau=1.0, match=0.0), build("cps")
    batch = draw(method)
    losses, of_host = step(method, batch), step(host, batch)
    assert losses["self"][0] == 0
    losses.total.backward()
    of_host.total.backward()
    for name in ("net1", "net2"):
        pairs = zip(gradients(getattr(method, name)), gradients(getattr(host, name)))
        assert all(torch.equal(a, b) for a, b in pairs)


def test_each_side_stands_still_for_the_other(build, draw):
    method = build("rrn", tau=0.0)
    losses = step(method, draw(method))
    sum(losses[name][0] for name in CRITICS).backward(retain_graph=True)
    assert all(g is None for net in (method.net1, method.net2) for g in gradients(net))
    assert all(g.abs().sum() > 0 for name in CRITICS for g in gradients(getattr(method, name)))
    method.zero_grad(set_to_none=True)
    (losses["match"][0] + losses["self"][0]).backward()
    assert all(g is None for name in CRITICS for g in gradients(getattr(method, name)))
    assert all(sum(g.abs().sum() for g in gradients(net)) > 0 for net in (method.net1, method.net2))


def test_matching_compares_the_means_of_traits_and_reaches_the_networks(build, draw):
    method = without_dropout(build("rrn"))
    batch = draw(method)
    losses = step(method, batch)
    losses["match"][0].backward()
    assert all(sum(g.abs().sum() for g in gradients(net)) > 0 for net in (method.net1, method.net2))
    expected = 0.0
    for name, critic in zip(NAMES[::-1], (method.critic1, method.critic2)):
        of_fake = critic(losses.seen[f"{name}/student"].softmax(1), losses.seen["mixed"]).traits.mean(0)
        of_real = critic(human(batch.x.label, 4), batch.x.weak).traits.mean(0)
        expected += (of_fake - of_real).abs().mean().item()
    assert losses["match"][0].item() == pytest.approx(expected, rel=1e-4)


def test_nothing_is_trusted_in_the_first_epoch(build, draw):
    method = build("rrn", tau=0.0)
    batch = draw(method)
    assert step(method, batch, FIRST)["self"][0] == 0 and step(method, batch)["self"][0] > 0
    rule = {clock: method.pseudo_labels(method.teach(batch.u), batch.u, clock) for clock in (FIRST, LATER)}
    for path in OWN:
        assert rule[FIRST][path].weight.sum() == 0 and (rule[LATER][path].weight == 1).all()
    assert all((found[path].weight == 1).all() for found in rule.values() for path in NAMES)


def test_swapping_the_pairs_changes_nothing(build, draw):
    method, other = without_dropout(build("rrn", tau=0.5)), without_dropout(build("rrn", tau=0.5))
    for a, b in (("net1", "net2"), ("net2", "net1"), ("critic1", "critic2"), ("critic2", "critic1")):
        getattr(other, a).load_state_dict(getattr(method, b).state_dict())
    batch = draw(method)
    one, two = step(method, batch), step(other, batch)
    assert one.total.item() == pytest.approx(two.total.item(), rel=1e-6)
    assert torch.equal(one["critic1"][0], two["critic2"][0]) and not torch.equal(one["critic1"][0], one["critic2"][0])


def test_a_critic_learns_to_tell_and_human_maps_score_higher(build, draw):
    method = build("rrn", width=16)
    batch = draw(method, batch=4)
    critic, real = method.critic1, human(batch.x.label, 4)
    with torch.no_grad():
        fake = method.net1(batch.u.weak).softmax(1)
    optimiser = torch.optim.Adam(critic.parameters(), lr=2e-3)
    history = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = judging(critic, fake, batch.u.weak, real, batch.x.weak)
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[0] == pytest.approx(np.log(2), abs=0.05) and history[-1] < 0.5 * history[0]
    critic.eval()
    assert critic(real, batch.x.weak).score.mean() > critic(fake, batch.u.weak).score.mean()


def test_one_score_is_that_of_the_mean_cell():
    torch.manual_seed(0)
    cells, whole = Critic(4, width=4, cells=True).eval(), Critic(4, width=4).eval()
    whole.load_state_dict(cells.state_dict())
    maps, image = torch.rand(2, 4, 48, 64), torch.rand(2, 3, 48, 64)
    many, one = cells(maps, image), whole(maps, image)
    assert many.score.shape == (2, 3, 4) and one.score.shape == (2, 1, 1)
    assert torch.allclose(many.score.mean((1, 2)), one.score[:, 0, 0], atol=1e-6)
    assert torch.equal(many.traits, one.traits) and one.traits.shape == (2, 32)


def test_nothing_accepted_is_a_zero_with_a_gradient():
    z = torch.randn(2, 4, 6, 6, requires_grad=True)
    loss = sharpening(z, accepted(torch.rand(2, 1, 1), 1.0, z.shape[-2:]))
    loss.backward()
    assert loss == 0 and z.grad.abs().sum() == 0


def test_critics_have_adam_of_their_own(build):
    method = build("rrn")
    specs = method.optimisers(Optim([], 1e-2, kind="sgd", clip=1.0))
    assert [spec.nets[0] for spec in specs.values()] == [method.net1, method.net2, method.critic1, method.critic2]
    for name in CRITICS:
        spec = specs[name]
        assert (spec.kind, spec.lr, spec.head, spec.weight_decay) == ("adam", 1e-4, 1.0, 0.0)
        (group,) = optimise.build({name: spec})[name].param_groups
        assert group["betas"] == (0.9, 0.99) and group["lr"] == 1e-4
        assert spec.schedule(FIRST) == spec.schedule(LATER) == 1.0
    assert specs["net1"].kind == "sgd" and specs["net1"].schedule(LATER) < 1


def test_void_is_no_class():
    label = torch.tensor([[[0, 2], [255, 1]]])
    found = human(label, 3)
    assert found[0, :, 1, 0].sum() == 0 and torch.equal(found.argmax(1)[label != 255], label[label != 255])
    assert found.sum() == 3
