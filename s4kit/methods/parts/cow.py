"""Cow masks: smooth random blots, half of the image each (French et al., 2020, CowMix)."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32


@float32
def smooth(noise: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of maps (B, H, W), cut off at four sigma; at the border the map is mirrored, its edge twice."""
    reach = int(4 * sigma + 0.5)
    offset = torch.arange(-reach, reach + 1, device=noise.device, dtype=noise.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    for _ in range(2):
        side = noise.shape[-1]
        place = torch.arange(-reach, side + reach, device=noise.device) % (2 * side)
        padded = noise[..., torch.where(place < side, place, 2 * side - 1 - place)]
        lines = F.conv1d(padded.reshape(-1, 1, padded.shape[-1]), kernel)
        noise = lines.view(*noise.shape).transpose(1, 2).contiguous()
    return noise


def cow_mask(noise: Tensor, sigma: float, offset: float = 0.0) -> Tensor:
    """(B, H, W) bool: where smoothed noise is below its mean by image, or `offset` deviations above it.

    Args:
        noise: (B, H, W) uniforms. sigma: in pixels.
    """
    blots = smooth(noise, sigma).flatten(1)
    level = blots.mean(1) + offset * blots.std(1, unbiased=False)
    return (blots < level[:, None]).view_as(noise)


def draw_cow_mask(like: Tensor, sigmas: Sequence[float]) -> Tensor:
    """(B, H, W) bool, a cow mask for each image of `like`.

    Args:
        sigmas: in pixels of an image of 513, of which each mask has one; smaller images have smaller blots.
    """
    side = math.sqrt(like.shape[-2] * like.shape[-1]) / 513
    noise = torch.rand(len(like), *like.shape[-2:], device=like.device)
    return torch.cat([cow_mask(one, side * random.choice(sigmas)) for one in noise.split(1)])
