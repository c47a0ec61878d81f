"""What a correct PRCL shows (parity with the release: tests/golden)."""

from __future__ import annotations

import math

import pytest
import torch

from s4kit.methods import Clock, Optim, PseudoLabels, create
from s4kit.methods.contrastive.reco import Forward
from s4kit.methods.parts.gaussians import likelihoods, mutual_likelihood, product
from s4kit.methods.parts.schedules import rampdown

CLOCK = Clock(5, 10)


def test_the_product_of_gaussians_is_that_of_their_densities() -> None:
    torch.manual_seed(0)
    mean, variance = torch.randn(3, 1), 0.1 + torch.rand(3, 1)
    (found,) = product(torch.cat([mean, variance], 1), torch.ones(1, 3, dtype=torch.bool))
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.stack([torch.exp(-((x - m) ** 2) / (2 * v)) for m, v in zip(mean, variance)]).prod(0)
    density = density / density.sum()
    centre = (density * x).sum()
    assert float(found[0]) == pytest.approx(float(centre), rel=1e-4)
    assert float(found[1]) == pytest.approx(float((density * (x - centre) ** 2).sum()), rel=1e-4)


def test_equal_variances_give_the_mean_and_an_empty_class_is_finite() -> None:
    mean = torch.randn(5, 4)
    features = torch.cat([mean, torch.full((5, 4), 0.3)], 1)
    found = product(features, torch.tensor([[True] * 5, [False] * 5]))
    torch.testing.assert_close(found[0, :4], mean.mean(0))
    torch.testing.assert_close(found[0, 4:], torch.full((4,), 0.06))
    assert found[1].tolist() == [0] * 4 + [1] * 4


def test_equal_variances_order_by_cosine() -> None:
    torch.manual_seed(1)
    anchor, others, v = torch.randn(1, 8), torch.randn(20, 8), torch.tensor(0.4)
    score = mutual_likelihood(anchor, v, others, v)
    cosine = torch.nn.functional.cosine_similarity(anchor, others)
    assert torch.equal(score.argsort(), cosine.argsort())
    torch.testing.assert_close(score, -0.5 * ((2 - 2 * cosine) / 0.8 / 8 + math.log(0.8)))


def test_an_uncertain_anchor_is_pulled_less() -> None:
    torch.manual_seed(2)
    positive, pulls = torch.cat([torch.randn(6), torch.full((6,), 0.01)]), []
    mean = torch.randn(1, 6)
    for variance in (0.05, 0.5):
        anchor = torch.cat([mean, torch.full((1, 6), variance)], 1).requires_grad_()
        likelihoods(anchor, positive, torch.zeros(1, 0, 12))[0, 0].backward()
        pulls.append(anchor.grad[0, :6].norm())
    assert pulls[0] / pulls[1] == pytest.approx(0.51 / 0.06, rel=1e-4)


def test_gradients_reach_means_and_variances_of_the_anchors_alone(task) -> None:
    torch.manual_seed(0)
    z = torch.cat([torch.randn(2, 5, 6, 7), 0.1 + 0.8 * torch.rand(2, 5, 6, 7)], 1).requires_grad_()
    logits, label = 3 * torch.randn(2, 4, 6, 7), torch.randint(0, 4, (2, 6, 7))
    method = create("prcl", task, net="tiny", queries=400, negatives=2, hard=0.4)
    none = PseudoLabels(*(label[:0] for _ in range(4)))
    (grad,) = torch.autograd.grad(method.contrast([Forward(logits, z)], label, none), z)
    hard = logits.softmax(1).gather(1, label[:, None])[:, 0] < 0.4
    for part in grad.chunk(2, 1):
        assert torch.equal(part.abs().sum(1) > 0, hard)


def test_the_head_answers_variances_and_learns_at_a_rate_of_its_own(build, draw) -> None:
    method = build("prcl", pace=0.25)
    specs = method.optimisers(Optim([], 0.4))
    assert specs["probability"].nets == [method.probability] and specs["probability"].lr == 0.1
    assert specs["main"].nets == [method.student] and specs["main"].lr == 0.4
    batch = draw(method)
    own = method.through(method.student, batch.x.strong[0])
    variance = own.z.chunk(2, 1)[1]
    assert variance.min() > 0 and variance.max() < 1 and variance.std() > 0.05
    assert not any(name.startswith("probability") for name in method.teacher.state_dict())


def test_the_weight_falls(build, draw) -> None:
    method = build("prcl", contrast=2.0)
    batch = draw(method)
    weights = [method.losses(batch, Clock(t, 10))["contrast"][1] for t in (0, 5)]
    assert weights == pytest.approx([2.0, 2 * math.exp(-1.25)])
    assert rampdown(1.0) == 0 and rampdown(0.3, 0.2) == 0 and rampdown(0.999999) == pytest.approx(math.exp(-5), 1e-4)
