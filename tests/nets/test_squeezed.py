"""The ASPP with group norm and squeeze-excitation of CTT's DeepLabV2."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from s4kit import nets
from s4kit.methods.cotraining.ctt import NET
from s4kit.nets.deeplab import SqueezedASPP


def test_line_by_line() -> None:
    torch.manual_seed(0)
    aspp = SqueezedASPP(6, 16, (2, 3), squeeze=8)
    x = torch.randn(2, 6, 7, 9)
    maps = []
    for branch, norm, dilation in zip(aspp.branches, aspp.norms, (0, 2, 3)):
        y = F.conv2d(x, branch.weight, branch.bias, padding=dilation, dilation=max(1, dilation))
        maps.append(F.group_norm(y, 2, norm.weight, norm.bias).clamp(min=0))
    joined = torch.cat(maps, 1)
    first, _, second, _ = aspp.weigh
    seen = (joined.mean((2, 3)) @ first.weight.T + first.bias).clamp(min=0)
    weights = torch.sigmoid(seen @ second.weight.T + second.bias)
    conv, norm = aspp.project
    expected = F.group_norm(
        F.conv2d(joined * weights[:, :, None, None], conv.weight, conv.bias, padding=1), 2, norm.weight, norm.bias
    )
    assert seen.shape == (2, 6) and torch.allclose(aspp(x), expected, atol=1e-5)


def test_the_network_of_the_release() -> None:
    """Group norms of 32 groups alone in the head, maps of stride 8, a classifier behind the channel dropout."""
    with torch.device("meta"):
        net = nets.make(NET, 21, weights="none")
        decoded = net.decode(net.encode(torch.empty(1, 3, 321, 321)))
    assert decoded.logits.shape == (1, 21, 41, 41) and decoded.embedding.shape == (1, 256, 41, 41)
    head = [m for m in net.decoder.modules() if isinstance(m, nn.GroupNorm | nn.BatchNorm2d | nn.Dropout2d)]
    assert [getattr(m, "num_groups", None) for m in head] == [32] * 6 + [None] and head[-1].p == 0.1
    assert net.decoder.aspp.weigh[0].weight.shape == (80, 1280)
