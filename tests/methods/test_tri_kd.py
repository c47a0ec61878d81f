"""TriKD's six pairs, its two distillations and whom they reach (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from s4kit.errors import S4Error
from s4kit.methods import Clock, Optim
from s4kit.methods.cotraining.tri_kd import NAMES, high_level, low_level

CLOCK = Clock(5, 10)


def test_who_learns_from_what(build, draw):
    method = build("tri_kd", net="tiny_vit_micro", cnn="tiny").train()
    losses = method.losses(draw(method), CLOCK)
    nets = {"small": method.small, "cnn": method.cnn, "vit": method.vit}

    def reached(term: str) -> set[str]:
        found = set()
        for name, net in nets.items():
            grads = torch.autograd.grad(losses[term][0], list(net.parameters()), retain_graph=True, allow_unused=True)
            if any(g is not None and g.abs().sum() > 0 for g in grads):
                found.add(name)
        return found

    assert reached("low") == reached("high") == {"small"} and reached("cps") == set(nets)
    assert [reached(f"x_{name}") for name in nets] == [{name} for name in nets]


def test_three_equal_networks_have_six_equal_pairs(build, draw):
    method = build("tri_kd", net="deit_micro", cnn="deit_micro", vit="deit_micro")
    state = method.vit.state_dict()
    for net in (method.small, method.cnn):
        net.load_state_dict(state, strict=False)
    for module in method.modules():
        module.training = False
    batch = draw(method)
    z = method.vit(batch.u.weak)
    torch.testing.assert_close(method.losses(batch, CLOCK)["cps"][0], 6 * F.cross_entropy(z, z.argmax(1)))


def test_distances():
    own, theirs = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 6, 6)
    assert high_level(theirs, theirs).abs() < 1e-8 and low_level(theirs, theirs) == 0
    larger = F.interpolate(own, (6, 6), mode="bilinear", align_corners=True)
    rows = F.kl_div(larger.log_softmax(-1), theirs.softmax(-1), reduction="batchmean")
    torch.testing.assert_close(high_level(own, theirs) * 3 * 6 * 6, rows)
    torch.testing.assert_close(low_level(own, theirs), F.mse_loss(larger, theirs))


def test_a_small_network_with_attention_and_one_without(build, draw):
    hybrid, light = build("tri_kd", net="tiny_vit_micro", cnn="tiny"), build("tri_kd")
    assert set(hybrid.small.heads) == {"low", "high"} and set(light.small.heads) == {"low", "high", "attention"}
    for method in (hybrid, light):
        method.train().losses(draw(method), CLOCK).total.backward()
        assert all(p.grad is not None for p in method.parameters())
        assert next(iter(method.predictors())) == "small"
        assert set(method.pseudo_labels(method.teach(draw(method).u), draw(method).u, CLOCK)) == set(NAMES)
    with pytest.raises(S4Error, match="it has none"):
        build("tri_kd", vit="tiny")


def test_three_optimisers_of_which_the_vits_keeps_its_rate(build):
    specs = build("tri_kd").optimisers(Optim([], 1e-2))
    assert list(specs) == ["small", "cnn", "vit"]
    late = Clock(9, 10)
    assert [spec.schedule(late) == 1.0 for spec in specs.values()] == [False, False, True]
