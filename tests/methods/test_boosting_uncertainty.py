"""What a correct booster of uncertainty shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.cotraining.cps import NAMES
from s4kit.methods.parts.losses import entropy
from s4kit.nets import make
from s4kit.nets.perturb import shift_statistics

MIDDLE = Clock(50, 100)


def step(method, batch):
    torch.manual_seed(0)
    losses = method.train().losses(batch, MIDDLE)
    losses.total.backward()
    return losses


def state(method):
    """Gradients and BN statistics of both networks."""
    return [p.grad for p in method.parameters()] + [b for b in method.buffers() if b.is_floating_point()]


def features(batch=3):
    g = torch.Generator().manual_seed(0)
    return torch.rand(batch, 4, 6, 5, generator=g) * torch.linspace(0.5, 3, 4)[:, None, None] + 1


def test_statistics_by_loops():
    f, noise, r = features(), torch.randn(2, 3, 4), torch.tensor([1.0, 0.5, 0.0])
    found = shift_statistics(f, noise, r).numpy()
    x = f.numpy().astype(np.float64)
    mu, sd = x.mean((2, 3)), x.std((2, 3))
    for b, c in np.ndindex(3, 4):
        uncertain_mean, uncertain_spread = mu[:, c].std(), sd[:, c].std()
        level = (x[b, c] - mu[b, c]) / sd[b, c]
        n_m, n_s = noise[:, b, c].numpy()
        expected = (
            level * (sd[b, c] + n_s * r[b].item() * uncertain_spread) + mu[b, c] + n_m * r[b].item() * uncertain_mean
        )
        assert np.allclose(found[b, c], expected, rtol=1e-4)
    assert torch.equal(shift_statistics(f, noise, r)[2], f[2])


def test_the_mean_over_many_draws_keeps_the_statistics():
    f, n = features(), 4000
    g = torch.Generator().manual_seed(1)
    drawn = torch.stack([shift_statistics(f, torch.randn(2, 3, 4, generator=g), torch.ones(3)) for _ in range(n)])
    found, own = drawn.mean((3, 4)), f.mean((2, 3))
    spread = own.std(0, correction=0)
    assert ((found.mean(0) - own).abs() < 4 * spread / n**0.5).all()
    assert torch.allclose(found.std(0), spread.expand(3, 4), rtol=0.06)
    assert torch.allclose(drawn.std((3, 4), correction=0).mean(0), f.std((2, 3), correction=0), rtol=0.02)


def test_one_image_and_no_strength_are_the_identity():
    for f, r in ((features(1), 1.0), (features(), 0.0), (torch.ones(3, 4, 6, 5), 1.0)):
        assert torch.equal(shift_statistics(f, torch.randn(2, len(f), 4), torch.full((len(f),), r)), f)
    dead = features()
    dead[0, 1] = 0  # a channel that is silent in one image
    assert shift_statistics(dead, torch.randn(2, 3, 4), torch.ones(3)).isfinite().all()


def test_gradients_flow_through_the_features_alone():
    """The statistics of the batch are constants: an image's answer does not depend on the others' gradient."""
    f = features().double().requires_grad_()
    noise = torch.randn(2, 3, 4)
    (grad,) = torch.autograd.grad(shift_statistics(f, noise, torch.ones(3))[0].square().sum(), f)
    assert grad[0].abs().sum() > 0 and grad[1:].abs().sum() == 0


@pytest.mark.parametrize("options", [{"strength": 0.0}, {"chance": 0.0}])
def test_without_boost_it_is_its_host_bit_for_bit(options, build, draw):
    method, host = build("boosting_uncertainty", **options), build("cps")
    batch = draw(method)
    assert torch.equal(step(method, batch).total, step(host, batch).total)
    assert all(torch.equal(a, b) for a, b in zip(state(method), state(host)))


def test_only_the_unlabelled_student_is_boosted(build, draw):
    method, host = build("boosting_uncertainty", chance=1.0), build("cps")
    batch = draw(method)
    losses, of_host = step(method, batch), step(host, batch)
    for name in ("x1", "x2"):
        assert torch.equal(losses[name][0], of_host[name][0])
    for name in NAMES:
        assert torch.equal(losses.seen[f"{name}/target"].label, of_host.seen[f"{name}/target"].label)
        assert not torch.allclose(losses.seen[f"{name}/student"], of_host.seen[f"{name}/student"], atol=1e-3)
    assert not torch.equal(losses["cps"][0], of_host["cps"][0])


def test_what_a_stage_gives_is_what_the_next_one_reads():
    net, image = make("tiny", 4).eval(), torch.rand(2, 3, 32, 32)
    doubled = net.encode(image, after=lambda level: 2 * level).levels
    x = net.normalise(image)
    for stage, level in zip(net.backbone.stages, doubled):
        x = 2 * stage(x)
        assert torch.equal(x, level)
    start = net.encode(image).rows(slice(None))
    resumed = net.encode(image, start=start._replace(levels=start.levels[:1]), after=lambda level: 2 * level)
    assert torch.equal(resumed.low, start.low) and torch.equal(resumed.mid, 2 * net.backbone.stages[1](start.low))
    with pytest.raises(S4Error, match="convolutional"):
        make("dinov2_tiny", 4).encode(image, after=lambda level: level)


def test_boosting_makes_a_trained_network_less_certain_of_unlabelled_images(build, draw):
    method = build("boosting_uncertainty").train()
    batch = draw(method, batch=4)
    optimiser = torch.optim.AdamW(method.net1.parameters(), lr=1e-2)
    for _ in range(30):
        optimiser.zero_grad()
        method.supervised(method.net1(batch.x.weak), batch.x.label).backward()
        optimiser.step()
    method.net1.eval()
    found = []
    with torch.no_grad():
        for method.strength in (0.0, 1.0, 2.0):
            torch.manual_seed(0)
            draws = [entropy(method.boosted(method.net1, batch.u.weak)).mean() for _ in range(20)]
            found.append(torch.stack(draws).mean().item())
    assert found[0] < found[1] < found[2]


def test_the_entropy_term_by_loops(build, draw):
    method = build("boosting_uncertainty", beta=0.05, tau=0.3)
    losses = step(method, draw(method))
    value, weight = losses["entropy"]
    assert weight == -0.05
    expected = 0.0
    for name in NAMES:
        p, target = losses.seen[f"{name}/student"].softmax(1), losses.seen[f"{name}/target"]
        of_pixels = [
            -(p[b, :, y, x] * p[b, :, y, x].log()).sum().item()
            for b, y, x in np.ndindex(2, 32, 32)
            if target.confidence[b, y, x] < 0.3
        ]
        assert 0 < len(of_pixels) < 2 * 32 * 32
        expected += np.mean(of_pixels)
    assert value.item() == pytest.approx(expected, rel=1e-4)
