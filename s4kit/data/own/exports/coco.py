"""COCO JSON: images, annotations with a segmentation (polygons, or run lengths as text or numbers) and categories.

Decoded by pycocotools, the reference. Annotations are drawn in the order of the file, later ones over earlier ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ....errors import S4Error
from ...objects import run_lengths
from . import common
from .common import Export, Picture, Shape

PARTS = {"images", "annotations", "categories"}


def found(source: Path) -> bool:
    """Whether one of the first 20 JSON files has COCO's keys."""
    return any(_is_coco(file) for file in common.files(source, ".json")[:20])


def _is_coco(file: Path) -> bool:
    told = common.read_json(file)
    return isinstance(told, dict) and told.keys() >= PARTS


def read(source: Path) -> Export:
    """Raises S4Error for several files, damaged ones, and annotations without a region."""
    every = [file for file in common.files(source, ".json") if _is_coco(file)]
    if len(every) != 1:
        names = ", ".join(str(file) for file in every[:4]) or "none"
        raise S4Error(f"{source} holds {len(every)} COCO files ({names}); name the one to convert.")
    run_lengths("COCO's outlines are decoded")
    told = common.read_json(every[0])
    try:
        categories = {one["id"]: str(one["name"]) for one in sorted(told["categories"], key=lambda one: one["id"])}
        drawn: dict[Any, list[Shape]] = {one["id"]: [] for one in told["images"]}
        for number, one in enumerate(told["annotations"]):
            drawn[one["image_id"]].append(
                _shape(one, categories[one["category_id"]], f"{every[0]}, annotation {number}")
            )
        pictures = [
            Picture(str(one["file_name"]), (int(one["height"]), int(one["width"])), drawn[one["id"]], str(every[0]))
            for one in told["images"]
        ]
    except S4Error:
        raise
    except (KeyError, TypeError, ValueError) as why:
        raise S4Error(f"{every[0]} is not COCO's JSON ({type(why).__name__}: {why}). Export it again.") from None
    used = {shape.name for picture in pictures for shape in picture.shapes}
    supers = {str(one.get("supercategory")) for one in told["categories"]}
    names = [name for name in categories.values() if name in used or name not in supers]
    return Export(names, pictures)


def _shape(one: dict[str, Any], name: str, where: str) -> Shape:
    coded = one.get("segmentation")
    if not coded:
        box = "a bounding box alone" if one.get("bbox") else "nothing"
        return Shape(name, _refused(where, name, box), "box")

    def paint(target: np.ndarray, value: int) -> None:
        from pycocotools import mask

        try:
            if isinstance(coded, list):
                runs = mask.merge(mask.frPyObjects([list(map(float, part)) for part in coded], *target.shape))
            else:
                runs = mask.frPyObjects(coded, *coded["size"]) if isinstance(coded["counts"], list) else coded
            inside = mask.decode(runs) > 0
        except Exception as why:  # pycocotools raises whatever the region leads it to
            raise S4Error(f"{where}: the region of {name!r} cannot be decoded ({type(why).__name__}: {why}).") from None
        if inside.shape != target.shape:
            raise S4Error(
                f"{where}: the region of {name!r} is {inside.shape}, its image {target.shape} (height, width)."
            )
        target[inside] = value

    return Shape(name, paint, "polygon" if isinstance(coded, list) else "mask")


def _refused(where: str, name: str, what: str) -> common.Paint:
    def paint(target: np.ndarray, value: int) -> None:
        raise S4Error(
            f"{where}: {name!r} has {what}, no region. Boxes are not masks; leave such shapes out: leave_out=['box']."
        )

    return paint
