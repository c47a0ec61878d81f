"""Sets of points as pictures: seen from four sides, three round them and one from above, each point a dot."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..task import VOID, Sample

VIEWS = ((35, 20), (145, 20), (270, 20), (0, 89))  # degrees about the upright axis and of height: round it, from above
LIGHT = (0.4, 0.8, 0.45)  # where it comes from
SIDE = 240  # pixels of a picture for people


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


def shade(points: Tensor) -> Tensor:
    """(..., N) grey in [0, 1] of points (..., N, 6), by the angle between the normal and the light."""
    return (0.25 + 0.6 * (points[..., 3:6].float() @ torch.tensor(LIGHT, device=points.device)).abs()).clamp(0, 1)


def drawn(points: Tensor, values: np.ndarray, fill: int = VOID, side: int = SIDE) -> np.ndarray:
    """(side, side) picture of values (N,) of points (N, 6); `fill` where it shows none."""
    at = seen_points(points[:, :3].numpy(), side)
    return np.where(at < 0, np.asarray(fill, values.dtype), values[at])


def pictured(points: Tensor, label: Tensor | None, id: str) -> Sample:
    """Points (N, 6) as a picture with the labels (N,) of what it shows, 255 elsewhere."""
    grey = drawn(points, (shade(points) * 255).round().to(torch.uint8).numpy())
    shown = None if label is None else torch.from_numpy(drawn(points, label.numpy()))
    return Sample(torch.from_numpy(np.stack([grey] * 3)), shown, id)
