"""CCVC's conflicts and its push apart (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch
from toy import toy_task

from s4kit import nets
from s4kit.errors import S4Error
from s4kit.methods import Clock, create
from s4kit.methods.cotraining.ccvc import NAMES, discrepancy, likeness
from s4kit.nets import Mapped
from s4kit.views import Batch, draw_step, render

CLOCK = Clock(0, 10)
CE = torch.nn.functional.cross_entropy


def made(**options) -> tuple[torch.nn.Module, Batch]:
    torch.manual_seed(0)
    task = toy_task()
    method = create("ccvc", task, net="tiny", **options)
    return method.train(), render(draw_step(task, method.views, 2, 0, 0, 0), method.views)


def test_features_that_are_equal_orthogonal_and_opposite() -> None:
    a = torch.zeros(1, 2, 3, 3)
    a[:, 0] = 1.0
    b = a.flip(1)
    assert likeness(a, a) == 2 and likeness(a, b) == 1 and likeness(a, -a) == 0
    torch.testing.assert_close(discrepancy(a, b), torch.tensor(1.0))


def test_the_push_apart_teaches_each_network_by_its_own_feature() -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(2, 4, 5, 5, requires_grad=True) for _ in range(2))
    discrepancy(a, b).backward()
    cos = torch.cosine_similarity(a, b.detach(), dim=1, eps=1e-6)
    (wanted,) = torch.autograd.grad(cos.mean() / 2, a)
    torch.testing.assert_close(a.grad, wanted)  # half of the gradient of the plain cosine: once per side


@pytest.mark.parametrize("strong", [True, False])
def test_weight_one_is_cross_pseudo_supervision_over_valid_pixels(strong: bool) -> None:
    method, batch = made(strong=strong, confident=1.0, apart=0.0)
    method.net2.decoder.mapping[-1].p = 0.0  # no dropout: the forward here must be the step's
    batch.u.valid[:, :8] = 0
    losses = method.losses(batch, CLOCK)
    z = [net(batch.u.weak) for net in (method.net1, method.net2)]
    label = [logits.argmax(1) for logits in z]
    valid = batch.u.valid
    raw = sum((CE(z[1 - k], label[k], reduction="none") * valid).sum() / valid.sum() for k in range(2)) / 2
    if strong:
        target = [losses.seen[f"{name}/target"] for name in NAMES]
        s = [net(losses.seen["mixed"]) for net in (method.net1, method.net2)]
        mixed = [
            (CE(s[1 - k], y.label, reduction="none") * y.valid).sum() / y.valid.sum() for k, y in enumerate(target)
        ]
        raw = (sum(mixed) / 2 + raw) / 2
    torch.testing.assert_close(losses["con"][0], raw)


def test_only_confident_conflicts_of_the_teacher_weigh_more() -> None:
    method, batch = made(strong=False, tau=1.0, confident=2.0)
    first, second = torch.zeros(1, 4, 1, 4), torch.zeros(1, 4, 1, 4)
    first[0, 0, 0] = torch.tensor([2.0, 2.0, 0.5, 0.5])  # columns: agreed, conflict, unsure conflict, agreed unsure
    second[0, 0, 0, [0, 3]] = 0.5
    second[0, 1, 0, [1, 2]] = 2.0
    batch.u.valid = torch.ones(1, 1, 4)
    found = method.pseudo_labels((first, second), batch.u, CLOCK)
    assert found["1 teaches 2"].weight[0, 0].tolist() == [1, 2, 1, 1]
    assert found["2 teaches 1"].weight[0, 0].tolist() == [1, 2, 2, 1]
    as_probability, _ = made(strong=False, tau=0.6, measure="probability", confident=2.0)
    p = first.softmax(1).amax(1)[0, 0]
    weight = as_probability.pseudo_labels((first, second), batch.u, CLOCK)["1 teaches 2"].weight[0, 0]
    assert weight.tolist() == [1, 2 if p[1] > 0.6 else 1, 1, 1] and p[1] > 0.6


def test_the_partner_is_the_mirrored_batch() -> None:
    method, batch = made()
    m = torch.zeros_like(batch.u.masks[0])
    m[:, 4:12, 6:20] = True
    batch.u.masks[0] = m
    mixed = method.losses(batch, CLOCK).seen["mixed"]
    s = batch.u.strong[0]
    assert torch.equal(mixed, torch.where(m[:, None], s.flip(0), s))


def test_one_network_has_a_mapping_layer_that_follows_its_norm() -> None:
    method, batch = made()
    assert isinstance(method.net2.decoder, Mapped) and not isinstance(method.net1.decoder, Mapped)
    fused = method.net2.eval().decode(method.net2.encode(batch.u.weak)).fused
    assert fused.min() >= 0 and fused.shape[1] == method.net1.decoder.fused_channels
    group = Mapped(nets.make("tiny(norm='group')", 4).decoder)
    assert isinstance(group.mapping[1], torch.nn.GroupNorm)


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(S4Error, match="logit, probability"):
        made(measure="entropy")
