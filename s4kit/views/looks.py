"""How the items of a stream become pictures, so that snapshots and the explorer know images alone."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


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


IMAGES = Images()
