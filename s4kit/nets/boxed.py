"""A decoder that is told where boxes around objects are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import S4Error
from .deeplab import DeepLabV3Plus
from .segnet import Features, Fused, SegNet

BOXES = "boxes"  # name of the box maps among the extras of features


class BoxAttention(nn.Module):
    """A map times what a box map makes of each of its pixels and channels: 3x3 convolution and sigmoid.

    Args:
        classes: channels of the box map. channels: of the map.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(classes, channels, 3, padding=1)

    def forward(self, map: Tensor, boxes: Tensor) -> Tensor:
        """(B, channels, h, w), and (B, classes, H, W) of 0 and 1, brought to its size by nearest neighbour."""
        seen = F.interpolate(boxes, map.shape[-2:], mode="nearest")
        return map * self.conv(seen).sigmoid().to(map.dtype)


class Boxed(nn.Module):
    """A DeepLabV3+ decoder whose low-level features and ASPP output are weighed by box maps (self-correcting networks,
    arXiv 1811.07073), which are `features.extra["boxes"]`.

    Raises:
        S4Error: the decoder is another one.
    """

    def __init__(self, decoder: nn.Module, low: int, classes: int) -> None:
        super().__init__()
        if not isinstance(decoder, DeepLabV3Plus):
            raise S4Error(f"Boxes enter a DeepLabV3+ decoder, no {type(decoder).__name__}: choose a ResNet, say.")
        self.decoder = decoder
        reduced = 0 if decoder.reduce is None else decoder.reduce[0].out_channels
        self.high = BoxAttention(classes, decoder.fused_channels - reduced)
        self.low = BoxAttention(classes, low) if reduced else None
        self.fused_channels, self.embedding_channels = decoder.fused_channels, decoder.embedding_channels
        self.align_corners = decoder.align_corners

    def fuse(self, features: Features) -> Fused:
        """The decoder's fused map of features that the (B, K, H, W) box maps in `features.extra` weigh."""
        boxes = features.extra[BOXES]
        context = self.high(self.decoder.aspp(features.high), boxes)
        low = self.low(features.low, boxes) if self.low is not None else features.low
        return self.decoder.join(context, low)

    def classify(self, map: Tensor) -> tuple[Tensor, Tensor]:
        """Fused map to (logits, embedding), both at its size."""
        return self.decoder.classify(map)

    def branch(self) -> nn.Module:
        """Another classifier of the same shape with weights of its own: fused map to logits."""
        return self.decoder.branch()


def with_boxes(net: SegNet) -> SegNet:
    """A network whose decoder asks for box maps, see `segment`; in place."""
    net.decoder = Boxed(net.decoder, net.backbone.channels[0], net.classes)
    return net


def segment(net: SegNet, image: Tensor, boxes: Tensor) -> Tensor:
    """(B, C, H, W) logits of an image and its box map (B, C, H, W), see `box_map`."""
    levels = net.encode(image).levels
    return net.decode(Features(levels, {BOXES: boxes}), image.shape[-2:]).logits


def box_map(boxes: Tensor, classes: int, size: tuple[int, int], background: bool = True) -> Tensor:
    """(B, C, H, W) of 0 and 1: where a box of a class is.

    Args:
        boxes: (B, K, 5) of `Views`. background: whether class 0 is where no box of another class is.
    """
    here = (boxes[:, :, 0, None] == torch.arange(classes, device=boxes.device)).float()
    top, left, bottom, right = (side[..., None] for side in boxes[:, :, 1:].unbind(2))
    y, x = (torch.arange(side, device=boxes.device) for side in size)
    rows, columns = ((y >= top) & (y < bottom)).float(), ((x >= left) & (x < right)).float()
    inside = (torch.einsum("bkc,bkh,bkw->bchw", here, rows, columns) > 0).float()
    if not background:
        return inside
    return torch.cat([1 - inside[:, 1:].amax(1, keepdim=True), inside[:, 1:]], 1)
