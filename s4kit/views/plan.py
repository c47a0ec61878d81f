"""What a method asks for (`Stream`, `ViewPlan`) and what it gets (`Views`, `Batch`)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from .boxes import Boxes
from .geometry import Geometry
from .photometric import Strong


@dataclass(frozen=True)
class Stream:
    """One independent, seeded draw per step from one image list, and the views made of it.

    Attributes:
        source: "labelled", "unlabelled" or "all".
        weak: geometry (scale, pad, crop, flip) of the weak view; every strong view has the same pixels.
        strong: k photometric recipes; view j is recipe j applied to the weak view.
        masks: box draws, one mask each; drawn here, pasted by the method.
        batch: images per labelled image (1.0: as many as labelled ones).
        of: name of a stream of the same source and batch: this one has the same images, equally resized, in crops of
            its own that overlap with those; `weak` is then `overlapping(...)`.
        maps: names of maps that a stage has kept of the whole images (`Stage.prepare`); they go through the geometry of
            the weak view as labels do.
        reveal: "tags" or "boxes": the only door to what the masks of unlabelled images say. A run whose method opens it
            is marked "weak labels" wherever it is shown.
    """

    source: str
    weak: Geometry = field(default_factory=Geometry)
    strong: tuple[Strong, ...] = ()
    masks: tuple[Boxes, ...] = ()
    batch: float = 1.0
    of: str | None = None
    maps: tuple[str, ...] = ()
    reveal: str | None = None


class ViewPlan(dict):
    """`ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,)))`: the streams of one step by name."""

    def __init__(self, **streams: Stream) -> None:
        super().__init__(streams)


@dataclass
class Views:
    """One stream of one step, on the device.

    Attributes:
        weak: (B, 3, S, S) float32 RGB in [0, 1]; the network normalises, nothing else does.
        strong: k tensors like `weak`, photometrically changed, the same pixels.
        masks: j tensors (B, S, S) bool, True = take the pasted image.
        valid: (B, S, S) float in [0, 1], 0 on padding.
        label: (B, S, S) long; 255 wherever no human label may be seen (all of it on unlabelled streams).
        index: (B,) long, the row of `task.train`.
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
