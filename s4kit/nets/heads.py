"""Extra heads that methods put on a decoder's maps (in `SegNet.heads`)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import conv_block, make_norm


class ProjectionHead(nn.Sequential):
    """Fused map to a representation: two 3x3 convolution blocks with channel dropout, then a 1x1 convolution.

    The representation head of U2PL (arXiv 2203.03884; `u2pl/models/decoder.py`), which also serves ReCo.

    Args:
        inputs: channels of the map (`net.decoder.fused_channels` for `Decoded.fused`).
        dim: channels of the representation.
        hidden: channels of the 3x3 convolutions.
        convs: how many 3x3 convolutions.
        dropout: channel dropout behind each.
        norm: "batch" or "group".
    """

    def __init__(
        self, inputs: int, dim: int = 256, hidden: int = 256, convs: int = 2, dropout: float = 0.1, norm: str = "batch"
    ):
        widths = [inputs] + [hidden] * convs
        blocks = [conv_block(a, b, 3, norm=norm, dropout=dropout) for a, b in pairwise(widths)]
        super().__init__(*blocks, nn.Conv2d(widths[-1], dim, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, dim, H, W), not normalised to unit length."""
        return super().forward(x)


class VarianceHead(nn.Module):
    """Fused map to a variance in (0, 1) for every channel of a representation.

    The probability head of PRCL (arXiv 2210.14670; `generalframeworks/networks/uncer_head.py`): two linear layers whose
    weights have rows of unit length, each followed by a norm; the second norm has one scale and one offset for all
    channels.

    Args:
        inputs: channels of the map. dim: of the representation. norm: "batch" or "group".
    """

    def __init__(self, inputs: int, dim: int = 256, norm: str = "batch"):
        super().__init__()
        self.first, self.second = (nn.Conv2d(a, dim, 1, bias=False) for a in (inputs, dim))
        self.norm = make_norm(norm, dim)
        self.last = nn.BatchNorm2d(dim, affine=False) if norm == "batch" else nn.GroupNorm(1, dim, affine=False)
        self.gamma, self.beta = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, dim, H, W) in (0, 1), in float32."""
        x = F.relu(self.norm(F.conv2d(x, F.normalize(self.first.weight, dim=1))))
        x = self.last(F.conv2d(x, F.normalize(self.second.weight, dim=1))).float()
        return torch.sigmoid(torch.logaddexp(self.gamma * x + self.beta, x.new_full((), math.log(1e-6))))


class CorrelationHead(nn.Module):
    """Two K-channel descriptions of every position of the coarsest features, whose products say how alike they are.

    The correlation branch of CorrMatch (arXiv 2306.04300; `model/semseg/deeplabv3plus.py`, `proj` and `Corr`): a 3x3
    convolution block with channel dropout, then two 1x1 convolutions.

    Args:
        inputs: channels of `features.high` (`net.backbone.channels[-1]`).
        classes: channels K of each description.
        channels: of the projection. dropout: channel dropout behind it. norm: "batch" or "group".
    """

    def __init__(self, inputs: int, classes: int, channels: int = 256, dropout: float = 0.1, norm: str = "batch"):
        super().__init__()
        self.project = conv_block(inputs, channels, 3, norm=norm, dropout=dropout)
        self.left, self.right = nn.Conv2d(channels, classes, 1), nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, h, w) to two maps (B, classes, h, w)."""
        x = self.project(x)
        return self.left(x), self.right(x)


class PatchHead(nn.Module):
    """Which classes are around each position of an early level: multi-label logits (MPMC, arXiv 2407.04036).

    The map beside its means over 7 x 7 and 19 x 19 positions, ten convolution blocks of falling width, two linear
    layers with dropout, as in the official code for 256 channels: 768, 768, 256 (four), 128 (three), 64 (two), 32.

    Args:
        inputs: channels of the level. classes: C. norm: "batch" or "group".
    """

    def __init__(self, inputs: int, classes: int, norm: str = "batch"):
        super().__init__()
        c = max(inputs, 32)
        widths = [3 * inputs, 3 * c, c, c, c, c, c // 2, c // 2, c // 2, c // 4, c // 4]
        kernels = (1, 3, 1, 3, 3, 1, 3, 3, 1, 3)
        self.blocks = nn.Sequential(*(conv_block(*ab, k, norm=norm) for ab, k in zip(pairwise(widths), kernels)))
        last = nn.Conv2d(c // 4, c // 8, 1), nn.ReLU(), nn.Dropout(0.2), nn.Conv2d(c // 8, classes, 1)
        self.last = nn.Sequential(*last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) to (B, classes, h, w), in float32."""
        around = [F.avg_pool2d(x, side, 1, side // 2) for side in (7, 19)]
        return self.last(self.blocks(torch.cat([x, *around], 1))).float()
