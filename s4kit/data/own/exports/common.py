"""What the readers of all forms share: an export, its pictures, shapes drawn into a map."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....errors import S4Error
from ...reading.text import read_text

Points = Sequence[tuple[float, float]]
Paint = Callable[[np.ndarray, int], None]  # draws into a (H, W) uint8 map with a value


@dataclass
class Shape:
    """One region: the name of its class, how it is drawn, what kind it is in the words of the tool."""

    name: str
    paint: Paint
    kind: str = "mask"


@dataclass
class Picture:
    """What an export says of one image.

    Attributes:
        image: name or path of the photo, as the export has it.
        size: (height, width) of the photo where the export says it.
        shapes: later ones cover earlier ones.
        where: for errors: the file that says so.
        whole: instead of shapes, reads the (H, W) uint8 map of indices into the export's classes, 255 = void.
    """

    image: str
    size: tuple[int, int] | None
    shapes: list[Shape]
    where: str
    whole: Callable[[], np.ndarray] | None = None


@dataclass
class Export:
    """All of an export.

    Attributes:
        classes: names in the order of the export.
        palette: their colours, None where the export has none.
        complete: every pixel has a class of the export, so that no background is added.
        masks: files that are no photos.
    """

    classes: list[str]
    pictures: list[Picture]
    palette: list[tuple[int, int, int]] | None = None
    complete: bool = False
    masks: tuple[Path, ...] = ()


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        S4Error: it is none.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as why:
        raise S4Error(f"{path} is no valid JSON ({why}). Export it again.") from None


def files(source: Path, *suffixes: str) -> list[Path]:
    """The files of a folder and the folders in it with one of these endings, in order; a file itself."""
    if source.is_file():
        return [source] if source.name.lower().endswith(suffixes) else []
    return [f for f in sorted(source.rglob("*")) if f.is_file() and f.name.lower().endswith(suffixes)]


def pixels(file: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a mask, as stored.

    Raises:
        S4Error: it cannot be read.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError) as why:
        raise S4Error(f"{file} cannot be read as a picture ({why}).") from None


def names_of(shapes: Iterable[Shape]) -> list[str]:
    """The classes of shapes in alphabetical order."""
    return sorted({shape.name for shape in shapes})


def polygon(points: Points) -> Paint:
    """The pixels whose centre a closed line surrounds; (0, 0) is the corner of the first pixel."""
    corners = np.array([(float(x), float(y)) for x, y in points])

    def paint(target: np.ndarray, value: int) -> None:
        target[_inside(corners, *target.shape)] = value

    return paint


def rectangle(left: float, top: float, right: float, bottom: float) -> Paint:
    """The pixels whose centre lies between these sides."""
    return polygon([(left, top), (right, top), (right, bottom), (left, bottom)])


def ellipse(x: float, y: float, across: float, down: float, degrees: float = 0.0) -> Paint:
    """An ellipse round (x, y) with these radii, turned clockwise as it is seen."""
    angle = np.deg2rad(degrees)

    def paint(target: np.ndarray, value: int) -> None:
        rows, columns = np.ogrid[: target.shape[0], : target.shape[1]]
        right, below = columns + 0.5 - x, rows + 0.5 - y
        along, aside = right * np.cos(angle) + below * np.sin(angle), below * np.cos(angle) - right * np.sin(angle)
        target[(along / max(across, 1e-9)) ** 2 + (aside / max(down, 1e-9)) ** 2 <= 1] = value

    return paint


def _inside(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W) bool by the even-odd rule: in each row a pixel is inside after an odd number of crossings."""
    (x, y), (to_x, to_y) = corners.T, np.roll(corners, -1, axis=0).T
    middle = np.arange(height)[:, None] + 0.5
    crossed = (y <= middle) != (to_y <= middle)
    slope = (to_x - x) / np.where(to_y == y, 1, to_y - y)
    first = np.clip(np.ceil(x + (middle - y) * slope - 0.5), 0, width).astype(int)
    toggles = np.zeros((height, width + 1), np.int32)
    np.add.at(toggles, (np.nonzero(crossed)[0], first[crossed]), 1)
    return toggles[:, :width].cumsum(1) % 2 == 1


def stamped(mask: np.ndarray, left: int, top: int) -> Paint:
    """A (h, w) bool mask with its corner at (left, top); what lies outside the image is dropped."""

    def paint(target: np.ndarray, value: int) -> None:
        rows, columns = (slice(max(0, at), max(0, at) + n) for at, n in ((top, mask.shape[0]), (left, mask.shape[1])))
        part = target[rows, columns]
        inside = mask[max(0, -top) :, max(0, -left) :][: part.shape[0], : part.shape[1]]
        part[: inside.shape[0], : inside.shape[1]][inside] = value

    return paint


def refused(kind: str, name: str, where: str) -> Paint:
    """A shape that surrounds nothing: an error where it is to be drawn, none where it is left out."""

    def paint(target: np.ndarray, value: int) -> None:
        raise S4Error(
            f"{where}: {name!r} is drawn as {kind}, which has no area. Draw it as a polygon or mask, or leave such "
            f"shapes out: leave_out=[{kind!r}] (or the class, leave_out=[{name!r}])."
        )

    return paint


def some(names: Sequence[str]) -> str:
    """The first names, as words."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
