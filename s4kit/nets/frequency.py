"""TriKD's decoder: a feature pyramid whose levels are weighed by what they hold in high or low frequencies (arXiv
2309.12557; `model/semseg/decoder.py`, `fft_attn.py`, `neck.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import S4Error
from .layers import conv_block, fresh
from .psp import PyramidPooling
from .segnet import Features, Fused, SegNet, resize

RADIUS = 10.0
ZOOMS = (0.5, 1.0, 2.0, 4.0)  # of a vision transformer's blocks, from shallow to deep


def band(x: Tensor, low: bool, radius: float = RADIUS) -> Tensor:
    """The size of the low or of the high frequencies of each channel, place by place.

    Args:
        x: (B, C, h, w).
        low: multiply the spectrum by exp(-d^2 / (2 radius^2)), or by 1 minus that.
        radius: of the Gaussian, in waves per map.

    Returns:
        (B, C, h, w), not negative: the absolute value of the filtered map. d is the distance from frequency 0 where a
        side is odd and from one beside it where it is even, as released: the filtered map is then complex.
    """
    y, z = (torch.fft.fftfreq(side, 1 / side, device=x.device) + (side + 1) % 2 for side in x.shape[-2:])
    gauss = torch.exp(-(y[:, None].square() + z.square()) / (2 * radius**2))
    spectrum = torch.fft.fft2(x.float()) * (gauss if low else 1 - gauss)
    return torch.fft.ifft2(spectrum).abs().to(x.dtype)


class FrequencySelect(nn.Module):
    """1x1 convolution of x + a x, where a is a weight per channel from the mean of its `band`.

    Maps (B, inputs, h, w) to (B, outputs, h, w).
    """

    def __init__(self, inputs: int, outputs: int, low: bool, radius: float = RADIUS) -> None:
        super().__init__()
        self.low, self.radius = low, radius
        self.weigh, self.project = (nn.Conv2d(inputs, n, 1, bias=False) for n in (inputs, outputs))
        for conv in (self.weigh, self.project):
            nn.init.kaiming_normal_(conv.weight, a=1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.weigh(band(x, self.low, self.radius).mean((2, 3), keepdim=True)).sigmoid()
        return self.project(x + a * x)


class Neck(nn.Module):
    """Levels of one stride to levels of 2, 1, 1/2 and 1/4 of it: 1x1 block, resize, 3x3 block.

    The shallowest level becomes the coarsest one, as released.
    """

    def __init__(self, inputs: Sequence[int], channels: int, norm: str = "batch") -> None:
        super().__init__()
        self.reduce = nn.ModuleList(conv_block(n, channels, 1, norm=norm) for n in inputs)
        self.smooth = nn.ModuleList(conv_block(channels, channels, 3, norm=norm) for _ in inputs)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        found = []
        for x, zoom, reduce, smooth in zip(levels, ZOOMS, self.reduce, self.smooth):
            size = [max(1, int(side * zoom)) for side in x.shape[-2:]]
            found.append(smooth(resize(reduce(x), size, align_corners=True)))
        return found


class FrequencyDecoder(nn.Module):
    """UPerNet (Xiao et al., ECCV 2018) with `FrequencySelect` on its lateral ways: high frequencies of all levels but
    the last two, low ones of the last but one, pyramid pooling of the last.

    `fuse` ends in the levels side by side at the size of the first, `classify` in logits.

    Args:
        channels: of the encoder's levels.
        classes: number of classes K.
        widths: channels of each level in the pyramid; None: half of the encoder's.
        decoder_channels: of the map before the classifier.
        dropout: rate at which channels of that map are dropped.
        neck: channels of a `Neck` between encoder and pyramid; 0: none. Encoders of one stride need one.
        norm: "batch" or "group".

    Raises:
        S4Error: not one width a level, or a neck and not four levels.
    """

    align_corners = True
    classifies = ("bottleneck", "classifier")

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        widths: Sequence[int] | None = None,
        decoder_channels: int = 256,
        dropout: float = 0.1,
        neck: int = 0,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        widths = [max(1, n // 2) for n in channels] if widths is None else list(widths)
        if len(widths) != len(channels):
            raise S4Error(f"widths={tuple(widths)}: the encoder has {len(channels)} levels, give one for each.")
        if neck and len(channels) != len(ZOOMS):
            raise S4Error(f"neck={neck}: for four levels, the encoder has {len(channels)}.")
        self.neck = Neck(channels, neck, norm) if neck else None
        inputs = [neck] * len(channels) if neck else channels
        last, count = len(widths) - 1, len(widths)
        self.select = nn.ModuleList(FrequencySelect(inputs[i], widths[i], low=i == last - 1) for i in range(last))
        self.pool = PyramidPooling(inputs[-1], widths[-1], norm=norm, width=widths[-1])
        self.down = nn.ModuleList(nn.Conv2d(widths[i], widths[i - 1], 1) for i in range(1, count))
        self.smooth = nn.ModuleList(conv_block(width, width, 3, norm=norm) for width in widths[:-1])
        self.fused_channels, self.embedding_channels = sum(widths), decoder_channels
        self.bottleneck = conv_block(self.fused_channels, decoder_channels, 3, norm=norm)
        self.classifier = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(decoder_channels, classes, 1))

    def fuse(self, features: Features) -> Fused:
        """All levels and the pooled last one side by side at the size of the first; each has heard the next coarser
        one."""
        levels = self.neck(features.levels) if self.neck else features.levels
        maps = [select(x) for select, x in zip(self.select, levels)] + [self.pool(levels[-1])]
        for i in range(len(maps) - 2, -1, -1):
            maps[i] = maps[i] + resize(self.down[i](maps[i + 1]), maps[i].shape[-2:], align_corners=True)
        ways = [smooth(x) for smooth, x in zip(self.smooth, maps)] + [maps[-1]]
        size = ways[0].shape[-2:]
        return Fused(torch.cat([ways[0], *(resize(x, size, align_corners=True) for x in ways[1:])], 1), maps[-1])

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Fused map to (logits, embedding), both at its size."""
        embedding = self.bottleneck(map)
        return self.classifier(embedding), embedding

    def branch(self) -> nn.Module:
        """Another classifier of the same shape with weights of its own: fused map to logits."""
        return fresh(nn.Sequential(self.bottleneck, self.classifier))


def frequency(backbone: nn.Module, classes: int, **options: Any) -> SegNet:
    """A `SegNet` of a backbone and a `FrequencyDecoder` with these options."""
    return SegNet(backbone, FrequencyDecoder(backbone.channels, classes, **options), classes)
