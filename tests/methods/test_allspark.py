"""What a correct AllSpark shows (parity with the release: tests/golden)."""

from __future__ import annotations

import pytest
import torch

from s4kit.methods import Clock, create
from s4kit.methods.parts.channels import ChannelMemory, followed
from s4kit.nets import Spark

LATE = Clock(50, 100)


@pytest.fixture
def spark() -> Spark:
    torch.manual_seed(0)
    return Spark(6, dropout=0.0)


def test_every_labelled_channel_is_a_convex_combination(spark) -> None:
    a = spark.weights(torch.randn(2, 1, 12, 30))
    torch.testing.assert_close(a.sum(-1), torch.ones(2, 1, 12))
    assert (a > 0).all()
    with torch.no_grad():
        spark.cross["value"].weight.zero_()
    assert (spark.across(torch.randn(2, 9, 6), torch.randn(3, 9, 6)) == 0).all()


def test_the_order_of_what_is_attended_to_does_not_matter(spark) -> None:
    t, source = torch.randn(2, 9, 6), torch.randn(4, 9, 6)
    torch.testing.assert_close(spark.across(t, source[[2, 0, 3, 1]]), spark.across(t, source), atol=1e-5, rtol=1e-4)


def test_the_attention_by_loops(spark) -> None:
    t, source = torch.randn(1, 4, 6), torch.randn(2, 4, 6)
    q = t[0] @ spark.cross["query"].weight.T
    keys, values = ([row for image in source for row in (image @ spark.cross[n].weight.T).T] for n in ("key", "value"))
    products = torch.stack([torch.stack([q[:, c] @ k for k in keys]) for c in range(12)])
    products = (products - products.mean()) / (products.var(correction=0) + 1e-5).sqrt()
    mixed = torch.stack([sum(w * v for w, v in zip(row.softmax(0), values)) for row in products])
    wanted = mixed.T @ spark.cross["out"].weight.T
    torch.testing.assert_close(spark.across(t, source)[0], wanted, atol=1e-5, rtol=1e-4)


def test_a_channel_goes_to_the_class_it_follows_and_replaces_the_oldest() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 0, 0, 0] = logits[0, 1, 0, 1] = logits[0, 2, 1, 0] = 5.0
    channels = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0.2], [2, 0, 0, 0], [0, 0, 3, 0]])
    assert followed(channels.T[None], logits).tolist() == [[0, 1, 0, 2]]
    memory = ChannelMemory(3, 4, (2, 2))
    memory.place.copy_(torch.tensor([3, 0, 1]))
    before = memory.maps.clone()
    memory.write(channels.T[None], logits, (2, 2))
    assert memory.place.tolist() == [1, 1, 2]
    assert torch.equal(memory.maps[0, 3].flatten(), channels[0]) and torch.equal(
        memory.maps[0, 0].flatten(), channels[2]
    )
    assert torch.equal(memory.maps[0, 1:3], before[0, 1:3]) and torch.equal(memory.maps[2, 1].flatten(), channels[3])
    torch.testing.assert_close(memory.tokens((2, 2)), memory.maps.flatten(2).mT)
    assert memory.tokens((3, 5)).shape == (3, 15, 4)


def test_labels_teach_unlabelled_features_until_the_memory_takes_over(build) -> None:
    method = build("allspark", dropout=0.0).train()
    channels = method.student.backbone.channels[-1]
    for remembered in (False, True):
        high = torch.randn(4, channels, 4, 4, requires_grad=True)
        out = method.reborn(high, 2, torch.randn(2, 4, 8, 8), remembered)
        (grad,) = torch.autograd.grad(out[:2].square().sum(), high)
        assert grad[:2].abs().sum() > 0 and (grad[2:].abs().sum() > 0) == (not remembered)


def test_an_image_is_judged_by_itself(build, draw) -> None:
    method = build("allspark").eval()
    image = draw(method).u.weak
    net = method.predictors()["student"]
    with torch.no_grad():
        torch.testing.assert_close(net(image), torch.cat([net(one) for one in image.split(1)]), atol=1e-5, rtol=1e-4)


def test_a_mix_transformer_has_a_step(task, draw) -> None:
    method = create("allspark", task, net="mit_tiny").train()
    losses = method.losses(draw(method), LATE)
    losses.total.backward()
    assert losses.total.isfinite() and method.student.heads["spark"].cross["key"].weight.grad.abs().sum() > 0
