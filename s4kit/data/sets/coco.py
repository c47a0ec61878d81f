"""COCO 2017 as 81 classes: background and the 80 things."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import S4Error
from ..catalog import Catalog, need_folder, stems
from ..decode import IMAGE_SUFFIXES
from ..fetching.archives import COCO, Archive, count_files, obtain
from ..fetching.download import Progress
from ..objects import MaskEvaluation, ObjectFiles
from ..palettes import COCO_CLASSES, voc_palette
from ..sources import FileSource, cached
from ..task import Evaluation
from .coco_masks import PARTS, make_coco_masks

EXPECTED = "ROOT/train2017/*.jpg, ROOT/val2017/*.jpg and ROOT/masks/*.png (or ROOT/masks/{train2017,val2017}/*.png)"


def open_coco(
    root: str | os.PathLike,
    size: float | int | None = None,
    cache: bool | None = None,
    masks: str | None = None,
    instances: bool = False,
) -> Catalog:
    """COCO 2017 below `root`; ids are the 12 digits of the images ("000000000009").

    Args:
        root: the folder that holds train2017 and val2017 (or `images` that does).
        size, cache: see `load`.
        masks: the folder of index maps, relative to `root`: 0 = background, 1..80. `s4kit data get coco` makes them
            from COCO's instances (see `coco_masks`); ready-made ones of a release fit, too. With `instances` the folder
            of maps of objects, which `make_coco_masks(root, objects=True)` makes. By default "masks" or "objects".
        instances: the single objects are the task, and are scored.

    Training images without a map are used unlabelled only.

    Raises:
        S4Error: a folder is missing or empty, or there are no maps.
    """
    folder, masks = Path(root), masks or ("objects" if instances else "masks")
    base = "" if (folder / "train2017").is_dir() or not (folder / "images").is_dir() else "images/"
    flat = _maps(folder, masks)
    notices: list[str] = []
    train, val = (
        _source(folder, base, part, _maps(folder, f"{masks}/{part}") or flat, size, notices, instances)
        for part in PARTS
    )
    unmasked = [name for name, label in zip(val.ids, val.labels) if label is None]
    if unmasked or not any(train.labels):
        what = f"{len(unmasked)} of {len(val)} val" if unmasked else "all training"
        kind = "map of objects" if instances else "index map"
        how = f"s4kit.data.make_coco_masks({str(folder)!r}{', objects=True' if instances else ''})"
        how = how if instances else f"`s4kit data get coco --root {folder}`, or {how}"
        raise S4Error(
            f"COCO: {what} images have no {kind} in {folder / masks}. Make the maps of COCO's instances with {how}."
        )
    return Catalog(
        name="coco",
        classes=COCO_CLASSES,
        palette=voc_palette(81),
        train=cached(train, cache),
        val=cached(val, cache),
        crop=513,
        evaluation=MaskEvaluation() if instances else Evaluation(),
        labelled="1/32",
        maskless=frozenset(row for row, label in enumerate(train.labels) if label is None),
        notices=tuple(notices),
    )


def _maps(folder: Path, masks: str) -> dict[str, str]:
    """{id: path} of the maps in a folder, {} where there is none."""
    if not (folder / masks).is_dir():
        return {}
    return {name: f"{masks}/{file}" for name, file in stems(folder / masks, (".png",)).items()}


def _source(
    folder: Path,
    base: str,
    part: str,
    maps: dict[str, str],
    size: float | int | None,
    notices: list[str],
    instances: bool,
) -> FileSource:
    images = stems(need_folder(folder / base / part, "COCO", EXPECTED), IMAGE_SUFFIXES, notices)
    if not images:
        raise S4Error(f"COCO: {folder / base / part} holds no image. Expected: {EXPECTED}.")
    paths = [f"{base}{part}/{file}" for file in images.values()]
    kind = ObjectFiles if instances else FileSource
    return kind(list(images), paths, [maps.get(name) for name in images], str(folder), 81, size, exif="ignore")


def get_coco(
    root: str | os.PathLike, archives: Sequence[Archive] = COCO, crowd: str = "class", progress: Progress | None = None
) -> Path:
    """Download COCO 2017 (20 GB) to `root` and make the maps of 81 classes from its instances.

    Args:
        root: the folder to fill.
        archives: what is fetched.
        crowd: see `make_coco_masks`.
        progress: called with (done, of how many, of what).

    Raises:
        S4Error: as `archives.obtain` and `make_coco_masks`.
    """
    folder = Path(root)
    obtain(folder, archives, progress)
    if count_files(folder / "masks") < sum(count_files(folder / part) for part in PARTS):
        make_coco_masks(folder, crowd, progress=progress)
    return folder
