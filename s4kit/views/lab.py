"""Colours of one image given to another: channel means and deviations in CIE L*a*b* (Reinhard et al., 2001)."""

from __future__ import annotations

import torch
from torch import Tensor

TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
TO_RGB = ((3.2404542, -1.5371385, -0.4985314), (-0.9692660, 1.8760108, 0.0415560), (0.0556434, -0.2040259, 1.0572252))
WHITE = (0.95047, 1.0, 1.08883)  # D65
DELTA = 6 / 29


def to_lab(image: Tensor) -> Tensor:
    """(B, 3, H, W) L*a*b* of sRGB in [0, 1]: L in [0, 100], a and b about -110 to 110."""
    image = image.clamp(0, 1)
    linear = torch.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    x, y, z = (_curve(channel / white) for channel, white in zip(_mixed(linear, TO_XYZ), WHITE))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)


def to_rgb(lab: Tensor) -> Tensor:
    """(B, 3, H, W) sRGB in [0, 1] of L*a*b*; colours that a screen does not have are cut off."""
    level, a, b = lab.unbind(1)
    y = (level + 16) / 116
    xyz = torch.stack([white * _back(t) for white, t in zip(WHITE, (y + a / 500, y, y - b / 200))], 1)
    linear = torch.stack(_mixed(xyz, TO_RGB), 1).clamp(0, 1)
    return torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055)


def match_colours(image: Tensor, like: Tensor, valid: Tensor, like_valid: Tensor) -> Tensor:
    """(B, 3, H, W) `image` with the channel means and deviations in L*a*b* of `like`, image by image.

    Args:
        image, like: (B, 3, H, W) in [0, 1].
        valid, like_valid: (B, H, W), 0 on padding, which does not count and stays as it is.
    """
    lab = to_lab(image)
    mean, spread = _moments(lab, valid)
    wanted, width = _moments(to_lab(like), like_valid)
    made = to_rgb((lab - mean) * (width / spread.clamp(min=1e-3)) + wanted)
    return torch.where(valid[:, None] > 0, made, image)


def _moments(lab: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, 3, 1, 1) over the valid pixels."""
    used = valid[:, None]
    count = used.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (lab * used).sum((2, 3), keepdim=True) / count
    return mean, (((lab - mean).square() * used).sum((2, 3), keepdim=True) / count).sqrt()


def _mixed(image: Tensor, rows: tuple[tuple[float, ...], ...]) -> list[Tensor]:
    """Each row of a matrix on the channels; no matrix product, which half precision would spoil."""
    first, second, third = image.unbind(1)
    return [a * first + b * second + c * third for a, b, c in rows]


def _curve(t: Tensor) -> Tensor:
    return torch.where(t > DELTA**3, t.clamp(min=1e-8) ** (1 / 3), t / (3 * DELTA**2) + 4 / 29)


def _back(t: Tensor) -> Tensor:
    return torch.where(t > DELTA, t**3, 3 * DELTA**2 * (t - 4 / 29))
