"""A decoder that draws the image from the coarsest features: an auxiliary task, dropped after the training."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from .layers import conv_block
from .segnet import resize


class Reconstruction(nn.Module):
    """Bottleneck 1x1, four doublings with a 3x3 convolution block each, 3x3 to the channels of the image.

    It has no skip connection: from shallow features the image is too easy to draw.

    Args:
        inputs: channels of `features.high`.
        width: channels behind the bottleneck, of which each doubling but the first leaves half.
        channels: of the image.
    """

    def __init__(self, inputs: int, width: int = 256, channels: int = 3) -> None:
        super().__init__()
        widths = [width, width, width // 2, width // 4, width // 8]
        self.bottleneck = nn.Conv2d(inputs, width, 1)
        self.doublings = nn.ModuleList(conv_block(a, b) for a, b in pairwise(widths))
        self.draw = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def inner(self, high: Tensor, size: Sequence[int]) -> list[Tensor]:
        """The maps behind the doublings, of 1/8, 1/4, 1/2 and 1/1 of `size` (H, W)."""
        x, maps = self.bottleneck(high), []
        for parts, block in zip((8, 4, 2, 1), self.doublings):
            x = block(resize(x, [-(-side // parts) for side in size], align_corners=False))
            maps.append(x)
        return maps

    def forward(self, high: Tensor, size: Sequence[int]) -> Tensor:
        """(B, inputs, h, w) to (B, channels, H, W), in the range of the target."""
        return self.draw(self.inner(high, size)[-1]).float()
