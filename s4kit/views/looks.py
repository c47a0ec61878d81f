"""How the items of a stream become pictures, so that snapshots and the explorer know images alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

VIEWS = ((35, 20), (145, 20), (270, 20), (0, 89))  # degrees about the upright axis and of height: round it, from above
LIGHT = (0.4, 0.8, 0.45)  # where it comes from


class Look(Protocol):
    """From places (pixels, points, ...) to square pictures of them."""

    def bind(self, shown: Tensor, side: int) -> Look:
        """The look of these very items (B, ...), in pictures of `side` pixels where they have no size of their own."""

    def maps(self, maps: Tensor, fill: int = 0) -> Tensor:
        """(B, ..., *places) to (B, ..., h, w); `fill` where a picture shows no place."""

    def pictures(self, shown: Tensor) -> Tensor:
        """(B, 3, h, w) in [0, 1] of what a network is shown."""


class Images:
    """Places are pixels already, and what a network is shown is the picture."""

    def bind(self, shown: Tensor, side: int) -> Images:
        return self

    def maps(self, maps: Tensor, fill: int = 0) -> Tensor:
        return maps

    def pictures(self, shown: Tensor) -> Tensor:
        return shown


class Points:
    """A set of points from four sides, three round it and one from above, each point a dot; of several the nearest.

    Args:
        at: (B, h, w) the point that a pixel shows, -1 = none.
    """

    def __init__(self, at: Tensor | None = None) -> None:
        self.at = at

    def bind(self, shown: Tensor, side: int) -> Points:
        places = shown[..., :3].detach().float().cpu().numpy()
        return Points(torch.from_numpy(np.stack([seen_points(one, side) for one in places])).to(shown.device))

    def maps(self, maps: Tensor, fill: int = 0) -> Tensor:
        lead = maps.shape[1:-1]
        at = self.at.flatten(1).view(len(maps), *(1,) * len(lead), -1).expand(-1, *lead, -1)
        found = maps.gather(-1, at.clamp(min=0))
        return found.masked_fill(at < 0, fill).unflatten(-1, self.at.shape[1:])

    def pictures(self, shown: Tensor) -> Tensor:
        """Grey, by the angle between the normal and the light, on white."""
        shade = 0.25 + 0.6 * (shown[..., 3:6].float() @ torch.tensor(LIGHT, device=shown.device)).abs()
        return self.maps(shade.clamp(0, 1), 1)[:, None].expand(-1, 3, -1, -1)


def seen_points(places: np.ndarray, side: int) -> np.ndarray:
    """(side, side) long, the nearest of the points (N, 3) that a pixel shows, -1 = none; `VIEWS` in two rows of two.

    The views are parallel projections of the unit cube, or of more of space where points lie outside of it.
    """
    half, seen = side // 2, np.full((side, side), -1, np.int64)
    reach, radius = max(1.05, float(np.abs(places).max())), max(1, round(side / 100))
    dot = np.arange(-radius, radius + 1)
    for number, (turn, height) in enumerate(VIEWS):
        right, up, near = _axes(np.radians(turn), np.radians(height))
        column, row = (((places @ axis / reach + 1) / 2 * (half - 1)).round().astype(int) for axis in (right, -up))
        order = np.argsort(places @ near, kind="stable")  # the nearest is painted last
        rows = (row[order, None, None] + dot[:, None]).clip(0, half - 1)
        columns = (column[order, None, None] + dot).clip(0, half - 1)
        tile = seen[number // 2 * half :, number % 2 * half :][:half, :half]
        tile[rows, columns] = order[:, None, None]
    return seen


def _axes(turn: float, height: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which way is right, up and towards the eye, of an eye at this angle and height."""
    level = np.array([-np.sin(turn), 0, np.cos(turn)])
    near = np.cos(height) * level + np.array([0, np.sin(height), 0])
    up = -np.sin(height) * level + np.array([0, np.cos(height), 0])
    return np.array([np.cos(turn), 0, np.sin(turn)]), up, near


IMAGES, POINTS = Images(), Points()
