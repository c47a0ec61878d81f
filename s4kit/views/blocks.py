"""Late geometry that bends blocks: one warp for a batch, of images and of what was predicted on them (differentiable
geometric warping, ADS, Cao et al., IEEE TCSVT 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from .spline import bend, spline_grid

BLOCKS = 3  # an image has 3 x 3 of them, each with a control point
SLACK = 1e-9  # of the spline: control points are whole pixels and may meet


def draw_noise(like: Tensor) -> Tensor:
    """(4, 9) normal draws, of one warp: of the control points' rows and columns, and of their moves."""
    return torch.randn(4, BLOCKS**2, device=like.device)


def control_points(noise: Tensor, size: torch.Size, apart: float = 0.1, move: float = 0.2) -> tuple[Tensor, Tensor]:
    """Where the control points of a warp lie and where they go, both (13, 2) in whole pixels, rows first.

    Args:
        noise: see `draw_noise`. size: (H, W).
        apart, move: standard deviations, as shares of a block: of the points around the blocks' centres, of their
            moves. The four corners stay.
    """
    sides = torch.tensor(size).to(noise.device, non_blocking=True)
    block = sides // BLOCKS
    index = torch.arange(BLOCKS, device=noise.device)
    centre = torch.cartesian_prod(*(((index + 0.5) * side).floor() for side in block))
    corners = torch.tensor([(0, 0), (1, 1), (0, 1), (1, 0)]).to(noise.device, non_blocking=True) * (sides - 1)
    limit = (sides - 1).float()
    source = (centre + apart * block * noise[:2].T).clamp(min=0).minimum(limit).trunc()
    to = (source + move * block * noise[2:].T).clamp(min=0).minimum(limit).trunc()
    return torch.cat([corners, source]), torch.cat([corners, to])


def warping(source: Tensor, to: Tensor, size: torch.Size) -> Tensor:
    """(1, H, W, 2) a grid for `bend`: the linear spline that takes control points (13, 2) in pixels to their goals."""
    span = torch.tensor(size).to(source.device, non_blocking=True).double() - 1
    points, goals = ((p / span).flip(-1) for p in (source, to))
    return spline_grid(points, (goals - points)[None], tuple(size), order=1, slack=SLACK)


def warped(x: Tensor, grid: Tensor, outside: Tensor | float = 0.0) -> Tensor:
    """Maps (B, C, H, W) under one warp for all, `outside` (1, C, 1, 1) where they end."""
    return bend(x - outside, grid.expand(len(x), -1, -1, -1)) + outside
