"""A network that says, pixel by pixel, how wrong a prediction is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .segnet import resize

LAYERS = (("conv1", 1, 2), ("conv2", 2, 2), ("conv2_1", 2, 1), ("conv3", 4, 2), ("conv3_1", 4, 1), ("conv4", 8, 2),
          ("conv4_1", 8, 1))  # name, width as a multiple, stride  # fmt: skip
SMALLEST, ENLARGED = 60, 96  # smaller sides leave the convolutions nothing; 96 leaves the answer 2 x 2 places


class IBNorm(nn.Module):
    """Batch norm of the first half of the channels, instance norm without parameters of the second (GCT, section 3.2).

    Maps (B, C, h, w) to (B, C, h, w).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.bnorm = nn.BatchNorm2d(self.half)

    def forward(self, x: Tensor) -> Tensor:
        second = x[:, self.half :]
        if second.shape[-2:] != (1, 1):  # one place has no spread: its deviation from its mean is 0
            second = F.instance_norm(second)
        else:
            second = second * 0.0
        return torch.cat([self.bnorm(x[:, : self.half]), second], 1)


class FlawDetector(nn.Module):
    """Seven 4x4 convolutions with `IBNorm` and LeakyReLU 0.2, and a classifier to one map, brought to the image's size
    (GCT, arXiv 2008.05258; PixelSSL, `ssl_gct.py`: FlawDetector).

    Args:
        classes: channels K of the predictions. channels: of the image.
        width: channels behind the first convolution; the last ones have eight times as many.
    """

    def __init__(self, classes: int, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        inputs, blocks = channels + classes, {}
        for name, times, stride in LAYERS:
            conv = nn.Conv2d(inputs, times * width, 4, stride, padding=1)
            blocks[name] = nn.Sequential(conv, IBNorm(times * width), nn.LeakyReLU(0.2))
            inputs = times * width
        self.blocks = nn.ModuleDict(blocks)
        self.classifier = nn.Conv2d(inputs, 1, 4, 2, padding=1)

    def forward(self, image: Tensor, p: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) and class probabilities (B, K, H, W) to flaws (B, 1, H, W) float32, as large
        as they come: there is no last activation. Images below 60 pixels are enlarged for the convolutions."""
        x = torch.cat([image, p.to(image.dtype)], 1)
        if min(x.shape[-2:]) < SMALLEST:
            x = resize(x, [max(side, ENLARGED) for side in x.shape[-2:]], align_corners=True)
        for block in self.blocks.values():
            x = block(x)
        return resize(self.classifier(x).float(), p.shape[-2:], align_corners=True)
