"""How the items of a stream become pictures, so that snapshots and the explorer know images alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.points.sides import seen_points, shade


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
        """Itself: no item needs a look of its own."""
        return self

    def maps(self, maps: Tensor, fill: int = 0) -> Tensor:
        """The maps (B, ..., H, W) as they are."""
        return maps

    def pictures(self, shown: Tensor) -> Tensor:
        """The images (B, 3, H, W) as they are."""
        return shown


class Points:
    """A set of points from four sides, three round it and one from above, each point a dot; of several the nearest.

    Args:
        at: (B, h, w) the point that a pixel shows, -1 = none.
    """

    def __init__(self, at: Tensor | None = None) -> None:
        self.at = at

    def bind(self, shown: Tensor, side: int) -> Points:
        """The look of these points (B, N, 3 or more), metres first, with which point stands at each of side x side
        pixels a view."""
        places = shown[..., :3].detach().float().cpu().numpy()
        return Points(torch.from_numpy(np.stack([seen_points(one, side) for one in places])).to(shown.device))

    def maps(self, maps: Tensor, fill: int = 0) -> Tensor:
        """(B, ..., N) of the points to (B, ..., h, w), `fill` where a pixel shows none."""
        lead = maps.shape[1:-1]
        at = self.at.flatten(1).view(len(maps), *(1,) * len(lead), -1).expand(-1, *lead, -1)
        found = maps.gather(-1, at.clamp(min=0))
        return found.masked_fill(at < 0, fill).unflatten(-1, self.at.shape[1:])

    def pictures(self, shown: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] of points (B, N, 6): grey, by the angle between the normal and the light, on white."""
        return self.maps(shade(shown), 1)[:, None].expand(-1, 3, -1, -1)


IMAGES, POINTS = Images(), Points()
