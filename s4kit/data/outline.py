"""A data set's outline: classes, sizes and counts without a file of it, to plan a training before a download.

The images that it hands out are made up; nothing can be learnt from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import S4Error, closest
from . import palettes
from .further import arguments
from .objects import OBJECTS, PER_CLASS, MaskEvaluation
from .sets.cityscapes import THINGS
from .sources import parse_size, resized
from .splitting.splits import count_of
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
        single: classes and their colours where single objects are the task, {} where `load` has none of them.
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
    single: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


SQUARES = 8  # made-up objects of an image: about as many as COCO's have
_COCO = dict(zip(palettes.COCO_CLASSES, palettes.voc_palette(81)))
_THINGS = {name: colour for name, (_, colour) in palettes.CITYSCAPES.items() if name in THINGS}
_CITIES = tuple(colour for _, colour in palettes.CITYSCAPES.values())
OUTLINES: dict[str, Outline] = {
    "voc": Outline(palettes.VOC_CLASSES, palettes.voc_palette(), 375, 500, 10_582, 1449, 321),
    "cityscapes": Outline(
        tuple(palettes.CITYSCAPES),
        _CITIES,
        1024,
        2048,
        2975,
        500,
        801,
        Evaluation("sliding", 801),
        "png",
        {"background": (0, 0, 0)} | _THINGS,
    ),
    "gta5": Outline(tuple(palettes.CITYSCAPES), _CITIES, 1052, 1914, 24_966, 0, 512, suffix="png"),
    "synthia": Outline(tuple(palettes.CITYSCAPES), _CITIES, 760, 1280, 9400, 0, 512, suffix="png"),
    "coco": Outline(palettes.COCO_CLASSES, palettes.voc_palette(81), 480, 640, 118_287, 5000, 513, single=_COCO),
    "ade20k": Outline(palettes.ADE20K_CLASSES, palettes.distinct(150), 512, 683, 20_210, 2000, 513),
    "camvid": Outline(tuple(palettes.CAMVID), tuple(palettes.CAMVID.values()), 360, 480, 367, 101, 320, suffix="png"),
    "ucmerced": Outline(palettes.DLRSD_CLASSES, palettes.distinct(17), 256, 256, 1680, 420, 256, suffix="png"),
    "deepglobe": Outline(tuple(palettes.DEEPGLOBE), tuple(palettes.DEEPGLOBE.values()), 2448, 2448, 642, 161, 512),
    "scenes": Outline(
        tuple(palettes.SCENES),
        tuple(palettes.SCENES.values()),
        96,
        96,
        512,
        128,
        80,
        suffix="png",
        single=palettes.SCENES,
    ),
    "plain": Outline(tuple(palettes.SCENES), tuple(palettes.SCENES.values()), 96, 96, 512, 128, 80, suffix="png"),
    "clips": Outline(tuple(palettes.SCENES), tuple(palettes.SCENES.values()), 96, 96, 320, 120, 80, suffix="png"),
}


class MadeUp(Source):
    """Grey images of one size whose labels are stripes of all classes; 118,000 of them cost a list of names.

    Args:
        single: also of single objects: `SQUARES` of them in an image.
    """

    def __init__(self, name: str, count: int, size: tuple[int, int], classes: int, single: bool = False) -> None:
        self.ids = [f"{name}_{row}" for row in range(count)]
        self.name, self.size, self.classes = name, size, classes
        self.maps = (OBJECTS,) if single else ()

    def shape(self, row: int) -> tuple[int, int]:
        """(H, W) of every image."""
        return self.size

    def read(self, row: int, label: bool = True) -> Sample:
        height, width = self.size
        stripes = torch.arange(height, dtype=torch.int32).mul(self.classes).div_(height, rounding_mode="floor")
        target = stripes.to(torch.uint8)[:, None].expand(height, width).contiguous() if label else None
        return Sample(torch.full((3, height, width), 128, dtype=torch.uint8), target, self.ids[row])

    def objects(self, row: int) -> Tensor:
        """Squares in two rows, of all classes but the first in turn."""
        (height, width), found = self.size, torch.zeros(self.size, dtype=torch.int32)
        half = SQUARES // 2
        side = max(1, min(height // 3, width // (half + 1)))
        for k in range(SQUARES):
            top, left = (k // half) * height // 2, (k % half) * width // half
            label = 1 + (row * SQUARES + k) % max(1, self.classes - 1)
            found[top : top + side, left : left + side] = PER_CLASS * label + k + 1
        return found


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
    labelled: str | int | float | None = None,
    train: int | None = None,
    crop: int | None = None,
    size: float | int | None = None,
    scale: Sequence[float] | None = None,
    short: int | None = None,
    protocol: str = "",
    more: Mapping[str, Any] | None = None,
    instances: bool = False,
    **_: Any,
) -> Task:
    """A stand-in `Task` with a data set's classes, image size and counts, and made-up images.

    Args:
        name: "voc", "cityscapes", "coco", "ade20k", "camvid", "ucmerced", "deepglobe", "scenes", "plain" or "clips".
        labelled: count or share of the labelled images; by default 1/16 of all. The rest is unlabelled.
        train: number of training images where the protocol has fewer than the data set.
        crop, size, scale, short: as of `load`.
        protocol: words for the split.
        more: further lists, as of `load`; each with all images that its data set has.
        instances: single objects are the task.

    Other arguments of `load`, which do not change sizes or counts, are taken and ignored.

    Raises:
        S4Error: an unknown data set, more labelled images than there are, or single objects of one that has none.
    """
    found = known(name)
    if instances and not found.single:
        raise S4Error(f"Single objects of {name} cannot be loaded; {MaskEvaluation.how}.")
    classes = tuple(found.single) if instances else found.classes
    train = train or found.train
    labelled = max(1, train // 16) if labelled is None else count_of(labelled, train)
    sides = resized(found.height, found.width, size)
    return Task(
        name,
        classes,
        tuple(found.single.values()) if instances else found.palette,
        MadeUp("train", train, sides, len(classes), instances),
        tuple(range(labelled)),
        tuple(range(labelled, train)),
        MadeUp("val", found.val, sides, len(classes), instances),
        crop or found.crop,
        scale=tuple(scale or (0.5, 2.0)),
        short=short,
        protocol=protocol or f"{labelled} of {train} labelled; an outline, no images",
        evaluation=MaskEvaluation() if instances else found.evaluation,
        more={of: _further(given, classes) for of, given in (more or {}).items()},
    )


def _further(given: str | Mapping[str, Any], classes: tuple[str, ...]) -> Further:
    """The outline of a further list."""
    name, options = arguments(given)
    found = known(name)
    sides = resized(found.height, found.width, parse_size(options.get("size")))
    return Further(
        MadeUp(name, found.train, sides, len(classes)), tuple(range(found.train)), f"{found.train} of {name}"
    )
