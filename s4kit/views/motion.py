"""Labels that go with the motion: from frame to frame of a clip, and away and back again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from ..data.task import VOID, Source, Task
from ..errors import S4Error, closest

HOLES = ("unknown", "ghost")


def carried(label: np.ndarray, flow: np.ndarray, seen: np.ndarray, holes: str = "unknown") -> np.ndarray:
    """A label of frame b, brought to frame a (backward warping, nearest pixel).

    Args:
        label: (H, W) uint8 of frame b, 255 = unknown.
        flow: (H, W, 2) pixels (x, y) from a to b. seen: (H, W) bool, whether a pixel of a is seen in b.
        holes: what stands where a pixel of a is not seen in b: "unknown" is 255; "ghost" is the label of what covers it
            there, as plain warping has it. What lies outside of b is unknown in any case.

    Returns:
        (H, W) uint8.
    """
    height, width = label.shape
    y, x = np.mgrid[:height, :width]
    column, row = (np.rint(start + flow[..., k]).astype(int) for k, start in enumerate((x, y)))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    found = label[row.clip(0, height - 1), column.clip(0, width - 1)]
    return np.where(inside & (seen if holes == "unknown" else True), found, np.uint8(VOID))


def along(source: Source, label: np.ndarray, way: Sequence[int], holes: str = "unknown") -> np.ndarray:
    """(H, W) uint8: a label of the first frame of a way, carried to the last one from frame to frame.

    Args:
        way: rows of one clip. label, holes: see `carried`.

    Raises:
        S4Error: the motion is not known.
    """
    for here, then in pairwise(way):
        flow, seen = source.flow(then, here)
        label = carried(label, flow.numpy(), seen.numpy(), holes)
    return label


@dataclass(frozen=True)
class Cycle:
    """A map for `Stream.maps`, drawn anew each time: the label, carried to another frame of its clip and back.

    It is damaged as labels are that motion has brought, and its truth is known. Without a label it is 255 throughout.

    Attributes:
        reach: frames that it goes away at most, as many as its clip has; in a clip of one it stays.
        holes: see `carried`.

    Raises:
        S4Error: no frame to go to, or an unknown `holes`.
    """

    reach: int = 4
    holes: str = "unknown"
    name: ClassVar[str] = "cycle"

    def __post_init__(self) -> None:
        if self.reach < 1:
            raise S4Error(f"reach={self.reach}: a label goes at least one frame away.")
        if self.holes not in HOLES:
            raise S4Error(f"holes={self.holes!r}. {closest(self.holes, HOLES)}")

    def check(self, task: Task, source: str) -> None:
        """Raises S4Error where a frame has no other one to go to, or the motion is not known."""
        for row in task.rows(source):
            there = [k for k in task.train.clip(row) if k != row]
            if not there:
                raise S4Error(
                    f"Labels are to go with the motion, and {task.train.ids[row]} of {task.name} is in no clip: it "
                    'needs clips, such as load("clips").'
                )
        task.train.flow(row, there[0])

    def read(self, task: Task, row: int, label: np.ndarray | None, size: tuple[int, int], rng: np.random.Generator):
        """(H, W) uint8. `label` (H, W) is what the stream shows of the image, `size` its (H, W)."""
        if label is None:
            return np.full(size, VOID, np.uint8)
        clip = list(task.train.clip(row))
        here = clip.index(row)
        ends = [k for k in range(len(clip)) if 0 < abs(k - here) <= self.reach]
        end = ends[rng.integers(len(ends))] if ends else here
        away = clip[here : end + 1] if end > here else clip[end : here + 1][::-1]
        return along(task.train, label, [*away, *away[-2::-1]], self.holes)
