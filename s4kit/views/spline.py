"""Late geometry that bends: polyharmonic splines, thin plates (Bookstein, TPAMI 1989) among them, on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def spline_grid(points: Tensor, offsets: Tensor, size: tuple[int, int], order: int = 2, slack: float = 0.0) -> Tensor:
    """Where each pixel comes from when control points are moved and the plane bends as little as it can.

    Args:
        points: (n, 2) control points, x first, in [0, 1] between the centres of the outermost pixels.
        offsets: (B, n, 2), how far each moves.
        size: (H, W).
        order: 2 = thin plate, r^2 log r; 1 = r, which gives sharper bends around the points.
        slack: how far the spline may miss a point; above 0 it is defined for points that end in the same place, too.

    Returns:
        (B, H, W, 2) float32 coordinates from -1 to 1 for `bend`.
    """
    points, offsets = points.double(), offsets.double()
    to, n = points + offsets, len(points)
    ones, empty = torch.ones_like(to[..., :1]), torch.zeros_like(to[:, :3, :1]).expand(-1, 3, 3)
    near = _bump((to[:, :, None] - to[:, None]).square().sum(-1), order)
    near = near + (slack if order == 2 else -slack) * torch.eye(n, device=to.device)  # in the direction of the bumps
    plane = torch.cat([ones, to], 2)
    system = torch.cat([torch.cat([near, plane], 2), torch.cat([plane.mT, empty], 2)], 1)
    wanted = torch.cat([points.expand(len(to), -1, -1), torch.zeros_like(to[:, :3])], 1)
    weight = torch.linalg.solve_ex(system, wanted).result
    rows, columns = (torch.linspace(0, 1, side, dtype=to.dtype, device=to.device) for side in size)
    x, y = columns[None, None, :, None], rows[None, :, None, None]
    bumps = _bump((x - to[:, None, None, :, 0]).square() + (y - to[:, None, None, :, 1]).square(), order)
    w = weight[:, None, None]
    flat = w[..., n, :] + x * w[..., n + 1, :] + y * w[..., n + 2, :]
    return (2 * (flat + (bumps[..., None] * w[..., :n, :]).sum(3)) - 1).float()


def bend(x: Tensor, grid: Tensor) -> Tensor:
    """Maps (B, C, H, W) or (B, H, W) read at a grid, bilinear, zeros outside."""
    if x.dim() == 3:
        return bend(x[:, None], grid)[:, 0]
    return F.grid_sample(x.float(), grid, align_corners=True)


def _bump(squared: Tensor, order: int) -> Tensor:
    """r^2 log r, or r, of r^2; 0 at 0."""
    return torch.xlogy(squared, squared) / 2 if order == 2 else squared.sqrt()
