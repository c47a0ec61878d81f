"""Late geometry: affine changes of views and of what was predicted on them, on the device, within a step."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .plan import Views


def warp(x: Tensor, theta: Tensor, nearest: bool = False) -> Tensor:
    """Resample maps under affine changes, bilinear or from the nearest pixel, zeros outside.

    Args:
        x: (B, C, H, W) or (B, H, W).
        theta: (B, 2, 3), where each pixel of the result comes from, in coordinates from -1 to 1 between the centres of
            the outermost pixels, x first (`torch.nn.functional.affine_grid` with align_corners=True).
    """
    if x.dim() == 3:
        return warp(x[:, None], theta, nearest)[:, 0]
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, mode="nearest" if nearest else "bilinear", align_corners=True)


def draw_affine(like: Tensor, p: float = 0.1, turn: float = 30.0, shear: float = 0.3, shift: float = 0.3) -> Tensor:
    """(B, 2, 3) changes for `warp`: a rotation, a shear and a shift along either axis, each with probability p.

    Args:
        like: (B, ..., H, W). turn: largest angle in degrees. shear: largest, in pixels per pixel. shift: largest, as a
            share of the side.
    """
    kinds = torch.rand(5, len(like), device=like.device) < p
    angle, sx, sy, dx, dy = kinds * (2 * torch.rand(5, len(like), device=like.device) - 1)
    angle, height, width = angle * turn * math.pi / 180, *like.shape[-2:]
    one, cos, sin = torch.ones_like(angle), angle.cos(), angle.sin()
    turned = torch.stack([cos, -sin * height / width, sin * width / height, cos], -1).view(-1, 2, 2)
    sheared = torch.stack([one, sx * shear * height / width, sy * shear * width / height, one], -1).view(-1, 2, 2)
    return torch.cat([sheared @ turned, 2 * shift * torch.stack([dx, dy], -1)[..., None]], 2)


def draw_shift(like: Tensor, reach: int, flip: float = 0.5) -> Tensor:
    """(B, 2, 3) changes for `warp`: a shift by -reach .. reach whole pixels along both axes, and a flip.

    Args:
        like: (B, ..., H, W). reach: in pixels. flip: its probability.
    """
    batch, (height, width) = len(like), like.shape[-2:]
    pixels = torch.randint(-reach, reach + 1, (batch, 2), device=like.device)
    sides = torch.tensor([max(width - 1, 1), max(height - 1, 1)]).to(like.device, non_blocking=True)
    sign = torch.where(torch.rand(batch, device=like.device) < flip, -1.0, 1.0)
    theta = torch.zeros(batch, 2, 3, device=like.device)
    theta[:, 0, 0], theta[:, 1, 1] = sign, 1.0
    theta[:, :, 2] = 2 * pixels / sides
    return theta


def draw_zoom(like: Tensor, scale: tuple[float, float]) -> Tensor:
    """(B, 2, 3) changes for `warp`: each image resized by a factor and cut to its old size anywhere.

    What is smaller than before lies in the upper left corner.

    Args:
        like: (B, ..., H, W). scale: least and largest factor.
    """
    batch, low, high = len(like), *scale
    factor = low + (high - low) * torch.rand(batch, 1, device=like.device)
    free = (1 - 1 / factor).clamp(min=0)  # share of the image that is cut off
    start = torch.rand(batch, 2, device=like.device) * free
    theta = torch.zeros(batch, 2, 3, device=like.device)
    theta[:, :, :2] = torch.eye(2, device=like.device) / factor[..., None]
    theta[:, :, 2] = 2 * start + 1 / factor - 1  # -1 is the first pixel of both
    return theta


def align(x: Tensor, of: Views, on: Views) -> tuple[Tensor, Tensor]:
    """Read a map of one view at the places of another view of the same images, cell by cell.

    Args:
        x: (B, C, h, w) or (B, h, w), a map over the pixels of `of`, of any stride; neighbouring cells are not mixed.
        of, on: views of the same images; both have maps of this size.

    Returns:
        (x at the cells of `on`, (B, h, w) bool: where the view `of` shows the place at all). Elsewhere any cell of x.
    """
    if x.dim() == 3:
        found, inside = align(x[:, None], of, on)
        return found[:, 0], inside
    (height, width), (h, w) = of.weak.shape[-2:], x.shape[-2:]
    row, row_in = _cell(of.where[:, 0], of.where[:, 1], on.where[:, 0], on.where[:, 1], height, h)
    column, column_in = _cell(of.where[:, 2], of.where[:, 3], on.where[:, 2], on.where[:, 3], width, w)
    index = (row[:, :, None] * w + column[:, None, :]).flatten(1)
    found = x.flatten(2).gather(2, index[:, None].expand(-1, x.shape[1], -1)).view_as(x)
    return found, row_in[:, :, None] & column_in[:, None, :]


def _cell(a: Tensor, b: Tensor, a_on: Tensor, b_on: Tensor, side: int, cells: int) -> tuple[Tensor, Tensor]:
    """(B, cells) cell of one view that shows the middle of each cell of the other along one axis, and whether it is
    there: pixel p shows the image at a p + b."""
    extent = side / cells
    middle = (torch.arange(cells, device=a.device) + 0.5) * extent - 0.5
    pixel = (a_on[:, None] * middle + b_on[:, None] - b[:, None]) / a[:, None]
    cell = ((pixel + 0.5) / extent).floor().long()
    return cell.clamp(0, cells - 1), (cell >= 0) & (cell < cells)
