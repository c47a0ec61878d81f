"""Late geometry: affine changes of views and of what was predicted on them, on the device, within a step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(x: Tensor, theta: Tensor) -> Tensor:
    """Resample maps under affine changes, bilinear, zeros outside.

    Args:
        x: (B, C, H, W) or (B, H, W).
        theta: (B, 2, 3), where each pixel of the result comes from, in coordinates from -1 to 1 between the centres of
            the outermost pixels, x first (`torch.nn.functional.affine_grid` with align_corners=True).
    """
    if x.dim() == 3:
        return warp(x[:, None], theta)[:, 0]
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


def draw_shift(like: Tensor, reach: int, flip: float = 0.5) -> Tensor:
    """(B, 2, 3) changes for `warp`: a shift by -reach .. reach whole pixels along both axes, and a flip.

    Args:
        like: (B, ..., H, W). reach: in pixels. flip: its probability.
    """
    batch, (height, width) = len(like), like.shape[-2:]
    pixels = torch.randint(-reach, reach + 1, (batch, 2), device=like.device)
    sides = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=like.device)
    sign = torch.where(torch.rand(batch, device=like.device) < flip, -1.0, 1.0)
    theta = torch.zeros(batch, 2, 3, device=like.device)
    theta[:, 0, 0], theta[:, 1, 1] = sign, 1.0
    theta[:, :, 2] = 2 * pixels / sides
    return theta
