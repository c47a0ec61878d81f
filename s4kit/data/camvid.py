"""CamVid in the 11-class, 480 x 360 form of the SegNet tutorial: 367 train, 101 val, 233 test images."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import S4Error
from .catalog import Catalog, need_folder
from .palettes import CAMVID
from .sources import FileSource, cached, id_table

EXPECTED = "ROOT/train.txt, val.txt (test.txt) and the folders train, trainannot, val, valannot"
VOID_ID = 11


def open_camvid(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    val: str = "val",
) -> Catalog:
    """CamVid below `root`.

    Args:
        root: the folder `CamVid` of the tutorial (or its parent).
        size: resize at reading; 0.5 is the half resolution that small-GPU work uses.
        cache: keep decoded images in memory (323 MB at full size); by itself where it fits.
        val: the scored list: "val" or "test".

    Raises:
        S4Error: a list or folder is missing.
    """
    folder = need_folder(Path(root), "CamVid", EXPECTED)
    folder = folder / "CamVid" if (folder / "CamVid").is_dir() else folder
    train, scored = _source(folder, "train", size), _source(folder, val, size)
    return Catalog(
        name="camvid",
        classes=tuple(CAMVID),
        palette=tuple(CAMVID.values()),
        train=cached(train, cache),
        val=cached(scored, cache),
        crop=160,
        note="" if val == "val" else f"scored on {val}",
    )


def _source(folder: Path, split: str, size: float | int | None) -> FileSource:
    """The lists carry the absolute paths of their author: the file names are what counts."""
    lines = folder / f"{split}.txt"
    if not lines.is_file():
        found = ", ".join(sorted(e.name for e in os.scandir(folder))[:8]) or "nothing"
        raise S4Error(f"CamVid: {lines} is missing. Expected: {EXPECTED}. Found in {folder}: {found}.")
    names = [line.split()[0].rsplit("/", 1)[-1] for line in lines.read_text().splitlines() if line.strip()]
    if not names:
        raise S4Error(f"CamVid: {lines} is empty; fetch it again.")
    for part in (split, f"{split}annot"):
        present = {e.name for e in os.scandir(need_folder(folder / part, "CamVid", EXPECTED))}
        missing = [name for name in names if name not in present]
        if missing:
            raise S4Error(
                f"CamVid: {len(missing)} of {len(names)} files of {lines.name} are not in {folder / part} (first: "
                f"{missing[0]}). Run `s4kit data get camvid --root {folder}`: it fetches only what is missing."
            )
    table = id_table({**{i: i for i in range(len(CAMVID))}, VOID_ID: 255})
    stems = [os.path.splitext(name)[0] for name in names]
    images, labels = ([f"{part}/{n}" for n in names] for part in (split, f"{split}annot"))
    return FileSource(stems, images, labels, str(folder), table, size)
