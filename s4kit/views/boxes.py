"""CutMix boxes: drawn on the host from recorded uniforms, rasterised on the device.

A draw is a table of boxes (n, k, 4) with (top, left, height, width) in pixels; a mask is True inside. Where a recipe
has several boxes each one inverts the pixels that it covers, so that two overlapping boxes cancel (CPS).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """A recipe of k boxes per image. Subclasses draw; `rasterise` paints."""

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """(k, 4) integer boxes for one square image of `side` pixels; height 0 = no box."""
        raise TypeError(f"{type(self).__name__} draws no boxes; use unimatch_box, half_area_box, three_boxes.")


@dataclass(frozen=True)
class UniMatchBox(Boxes):
    """UniMatch: no box with probability 1 - p, else area share and aspect ratio uniform (not log-uniform).

    Only the ratio and the corner are drawn again until the box fits, never the area; unless `anew` (ST's cut-out, which
    thereby has smaller boxes).
    """

    p: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    anew: bool = False

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        if rng.random() > self.p:
            return np.zeros((1, 4), np.int32)
        area = rng.uniform(*self.area) * side * side
        while True:
            if self.anew:
                area = rng.uniform(*self.area) * side * side
            ratio = rng.uniform(*self.ratio)
            height, width = int(math.sqrt(area * ratio)), int(math.sqrt(area / ratio))
            top, left = rng.integers(side), rng.integers(side)
            if left + width <= side and top + height <= side:
                return np.array([[top, left, height, width]], np.int32)


@dataclass(frozen=True)
class AreaBoxes(Boxes):
    """CutMix-Seg and CPS: `count` boxes of a total area share, random aspect, always inside the image."""

    share: tuple[float, float] = (0.5, 0.5)
    count: int = 1

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        area, aspect, corner = rng.random(self.count), rng.random(self.count), rng.random((self.count, 2))
        return area_boxes(area, aspect, corner, (side, side), self.share)


@dataclass(frozen=True)
class HalfBox(Boxes):
    """U2PL: one box of half the area; width is an integer uniform in [side/2 + 1, side - 1]."""

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        width = int(rng.integers(side // 2 + 1, side))
        height = round(side * side / 2 / width)
        top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
        return np.array([[top, left, height, width]], np.int32)


@dataclass(frozen=True)
class BetaBox(Boxes):
    """PS-MT, AugSeg: one box of the area 1 - lambda, lambda ~ Beta(a, b), around a centre that is never in the first
    eighth; what reaches over the border is cut off."""

    a: float = 4.0
    b: float = 4.0

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        return beta_boxes(rng.beta(self.a, self.b), *rng.integers(side // 8, side, 2), (side, side))[None]


@dataclass(frozen=True)
class CutOut(Boxes):
    """PseudoSeg: one square of a given side around a centre anywhere; what reaches over the border is cut off."""

    share: float = 100 / 513

    def draw(self, rng: np.random.Generator, side: int) -> np.ndarray:
        half, centre = round(side * self.share / 2), rng.integers(0, side, 2)
        first, last = np.clip([centre - half, centre + half], 0, side)
        return np.concatenate([first, last - first]).astype(np.int32)[None]


def beta_boxes(lam: np.ndarray, row: np.ndarray, column: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(..., 4) int32 boxes with sides of sqrt(1 - lam) of the image's around centres (row, column), cut to the image
    (CutMix, Yun et al., ICCV 2019, as in PS-MT)."""
    edges = []
    for centre, side in ((np.asarray(row), size[0]), (np.asarray(column), size[1])):
        half = (side * np.sqrt(1.0 - lam)).astype(int) // 2
        edges.append(np.clip([centre - half, centre + half], 0, side))
    (top, bottom), (left, right) = edges
    return np.stack([top, left, bottom - top, right - left], -1).astype(np.int32)


def area_boxes(
    area: np.ndarray,
    aspect: np.ndarray,
    corner: np.ndarray,
    size: tuple[int, int],
    share: tuple[float, float],
) -> np.ndarray:
    """Boxes of a given area with random aspect, from unit uniforms (French et al. 2020, `BoxMaskGenerator`).

    Args:
        area, aspect: (..., k) uniforms. The area share p is mapped into `share`; the height share is p ** aspect and
            the width share p / height, both times sqrt(1 / k).
        corner: (..., k, 2) uniforms for (top, left) within the free room.
        size: (H, W) in pixels.
        share: range of the total area share.

    Returns:
        (..., k, 4) int32 (top, left, height, width).
    """
    p = share[0] + (share[1] - share[0]) * area
    height = np.exp(aspect * np.log(np.maximum(p, 1e-12)))
    sides = np.stack([height, p / height], -1) * math.sqrt(1 / area.shape[-1])
    pixels = np.round(sides * np.array(size))
    corners = np.round((np.array(size) - pixels) * corner)
    return np.concatenate([corners, pixels], -1).astype(np.int32)


def rasterise(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Paint (B, k, 4) boxes as a (B, H, W) bool mask on the boxes' device; every box inverts what it covers."""
    top, left, height, width = boxes[..., None].unbind(2)  # each (B, k, 1)
    y, x = (torch.arange(side, device=boxes.device) for side in size)
    rows, columns = (y >= top) & (y < top + height), (x >= left) & (x < left + width)
    mask = torch.zeros(len(boxes), *size, dtype=torch.bool, device=boxes.device)
    for k in range(boxes.shape[1]):
        mask ^= rows[:, k, :, None] & columns[:, k, None, :]
    return mask


def unimatch_box(**options) -> UniMatchBox:
    """The box of FixMatch, UniMatch and their successors."""
    return UniMatchBox(**options)


def half_area_box() -> AreaBoxes:
    """CutMix-Seg: one box of exactly half the area with random aspect."""
    return AreaBoxes((0.5, 0.5), 1)


def any_area_box() -> AreaBoxes:
    """Cut-out of CutMix-Seg: one box whose area share is uniform in [0, 1], with random aspect."""
    return AreaBoxes((0.0, 1.0), 1)


def three_boxes() -> AreaBoxes:
    """CPS + CutMix: three boxes, a quarter to a half of the area in all, overlaps cancel."""
    return AreaBoxes((0.25, 0.5), 3)


def half_box() -> HalfBox:
    """U2PL: one box of half the area, wider than high on average."""
    return HalfBox()


def beta_box(a: float = 4.0, b: float = 4.0) -> BetaBox:
    """PS-MT: one box of random area, half of the image on average. With (8, 2) small ones, a fifth (AugSeg)."""
    return BetaBox(a, b)


def cut_out(share: float = 100 / 513) -> CutOut:
    """PseudoSeg: one square, `share` of the crop's side wide."""
    return CutOut(share)
