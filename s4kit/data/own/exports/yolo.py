"""YOLO segmentation: a text file per image, a polygon per line: class x y x y ..., as shares of width and height.

The names of the classes are in data.yaml (a list, or number: name), or in classes.txt, a name a line.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ....errors import S4Error
from ...reading.text import read_lines
from ..class_tables import read_classes
from . import common
from .common import Export, Picture, Shape

TABLES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names")
_LINE = re.compile(r"\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}", re.IGNORECASE)


def found(source: Path) -> bool:
    """Whether the first line of each of the first 50 text files is a class and a polygon; False without text files."""
    lines = [line for file in _maps(source)[:50] for line in read_lines(file)[:1]]
    return bool(lines) and all(_LINE.fullmatch(line) for line in lines)


def read(source: Path) -> Export:
    """Raises S4Error for boxes, classes without a name, and lines that are no polygon."""
    names, given = _names(source)
    pictures = [Picture(file.stem, None, _shapes(file, names, given), str(file)) for file in _maps(source)]
    return Export(names, pictures)


def _maps(source: Path) -> list[Path]:
    return [f for f in common.files(source, ".txt") if f.name not in TABLES and f.parent.name != "ImageSets"]


def _shapes(file: Path, names: list[str], given: str) -> list[Shape]:
    shapes = []
    for number, line in enumerate(read_lines(file), 1):
        where = f"{file}, line {number}"
        if not _LINE.fullmatch(line):
            raise S4Error(f"{where}: {line[:40]!r} is no polygon of YOLO: class x y x y x y ...")
        words = line.split()
        label, values = int(words[0]), [float(word) for word in words[1:]]
        if label >= len(names):
            raise S4Error(f"{where}: class {label}, but {given} names {len(names)} (numbered from 0).")
        if max(values) > 1.001 or min(values) < -0.001:
            raise S4Error(f"{where}: the coordinate {max(values, key=abs):g} is no share of the image within 0..1.")
        shapes.append(_shape(names[label], values, where))
    return shapes


def _shape(name: str, values: list[float], where: str) -> Shape:
    box = len(values) == 4
    if not box and (len(values) % 2 or len(values) < 6):
        raise S4Error(f"{where}: {len(values)} coordinates are no polygon, which has an even number, at least 6.")

    def paint(target: np.ndarray, value: int) -> None:
        if box:
            raise S4Error(f"{where}: a box (4 numbers), no polygon. Boxes are not masks; leave_out=['box'] drops them.")
        height, width = target.shape
        common.polygon([(x * width, y * height) for x, y in zip(values[::2], values[1::2])])(target, value)

    return Shape(name, paint, "box" if box else "polygon")


def _names(source: Path) -> tuple[list[str], str]:
    """Names in the order of their numbers, and the file that has them."""
    for folder in (source, source.parent) if source.name == "labels" else (source,):
        for table in TABLES:
            file = folder / table
            if file.is_file():
                return (_yaml(file) if "yaml" in table or "yml" in table else list(read_classes(file).names)), str(file)
    raise S4Error(f"{source} has no names of the classes: write them to {source / 'classes.txt'}, one a line.")


def _yaml(file: Path) -> list[str]:
    """`names` of a data.yaml in the forms that tools write: [a, b], "- a" lines, or "0: a" lines."""
    text = file.read_text(encoding="utf-8-sig")
    inline = re.search(r"^names:\s*[\[{](.*?)[\]}]", text, re.MULTILINE | re.DOTALL)
    if inline:
        words = [word.strip() for word in inline[1].replace("\n", " ").split(",") if word.strip()]
    else:
        block = re.search(r"^names:\s*(?:#.*)?\n((?:\s+\S.*\n?|-\s.*\n?|\s*\n)+)", text, re.MULTILINE)
        words = [line.strip().removeprefix("- ") for line in (block[1] if block else "").splitlines() if line.strip()]
    names = [re.sub(r"^\d+\s*:\s*", "", word).split(" #")[0].strip().strip("'\"") for word in words]
    if not names:
        raise S4Error(f"{file} has no `names` that can be read; write them to classes.txt beside it, one a line.")
    return names
