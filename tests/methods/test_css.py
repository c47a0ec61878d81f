"""What a correct CSS shows (parity with the release: tests/golden)."""

from __future__ import annotations

import math

import pytest
import torch

from s4kit.errors import S4Error
from s4kit.methods import Clock, PseudoLabels, create
from s4kit.methods.contrastive.reco import Forward

EARLY, LATE = Clock(0, 100), Clock(50, 100)


def test_a_feature_at_its_prototype_among_orthogonal_ones(build) -> None:
    method = build("css", temperature=0.5)
    dim = method.prototypes.mean.shape[1]
    method.prototypes.mean.copy_(3 * torch.eye(4, dim))
    z = torch.eye(4, dim).view(4, dim, 1, 1)
    share = method.close(7 * z)[..., 0, 0]
    torch.testing.assert_close(share.diagonal(), torch.full((4,), math.exp(2) / (math.exp(2) + 3)))


def evidence() -> tuple[torch.Tensor, torch.Tensor]:
    """Three of four columns agree; the class head is sure of two, the prototypes of one."""
    first, second = torch.zeros(1, 4, 8, 4), torch.zeros(1, 4, 8, 4)
    first[:, 1], second[:, 1] = 2.0, 2.0
    first[:, 1, :, :2], second[:, 1, :, 0] = 10.0, 10.0
    second[:, 2, :, 3] = 5.0
    return first, second


def test_mix_keeps_what_both_spaces_say_and_cross_exchanges(build, draw) -> None:
    view = draw(build("css"), batch=1, crop=32).u
    view.valid = torch.ones(1, 8, 4)
    mix = build("css").pseudo_labels(evidence(), view, LATE)
    assert (mix.label == 1).all() and mix.weight[0, 0].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0])
    early = build("css").pseudo_labels(evidence(), view, EARLY)
    assert early.weight[0, 0].tolist() == [0.5] * 4
    cross = build("css", strategy="cross").pseudo_labels(evidence(), view, LATE)
    assert cross["class head"].label[0, 0].tolist() == [1, 1, 1, 2] and (cross["contrast"].label == 1).all()
    assert (cross["class head"].weight == 0.25).all() and (cross["contrast"].weight == 0.5).all()
    both = build("css", strategy="cross").pseudo_labels(evidence(), view, EARLY)
    assert torch.equal(both["class head"].label, both["contrast"].label)


def test_without_momentum_the_prototypes_are_those_of_the_batch_and_only_classes_present_move(task) -> None:
    torch.manual_seed(0)
    method = create("css", task, net="tiny", momentum=0.0, queries=4, negatives=4)
    dim = method.prototypes.mean.shape[1]
    z, label = torch.randn(2, dim, 6, 7, requires_grad=True), torch.randint(0, 3, (2, 6, 7))
    old = torch.randn(4, dim)
    method.prototypes.mean.copy_(old)
    method.prototypes.moves.fill_(1)
    loss = method.contrast([Forward(torch.empty(0), z)], label, PseudoLabels(*(label[:0] for _ in range(4))))
    rows = z.detach().permute(0, 2, 3, 1).reshape(-1, dim)
    for k in range(3):
        torch.testing.assert_close(method.prototypes.mean[k], rows[label.flatten() == k].mean(0))
    assert torch.equal(method.prototypes.mean[3], old[3]) and method.prototypes.moves.tolist() == [2, 2, 2, 1]
    loss.backward()
    assert z.grad.abs().sum() > 0 and not method.prototypes.mean.requires_grad


@pytest.mark.parametrize("strategy", ["mix", "cross"])
def test_a_step_of_either_strategy(strategy: str, build, draw) -> None:
    method = build("css", strategy=strategy)
    losses = method.train().losses(draw(method), LATE)
    losses.total.backward()
    assert all(value.isfinite() for value, _ in losses.values())
    assert losses["contrast"][1] == pytest.approx(math.exp(-1.25))
    assert method.prototypes.moves.sum() > 0


def test_no_agreement_is_no_loss(build, draw, monkeypatch) -> None:
    method = build("css")
    monkeypatch.setattr(method, "agreed", lambda evidence, clock: torch.zeros(len(evidence[0]), 32, 32))
    assert method.losses(draw(method), LATE)["u"][0] == 0


def test_passes_and_an_unknown_strategy(build, task) -> None:
    method = build("css", warmup="2 labelled epochs", fade="4 labelled epochs")
    clock = Clock(5, 100, labelled_steps=3)
    assert clock.since(method.warmup) < 0 and Clock(6, 100, labelled_steps=3).since(method.warmup) == 0
    with pytest.raises(S4Error, match="mix"):
        create("css", task, net="tiny", strategy="mixed")
