"""An export is written: photos in the frame of their labels, maps in the ids of the table, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ....errors import S4Error
from ...decode import IMAGE_SUFFIXES
from ...palettes import indexed
from ...task import VOID
from .common import Export, Picture, some

ORIENTATION = 0x0112  # the EXIF tag


@dataclass
class Table:
    """Names and colours as written; the id of each name of the export (255 = void), names and kinds left out.

    Attributes:
        rest: the id of what no shape covers.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ids: dict[str, int]
    rest: int
    left_out: frozenset[str]


def write_folder(
    out: Path,
    export: Export,
    table: Table,
    placed: dict[str, Picture],
    photos: dict[str, Path],
    parts: dict[str, str],
    said: list[str],
) -> dict[str, str]:
    """Write images, maps and classes.txt; the part of each photo that was written.

    Args:
        placed: what the export says of the labelled photos. parts: train, val or unlabelled.
    """
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        written = _Writer(part, export, table, placed, parts, said).write(photos)
        if out.exists():
            out.rmdir()
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return written


class _Writer:
    def __init__(
        self,
        out: Path,
        export: Export,
        table: Table,
        placed: dict[str, Picture],
        parts: dict[str, str],
        said: list[str],
    ) -> None:
        self.out, self.table, self.placed, self.parts, self.said = out, table, placed, parts, said
        self.turned: list[str] = []
        self.counts = np.zeros(VOID + 1, np.int64)
        self.lookup = np.full(VOID + 1, VOID, np.uint8)  # from the export's own numbers
        for label, name in enumerate(export.classes):
            self.lookup[label] = table.ids.get(name, table.rest)

    def write(self, photos: dict[str, Path]) -> dict[str, str]:
        names, broken = _names(photos), []
        for path, file in photos.items():
            try:
                image = self._photo(file, self.placed.get(path))
            except S4Error:
                raise
            except (OSError, SyntaxError, ValueError) as why:
                if path in self.placed:
                    raise S4Error(f"{file} cannot be read as a photo ({why}).") from None
                broken.append(path)
                continue
            self._save_photo(file, image, self.parts[path], names[path])
            if path in self.placed:
                label = self._label(self.placed[path], image.size[::-1])
                self.counts += np.bincount(label.ravel(), minlength=VOID + 1)
                self._save_map(label, self.parts[path], names[path])
        rows = zip(self.table.names, self.table.palette)
        lines = [f"{name} {' '.join(map(str, colour))}" for name, colour in rows]
        (self.out / "classes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._say(broken)
        return {path: part for path, part in self.parts.items() if path not in broken}

    # ---- photos ----

    def _photo(self, file: Path, picture: Picture | None) -> Image.Image:
        """The photo in the frame in which it was labelled; upright where both would do, or nothing says."""
        image = Image.open(file)
        image.load()
        if image.getexif().get(ORIENTATION, 1) == 1:
            return image
        upright, size = ImageOps.exif_transpose(image), None
        if picture:
            size = picture.whole().shape if picture.whole else picture.size
        if size is not None and size != upright.size[::-1] and size == image.size[::-1]:
            return Image.fromarray(np.asarray(image.convert("RGB")))
        self.turned.append(file.name)
        return Image.fromarray(np.asarray(upright.convert("RGB")))

    def _save_photo(self, file: Path, image: Image.Image, part: str, name: str) -> None:
        """The file as it is where the kit reads it and no tag turns it, else its pixels as PNG."""
        folder = self.out / "images" / part
        folder.mkdir(parents=True, exist_ok=True)
        if getattr(image, "filename", "") and file.suffix.lower() in IMAGE_SUFFIXES:
            shutil.copyfile(file, folder / f"{name}{file.suffix.lower()}")
        else:
            image.convert("RGB").save(folder / f"{name}.png")

    # ---- maps ----

    def _label(self, picture: Picture, shape: tuple[int, int]) -> np.ndarray:
        """(H, W) uint8 of the ids as written."""
        whole = self.lookup[picture.whole()] if picture.whole else None
        size = picture.size if whole is None else whole.shape
        if size is not None and size != shape:
            raise S4Error(
                f"{picture.where}: {picture.image} was labelled at {size[1]} x {size[0]} pixels, its photo has "
                f"{shape[1]} x {shape[0]} (width x height). Is it the photo that was labelled?"
            )
        if whole is not None:
            return whole
        label = np.full(shape, self.table.rest, np.uint8)
        for one in picture.shapes:
            if not self.table.left_out & {one.name, one.kind}:
                one.paint(label, self.table.ids[one.name])
        return label

    def _save_map(self, label: np.ndarray, part: str, name: str) -> None:
        folder = self.out / "labels" / part
        folder.mkdir(parents=True, exist_ok=True)
        indexed(label, self.table.palette).save(folder / f"{name}.png")

    # ---- words ----

    def _say(self, broken: Sequence[str]) -> None:
        dropped: dict[str, int] = {}
        for shape in (shape for picture in self.placed.values() for shape in picture.shapes):
            if self.table.left_out & {shape.name, shape.kind}:
                what = shape.name if shape.name in self.table.left_out else shape.kind
                dropped[what] = dropped.get(what, 0) + 1
        if dropped:
            self.said.append("left out: " + ", ".join(f"{many} of {name}" for name, many in dropped.items()))
        if self.turned:
            many = f"{len(self.turned)} photos are turned by their EXIF tag"
            self.said.append(f"{many} and were written upright ({some(self.turned)})")
        if broken:
            self.said.append(f"{len(broken)} photos cannot be read and are left out ({some(broken)})")
        if absent := [name for name, many in zip(self.table.names, self.counts) if not many]:
            self.said.append(f"no pixel of {some(absent)}")
        if self.counts[VOID]:
            self.said.append(f"{100 * self.counts[VOID] / self.counts.sum():.1f} % of the labelled pixels are void")


def _names(photos: dict[str, Path]) -> dict[str, str]:
    """A name for each photo without folder and ending.

    Raises:
        S4Error: two are equal.
    """
    names = {path: os.path.splitext(path)[0].replace("/", "_") for path in photos}
    taken: dict[str, str] = {}
    for path, name in names.items():
        if name.casefold() in taken:
            raise S4Error(f"{taken[name.casefold()]} and {path} would both be called {name}; rename one.")
        taken[name.casefold()] = path
    return names
