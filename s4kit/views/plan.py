"""What a method asks for (`ViewPlan`, of streams) and what it gets (`Views`, `Batch`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor, device

from .looks import Look

if TYPE_CHECKING:
    from ..data.task import Task


class Host(Protocol):
    """Items of a stream before the device; it can be pickled."""

    def pin_memory(self) -> Host:
        """A copy in page-locked memory, from which the transfer to a GPU need not be waited for."""


@dataclass
class Still:
    """One item without any draw.

    Attributes:
        host: the item as a batch of one, its label hidden.
        truth: (1, *places) uint8, 255 = unknown.
    """

    host: Host
    truth: Tensor


class MapReader(Protocol):
    """A map of an image that no stage keeps but that is made when the image is drawn, such as `motion.Cycle`."""

    name: str

    def check(self, task: Task, source: str) -> None:
        """Raises S4Error, with the mend, where the images of a list have no such map."""

    def read(
        self, task: Task, row: int, label: np.ndarray | None, size: tuple[int, int], rng: np.random.Generator
    ) -> np.ndarray:
        """(H, W) uint8; `label` (H, W) is what the stream shows of the image, None = nothing, `size` its (H, W)."""


class AnyStream(Protocol):
    """What is asked of a stream. `Stream` is that of images; whatever has these draws items of another kind.

    Attributes:
        source: the list that it draws from, see `Task.rows`. batch, of, maps, reveal: see `Stream`.
        look: how its items become pictures.
    """

    source: str
    batch: float
    of: str | None
    maps: tuple[str | MapReader, ...]
    reveal: str | None
    look: Look

    def check(self, task: Task, name: str) -> None:
        """Raises S4Error, with the mend, where the stream, called `name` in its plan, cannot draw from a task."""

    def draw(self, task: Task, name: str, plan: ViewPlan, seed: int, stage: int, positions: range) -> Host:
        """The items at these positions of the stream, in a decode worker: a pure function of the arguments."""

    def whole(self, task: Task, row: int) -> Host:
        """One whole item of the stream's source, nothing drawn, with the kept maps in `maps` and what the stream
        reveals; its label where it is shown."""

    def still(self, task: Task, part: str, row: int, whole: bool = False, reveals: tuple[str, ...] = ()) -> Still:
        """One item of the source `part` ("train" or "val") without any draw, and all maps that are kept of it: as large
        as a training sees it, or `whole`.

        Args:
            reveals: see `Method.revealed`; of an item without truth nothing that a rule could follow.
        """

    def join(self, hosts: Sequence[Host]) -> Host:
        """Stills of one size as one batch."""

    def render(self, host: Host, device: device) -> Views:
        """The views, made on the device."""


class ViewPlan(dict):
    """`ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,)))`: the streams of one step by name."""

    def __init__(self, **streams: AnyStream) -> None:
        super().__init__(streams)


@dataclass
class Views:
    """One stream of one step, on the device. The shapes are those of images, whose places are pixels.

    Attributes:
        weak: (B, 3, S, S) float32 RGB in [0, 1]; the network normalises, nothing else does.
        strong: k tensors like `weak`, photometrically changed, the same pixels.
        masks: j tensors (B, S, S) bool, True = take the pasted image.
        valid: (B, S, S) float in [0, 1], 0 on padding.
        label: (B, S, S) long; 255 wherever no human label may be seen (all of it on unlabelled streams).
        index: (B,) long, the row of `task.train`, or of the further list that the stream draws from.
        labelled: (B,) bool, whether the label was shown.
        where: (B, 4) float (a, b, c, d): pixel (y, x) shows the stored image at (a y + b, c x + d), see `align`.
        maps: by name (B, S, S) long, 255 on padding and wherever nothing is kept.
        tags: (B, C) float, 1 for the classes of the whole image, 0 for others, 255 left out; None unless revealed.
        boxes: (B, K, 5) long: class, top, left, bottom, right in pixels of the weak view, one for each region of a
            class that it shows, the largest first; class 255 = no box. None unless revealed.
    """

    weak: Tensor
    strong: list[Tensor]
    masks: list[Tensor]
    valid: Tensor
    label: Tensor
    index: Tensor
    labelled: Tensor
    where: Tensor | None = None
    maps: dict[str, Tensor] = field(default_factory=dict)
    tags: Tensor | None = None
    boxes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.weak)

    def map(self, fn: Any) -> Views:
        """A copy with `fn` applied to every tensor."""
        return Views(*(_each(getattr(self, f.name), fn) for f in fields(self)))


def _each(value: Any, fn: Any) -> Any:
    if isinstance(value, list):
        return [fn(t) for t in value]
    if isinstance(value, dict):
        return {name: fn(t) for name, t in value.items()}
    return None if value is None else fn(value)


class Batch(dict):
    """Views by stream name: `batch.x`, `batch.u`."""

    def __getattr__(self, name: str) -> Views:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"This batch has the streams {', '.join(self)}, not {name!r}.") from error

    def map(self, fn: Any) -> Batch:
        """A copy with `fn` applied to every tensor of every stream."""
        return Batch({name: views.map(fn) for name, views in self.items()})
