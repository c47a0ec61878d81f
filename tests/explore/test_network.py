"""The drawing of DeepLabV3+: the shapes that it names are those of the network."""

from __future__ import annotations

import pytest
import torch

import s4kit as s4
from s4kit.errors import S4Error
from s4kit.nets import make


def test_every_part_is_drawn_with_its_shape():
    net = make("tiny", 3).train()
    state = {name: value.clone() for name, value in net.state_dict().items()}
    image = torch.rand(3, 48, 64)
    fig = s4.plots.network(net, image)
    said = [axis.get_xlabel() for axis in fig.axes]
    features = net.eval().encode(image[None])
    net.train()
    for wanted in (image, features.low[0], features.high[0]):
        assert "{} x {} x {}".format(*wanted.shape) in said
    assert "logits 3 x 48 x 64" in said and len(fig.axes) == 8 + len(net.decoder.aspp.branches)
    assert net.training and all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_another_network_is_refused():
    with pytest.raises(S4Error, match="built otherwise"):
        s4.plots.network(torch.nn.Conv2d(3, 3, 1), torch.rand(3, 8, 8))
