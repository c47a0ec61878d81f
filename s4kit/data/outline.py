"""A data set's outline: classes, sizes and counts without a file of it, to plan a training before a download.

The images that it hands out are made up; nothing can be learnt from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import S4Error, closest
from . import palettes
from .further import arguments
from .sources import parse_size, resized
from .task import Evaluation, Further, Sample, Source, Task


@dataclass(frozen=True)
class Outline:
    """What is known of a data set without having it.

    Attributes:
        classes, palette: as `load` gives them.
        height, width: of its images in pixels; the usual size where they differ.
        train, val: numbers of images.
        crop, evaluation: as `load` gives them.
        suffix: of the image files, "png" or "jpg": what they cost to decode differs tenfold.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    height: int
    width: int
    train: int
    val: int
    crop: int
    evaluation: Evaluation = field(default_factory=Evaluation)
    suffix: str = "jpg"


_CITIES = tuple(colour for _, colour in palettes.CITYSCAPES.values())
OUTLINES: dict[str, Outline] = {
    "voc": Outline(palettes.VOC_CLASSES, palettes.voc_palette(), 375, 500, 10_582, 1449, 321),
    "cityscapes": Outline(
        tuple(palettes.CITYSCAPES), _CITIES, 1024, 2048, 2975, 500, 801, Evaluation("sliding", 801), "png"
    ),
    "gta5": Outline(tuple(palettes.CITYSCAPES), _CITIES, 1052, 1914, 24_966, 0, 512, suffix="png"),
    "synthia": Outline(tuple(palettes.CITYSCAPES), _CITIES, 760, 1280, 9400, 0, 512, suffix="png"),
    "coco": Outline(palettes.COCO_CLASSES, palettes.voc_palette(81), 480, 640, 118_287, 5000, 513),
    "ade20k": Outline(palettes.ADE20K_CLASSES, palettes.distinct(150), 512, 683, 20_210, 2000, 513),
    "camvid": Outline(tuple(palettes.CAMVID), tuple(palettes.CAMVID.values()), 360, 480, 367, 101, 320, suffix="png"),
    "ucmerced": Outline(palettes.DLRSD_CLASSES, palettes.distinct(17), 256, 256, 1680, 420, 256, suffix="png"),
    "deepglobe": Outline(tuple(palettes.DEEPGLOBE), tuple(palettes.DEEPGLOBE.values()), 2448, 2448, 642, 161, 512),
    "scenes": Outline(tuple(palettes.SCENES), tuple(palettes.SCENES.values()), 96, 96, 512, 128, 80, suffix="png"),
    "plain": Outline(tuple(palettes.SCENES), tuple(palettes.SCENES.values()), 96, 96, 512, 128, 80, suffix="png"),
    "clips": Outline(tuple(palettes.SCENES), tuple(palettes.SCENES.values()), 96, 96, 320, 120, 80, suffix="png"),
}


class MadeUp(Source):
    """Grey images of one size whose labels are stripes of all classes; 118,000 of them cost a list of names."""

    def __init__(self, name: str, count: int, size: tuple[int, int], classes: int) -> None:
        self.ids = [f"{name}_{row}" for row in range(count)]
        self.name, self.size, self.classes = name, size, classes

    def shape(self, row: int) -> tuple[int, int]:
        """(H, W) of every image."""
        return self.size

    def read(self, row: int, label: bool = True) -> Sample:
        height, width = self.size
        stripes = torch.arange(height, dtype=torch.int32).mul(self.classes).div_(height, rounding_mode="floor")
        target = stripes.to(torch.uint8)[:, None].expand(height, width).contiguous() if label else None
        return Sample(torch.full((3, height, width), 128, dtype=torch.uint8), target, self.ids[row])


def known(name: str) -> Outline:
    """The outline of a data set.

    Raises:
        S4Error: none has this name.
    """
    if name not in OUTLINES:
        raise S4Error(f"The kit knows no outline of {name!r}: load the data itself. {closest(name, sorted(OUTLINES))}")
    return OUTLINES[name]


def outline(
    name: str,
    labelled: int | None = None,
    train: int | None = None,
    crop: int | None = None,
    size: float | int | None = None,
    scale: Sequence[float] | None = None,
    short: int | None = None,
    protocol: str = "",
    more: Mapping[str, Any] | None = None,
    **_: Any,
) -> Task:
    """A stand-in `Task` with a data set's classes, image size and counts, and made-up images.

    Args:
        name: "voc", "cityscapes", "coco", "ade20k", "camvid", "ucmerced", "deepglobe", "scenes", "plain" or "clips".
        labelled: number of labelled images; by default 1/16 of all. The rest is unlabelled.
        train: number of training images where the protocol has fewer than the data set.
        crop, size, scale, short: as of `load`.
        protocol: words for the split.
        more: further lists, as of `load`; each with all images that its data set has.

    Other arguments of `load`, which do not change sizes or counts, are taken and ignored.

    Raises:
        S4Error: an unknown data set, or more labelled images than there are.
    """
    found = known(name)
    train = train or found.train
    labelled = max(1, train // 16) if labelled is None else labelled
    if not 0 < labelled <= train:
        raise S4Error(f"labelled={labelled}: {name} has {train} training images.")
    sides = resized(found.height, found.width, size)
    return Task(
        name,
        found.classes,
        found.palette,
        MadeUp("train", train, sides, len(found.classes)),
        tuple(range(labelled)),
        tuple(range(labelled, train)),
        MadeUp("val", found.val, sides, len(found.classes)),
        crop or found.crop,
        scale=tuple(scale or (0.5, 2.0)),
        short=short,
        protocol=protocol or f"{labelled} of {train} labelled; an outline, no images",
        evaluation=found.evaluation,
        more={of: _further(given, found.classes) for of, given in (more or {}).items()},
    )


def _further(given: str | Mapping[str, Any], classes: tuple[str, ...]) -> Further:
    """The outline of a further list."""
    name, options = arguments(given)
    found = known(name)
    sides = resized(found.height, found.width, parse_size(options.get("size")))
    return Further(
        MadeUp(name, found.train, sides, len(classes)), tuple(range(found.train)), f"{found.train} of {name}"
    )
