"""`clips`: the embedded video data set. Short clips of table-top scenes; a row is one frame.

Of each training clip the middle frame may be labelled, as in the data sets of the field; the truth of all frames is
known, so that what is said of the others can be judged. Any method that learns from images learns from them as well.
"""

from __future__ import annotations

import os
from functools import lru_cache

import torch
from torch import Tensor

from ...errors import S4Error
from ..catalog import Catalog
from ..palettes import SCENES
from ..sources import cached
from ..task import Sample, Source
from .clips_paint import Clip

TRAIN_SEED, VAL_SEED = 0, 1  # of the pictures; the seed of a split is another matter
HELD = 16  # clips in memory, those with a painted table 1.8 MB each at 96 pixels


class ClipSource(Source):
    """`count` clips of `frames` frames of `side` pixels, painted when read; ids are "part_0000/2"."""

    def __init__(self, part: str, count: int, frames: int, side: int, seed: int) -> None:
        self.ids = [f"{part}_{index:04d}/{frame}" for index in range(count) for frame in range(frames)]
        self.frames, self.side, self.seed = frames, side, seed

    def shape(self, row: int) -> tuple[int, int]:
        """(side, side): every frame is a square."""
        return self.side, self.side

    def clip(self, row: int) -> range:
        first = row // self.frames * self.frames
        return range(first, first + self.frames)

    def read(self, row: int, label: bool = True) -> Sample:
        image, target = self._clip(row).frame(row % self.frames)
        planes = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        return Sample(planes, torch.from_numpy(target) if label else None, self.ids[row])

    def flow(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        if a // self.frames != b // self.frames:
            raise S4Error(f"{self.ids[a]} and {self.ids[b]} are of two clips: no motion leads from one to the other.")
        flow, seen = self._clip(a).flow(a % self.frames, b % self.frames)
        return torch.from_numpy(flow), torch.from_numpy(seen)

    def _clip(self, row: int) -> Clip:
        return _held(self.seed, row // self.frames, self.side, self.frames)


@lru_cache(maxsize=HELD)
def _held(seed: int, index: int, side: int, frames: int) -> Clip:
    return Clip(seed, index, side, frames)


def open_clips(
    root: str | os.PathLike | None = None,
    size: float | int | None = None,
    cache: bool | None = None,
    n_train: int = 64,
    n_val: int = 24,
    frames: int = 5,
    side: int = 96,
) -> Catalog:
    """The embedded video data set.

    Args:
        root, size: not used by it; `side` sets the size.
        cache: False paints a frame anew whenever it is read.
        n_train, n_val: how many clips; all frames of the validation clips are scored.
        frames: of each clip, at least 2.
        side: pixels.

    Raises:
        S4Error: no clips, a clip without a second frame, or a side below 32.
    """
    if size is not None:
        raise S4Error(f"clips is painted at any size: use side={side} (pixels) instead of size={size}.")
    if n_train < 1 or n_val < 1 or frames < 2 or side < 32:
        given = f"{n_train}, {n_val}, {frames}, {side}"
        raise S4Error(f"clips needs n_train, n_val >= 1, frames >= 2 and side >= 32; got {given}.")
    train = ClipSource("clip", n_train, frames, side, TRAIN_SEED)
    val = ClipSource("val", n_val, frames, side, VAL_SEED)
    return Catalog(
        name="clips",
        classes=tuple(SCENES),
        palette=tuple(SCENES.values()),
        train=cached(train, cache),
        val=cached(val, cache),
        crop=round(side * 80 / 96),
        scale=(0.85, 1.4),
        labelled=min(8, n_train),
        maskless=frozenset(row for row in range(len(train)) if row % frames != frames // 2),
        note=f"clips of {frames} frames, the middle one labelled",
    )
