"""PASCAL VOC 2012 segmentation, with the SBD masks where they are present."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import S4Error
from .catalog import Catalog, need_folder, stems
from .decode import IMAGE_SUFFIXES, LABEL_SUFFIXES
from .palettes import VOC_CLASSES, voc_palette
from .sources import FileSource, cached

EXPECTED = (
    "ROOT (or ROOT/VOC2012, ROOT/VOCdevkit/VOC2012) with the folders JPEGImages, SegmentationClass, "
    "ImageSets/Segmentation, and SegmentationClassAug for the SBD masks"
)


def open_voc(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    train: str | None = None,
    val: str = "val",
) -> Catalog:
    """VOC 2012 below `root`.

    Args:
        root: the folder that holds JPEGImages, or one or two levels above it.
        size, cache: see `load`.
        train: the list of training images in ImageSets/Segmentation; by default "trainaug" (10582, the list that
            comes with the SBD masks) where present, else "train" (1464).
        val: the scored list.

    A mask is taken from SegmentationClass and, if it is not there, from SegmentationClassAug. Images of the list
    without any mask are used unlabelled only.

    Raises:
        S4Error: a folder, list or image is missing.
    """
    folder = _find(Path(root))
    lists = need_folder(folder / "ImageSets" / "Segmentation", "VOC", EXPECTED)
    train = train or ("trainaug" if (lists / "trainaug.txt").is_file() else "train")
    images = stems(folder / "JPEGImages", IMAGE_SUFFIXES)
    masks = {
        stem: f"{part}/{name}"
        for part in ("SegmentationClassAug", "SegmentationClass")  # the second wins: drawn by hand, with void borders
        if (folder / part).is_dir()
        for stem, name in stems(folder / part, LABEL_SUFFIXES).items()
    }
    used = _source(folder, lists, train, images, masks, size)
    scored = _source(folder, lists, val, images, masks, size)
    unmasked = [name for name, label in zip(scored.ids, scored.labels) if label is None]
    if unmasked:
        raise S4Error(
            f"VOC: {len(unmasked)} images of {val}.txt have no mask in SegmentationClass ({unmasked[0]}.png)."
        )
    return Catalog(
        name="voc",
        classes=VOC_CLASSES,
        palette=voc_palette(),
        train=cached(used, cache),
        val=cached(scored, cache),
        crop=321,
        maskless=frozenset(row for row, label in enumerate(used.labels) if label is None),
        note=f"{train}.txt",
        config={"train": train},
    )


def _find(root: Path) -> Path:
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (folder / "JPEGImages").is_dir():
            return folder
    return need_folder(root / "JPEGImages", "VOC", EXPECTED)


def _source(
    folder: Path, lists: Path, name: str, images: dict[str, str], masks: dict[str, str], size: float | int | None
) -> FileSource:
    path = lists / f"{name}.txt"
    if not path.is_file():
        present = ", ".join(sorted(p.stem for p in lists.glob("*.txt"))) or "none"
        raise S4Error(f"VOC: the list {path} is missing; lists there: {present}.")
    ids = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    if not ids:
        raise S4Error(f"VOC: the list {path} is empty.")
    missing = [i for i in ids if i not in images]
    if missing:
        raise S4Error(
            f"VOC: {len(missing)} of the {len(ids)} images of {path.name} are not in {folder / 'JPEGImages'} "
            f"(first: {missing[0]}.jpg). Unpack VOCtrainval_11-May-2012.tar there again."
        )
    return FileSource(ids, [f"JPEGImages/{images[i]}" for i in ids], [masks.get(i) for i in ids], str(folder), 21, size)
