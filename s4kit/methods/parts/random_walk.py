"""Maps that spread over an image by a random walk that edges stop (IRN, Ahn et al., CVPR 2019, arXiv 1904.05044)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32


def ways(radius: int) -> Iterator[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """Offsets (dy, dx) to all pixels nearer than a radius, one of each two opposite ones, and those of the pixels on
    the straight way: inside its box, less than a pixel from the line."""
    for dy in range(radius):
        for dx in range(-radius + 1, radius):
            if (dy or dx > 0) and dy * dy + dx * dx < radius * radius:
                box = ((y, x) for y in range(dy + 1) for x in range(min(0, dx), max(0, dx) + 1))
                yield (dy, dx), [(y, x) for y, x in box if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]


@torch.no_grad()
@float32
def transitions(edge: Tensor, radius: int = 5, power: float = 10.0) -> Tensor:
    """(N, N) of an edge map (h, w) in [0, 1], N = h w, each column with the sum 1: how likely one step leads from the
    pixel of the row, seen from that of the column.

    Two pixels nearer than the radius are as close as (1 - largest edge on the straight way) to the power.
    """
    height, width = edge.shape
    # an edge all around: no way leads out of the image
    around = F.pad(edge, (radius, radius, 0, radius), value=1.0)
    index = torch.arange(height * width, device=edge.device).view(height, width)
    close = torch.eye(height * width, device=edge.device)
    for (dy, dx), way in ways(radius):
        worst = torch.stack([around[y : y + height, radius + x : radius + x + width] for y, x in way]).amax(0)
        rows, columns = slice(0, max(0, height - dy)), slice(max(0, -dx), max(0, min(width, width - dx)))
        a = index[rows, columns].flatten()
        b = a + dy * width + dx
        close[a, b] = close[b, a] = (1 - worst[rows, columns]).flatten()
    close = close**power
    return close / close.sum(0, keepdim=True)


@torch.no_grad()
@float32
def random_walk(maps: Tensor, edge: Tensor, radius: int = 5, power: float = 10.0, doublings: int = 8) -> Tensor:
    """Maps (K, h, w) after 2^doublings steps; what lies on an edge (h, w) does not set out.

    Memory: two matrices of (h w)^2.
    """
    step = transitions(edge, radius, power)
    for _ in range(doublings):
        step = step @ step
    return ((maps * (1 - edge)).flatten(1) @ step).view_as(maps)


@torch.no_grad()
@float32
def colour_edges(image: Tensor, sharpness: float) -> Tensor:
    """(h, w) in [0, 1): how far the colours of an image (3, h, w) in [0, 1] are from those on the left and above.

    An edge is one pixel wide, the one behind it: on both sides it would take too much from small things.

    Args:
        sharpness: the colour distance at which an edge is 1 - 1/e.
    """
    down, right = (image.diff(dim=axis).norm(dim=0) for axis in (1, 2))
    far = torch.maximum(F.pad(down, (0, 0, 1, 0)), F.pad(right, (1, 0)))
    return 1 - (-far / sharpness).exp()
