"""Decoders of pyramid pooling: that of PSPNet, and that of Cross-Consistency Training with its pixel shuffles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error
from .layers import conv_block, fresh, make_dropout, make_norm
from .segnet import Features, Fused, SegNet, resize


class PyramidPooling(nn.Module):
    """Averages over grids of 1, 2, 3 and 6 cells, each reduced by a 1x1 convolution, beside the map itself (PSPNet,
    Zhao et al., CVPR 2017, arXiv 1612.01105); a 3x3 convolution joins them.

    Maps (B, inputs, h, w) to (B, channels, h, w). `width` is the channels of each grid, None = inputs / their number.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        bins: Sequence[int] = (1, 2, 3, 6),
        norm: str = "batch",
        align: bool = True,
        width: int | None = None,
    ):
        super().__init__()
        self.align, width = align, width or inputs // len(bins)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(cells),
                nn.Conv2d(inputs, width, 1, bias=False),
                make_norm(norm, width, pooled=cells == 1),
                nn.ReLU(inplace=True),
            )
            for cells in bins
        )
        self.project = conv_block(inputs + width * len(bins), channels, 3, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        spread = [resize(branch(x), x.shape[-2:], self.align) for branch in self.branches]
        return self.project(torch.cat([x, *spread], 1))


class Pooling(nn.Module):
    """A decoder without low-level features: `fuse` pools the coarsest map, `classify` is its classifier alone.

    Args:
        high: channels of `features.high`.
        channels: of the pooled map.
        align_corners: of every bilinear resize.
        norm: "batch" or "group".
        width: channels of each pooled grid, see `PyramidPooling`.
    """

    classifier: nn.Module
    classifies = ("classifier",)

    def __init__(self, high: int, channels: int, align_corners: bool, norm: str, width: int | None = None) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.fused_channels = self.embedding_channels = channels
        self.pool = PyramidPooling(high, channels, norm=norm, align=align_corners, width=width)

    def fuse(self, features: Features) -> Fused:
        """The pooled last level (B, D, h, w), which is the context, too."""
        context = self.pool(features.high)
        return Fused(context, context)

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled map (B, D, h, w) to (logits (B, K, ...) at the classifier's stride, the map)."""
        return self.classifier(map), map

    def branch(self) -> nn.Module:
        """Another classifier of the same shape with weights of its own: fused map to logits."""
        return fresh(self.classifier)


class PSPNet(Pooling):
    """The decoder of PSPNet, whose classifier is 1x1: logits at the output stride.

    Args:
        high: channels of `features.high`.
        classes: number of classes K.
        channels: of each pooled grid and of the map that joins them.
        dropout: rate at which channels are dropped before the classifier; the embedding does not see it.
        align_corners: of every bilinear resize.
        norm: "batch" or "group".
    """

    def __init__(
        self,
        high: int,
        classes: int,
        channels: int = 512,
        dropout: float = 0.1,
        align_corners: bool = False,
        norm: str = "batch",
    ) -> None:
        super().__init__(high, channels, align_corners, norm, width=channels)
        last = nn.Conv2d(channels, classes, 1)
        self.classifier = nn.Sequential(make_dropout("channel", dropout), last) if dropout else last


class ShuffleConv(nn.Conv2d):
    """1x1 convolution to 4 channels per map, which a pixel shuffle spreads over 2 x 2 pixels.

    Its weights start equal for the four pixels of a map (ICNR, Aitken et al., arXiv 1707.02937), so that the doubled
    map starts as nearest-neighbour interpolation, without a checkerboard.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 4 * channels, 1)

    def reset_parameters(self) -> None:
        """Weights as He et al. begin with them, the same for the four pixels of a map."""
        super().reset_parameters()
        with torch.no_grad():
            start = nn.init.kaiming_normal_(torch.empty_like(self.weight[::4]))
            self.weight.copy_(start.repeat_interleave(4, 0))


class ShuffleDecoder(nn.Module):
    """1x1 convolution to the classes, then doublings: 1x1 convolution, ReLU, pixel shuffle (CCT,
    `models/decoders.py`). The ReLU stands before every shuffle, the last one too: logits are never negative.

    Maps (B, inputs, h, w) to (B, classes, h 2^doublings, w 2^doublings).
    """

    def __init__(self, inputs: int, classes: int, doublings: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(inputs, classes, 1, bias=False)
        self.doublings = nn.ModuleList(ShuffleConv(classes) for _ in range(doublings))

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x)
        for conv in self.doublings:
            x = F.pixel_shuffle(F.relu(conv(x)), 2)
        return x


class PSPShuffle(Pooling):
    """The decoder of CCT, whose classifier shuffles up to stride 1.

    Args:
        high: channels of `features.high`.
        classes: number of classes K.
        doublings: how often the map is doubled: 3 for output stride 8, 4 for 16.
        channels: of the pooled map.
        align_corners: of every bilinear resize.
        norm: "batch" or "group".
    """

    def __init__(
        self,
        high: int,
        classes: int,
        doublings: int,
        channels: int = 512,
        align_corners: bool = True,
        norm: str = "batch",
    ) -> None:
        super().__init__(high, channels, align_corners, norm)
        self.classifier = ShuffleDecoder(channels, classes, doublings)


def pspnet(backbone: nn.Module, classes: int, norm: str = "batch", **options) -> SegNet:
    """A `SegNet` of a backbone and a `PSPNet` decoder."""
    return SegNet(backbone, PSPNet(backbone.channels[-1], classes, norm=norm, **options), classes)


def psp(backbone: nn.Module, classes: int, stride: int, norm: str = "batch", **options) -> SegNet:
    """A `SegNet` of a backbone of output stride `stride` and a `PSPShuffle` decoder."""
    return SegNet(
        backbone, PSPShuffle(backbone.channels[-1], classes, stride.bit_length() - 1, norm=norm, **options), classes
    )


def without_psp(net: SegNet, method: str) -> SegNet:
    """The network, for a method that classifies the embedding pixel by pixel.

    Raises:
        S4Error: its decoder is a `PSPShuffle`, whose classes and embedding have different sizes.
    """
    if isinstance(net.decoder, PSPShuffle):
        raise S4Error(
            f"{method} compares pixels by the features from which the decoder classifies them; decoder='psp' has such "
            "features for blocks of pixels only. Leave decoder='psp' out of its network."
        )
    return net
