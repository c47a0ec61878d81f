"""Maps of flaws: what a flaw detector is taught, and what is made of its answers (GCT, arXiv 2008.05258).

All maps are (B, 1, H, W). The sizes of the blurs follow from the side of the crop. Functions run in float32.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from .precision import float32


def odd(size: float) -> int:
    """The size of a kernel, rounded down, and up again to an odd number."""
    return int(size) // 2 * 2 + 1


@lru_cache(maxsize=32)
def gaussian(size: int) -> tuple[float, ...]:
    """Weights of a Gaussian kernel of `size` places, sigma = 0.3 ((size - 1) / 2 - 1) + 0.8.

    What lies outside of the window, up to 4 sigma, is folded back at its mirrored borders (the border place repeated).
    """
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)  # numbers, no tensors: a rehearsal of the step must know them
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    place = (size // 2 + offsets) % (2 * size)
    place = np.where(place < size, place, 2 * size - 1 - place)
    return tuple(np.bincount(place, weights / weights.sum(), minlength=size).tolist())


def blur(map: Tensor, size: int) -> Tensor:
    """A Gaussian blur of odd `size` of maps (B, C, H, W) with reflected borders, one dimension after the other."""
    half = min(size // 2, min(map.shape[-2:]) - 1)  # a border cannot be reflected beyond the map
    values = gaussian(2 * half + 1)
    padded = F.pad(map, (half, half, half, half), mode="reflect")
    height, width = map.shape[-2:]
    rows = sum(w * padded[..., k : k + height, :] for k, w in enumerate(values))
    return sum(w * rows[..., k : k + width] for k, w in enumerate(values))


def stretched(map: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each image, (B, 1, 1, 1)."""
    return map.amin((1, 2, 3), keepdim=True), map.amax((1, 2, 3), keepdim=True)


@float32
@torch.no_grad()
def handled(flaws: Tensor, side: int, least: float = 0.1) -> Tensor:
    """A detector's answers (B, 1, H, W) made comparable: cut at 0, blurred, an image without a flaw above `least` set
    to 0, then stretched to [0, 1] image by image.

    The stretch is that of the map before it was set to 0, so such an image is constant, 0 or a little below.
    """
    map = blur(flaws.clamp(min=0), odd(side / 16))
    low, high = stretched(map)
    return (torch.where(high > least, map, 0.0) - low) / (high - low + 1e-9)


@float32
@torch.no_grad()
def flaw_target(p: Tensor, label: Tensor, side: int, mu: float = 0.5, nu: int = 1) -> Tensor:
    """What a flaw detector is to answer: how far predictions are from the label, blurred, grown, and stretched.

    Args:
        p: (B, C, H, W) probabilities. label: (B, H, W), 255 = void: there every class is wrong by what it says.
        side: of the crop.
        mu: factor of the sum over classes of |one-hot - p|; 1/2 gives 1 where all is on a wrong class.
        nu: how often the map is grown by one pixel and blurred again.

    Returns:
        (B, 1, H, W) in [0, 1].
    """
    classes = torch.arange(p.shape[1], device=p.device)[:, None, None]
    human = (label[:, None] == classes) & (label[:, None] != VOID)
    map = blur(mu * (human.to(p.dtype) - p).abs().sum(1, keepdim=True), odd(side / 8))
    for _ in range(nu):
        grown = F.max_pool2d(F.pad(map, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
        map = blur(grown, odd(side / 4))
    low, high = stretched(map)
    return (map - low) / (high - low + 1e-9)
