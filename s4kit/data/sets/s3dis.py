"""S3DIS (Armeni et al., CVPR 2016): scanned rooms of six areas of three buildings, 13 classes, all of single objects.

Of each room a folder Annotations with a text file per object, a point per line: x y z r g b; a file's name is the class
and a number. So what is read of a room are the files of its objects, one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import S4Error
from ..catalog import Catalog, need_folder
from ..palettes import distinct
from ..points.clouds import RoomEvaluation, numbers
from ..points.scanned import ScannedSource

CLASSES = (
    "ceiling", "floor", "wall", "beam", "column", "window", "door", "table", "chair", "sofa", "bookcase", "board",
    "clutter",
)  # fmt: skip
AREAS = tuple(range(1, 7))
LEAST = 0.0005  # share of a room's points, from which an object counts
RELEASE = "Stanford3dDataset_v1.2_Aligned_Version"
EXPECTED = "Area_{1..6}/ROOM/Annotations/*.txt, as in the archive " + RELEASE + ".zip"
MANUAL = (
    "S3DIS needs a form to be filled in: ask for it at http://buildingparser.stanford.edu/dataset.html, download "
    f"{RELEASE}.zip, unpack it, and name the folder that holds Area_1 to Area_6; the file "
    "Area_5/hallway_6/Annotations/ceiling_1.txt has a stray character in one line, which must be taken out"
)


class S3DISSource(ScannedSource):
    """Rooms below a folder; ids are "Area_1/office_3"."""

    def __init__(self, ids: Sequence[str], folder: Path, points: int, cache: bool | None) -> None:
        super().__init__(ids, points, range(len(CLASSES)), cache)
        self.folder = str(folder)

    def files(self, row: int, label: bool) -> list[str]:
        folder = Path(self.folder, self.ids[row], "Annotations")
        found = sorted(map(str, folder.glob("*.txt")))
        if not found:
            raise S4Error(f"{folder} holds no *.txt. Unpack {RELEASE}.zip again.")
        return found

    def places(self, row: int) -> np.ndarray:
        return np.concatenate([_points(file) for file in self.files(row, False)])

    def annotation(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        files = self.files(row, True)
        names = [Path(file).stem.rpartition("_")[0] for file in files]
        classes = [CLASSES.index(name if name in CLASSES else CLASSES[-1]) for name in names]  # stairs: clutter
        counts = [len(_points(file)) for file in files]
        return np.repeat(classes, counts), np.repeat(range(1, len(files) + 1), counts)


def _points(file: str) -> np.ndarray:
    """(M, 3) the places in a file."""
    return numbers(Path(file), 6)[:, :3]


def open_s3dis(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    points: int = 40_000,
    area: int = 5,
) -> Catalog:
    """S3DIS below `root`.

    Args:
        root: the folder with Area_1 to Area_6, or the one that holds it.
        size: not used by it. cache: False keeps what was drawn of a room in memory alone.
        points: of each room, drawn once and for all of its some million; scores are over these.
        area: the one that is scored, 1 to 6; the others are learnt from.

    Raises:
        S4Error: an area is missing, or an unknown one.
    """
    if size is not None:
        raise S4Error(f"s3dis has no pixels: leave out size={size}; points={points} says how many points there are.")
    if area not in AREAS:
        raise S4Error(f"S3DIS has no area {area!r}: 1 to 6.")
    folder = need_folder(Path(root), "S3DIS", EXPECTED)
    folder = folder / RELEASE if (folder / RELEASE).is_dir() else folder
    rooms = {number: _rooms(folder, number) for number in AREAS}
    learnt = [name for number, names in rooms.items() if number != area for name in names]
    return Catalog(
        name="s3dis",
        classes=CLASSES,
        palette=distinct(len(CLASSES)),
        train=S3DISSource(learnt, folder, points, cache),
        val=S3DISSource(rooms[area], folder, points, cache),
        crop=None,
        evaluation=RoomEvaluation(tuple(range(len(CLASSES))), max(1, round(LEAST * points))),
        labelled=0.1,
        note=f"scored on area {area}, {points} points a room",
    )


def _rooms(folder: Path, number: int) -> list[str]:
    area = need_folder(folder / f"Area_{number}", "S3DIS", EXPECTED)
    found = sorted(f"{area.name}/{entry.name}" for entry in os.scandir(area) if (Path(entry) / "Annotations").is_dir())
    if not found:
        raise S4Error(f"S3DIS: no folder of {area} holds Annotations. Expected: {EXPECTED}.")
    return found
