"""What a segmentation task is: images, labels, classes and the split, but no loader and no view."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import S4Error
from .evaluation import Evaluation

if TYPE_CHECKING:
    from .kept import Kept

VOID = 255
OBJECTS = "instance"  # name of the map of objects for a stream's `maps`; an id in it is PER_CLASS * class + number
PER_CLASS = 1000
_OF_TRAIN = ("labelled", "unlabelled", "all")  # lists of `Task.train`


@dataclass(frozen=True)
class Sample:
    """One image and its label as stored.

    Attributes:
        image: (3, H, W) uint8 RGB.
        label: (H, W) uint8 class index, 255 = void; None where the source has no labels.
        id: the name by which errors, splits and the explorer call it.
    """

    image: Tensor
    label: Tensor | None
    id: str


class Source(ABC):
    """A list of images. `ids` is cheap; `read` decodes one image and checks it. What else it may list, `item` says.

    Attributes:
        scenes: the kinds of scene that an image may be of as a whole, where each is said to be of one; else ().
        maps: names of the maps that it has of an image beside the label, see `map`; they are shown where the label is.
    """

    ids: list[str]
    item: type = Sample  # what `read` gives; streams ask, so that a method meets the data that it is for
    scenes: tuple[str, ...] = ()
    maps: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @abstractmethod
    def read(self, row: int, label: bool = True) -> Sample:
        """Decode image `row`; with `label=False` the label is neither opened nor returned.

        Raises:
            S4Error: the file is missing, truncated, of the wrong size or has label values out of range.
        """

    def view(self, row: int) -> Sample:
        """Image `row` with its label for people to look at: as it is read, larger where a source has more to show."""
        return self.read(row)

    def scene(self, row: int) -> int:
        """Which of `scenes` image `row` is of, known without its label.

        Raises:
            S4Error: the images have no scenes.
        """
        raise S4Error(f"Of what kind of scene {self.ids[row]} is as a whole is not known.")

    def clip(self, row: int) -> Sequence[int]:
        """The rows of the clip that image `row` is a frame of, in their order; an image of no clip is alone in its."""
        return (row,)

    def flow(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        """(H, W, 2) float32, the way in pixels (x, y) from a pixel of frame `a` to where its surface is in frame `b` of
        the same clip; and (H, W) bool, whether it is seen there.

        Raises:
            S4Error: the motion is not known, or the frames are not of one clip.
        """
        raise S4Error(f"How {self.ids[a]} moves to {self.ids[b]} is not known; of the embedded `clips` it is.")

    def map(self, name: str, row: int) -> Tensor:
        """(*places) integers, one of `maps` of image `row`; whoever has maps says here how they are read.

        Raises:
            S4Error: there is no such map, or its file is damaged.
        """
        if name == OBJECTS:
            return self.objects(row)
        raise S4Error(f"{self.ids[row]} has no map {name!r} of its own; there is {', '.join(self.maps) or 'none'}.")

    def objects(self, row: int) -> Tensor:
        """(H, W), of points (N,), int32, which object a pixel of image `row` shows, see `data.objects`; below 1000
        none, 255 = void. As one of `maps` it is called "instance".

        Raises:
            S4Error: single objects are not known.
        """
        raise S4Error(f"Which objects {self.ids[row]} shows is not known; of scenes it is: load(..., instances=True).")


@dataclass(frozen=True)
class Further:
    """A further labelled list of a task: images of their own, the same classes. A second domain is one.

    Attributes:
        source: the images.
        rows: those that may be learnt from, each with its label.
        protocol: which they are, in words that a table can print ("512 of plain").

    Raises:
        S4Error: no row.
    """

    source: Source
    rows: tuple[int, ...]
    protocol: str = ""

    def __post_init__(self) -> None:
        if not self.rows:
            raise S4Error(f"A further list has no image ({self.protocol or 'no words of it'}): it must have one.")

    @cached_property
    def shown(self) -> frozenset[int]:
        """The rows, to ask whether one is among them."""
        return frozenset(self.rows)


@dataclass(frozen=True)
class Task:
    """A data set, its classes and one labelled / unlabelled split.

    Attributes:
        name: data set name ("scenes", "voc", ...).
        classes: class names; the index is the label value.
        palette: one (R, G, B) per class, 0..255.
        train: all training images; its labels exist for labelled rows (others are never shown to a method).
        labelled: rows of `train` whose labels may be used.
        unlabelled: rows of `train` used without labels.
        val: the images that are scored.
        crop: side of the square training crop in pixels; None where items are not cropped.
        scale: factors of the random resize of the weak view: two are a range, more are those to choose from.
        short: the factors are of this shorter side in pixels instead of the image's own; None = of its own.
        protocol: how the split was made, in words that a table can print ("seeded 1/16, seed 0").
        evaluation: how `val` is scored; its type decides by what, see `engine.scores`.
        config: the arguments of `load` that made the task, so that a run can be reopened; {} for images in memory.
        notices: what is probably not meant about the files, such as those that are not used.
        label_notices: and about the labels, as far as `load` has looked, such as a class without a pixel.
        faults: maps that cannot be used, as far as `load` has looked; a training refuses them.
        mixed: rows behind the source "all" where a method repeats or leaves out some; () = every image once.
        more: further labelled lists by name, such as "domain", that a stream can draw from; their images are their own.
        kept: the maps that the run has kept of whole images so far, see `Stage.prepare`; never set by `load`.
        levels: of parts that are nested: class names by level, from coarse to fine, the finest ones being `classes`.
        parents: by level the class of each of `classes` there.

    Raises:
        S4Error: no labelled row, or another number of colours than of classes.
    """

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    train: Source
    labelled: tuple[int, ...]
    unlabelled: tuple[int, ...]
    val: Source
    crop: int | None
    scale: tuple[float, ...] = (0.5, 2.0)
    short: int | None = None
    protocol: str = ""
    evaluation: Any = field(default_factory=Evaluation)
    config: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    label_notices: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    mixed: tuple[int, ...] = ()
    more: dict[str, Further] = field(default_factory=dict)
    kept: Kept | None = None
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parents: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.labelled:
            raise S4Error(f"The labelled list of {self.name} is empty ({self.protocol}); ask for a larger `labelled`.")
        if len(self.palette) != len(self.classes):
            raise S4Error(f"{self.name} has {len(self.classes)} classes but {len(self.palette)} palette colours.")

    @property
    def num_classes(self) -> int:
        """How many `classes` there are, void not among them."""
        return len(self.classes)

    @property
    def overlap(self) -> int:
        """How many labelled images are also in the unlabelled list (0 where the protocol keeps them apart)."""
        return len(set(self.labelled) & set(self.unlabelled))

    def rows(self, source: str) -> tuple[int, ...]:
        """Rows behind a stream's source: of `train` for "labelled", "unlabelled" and "all"; of a list of `more`.

        Raises:
            S4Error: the task has no such list; says how to get one.
        """
        if source == "labelled":
            return self.labelled
        if source == "unlabelled":
            return self.unlabelled
        if source == "all":
            return self.mixed or self._all
        return self._further(source).rows

    def source(self, name: str) -> Source:
        """The images that the rows of a list are of, see `rows`."""
        return self.train if name in _OF_TRAIN else self._further(name).source

    def shown(self, name: str) -> frozenset[int]:
        """The rows of a list whose labels a stream of it may show: of `more` all, of "unlabelled" none."""
        if name in _OF_TRAIN:
            return frozenset() if name == "unlabelled" else self.labelled_rows
        return self._further(name).shown

    def _further(self, name: str) -> Further:
        if name in self.more:
            return self.more[name]
        there = ", ".join(("labelled", "unlabelled", "all", *self.more))
        raise S4Error(
            f"A stream asks for the list {name!r}; the task {self.name} has {there}. A further list is another data "
            f"set of the same classes: load({self.name!r}, more={{{name!r}: NAME}}), in the shell --more {name}=NAME."
        )

    @cached_property
    def _all(self) -> tuple[int, ...]:
        """Labelled and unlabelled rows, each once; asked for with every image that is drawn."""
        return tuple(dict.fromkeys((*self.labelled, *self.unlabelled)))

    @cached_property
    def labelled_rows(self) -> frozenset[int]:
        """The labelled rows, to ask whether one is among them."""
        return frozenset(self.labelled)

    def map_of(self, name: str, row: int, size: tuple[int, ...], shown: bool = False) -> np.ndarray:
        """(H, W), of points (N,), uint8 or int32, the kept map of an item; 255 throughout where there is none.

        Args:
            shown: the label may be seen, and so the maps that the source has itself: they go before kept ones.

        Raises:
            S4Error: it is of another size than the image.
        """
        if shown and name in self.train.maps:
            return self.train.map(name, row).numpy()
        found = self.kept.read(name, row) if self.kept else None
        if found is None:
            return np.full(size, VOID, np.uint8)
        found = found[0] if len(size) == 1 and len(found) == 1 else found
        if found.shape != tuple(size):
            raise S4Error(f"The kept map {name!r} of image {self.train.ids[row]} is {found.shape}, the image {size}.")
        return found

    @cached_property
    def class_pixels(self) -> Tensor:
        """(C,) pixels of each class over the labelled images (long, void left out); reads them once."""
        counts = torch.zeros(self.num_classes, dtype=torch.long)
        for row in self.labelled:
            label = self.train.read(row).label
            counts += torch.bincount(label.flatten().long(), minlength=VOID + 1)[: self.num_classes]
        return counts

    def with_(self, **changes: Any) -> Task:
        """A copy with some fields changed (`task.with_(crop=321)`); `config` follows for crop, scale and short, but is
        {} where `more` is changed."""
        followed = {key: changes[key] for key in ("crop", "scale", "short") if key in changes}
        config = {} if "more" in changes or not self.config else {**self.config, **followed}
        return replace(self, **{"config": config, **changes})

    def __str__(self) -> str:
        shared = f", {self.overlap} of them also unlabelled" if self.overlap else ""
        further = "".join(f", {name}: {of.protocol or len(of.rows)}" for name, of in self.more.items())
        crop = f"crop {self.crop}; " if self.crop else ""
        return (
            f"{self.name}: {len(self.classes)} classes, {len(self.labelled)} labelled{shared}, "
            f"{len(self.unlabelled)} unlabelled, {len(self.val)} val{further}; {crop}{self.protocol}"
        )
