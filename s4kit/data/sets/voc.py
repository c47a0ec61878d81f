"""PASCAL VOC 2012 segmentation, with the SBD masks where they are present."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import S4Error
from ..catalog import Catalog, need_folder, shared_images, stems
from ..decode import IMAGE_SUFFIXES, LABEL_SUFFIXES
from ..fetching.archives import SBD, VOC, Archive, count_files, obtain
from ..fetching.download import Progress
from ..palettes import VOC_CLASSES, voc_palette
from ..sources import FileSource, cached
from ..splitting.lists import bare, candidates, listed
from .voc_merge import merge_sbd

EXPECTED = (
    "ROOT (or ROOT/VOC2012, ROOT/VOCdevkit/VOC2012) with the folders JPEGImages, SegmentationClass, "
    "ImageSets/Segmentation, and SegmentationClassAug for the SBD masks"
)
PLACES = ("", "VOC2012", "VOCdevkit/VOC2012")
MASKS = {
    "voc-first": ("SegmentationClass", "SegmentationClassAug"),
    "aug": ("SegmentationClassAug", "SegmentationClass"),
    "sbd-first": ("SegmentationClassSBD", "SegmentationClass"),
    "voc": ("SegmentationClass",),
}


def open_voc(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    train: str | None = None,
    val: str = "val",
    masks: str = "voc-first",
) -> Catalog:
    """VOC 2012 below `root`.

    Args:
        root: the folder that holds JPEGImages, or one or two levels above it.
        size, cache: see `load`.
        train: the list of training images in ImageSets/Segmentation; by default "trainaug" (10582, the list that
            comes with the SBD masks) where present, else "train" (1464).
        val: the scored list.
        masks: where an image's mask is taken from, the first folder that has it. "voc-first": VOC's own, drawn finely
            and with void borders, then SBD's (SegmentationClassAug): what the published protocols, classic and blended
            alike, train on. "aug": SegmentationClassAug, whatever a release put there, then VOC's. "sbd-first": SBD's
            (SegmentationClassSBD), then VOC's. "voc": VOC's own alone. Validation masks are always VOC's own first.

    Images of the list without any mask are used unlabelled only.

    Raises:
        S4Error: a folder, list or image is missing.
    """
    folder = _find(Path(root))
    lists = need_folder(folder / "ImageSets" / "Segmentation", "VOC", EXPECTED)
    train = train or ("trainaug" if (lists / "trainaug.txt").is_file() else "train")
    images = stems(folder / "JPEGImages", IMAGE_SUFFIXES)
    if masks not in MASKS:
        raise S4Error(f"masks={masks!r}: VOC's masks are taken {', '.join(MASKS)}.")
    if masks == "sbd-first":
        need_folder(folder / "SegmentationClassSBD", "VOC", "SBD's masks; s4kit.data.merge_sbd makes them")
    used = _source(folder, lists, train, images, _masks(folder, MASKS[masks]), size)
    scored = _source(folder, lists, val, images, _masks(folder, MASKS["voc-first"]), size)
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
        note=f"{train}.txt, masks {masks}",
        config={"train": train, "masks": masks},
        notices=shared_images(used, scored),
    )


def _masks(folder: Path, parts: Sequence[str]) -> dict[str, str]:
    """{id: mask} of the first of the folders that has it."""
    found: dict[str, str] = {}
    for part in reversed(parts):
        if (folder / part).is_dir():
            found |= {stem: f"{part}/{name}" for stem, name in stems(folder / part, LABEL_SUFFIXES).items()}
    return found


def _placed(root: Path) -> Path | None:
    return next((root / below for below in PLACES if (root / below / "JPEGImages").is_dir()), None)


def _find(root: Path) -> Path:
    return _placed(root) or need_folder(root / "JPEGImages", "VOC", EXPECTED)


def _source(
    folder: Path, lists: Path, name: str, images: dict[str, str], masks: dict[str, str], size: float | int | None
) -> FileSource:
    path = lists / f"{name}.txt"
    if not path.is_file():
        present = ", ".join(sorted(p.stem for p in lists.glob("*.txt"))) or "none"
        raise S4Error(f"VOC: the list {path} is missing; lists there: {present}.")
    every = list(images)
    rows, missing = listed(path, every, [f"JPEGImages/{images[i]}" for i in every])
    if missing:
        raise S4Error(
            f"VOC: {len(missing)} of the {len(rows) + len(missing)} images of {path.name} are not in "
            f"{folder / 'JPEGImages'} (first: {bare(candidates(missing[0])[-1])}.jpg). Unpack "
            "VOCtrainval_11-May-2012.tar there again."
        )
    ids = [every[row] for row in rows]
    paths = [f"JPEGImages/{images[i]}" for i in ids], [masks.get(i) for i in ids]
    return FileSource(ids, *paths, str(folder), 21, size, exif="ignore")


def get_voc(
    root: str | os.PathLike,
    masks: str = "voc-first",
    archives: tuple[Archive, Archive] = (VOC, SBD),
    all_masks: int = 12031,
    progress: Progress | None = None,
) -> Path:
    """Download VOC 2012 (2.0 GB) and SBD (1.4 GB) to `root` and merge their masks.

    What is there stays: a VOC laid out by hand is only completed by SBD's masks, and a SegmentationClassAug with all
    12031 masks, such as the releases of papers have it, by nothing.

    Args:
        root: the folder to fill.
        masks: how to merge, see `voc_merge.merge_sbd`.
        archives: what is fetched: VOC, SBD.
        all_masks: how many masks the merged folder has.
        progress: called with (done, of how many, of what).

    Raises:
        S4Error: as `archives.obtain` and `merge_sbd`.
    """
    folder = Path(root)
    placed = _placed(folder)
    if placed in (None, folder / PLACES[-1]):
        obtain(folder, archives[:1], progress)
        placed = folder / PLACES[-1]
    merged = count_files(placed / "SegmentationClassAug") >= all_masks
    if masks != "voc-first" or not merged or not (placed / "ImageSets/Segmentation/trainaug.txt").is_file():
        obtain(folder, archives[1:], progress)
        merge_sbd(placed, folder, masks, progress=progress)
    return folder
