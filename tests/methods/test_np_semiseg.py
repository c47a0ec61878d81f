"""What a correct NP-SemiSeg shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock
from s4kit.nets import NeuralProcessHead, divergence
from s4kit.nets.process import Gaussian, nearness

MIDDLE = Clock(50, 100)


def test_nearness_pixel_by_pixel_and_channel_by_channel() -> None:
    torch.manual_seed(0)
    u, centres = torch.randn(2, 3, 2, 4), torch.randn(5, 3)
    wanted = torch.zeros(2, 3)
    for b, d, i, j in torch.ones(2, 3, 2, 4).nonzero().tolist():
        w = torch.softmax(-((u[b, d, i, j] - centres[:, d]) ** 2), 0)
        wanted[b, d] += (w * centres[:, d]).sum() / 8
    torch.testing.assert_close(nearness(u, centres), wanted)
    torch.testing.assert_close(nearness(u, centres[:1]), centres[0].expand(2, 3))


def test_divergence_is_that_of_gaussians_with_these_variances() -> None:
    torch.manual_seed(0)
    one, other = (Gaussian(torch.randn(4, 3), torch.rand(4, 3) + 0.1) for _ in range(2))
    theirs = [torch.distributions.Normal(g.mean, g.spread.sqrt()) for g in (one, other)]
    torch.testing.assert_close(divergence(one, other), torch.distributions.kl_divergence(*theirs).sum(1))
    torch.testing.assert_close(divergence(one, one), torch.zeros(4))


def test_samples_differ_by_the_noise_alone_and_the_spread_has_a_floor() -> None:
    torch.manual_seed(0)
    head = NeuralProcessHead(6, 4, dim=3, hidden=8)
    map, centres = torch.randn(2, 6, 5, 5), torch.randn(4, 3)
    still, latent, fixed = head(map, centres, centres, torch.zeros(3, 2, 3))
    assert torch.equal(still[0], still[1]) and (latent.spread >= 0.1).all()
    assert divergence(latent, fixed).abs().max() < 1e-6, "equal memories"
    moved, _, _ = head(map, centres, centres, torch.randn(3, 2, 3))
    assert moved.var(0).mean() > 1e-6


def test_summaries_teach_neither_the_network_nor_the_memories(build, draw) -> None:
    method = build("np_semiseg").train()
    losses = method.losses(draw(method), MIDDLE)
    assert losses["kl"][1] == pytest.approx(0.005)
    losses["kl"][0].backward()
    head = method.student.heads["process"]
    assert head.moments[0].weight.grad.abs().sum() > 0 and head.describe[6].weight.grad is not None
    assert all(p.grad is None for p in method.student.backbone.parameters())
    assert all(p.grad is None for p in head.decoder.parameters())


def test_memories_hold_the_classes_seen(build, draw) -> None:
    method = build("np_semiseg").train()
    batch = draw(method)
    batch.x.label[batch.x.label == 3] = 255
    map = method.student.fuse(method.student.encode(batch.x.weak)).map.detach()
    method.remember(map, batch.x.label, 1)
    first, both = (method.memories.fixed.count, method.memories.latent.count)
    assert (first <= both).all() and both.sum() > first.sum() > 0 and both[3] == 0
    centre = method.memories()[0]
    assert (centre[3] == 0).all() and centre.isfinite().all()
    u = method.student.heads["process"].describe(map)
    y = torch.nn.functional.interpolate(batch.x.label[:, None].float(), u.shape[-2:], mode="nearest")[:, 0]
    k = int(both.argmax())
    if both[k] == (y == k).sum():
        torch.testing.assert_close(centre[k], u.permute(0, 2, 3, 1)[y == k].mean(0), atol=1e-5, rtol=1e-4)


def test_an_evaluation_gives_the_same_answer_twice_and_probabilities(build, draw) -> None:
    method = build("np_semiseg").eval()
    image = draw(method).u.weak
    net = method.predictors()["student"]
    with torch.no_grad():
        z = net(image)
        assert torch.equal(z, net(image))
    torch.testing.assert_close(z.exp().sum(1), torch.ones_like(z[:, 0]), atol=1e-4, rtol=0)
