"""labelme: a JSON file beside each photo, with "shapes" of a "shape_type" and points in pixels.

Shapes with an area: polygon, rectangle (two opposite corners), circle (its centre, a point on it) and mask (a PNG in
base64 with its two corners). `_background_` is class 0, `__ignore__` void, as in labelme's own conversion to VOC.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....errors import S4Error
from . import common
from .common import Export, Picture, Shape

FEW = {"polygon": 3, "rectangle": 2, "circle": 2, "mask": 2}  # points that each has at least


def found(source: Path) -> bool:
    """Whether the first JSON file has the "shapes" and the "imagePath" of LabelMe."""
    first = next(iter(common.files(source, ".json")), None)
    told = common.read_json(first) if first else None
    return isinstance(told, dict) and "shapes" in told and "imagePath" in told


def read(source: Path) -> Export:
    """Raises S4Error for a file that is not labelme's, and for shapes that cannot be drawn."""
    pictures = [_picture(file) for file in common.files(source, ".json")]
    return Export(common.names_of(shape for picture in pictures for shape in picture.shapes), pictures)


def _picture(file: Path) -> Picture:
    told = common.read_json(file)
    try:
        size = (int(told["imageHeight"]), int(told["imageWidth"])) if told.get("imageHeight") else None
        shapes = [_shape(one, str(file)) for one in told["shapes"]]
        return Picture(str(told["imagePath"]).replace("\\", "/").rpartition("/")[2], size, shapes, str(file))
    except S4Error:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as why:
        raise S4Error(f"{file} is not labelme's annotation of an image ({type(why).__name__}: {why}).") from None


def _shape(one: dict[str, Any], where: str) -> Shape:
    name, kind, points = str(one["label"]), one.get("shape_type") or "polygon", one["points"]
    if kind not in FEW:
        return Shape(name, common.refused(kind, name, where), kind)
    if len(points) < FEW[kind]:
        raise S4Error(f"{where}: a {kind} of {name!r} has {len(points)} points; it needs {FEW[kind]}.")
    if kind == "polygon":
        return Shape(name, common.polygon(points), kind)
    (x, y), (other_x, other_y) = points[:2]
    if kind == "rectangle":
        return Shape(name, common.rectangle(min(x, other_x), min(y, other_y), max(x, other_x), max(y, other_y)), kind)
    if kind == "circle":
        radius = math.hypot(other_x - x, other_y - y)
        return Shape(name, common.ellipse(x, y, radius, radius), kind)
    return Shape(name, common.stamped(_mask(one.get("mask"), name, where), int(x), int(y)), kind)


def _mask(coded: str | None, name: str, where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(base64.b64decode(coded or "", validate=True))) as image:
            return np.asarray(image.convert("L")) > 0
    except (OSError, binascii.Error, ValueError) as why:
        raise S4Error(f"{where}: the mask of {name!r} is no picture in base64 ({why}).") from None
