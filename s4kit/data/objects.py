"""Single objects of an image: the map of their ids, how it is stored, and how masks of objects are scored.

An id is 1000 * class + number, as Cityscapes stores them. Below 1000 there is no object: 0 is background, 255 is void,
where neither an object is taught nor one that is found there is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import S4Error
from .reading.ids import read_ids
from .sources import FileSource, resized
from .task import OBJECTS, PER_CLASS, VOID

__all__ = [
    "OBJECTS", "PER_CLASS", "MaskEvaluation", "ObjectFiles", "classes_of", "has_objects", "run_lengths", "split",
]  # fmt: skip


@dataclass(frozen=True)
class MaskEvaluation:
    """COCO's AP of masks: the mean over classes and over the IoU, 0.5 to 0.95 in steps of 0.05, from which a mask is
    right, of the precision at 101 values of the recall.

    Attributes:
        least: pixels of an object that counts; a smaller one is neither wanted nor wrong, and not taught.

    Raises:
        S4Error: pycocotools, which counts it, is missing.
    """

    least: int = 1
    of: ClassVar[str] = "masks of single objects"
    how: ClassVar[str] = (
        'scenes, cityscapes or coco with their objects: load("scenes", instances=True), in the shell --data-option '
        "instances=True"
    )

    def __post_init__(self) -> None:
        run_lengths("Masks of objects are scored")


def has_objects(task: Any) -> bool:
    """Whether single objects are what a task asks for."""
    return isinstance(getattr(task, "evaluation", None), MaskEvaluation)


def run_lengths(what: str) -> Any:
    """`pycocotools.mask`.

    Args:
        what: is done with it, to begin the error with.

    Raises:
        S4Error: it is not installed.
    """
    try:
        from pycocotools import mask
    except ImportError:
        raise S4Error(f"{what} with pycocotools: pip install pycocotools (or s4kit[data]).") from None
    return mask


def classes_of(ids: np.ndarray) -> np.ndarray:
    """(H, W) uint8 classes from ids: that of the object, else 0; void stays void."""
    return np.where(ids == VOID, VOID, ids // PER_CLASS).astype(np.uint8)


def split(ids: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """The objects of a map (H, W) that have at least so many pixels: their ids (n,), and masks (n, H, W) bool."""
    found, count = ids[ids >= PER_CLASS].unique(return_counts=True)
    found = found[count >= least]
    return found, ids[None] == found[:, None, None]


class ObjectFiles(FileSource):
    """Images whose label files hold ids of objects; the label of a pixel is the class of its object.

    A data set says by `_ids` how a file is read.
    """

    maps = (OBJECTS,)

    def objects(self, row: int) -> Tensor:
        path = self.label_path(row)
        if path is None:
            raise S4Error(f"Image {self.ids[row]} has no file of its objects. Leave it out of the labelled list.")
        ids, shape = self._ids(path), self.shape(row)
        if resized(*ids.shape, self.size) != shape:
            raise S4Error(f"{path} is {ids.shape} but its image {self.image_path(row)} {shape} (H, W): not the same.")
        if ids.shape != shape:
            ids = np.array(Image.fromarray(ids).resize(shape[::-1], Image.Resampling.NEAREST))
        return torch.from_numpy(ids)

    def _classes(self, path: str) -> np.ndarray:
        return classes_of(self._ids(path))

    def _ids(self, path: str) -> np.ndarray:
        """(H, W) int32 ids.

        Raises:
            S4Error: the file does not hold them.
        """
        return read_ids(path)
