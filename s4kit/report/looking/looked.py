"""What a look at a data set has found, before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...data.task import VOID, Sample, Task


@dataclass
class Part:
    """What was counted of a list.

    Attributes:
        total: images in the list; seen: those that were read.
        pixels: (256,) of each class, and of void at 255.
        images: (256,) images that show it.
        broken: what could not be read.
    """

    total: int
    seen: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    broken: list[str] = field(default_factory=list)

    @property
    def void(self) -> float:
        """Share of void, in [0, 1]."""
        return float(self.pixels[VOID] / max(1, self.pixels.sum()))

    @property
    def shares(self) -> np.ndarray:
        """(255,) share of each class among the pixels with a class."""
        known = self.pixels[:VOID]
        return known / max(1, known.sum())


@dataclass
class Looked:
    """A task, looked at.

    Attributes:
        parts: labelled, further lists and val. samples: (list, image) shown, those that show most classes between them.
        sizes: (height, width) of the images whose headers were read; turned: ids of photos that an EXIF tag turns.
        remarks: what is worth a second thought, in words.
    """

    task: Task
    parts: dict[str, Part]
    samples: list[tuple[str, Sample]]
    sizes: list[tuple[int, int]]
    turned: list[str]
    remarks: list[str]
