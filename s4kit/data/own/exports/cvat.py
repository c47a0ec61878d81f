"""CVAT for images 1.1: annotations.xml with an <image> each, shapes of a larger z_order in front.

Shapes with an area: polygon, box (with a rotation in degrees round its middle), ellipse, mask (run lengths of the box
that surrounds it, row by row, beginning with what is outside).
"""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from ....errors import S4Error
from . import common
from .common import Export, Picture, Shape

NO_SHAPE = {"tag", "attribute"}


def found(source: Path) -> bool:
    """Whether one of the first 5 XML files is CVAT's."""
    return any(_is_cvat(file) for file in common.files(source, ".xml")[:5])


def _is_cvat(file: Path) -> bool:
    with file.open("rb") as stream:
        return b"<annotations>" in stream.read(500)


def read(source: Path) -> Export:
    """Raises S4Error for a damaged file, an export of a video, and shapes that cannot be drawn."""
    every = [file for file in common.files(source, ".xml") if _is_cvat(file)]
    if len(every) != 1:
        raise S4Error(f"{source} holds {len(every)} files of CVAT's XML; name the one to convert.")
    file = every[0]
    try:
        top = ElementTree.parse(file).getroot()
    except ElementTree.ParseError as why:
        raise S4Error(f"{file} is no whole XML ({why}). Export it again.") from None
    if top.find("track") is not None:
        raise S4Error(f"{file} is 'CVAT for video'; export the task as 'CVAT for images 1.1'.")
    try:
        pictures = [_picture(image, str(file)) for image in top.iter("image")]
    except S4Error:
        raise
    except (KeyError, ValueError, TypeError) as why:
        raise S4Error(f"{file} is not 'CVAT for images 1.1' ({type(why).__name__}: {why}). Export it again.") from None
    labels = {label.findtext("name", ""): label.findtext("color", "") for label in top.iter("label")}
    for name in common.names_of(shape for picture in pictures for shape in picture.shapes):
        labels.setdefault(name, "")
    colours = [_colour(code) for code in labels.values()]
    return Export(list(labels), pictures, colours if all(colours) and len(set(colours)) == len(colours) else None)


def _picture(image: ElementTree.Element, where: str) -> Picture:
    name = image.attrib["name"]
    drawn = [one for one in image if one.tag not in NO_SHAPE]
    drawn.sort(key=lambda one: int(one.get("z_order", 0)))
    shapes = [Shape(one.attrib["label"], _paint(one, f"{where}, {name}"), one.tag) for one in drawn]
    return Picture(name, (int(image.attrib["height"]), int(image.attrib["width"])), shapes, where)


def _paint(one: ElementTree.Element, where: str) -> common.Paint:
    def number(key: str) -> float:
        return float(one.attrib[key])

    if one.tag == "polygon":
        return common.polygon(_points(one.attrib["points"]))
    if one.tag == "box":
        left, top, right, bottom = map(number, ("xtl", "ytl", "xbr", "ybr"))
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        middle = ((left + right) / 2, (top + bottom) / 2)
        return common.polygon(_turned(corners, middle, float(one.get("rotation", 0))))
    if one.tag == "ellipse":
        x, y, across, down = map(number, ("cx", "cy", "rx", "ry"))
        return common.ellipse(x, y, across, down, float(one.get("rotation", 0)))
    if one.tag == "mask":
        return common.stamped(_runs(one, where), int(number("left")), int(number("top")))
    return common.refused(one.tag, one.attrib["label"], where)


def _points(text: str) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in text.split(";")]


def _turned(
    points: list[tuple[float, float]], middle: tuple[float, float], degrees: float
) -> list[tuple[float, float]]:
    x, y, angle = *middle, math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x + (a - x) * cos - (b - y) * sin, y + (a - x) * sin + (b - y) * cos) for a, b in points]


def _runs(one: ElementTree.Element, where: str) -> np.ndarray:
    height, width = int(one.attrib["height"]), int(one.attrib["width"])
    counts = [int(word) for word in one.attrib["rle"].split(",")]
    if sum(counts) != height * width:
        raise S4Error(
            f"{where}: the mask of {one.attrib['label']!r} has {sum(counts)} pixels, its box {height * width}."
        )
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)


def _colour(code: str) -> tuple[int, int, int] | None:
    """ "#ff0010" as numbers."""
    digits = code.removeprefix("#")
    try:
        return tuple(bytes.fromhex(digits)) if len(digits) == 6 else None
    except ValueError:
        return None
