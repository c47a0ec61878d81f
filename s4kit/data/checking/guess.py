"""How many classes a folder of index maps has, where nobody says it: all maps are read, and odd answers refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...errors import S4Error
from ..decode import decode_label
from ..task import VOID

MANY = 16  # guessed classes from which on smoothed edges are looked for
SLOW = 1000  # maps whose reading is announced
THIN = 0.1  # share of a value's pixels with equal neighbours, below which it is an edge between others
LOOKED_AT = 8  # maps that are looked at for that


def guess_classes(base: Path, labels: Sequence[str]) -> int:
    """The number of classes in the maps: the highest id below 255, plus one.

    Raises:
        S4Error: a map cannot be read, there is no class but 0, an id is above 254, most ids up to the highest have no
            pixel, or the values are grey levels between ids (smoothed or compressed masks).
    """
    if len(labels) > SLOW:
        print(f"Reading {len(labels)} label maps for their class ids; classes.txt would spare it.", file=sys.stderr)
    with ThreadPoolExecutor(4) as pool:
        values = sorted(set().union(*pool.map(lambda name: _values(base / name), labels)) - {VOID})
    if not values or values == [0]:
        raise S4Error(
            f"The label maps of {base} hold no class but 0 (and 255, which means void). For binary masks of 0 and 255 "
            "pass ids={0: 0, 255: 1}; else name the classes in classes.txt."
        )
    if values[-1] >= VOID or values[0] < 0:
        raise S4Error(
            f"The label maps of {base} hold ids from {values[0]} to {values[-1]}; class ids are 0..254, 255 is void."
        )
    count = values[-1] + 1
    if len(values) > MANY and _smoothed([base / name for name in labels[:LOOKED_AT]]):
        raise S4Error(
            f"The label maps of {base} hold {len(values)} values ({_some(values)}), most of them only along edges: "
            "smoothed, resized or JPEG-compressed masks. Export them again without, or name the classes in classes.txt."
        )
    if count > 2 * len(values):
        raise S4Error(
            f"The label maps of {base} hold the ids {_some(values)}: {count - len(values)} of the {count} classes up "
            f"to the highest have no pixel. {_mend(values)}"
        )
    return count


def _values(path: Path) -> set[int]:
    stored = decode_label(str(path))
    if stored.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(stored.ravel(), minlength=256)).tolist())
    return set(np.unique(stored).tolist())


def _smoothed(paths: Sequence[Path]) -> bool:
    """Whether most values lie along edges only: hardly a pixel has its own value to the right and below."""
    pixels, inner = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for path in paths:
        stored = decode_label(str(path))
        here = stored[:-1, :-1]
        pixels += np.bincount(here.ravel(), minlength=256)
        inner += np.bincount(here[(here == stored[:-1, 1:]) & (here == stored[1:, :-1])].ravel(), minlength=256)
    present = pixels[:VOID] > 0
    return bool((inner[:VOID][present] < THIN * pixels[:VOID][present]).mean() > 0.5)


def _mend(values: Sequence[int]) -> str:
    if len(values) > 24:
        return "Name the classes in classes.txt, or map the ids: ids={stored: class, ...}."
    ids = {value: number for number, value in enumerate(values)}
    words = f"Name the classes in classes.txt, or pass ids={ids}"
    if values[:-1] == list(range(len(values) - 1)):
        words += f"; where {values[-1]} means void, ids={ids | {values[-1]: VOID}}"
    return words + "."


def _some(values: Sequence[int], most: int = 8) -> str:
    return ", ".join(map(str, values[:most])) + (", ..." if len(values) > most else "")
