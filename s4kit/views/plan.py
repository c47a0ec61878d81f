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
    """

    source: str
    weak: Geometry = field(default_factory=Geometry)
    strong: tuple[Strong, ...] = ()
    masks: tuple[Boxes, ...] = ()
    batch: float = 1.0
    of: str | None = None


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
    """

    weak: Tensor
    strong: list[Tensor]
    masks: list[Tensor]
    valid: Tensor
    label: Tensor
    index: Tensor
    labelled: Tensor
    where: Tensor | None = None

    def __len__(self) -> int:
        return len(self.weak)

    def map(self, fn: Any) -> Views:
        """A copy with `fn` applied to every tensor."""
        values = (getattr(self, f.name) for f in fields(self))
        return Views(*([fn(t) for t in v] if isinstance(v, list) else None if v is None else fn(v) for v in values))


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
