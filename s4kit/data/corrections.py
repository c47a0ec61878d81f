"""Labels corrected by hand: a folder of index maps, what is known of each, and the source that reads them.

FOLDER holds `corrections.json` (classes, and the images that were labelled anyhow) and for each corrected image an
indexed PNG and, of the same name, a JSON: from which run and step, when, which pixels a hand has painted and how many.
Who painted is not asked. `load(..., labelled=FOLDER)` trains on both.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from ..errors import S4Error
from .decode import decode_map, id_table, map_ids
from .over import Over
from .task import Sample, Source

FILE, VERSION = "corrections.json", 1


@dataclass(frozen=True)
class Correction:
    """One corrected image.

    Attributes:
        id: of the image. file: its index map. painted: pixels of it that a hand has painted.
        about: all that the JSON beside it says.
    """

    id: str
    file: Path
    painted: int
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Corrections:
    """A folder of corrected labels.

    Attributes:
        classes: of the index maps. before: ids that were labelled without it. made: the corrections by id.
    """

    folder: Path
    classes: tuple[str, ...]
    before: tuple[str, ...]
    made: Mapping[str, Correction]

    @property
    def labelled(self) -> list[str]:
        """The images that were labelled anyhow, then the corrected ones."""
        return [*self.before, *self.made]

    def words(self, ids: Sequence[str]) -> str:
        """How many of these are corrected by hand, for a protocol; "" where none is."""
        hand = [self.made[name] for name in ids if name in self.made]
        pixels = sum(one.painted for one in hand)
        return f"{len(hand)} corrected by hand ({pixels:,} pixels painted)" if hand else ""


def is_corrections(labelled: Any) -> bool:
    """Whether `labelled` is a folder of corrected labels."""
    return isinstance(labelled, str | os.PathLike) and (Path(labelled) / FILE).is_file()


def read_corrections(folder: str | os.PathLike) -> Corrections:
    """The corrections in a folder; the maps themselves are read later.

    Raises:
        S4Error: it is none, or damaged.
    """
    folder = Path(folder)
    index = _json(folder / FILE)
    if index.get("version") != VERSION:
        raise S4Error(f"{folder / FILE} has version {index.get('version')!r}; this kit reads {VERSION}.")
    made = {}
    for file in sorted(folder.glob("*.json")):
        if file.name == FILE:
            continue
        about = _json(file)
        try:
            one = Correction(str(about["id"]), file.with_suffix(".png"), int(about["painted"]), about)
        except (KeyError, TypeError, ValueError) as why:
            raise S4Error(f"{file} is damaged ({why!r}): correct that image again, or remove the file.") from None
        if file.name != f"{stem(one.id)}.json":
            raise S4Error(f"{file} is of the image {one.id!r}, whose files are called {stem(one.id)!r}: rename both.")
        made[one.id] = one
    before = tuple(str(name) for name in index.get("labelled", ()) if name not in made)
    return Corrections(folder, tuple(map(str, index.get("classes", ()))), before, made)


def stem(id: str) -> str:
    """The name of an image's files: one for each id, without folders in it."""
    return quote(id, safe=" ").replace(".", "%2E")


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as why:
        raise S4Error(f"{file} is missing or damaged ({why}).") from None
    if not isinstance(found, dict):
        raise S4Error(f"{file} is damaged: it holds no object.")
    return found


class Corrected(Over):
    """A source some of whose labels are corrected.

    Args:
        source: the images, and the labels of the others.
        files: the index map of each corrected row.
        classes: number of classes.
    """

    def __init__(self, source: Source, files: Mapping[int, str], classes: int) -> None:
        super().__init__(source)
        self.files, self.classes = dict(files), classes

    def read(self, row: int, label: bool = True) -> Sample:
        if not label or row not in self.files:
            return self.source.read(row, label)
        sample = self.source.read(row, label=False)
        return replace(sample, label=torch.from_numpy(self._map(row, tuple(sample.image.shape[1:]))))

    def view(self, row: int) -> Sample:
        return self.read(row) if row in self.files else super().view(row)

    def label(self, row: int) -> np.ndarray | None:
        """(H, W) uint8 classes; None without a label."""
        target = self.read(row).label
        return None if target is None else target.numpy()

    def label_path(self, row: int) -> str | None:
        """The file of the label; None where there is none."""
        behind = getattr(self.source, "label_path", lambda row: None)
        return self.files[row] if row in self.files else behind(row)

    def _map(self, row: int, shape: tuple[int, int]) -> np.ndarray:
        path = self.files[row]
        target = map_ids(decode_map(path)[0], id_table(self.classes), path)
        if target.shape != shape:
            raise S4Error(
                f"{path} was corrected at {target.shape[1]} x {target.shape[0]} pixels, but {self.ids[row]} is read at "
                f"{shape[1]} x {shape[0]} (width x height): load the data with the same `size`, or correct it again."
            )
        return target


def corrected(source: Source, rows: Sequence[int], found: Corrections, classes: Sequence[str]) -> Source:
    """`source` with the corrected labels of these rows; each of them is read once, so that a fault shows now.

    Raises:
        S4Error: the folder is of other classes, or a map is missing, damaged or of another size than its image.
    """
    if found.classes != tuple(classes):
        raise S4Error(
            f"{found.folder} was made for the classes {', '.join(found.classes) or '(none)'}; the data set has "
            f"{', '.join(classes)}."
        )
    files = {row: str(found.made[source.ids[row]].file) for row in rows if source.ids[row] in found.made}
    if not files:
        return source
    mended = Corrected(source, files, len(classes))
    for row in files:
        mended.read(row)
    return mended
