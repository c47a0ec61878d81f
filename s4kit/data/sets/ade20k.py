"""ADE20K as the scene parsing challenge of 2016 has it: 150 classes, 20210 training and 2000 validation images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...errors import S4Error
from ..catalog import Catalog, need_folder, stems
from ..checking.look import spread
from ..decode import IMAGE_SUFFIXES, decode_label
from ..fetching.archives import ADE20K, Archive, obtain
from ..fetching.download import Progress
from ..palettes import ADE20K_CLASSES, distinct
from ..sources import FileSource, cached, id_table
from ..task import VOID

EXPECTED = "ROOT (or ROOT/ADEChallengeData2016) with images/{training,validation} and annotations/{training,validation}"
LOOKED_AT = 20  # maps that tell raw annotations from shifted ones


def open_ade20k(
    root: str | os.PathLike, size: float | int | None = None, cache: bool | None = None, stored: str = "auto"
) -> Catalog:
    """ADE20K below `root`; ids are "ADE_train_00000001".

    Args:
        root: the folder of images and annotations, or the one above.
        size, cache: see `load`.
        stored: what the maps hold. "raw": the challenge's own, 0 = other (void), 1..150 = classes; "shifted": as some
            releases prepare them, 0..149 and 255 = void; "auto": looks at some maps (only shifted ones hold 255).

    Raises:
        S4Error: a folder is missing or empty, or a validation image has no map.
    """
    folder = Path(root)
    folder = folder / "ADEChallengeData2016" if (folder / "ADEChallengeData2016").is_dir() else folder
    if stored not in ("auto", "raw", "shifted"):
        raise S4Error(f"stored={stored!r}: give 'raw' (0 = other, 1..150), 'shifted' (0..149, 255) or 'auto'.")
    notices: list[str] = []
    pairs = {split: _pairs(folder, split, notices) for split in ("training", "validation")}
    if stored == "auto":
        stored = _kind(folder, [*pairs["validation"][2], *pairs["training"][2]], notices)
    train, val = (FileSource(*pairs[split], str(folder), label_table(stored), size, exif="ignore") for split in pairs)
    unmasked = [name for name, label in zip(val.ids, val.labels) if label is None]
    if unmasked:
        raise S4Error(
            f"ADE20K: {len(unmasked)} validation images have no map in {folder / 'annotations/validation'} (first: "
            f"{unmasked[0]}.png). Unpack ADEChallengeData2016.zip again."
        )
    return Catalog(
        name="ade20k",
        classes=ADE20K_CLASSES,
        palette=distinct(150),
        train=cached(train, cache),
        val=cached(val, cache),
        crop=513,
        labelled="1/16",
        maskless=frozenset(row for row, label in enumerate(train.labels) if label is None),
        note=f"{stored} annotations",
        config={"stored": stored},
        notices=tuple(notices),
    )


def label_table(stored: str) -> np.ndarray:
    """(256,) from the stored id to the class: raw 1..150 become 0..149 and 0 void; 255 is then an error, as is 150 of
    shifted ones: most wrong choices end before the training."""
    if stored == "shifted":
        return id_table(150)
    table = id_table({0: VOID, **{number + 1: number for number in range(150)}})
    table[VOID] = -1
    return table


def _kind(folder: Path, labels: list[str | None], notices: list[str]) -> str:
    """What the maps hold: only shifted ones have a 255, only raw ones a 150, and 0 is rarer than 1 in these."""
    names = [name for name in labels if name is not None]
    pixels = np.zeros(256, np.int64)
    for name in spread(names, LOOKED_AT):
        stored = decode_label(str(folder / name))
        if (stored == VOID).any():
            return "shifted"
        pixels += np.bincount(stored.ravel(), minlength=256)[:256]
    if not pixels[150] and pixels[0] > pixels[1]:
        notices.append(
            f"the annotations are read as the challenge's own (0 = other, 1..150): {min(len(names), LOOKED_AT)} of "
            "them hold no 255; but they hold no 150 either, and more of 0 than of 1 (wall): if they are 0..149 pass "
            'stored="shifted"'
        )
    return "raw"


def _pairs(folder: Path, split: str, notices: list[str]) -> tuple[list[str], list[str], list[str | None]]:
    images = stems(need_folder(folder / "images" / split, "ADE20K", EXPECTED), IMAGE_SUFFIXES, notices)
    maps = stems(need_folder(folder / "annotations" / split, "ADE20K", EXPECTED), (".png",))
    if not images:
        raise S4Error(f"ADE20K: {folder / 'images' / split} holds no image. Expected: {EXPECTED}.")
    labels = [f"annotations/{split}/{maps[name]}" if name in maps else None for name in images]
    return list(images), [f"images/{split}/{file}" for file in images.values()], labels


def get_ade20k(
    root: str | os.PathLike, archives: Sequence[Archive] = (ADE20K,), progress: Progress | None = None
) -> Path:
    """Download the challenge's ADE20K (about 1 GB) to `root`.

    Raises:
        S4Error: as `archives.obtain`.
    """
    folder = Path(root)
    if not ((folder / "images").is_dir() and (folder / "annotations").is_dir()):  # laid out by hand: nothing to get
        obtain(folder, archives, progress)
    return folder
