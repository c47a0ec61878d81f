"""Colours changed in HSV without a bound, with late draws on the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Shift(NamedTuple):
    """What `change_colours` does: (B,) numbers per image, and one order of the channels for the batch."""

    add_value: Tensor
    times_saturation: Tensor
    add_hue: Tensor
    times_value: Tensor
    order: Tensor


def draw_colours(image: Tensor) -> Shift:
    """Value + U(-.25, .25), saturation x U(.25, 2), hue + U(-.1, .1) turns, value x U(.25, 2), any channel order."""

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(len(image), device=image.device).uniform_(low, high)

    draws = uniform(-0.25, 0.25), uniform(0.25, 2), uniform(-0.1, 0.1), uniform(0.25, 2)
    return Shift(*draws, torch.randperm(3, device=image.device))


def change_colours(image: Tensor, shift: Shift) -> Tensor:
    """(B, 3, H, W) RGB in [0, 1] changed in the order of the fields of `shift`; the result is not cut to [0, 1]."""
    hue, saturation, value = to_hsv(image).unbind(1)
    add_value, times_saturation, add_hue, times_value = (t.view(-1, 1, 1) for t in shift[:4])
    value = (value + add_value) * times_value
    return to_rgb(hue + add_hue, saturation * times_saturation, value)[:, shift.order]


def to_hsv(image: Tensor) -> Tensor:
    """(B, 3, H, W) RGB to hue in turns [0, 1), saturation and value in [0, 1]; grey has hue 0."""
    r, g, b = image.unbind(1)
    value, chroma = image.amax(1), image.amax(1) - image.amin(1)
    over = 1 / torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(value == g, (b - r) * over + 2, (r - g) * over + 4)
    hue = torch.where(value == r, ((g - b) * over) % 6, hue) / 6
    return torch.stack([hue, chroma / torch.where(value > 0, value, 1.0), value], 1)


def to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Back to (B, 3, H, W), also from values and saturations outside of [0, 1]."""
    turns = ((n + 6 * hue) % 6 for n in (5, 3, 1))
    return torch.stack([value - value * saturation * torch.minimum(k, 4 - k).clamp(0, 1) for k in turns], 1)
