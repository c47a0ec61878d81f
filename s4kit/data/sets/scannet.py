"""ScanNet (Dai et al., CVPR 2017), second version: scanned rooms, 20 classes, of which 18 have objects.

Of each scan the vertices of the small mesh (..._vh_clean_2.ply), their NYU40 classes (....labels.ply), the segment that
each belongs to (....0.010000.segs.json), and which segments make up an object (.aggregation.json).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import S4Error
from ..catalog import Catalog, need_folder, shared_images
from ..palettes import distinct
from ..points.clouds import RoomEvaluation
from ..points.scanned import ScannedSource
from ..task import VOID

CLASSES = {  # by their number among the NYU40 classes; all others are void
    "wall": 1, "floor": 2, "cabinet": 3, "bed": 4, "chair": 5, "sofa": 6, "table": 7, "door": 8, "window": 9,
    "bookshelf": 10, "picture": 11, "counter": 12, "desk": 14, "curtain": 16, "refrigerator": 24,
    "shower curtain": 28, "toilet": 33, "sink": 34, "bathtub": 36, "other furniture": 39,
}  # fmt: skip
THINGS = tuple(range(2, len(CLASSES)))
VERTICES = 100  # of an object that counts, of some 150,000 of a scan
SCAN = 150_000
MESH, LABELS, SEGMENTS, OBJECTS = (
    "_vh_clean_2.ply", "_vh_clean_2.labels.ply", "_vh_clean_2.0.010000.segs.json", ".aggregation.json",
)  # fmt: skip
EXPECTED = f"scans/scene0000_00/scene0000_00{{{MESH},{LABELS},{SEGMENTS},{OBJECTS}}} and scannetv2_{{train,val}}.txt"
MANUAL = (
    "ScanNet needs a signed agreement: fill in the terms of use at http://www.scan-net.org from an address of your "
    "institution and send them to scannet@googlegroups.com; with the download script that comes back fetch the types "
    f"{MESH}, {LABELS}, {SEGMENTS} and {OBJECTS} of release v2; put scannetv2_train.txt and scannetv2_val.txt of "
    "https://github.com/ScanNet/ScanNet (Tasks/Benchmark) beside the folder scans"
)
KINDS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


class ScanNetSource(ScannedSource):
    """Scans below a folder."""

    def __init__(self, ids: Sequence[str], folder: Path, points: int, cache: bool | None) -> None:
        super().__init__(ids, points, THINGS, cache)
        self.folder = str(folder)
        self.table = np.full(VOID + 1, VOID)
        self.table[list(CLASSES.values())] = range(len(CLASSES))

    def _path(self, row: int, ending: str) -> str:
        return os.path.join(self.folder, self.ids[row], self.ids[row] + ending)

    def files(self, row: int, label: bool) -> list[str]:
        return [self._path(row, ending) for ending in ((LABELS, SEGMENTS, OBJECTS) if label else (MESH,))]

    def places(self, row: int) -> np.ndarray:
        vertices = vertices_of(self._path(row, MESH), ("x", "y", "z"))
        return np.stack([vertices[axis] for axis in "xyz"], 1).astype(np.float64)

    def annotation(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        numbers = vertices_of(self._path(row, LABELS), ("label",))["label"]
        segments, groups = _read(self._path(row, SEGMENTS)), _read(self._path(row, OBJECTS))
        try:
            segment = np.asarray(segments["segIndices"], np.int64)
            objects = [(int(one["objectId"]) + 1, list(map(int, one["segments"]))) for one in groups["segGroups"]]
        except (KeyError, TypeError, ValueError) as why:
            raise S4Error(f"{self.ids[row]}: its objects cannot be read ({why!r}). Fetch the scan again.") from None
        if len(segment) != len(numbers):
            raise S4Error(
                f"{self.ids[row]}: {len(numbers)} vertices in *{LABELS} but {len(segment)} in *{SEGMENTS}. Fetch the "
                "scan again, all files of one release."
            )
        found, at = np.unique(segment, return_inverse=True)
        number = np.zeros(len(found), np.int64)
        for name, theirs in objects:
            number[np.isin(found, theirs)] = name
        return self.table[numbers.astype(np.int64).clip(0, VOID)], number[at]


def open_scannet(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    points: int = 40_000,
) -> Catalog:
    """ScanNet below `root`.

    Args:
        root: the folder with scans/ and the two lists.
        size: not used by it. cache: False keeps what was drawn of a scan in memory alone.
        points: of each scan, drawn once and for all of its some 150,000 vertices; scores are over these.

    Raises:
        S4Error: a list, a folder or a scan is missing.
    """
    if size is not None:
        raise S4Error(f"scannet has no pixels: leave out size={size}; points={points} says how many points there are.")
    folder = need_folder(Path(root), "ScanNet", EXPECTED)
    scans = need_folder(folder / "scans", "ScanNet", EXPECTED)
    train, val = (ScanNetSource(_listed(folder, scans, part), scans, points, cache) for part in ("train", "val"))
    return Catalog(
        name="scannet",
        classes=tuple(CLASSES),
        palette=distinct(len(CLASSES)),
        train=train,
        val=val,
        crop=None,
        evaluation=RoomEvaluation(THINGS, max(1, round(VERTICES * points / SCAN))),
        labelled=0.1,
        note=f"{points} points a scan",
        notices=shared_images(train, val),
    )


def _listed(folder: Path, scans: Path, part: str) -> list[str]:
    file = folder / f"scannetv2_{part}.txt"
    if not file.is_file():
        file = folder / "Tasks" / "Benchmark" / f"scannetv2_{part}.txt"
    try:
        ids = file.read_text("utf-8").split()
    except FileNotFoundError:
        raise S4Error(f"ScanNet: scannetv2_{part}.txt is not in {folder}. Expected: {EXPECTED}.") from None
    gone = [name for name in ids if not (scans / name / f"{name}{MESH}").is_file()]
    if not ids or gone:
        what = f"{len(gone)} of the {len(ids)} scans of {file.name} are missing (first: {gone[0]})" if gone else (
            f"{file.name} is empty")  # fmt: skip
        raise S4Error(f"ScanNet: {what} in {scans}. Fetch them, or take them out of the list.")
    return ids


def _read(path: str) -> Any:
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise S4Error(f"{path} is missing: fetch it, or leave the scan out of the labelled list.") from None
    except ValueError as why:
        raise S4Error(f"{path} is damaged ({why}): fetch it again.") from None


def vertices_of(path: str, wanted: Sequence[str]) -> np.ndarray:
    """(M,) the vertices of a PLY file, with the wanted properties among their fields.

    Raises:
        S4Error: the file is missing, cut off, of another format or without one of these.
    """
    try:
        held = Path(path).read_bytes()
    except FileNotFoundError:
        raise S4Error(f"{path} is missing: fetch it, or leave the scan out of its list.") from None
    head, _, body = held.partition(b"end_header\n")
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    if not body or lines[:1] != [["ply"]] or ["format", "binary_little_endian", "1.0"] not in lines:
        raise S4Error(f"{path} is no binary (little endian) PLY file, or cut off: fetch it again.")
    elements = [k for k, line in enumerate(lines) if line[:1] == ["element"]]
    first = lines[elements[0]] if elements else []
    fields = lines[elements[0] + 1 : (*elements, len(lines))[1]] if elements else []
    kinds = [(line[2], f"<{KINDS[line[1]]}") for line in fields if len(line) == 3 and line[1] in KINDS]
    if first[1:2] != ["vertex"] or set(wanted) - {name for name, _ in kinds} or len(kinds) < len(fields):
        raise S4Error(f"{path} does not begin with vertices that have {', '.join(wanted)}: is it another file?")
    kind, count = np.dtype(kinds), int(first[2])
    if len(body) < count * kind.itemsize or not count:
        raise S4Error(f"{path} is cut off: of its {count} vertices {len(body) // kind.itemsize} are there.")
    return np.frombuffer(body, kind, count)
