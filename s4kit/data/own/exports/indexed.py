"""Indexed PNG: a map per image whose stored values are the classes, 255 = void; also Supervisely's masks_machine.

The names come from classes.txt (or labels.txt, labelmap.txt) beside the maps or above them; in Supervisely's export
from obj_class_to_machine_color.json. Without names the classes are called class0, class1, ...
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ....errors import S4Error
from ...decode import decode_label
from ...task import VOID
from ..class_tables import read_classes
from . import common
from .common import Export, Picture

TABLES = ("classes.txt", "labels.txt", "labelmap.txt")
MACHINE = "obj_class_to_machine_color.json"
PLACES = ("masks_machine", "masks", "labels", "SegmentationClass", "annotations")


def found(source: Path) -> bool:
    """Whether the first map is a PNG; of a folder that holds a known folder of maps, the first in there."""
    return any(file.suffix == ".png" for file in _maps(source)[:1])


def read(source: Path) -> Export:
    """Raises S4Error for maps that hold other values than the named classes."""
    maps = _maps(source)
    ids, names, palette, given = _names(source, maps)
    pictures = [Picture(file.name, None, [], str(file), partial(_read, file, ids, given)) for file in maps]
    return Export(names, pictures, palette, True, tuple(maps))


def _maps(source: Path) -> list[Path]:
    folder = next((source / name for name in PLACES if (source / name).is_dir()), source)
    return common.files(folder, ".png", ".bmp", ".tif", ".tiff")


def _names(source: Path, maps: list[Path]) -> tuple[dict[int, int], list[str], list[tuple[int, int, int]] | None, str]:
    """(stored value -> class, names, colours or None, what says so)."""
    machine = next((f / MACHINE for f in (source, source.parent) if (f / MACHINE).is_file()), None)
    if machine:
        told = {
            str(name): int(code[0] if isinstance(code, list) else code)
            for name, code in common.read_json(machine).items()
        }
        names = sorted(told, key=told.get)
        ids = {told[name]: label for label, name in enumerate(names)}
        if 0 not in ids:  # what no object covers
            ids, names = {0: 0} | {value: label + 1 for value, label in ids.items()}, ["background", *names]
        return ids, names, None, str(machine)
    table = next((f / t for f in (source, source.parent) for t in TABLES if (f / t).is_file()), None)
    if table:
        found = read_classes(table)
        palette = list(found.palette) if found.given else None
        return {k: k for k in range(len(found.names))}, list(found.names), palette, str(table)
    values = np.unique(np.concatenate([np.unique(decode_label(str(file))) for file in maps]))
    high = int(values[values != VOID].max(initial=0))
    if high >= 64 or (high == 0 and VOID in values):
        raise S4Error(
            f"The maps of {source} store {', '.join(map(str, values[:6]))}{', ...' * (len(values) > 6)}: without a "
            "classes.txt beside them these are no class numbers 0, 1, 2, ... Write the names there, a line each. (One "
            "PNG of 0 and 255 for each class: form='per_class'.)"
        )
    return {k: k for k in range(high + 1)}, [f"class{k}" for k in range(high + 1)], None, "nothing"


def _read(file: Path, ids: dict[int, int], given: str) -> np.ndarray:
    stored = decode_label(str(file))
    table = np.full(256, VOID, np.uint8)
    for value, label in ids.items():
        table[value] = label
    wrong = sorted({int(v) for v in np.unique(stored)} - set(ids) - {VOID})
    if wrong:
        raise S4Error(
            f"{file} stores {', '.join(map(str, wrong[:5]))}, which {given} does not name ({len(ids)} classes)."
        )
    return table[stored]
