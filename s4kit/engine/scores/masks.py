"""AP of masks: the detections and the true objects of every image as run lengths, counted by pycocotools."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ...data.objects import PER_CLASS, MaskEvaluation, run_lengths, split
from ...data.task import VOID, Sample, Task
from ...nets.objects import INSIDE, Objects, paint
from .. import distributed
from ..device import autocast
from .listed import Listed
from .segmentation import to_image

IOUS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))


@dataclass(repr=False)
class MaskScores(Listed):
    """AP of one network over a data set.

    Attributes:
        precision: (10, 101, C) precision where a mask is right from an IoU of 0.5, 0.55, ... 0.95 on, at recalls of 0,
            0.01, ... 1, of each class; NaN of one without a true object.
        classes: names of the classes, without the background.
    """

    precision: Tensor
    classes: tuple[str, ...]
    unit: ClassVar[str] = "AP %"
    name: ClassVar[str] = "AP"

    @property
    def per_class(self) -> Tensor:
        """(C,) AP of each class, in [0, 1]; NaN for one without a true object."""
        return self.precision.mean((0, 1))

    @property
    def headline(self) -> float:
        """AP in [0, 1]."""
        return float(self.per_class.nanmean())

    def at(self, iou: float) -> float:
        """AP where a mask is right from this IoU on, one of 0.5, 0.55, ... 0.95."""
        return float(self.precision[IOUS.index(iou)].mean(0).nanmean())

    def row(self) -> dict[str, float]:
        """ap, ap50, ap75 and ap_<class> of every class that has objects."""
        per_class = {f"ap_{name}": v for name, v in zip(self.classes, self.per_class.tolist()) if v == v}
        return {"ap": self.headline, "ap50": self.at(0.5), "ap75": self.at(0.75)} | per_class

    def to_dict(self) -> dict[str, Any]:
        """AP over all thresholds, at 0.5 and at 0.75, and per class, in [0, 1]; None of a class without objects."""
        per_class = {n: None if v != v else v for n, v in zip(self.classes, self.per_class.tolist())}
        return {"ap": self.headline, "ap50": self.at(0.5), "ap75": self.at(0.75), "per_class": per_class}

    def _lines(self) -> list[tuple[str, float]]:
        means = [("AP", self.headline), ("AP50", self.at(0.5)), ("AP75", self.at(0.75))]
        return [*zip(self.classes, self.per_class.tolist()), *means]


class Masks:
    """The tally of a `MaskEvaluation`: a network gives for an image (1, 3, H, W) one `nets.Objects`."""

    name = MaskScores.name

    def __init__(self, task: Task, how: MaskEvaluation, device: torch.device, precision: str) -> None:
        self.task, self.how, self.device, self.precision = task, how, device, precision
        self.rows = {name: row for row, name in enumerate(task.val.ids)}
        self.seen: dict[str, tuple[list[dict], list[dict]]] = {}  # by image: true objects, detections

    def add(self, net: nn.Module, items: Iterable[Sample]) -> None:
        """Hold the masks that a detector in eval mode finds in each image against its objects, see `Tally.add`."""
        for sample in items:
            with autocast(self.device, self.precision):
                (found,) = net(to_image(sample, self.device))
            truth = wanted(self.task.val.objects(self.rows[sample.id]), self.how.least, len(self.task.classes))
            self.seen[sample.id] = truth, detected(found)

    def scores(self) -> MaskScores:
        """Over the images of all processes; a meeting of all of them."""
        everyone = distributed.gathered(self.seen)
        classes = self.task.classes[1:]
        return MaskScores(precisions([everyone[name] for name in sorted(everyone)], len(classes)), classes)

    @staticmethod
    def class_scores(net: nn.Module, shown: Tensor, how: MaskEvaluation) -> Tensor:
        """What the objects paint, see `nets.objects.paint`."""
        return torch.stack([paint(found, net.classes).probabilities for found in net(shown)])


def wanted(ids: Tensor, least: int, classes: int) -> list[dict]:
    """The true objects of an image. Those that are too small, and void for every class, are regions in which a
    detection is neither right nor wrong.

    Args:
        ids: (H, W), see `data.objects`.
    """
    found, masks = split(ids)
    small = masks.flatten(1).sum(1) < least
    objects = [_region(m, int(n) // PER_CLASS, crowd=bool(s)) for n, m, s in zip(found, masks, small)]
    void = ids == VOID
    return objects + ([_region(void, c, crowd=True) for c in range(1, classes)] if void.any() else [])


def detected(found: Objects) -> list[dict]:
    """What a network has found in an image."""
    sure = zip(found.masks, found.labels.tolist(), found.scores.tolist())
    return [_region(mask > INSIDE, label) | {"score": score} for mask, label, score in sure]


def _region(mask: Tensor, label: int, crowd: bool = False) -> dict[str, Any]:
    coded = run_lengths("Masks of objects are scored").encode(np.asfortranarray(mask.cpu().numpy().astype(np.uint8)))
    return {"category_id": label, "segmentation": coded, "iscrowd": int(crowd)}


def precisions(images: Sequence[tuple[list[dict], list[dict]]], classes: int) -> Tensor:
    """(10, 101, C) precisions over the images, NaN of a class without a true object.

    Args:
        images: true objects and detections of each. classes: C, whose numbers are 1..C.
    """
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = (_coco([image[part] for image in images], classes) for part in (0, 1))
        counted = COCOeval(truth, found, "segm")
        counted.evaluate()
        counted.accumulate()
    precision = torch.from_numpy(counted.eval["precision"][:, :, :, 0, -1])  # of all sizes, 100 detections an image
    return torch.where(precision < 0, torch.nan, precision)


def _coco(images: Sequence[list[dict]], classes: int) -> Any:
    """pycocotools' own form of the regions of some images."""
    from pycocotools import mask
    from pycocotools.coco import COCO

    coco, regions = COCO(), [(number, region) for number, image in enumerate(images) for region in image]
    coco.dataset = {
        "images": [{"id": number, "height": None, "width": None} for number in range(len(images))],  # asked, not used
        "categories": [{"id": label} for label in range(1, classes + 1)],
        "annotations": [
            {**region, "id": k, "image_id": number, "area": float(mask.area(region["segmentation"]))}
            for k, (number, region) in enumerate(regions, 1)
        ],
    }
    coco.createIndex()
    return coco
