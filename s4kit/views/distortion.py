"""The photometric distortion of SSD (Liu et al., ECCV 2016) as in mmsegmentation: a coin for each operation.

Unlike in `Strong` the brightness is added, contrast scales the levels themselves and saturation that of HSV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .photometric import Params, Strong, shift_hue


@dataclass(frozen=True)
class Distortion:
    """A recipe: brightness, contrast, saturation, hue, each with probability `p`; contrast second or last.

    Attributes:
        brightness: what is added to every level is drawn from [-v, v], of images in [0, 1].
        contrast, saturation: factors are drawn from [1 - v, 1 + v].
        hue: shift drawn from [-v, v] turns.
        p: probability of each of the four.
    """

    brightness: float = 32 / 255
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.1
    p: float = 0.5

    def draw(self, rng: np.random.Generator) -> Params:
        """The parameters of one sample; an operation without its coin has the value that changes nothing."""
        coins, spread = rng.random(4) < self.p, np.array([self.brightness, self.contrast, self.saturation, self.hue])
        change = np.array([0, 1, 1, 0]) + coins * spread * rng.uniform(-1, 1, 4)
        return {"change": change.astype(np.float32), "contrast_first": rng.random() < 0.5}

    sample = Strong.sample  # the same for every recipe

    def apply(self, image: Tensor, params: Params) -> Tensor:
        """Change (B, 3, H, W) images in [0, 1] by parameters stacked over the batch; returns new images."""
        change = torch.from_numpy(params["change"]).to(image.device, non_blocking=True)
        first = torch.from_numpy(params["contrast_first"]).to(image.device, non_blocking=True).view(-1, 1, 1, 1)
        added, contrast, saturation = change[:, :3, None, None, None].unbind(1)
        out = (image + added).clamp_(0, 1)
        out = (out * torch.where(first, contrast, 1.0)).clamp_(0, 1)
        out = shift_hue(saturate(out, saturation), change[:, 3])
        return (out * torch.where(first, 1.0, contrast)).clamp_(0, 1)


def saturate(image: Tensor, factor: Tensor) -> Tensor:
    """The saturation of HSV of (B, 3, H, W) images, chroma / largest channel, times (B, 1, 1, 1) factors, at most 1."""
    high = image.amax(1, keepdim=True)
    chroma = high - image.amin(1, keepdim=True)
    return high - (high - image) * torch.minimum(factor, high / chroma.clamp(min=1e-12))
