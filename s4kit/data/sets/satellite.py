"""Images from above: UC Merced with the masks of DLRSD, and DeepGlobe's land cover."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import S4Error
from ..catalog import Catalog, need_folder, shared_images, some, stems
from ..decode import IMAGE_SUFFIXES, decode_image
from ..fetching.download import Progress
from ..palettes import DEEPGLOBE, DLRSD_CLASSES, UCMERCED_SCENES, distinct
from ..sources import FileSource, cached, id_table
from ..splitting.lists import listed
from ..task import VOID

PICTURES = ("UCMerced_LandUse/Images", "UCMerced_Images", "Images")
MASKS = ("DLRSD/Images", "UCMerced_Labels", "Labels")
UCMERCED_EXPECTED = (
    "ROOT/UCMerced_LandUse/Images/SCENE/SCENE00.tif and ROOT/DLRSD/Images/SCENE/SCENE00.png "
    "(or ROOT/UCMerced_Images/*.tif and ROOT/UCMerced_Labels/*.png)"
)
UCMERCED_MANUAL = (
    "UC Merced's images and the masks on them are published apart, neither needs an account:\n"
    "  1. UCMerced_LandUse.zip (317 MB) from http://weegee.vision.ucmerced.edu/datasets/landuse.html\n"
    "  2. DLRSD.zip, linked from https://sites.google.com/view/zhouwx/dataset\n"
    "  3. unpack both in {root}, then s4kit data check ucmerced --root {root}"
)
DEEPGLOBE_EXPECTED = "ROOT/land-train (or ROOT/train, or ROOT) with ID_sat.jpg and ID_mask.png"
DEEPGLOBE_MANUAL = (
    "DeepGlobe's land cover needs a free account, of one of two places:\n"
    "  a. https://competitions.codalab.org/competitions/18468: sign in, take part, download land-train.zip (2.8 GB) "
    "under Participate > Get Data\n"
    "  b. https://www.kaggle.com/datasets/balraj98/deepglobe-land-cover-classification-dataset: sign in, make a token "
    "under Settings > API, pip install kaggle, kaggle datasets download --unzip -p {root} "
    "balraj98/deepglobe-land-cover-classification-dataset\n"
    "  then unpack it in {root} and call s4kit data check deepglobe --root {root}; its own valid and test have no masks"
)
EVERY = 5  # one image in five is scored where there are no lists
COLOURS, BITS = tuple(DEEPGLOBE.values()), (4, 2, 1)  # of red, green and blue
THRESHOLD = 128  # a channel of DeepGlobe's masks is on from here: some of their pixels are not pure


class UCMercedSource(FileSource):
    """An image is called by its scene and a number, "agricultural00"."""

    scenes = UCMERCED_SCENES

    def scene(self, row: int) -> int:
        return UCMERCED_SCENES.index(_scene_of(self.ids[row]))


def open_ucmerced(root: str | os.PathLike, size: float | int | None = None, cache: bool | None = None) -> Catalog:
    """UC Merced Land Use below `root`: 21 kinds of scenes, 100 images each, with the 17 classes of DLRSD's masks.

    Where ROOT/train.txt and ROOT/val.txt (or test.txt) name images these are the lists; else every fifth image of a
    scene is scored, 420 of 2100. Masks hold 1..17, and what they leave 0 is void.

    Args:
        root, size, cache: see `load`.

    Raises:
        S4Error: a folder or a mask is missing, or an image is of no known scene.
    """
    folder, notices = need_folder(Path(root), "UC Merced", UCMERCED_EXPECTED), []
    pictures, masks = (_below(folder, places, notices) for places in (PICTURES, MASKS))
    strange = [name for name in pictures if _scene_of(name) not in UCMERCED_SCENES]
    if strange:
        raise S4Error(
            f"UC Merced: {some(strange)}: an image is called by its scene and a number, such as agricultural00; the "
            f"scenes are {', '.join(UCMERCED_SCENES)}."
        )
    by_scene = [[name for name in pictures if _scene_of(name) == scene] for scene in UCMERCED_SCENES]
    lists, note = _parts(folder, [names for names in by_scene if names])
    table = id_table({0: VOID} | {number + 1: number for number in range(len(DLRSD_CLASSES))})
    train, val = _sources(UCMercedSource, "UC Merced", folder, lists, pictures, masks, table, size)
    return Catalog(
        name="ucmerced",
        classes=DLRSD_CLASSES,
        palette=distinct(len(DLRSD_CLASSES)),
        train=cached(train, cache),
        val=cached(val, cache),
        crop=256,
        maskless=_maskless(train),
        note=note,
        notices=(*notices, *shared_images(train, val)),
    )


def _scene_of(name: str) -> str:
    return re.sub(r"\d+$", "", name)


class DeepGlobeSource(FileSource):
    """Masks are colours, each channel of which is on or off; black is unknown."""

    def _classes(self, path: str) -> np.ndarray:
        classes = self.table[(decode_image(path) >= THRESHOLD) @ np.array(BITS)]
        if (classes < 0).any():
            y, x = (int(v) for v in np.argwhere(classes < 0)[0])
            raise S4Error(f"{path}: the colour at row {y}, column {x} is of no class: {', '.join(DEEPGLOBE)} or black.")
        return classes.astype(np.uint8)


def open_deepglobe(root: str | os.PathLike, size: float | int | None = None, cache: bool | None = None) -> Catalog:
    """DeepGlobe's land cover below `root`: 803 images with masks of 2448 x 2448, six classes, unknown is void.

    Where ROOT/train.txt and ROOT/val.txt (or test.txt) name images ("119") these are the lists; else every fifth image
    is scored, 161 of 803: the masks of its own validation set are not published.

    Args:
        root, size, cache: see `load`; ALS4GAN has size=256.

    Raises:
        S4Error: a folder or a mask is missing.
    """
    folder, notices = need_folder(Path(root), "DeepGlobe", DEEPGLOBE_EXPECTED), []
    below = next((name for name in ("land-train", "train") if (folder / name).is_dir()), "")
    files = stems(folder / below, IMAGE_SUFFIXES, notices)
    pictures, masks = (
        {name.removesuffix(kind): os.path.join(below, file) for name, file in files.items() if name.endswith(kind)}
        for kind in ("_sat", "_mask")
    )
    if not pictures:
        raise S4Error(f"DeepGlobe: {folder / below} holds no ID_sat.jpg. Expected: {DEEPGLOBE_EXPECTED}.")
    lists, note = _parts(folder, [sorted(pictures, key=lambda name: (len(name), name))])
    codes = {sum(bit * (channel > 0) for bit, channel in zip(BITS, colour)): c for c, colour in enumerate(COLOURS)}
    table = id_table({0: VOID} | codes)
    train, val = _sources(DeepGlobeSource, "DeepGlobe", folder, lists, pictures, masks, table, size)
    return Catalog(
        name="deepglobe",
        classes=tuple(DEEPGLOBE),
        palette=COLOURS,
        train=cached(train, cache),
        val=cached(val, cache),
        crop=512,
        maskless=_maskless(train),
        note=note,
        notices=(*notices, *shared_images(train, val)),
    )


# ---- what both share ----


def get_ucmerced(root: str | os.PathLike, progress: Progress | None = None) -> Path:
    """The folder, where both archives are unpacked in it.

    Raises:
        S4Error: they are not; says each step.
    """
    return _by_hand(root, (PICTURES, MASKS), UCMERCED_MANUAL)


def get_deepglobe(root: str | os.PathLike, progress: Progress | None = None) -> Path:
    """The folder, where the archive is unpacked in it; it cannot be fetched without an account.

    Raises:
        S4Error: it is not; says each step.
    """
    return _by_hand(root, (("land-train", "train"),), DEEPGLOBE_MANUAL)


def _by_hand(root: str | os.PathLike, parts: Sequence[Sequence[str]], manual: str) -> Path:
    folder = Path(root)
    if not all(any((folder / place).is_dir() for place in places) for places in parts):
        raise S4Error(manual.format(root=folder))
    return folder


def _below(folder: Path, places: Sequence[str], notices: list[str]) -> dict[str, str]:
    """{name: path below `folder`} of the images in the first of the places that is there, or in its folders."""
    place = next((place for place in places if (folder / place).is_dir()), None)
    if place is None:
        raise S4Error(
            f"UC Merced: none of {', '.join(places)} is in {folder}. Expected: {UCMERCED_EXPECTED}. "
            f"Found: {some(sorted(os.listdir(folder)), 8) or 'nothing'}."
        )
    inside = sorted(entry.name for entry in os.scandir(folder / place) if entry.is_dir() and entry.name[0] != ".")
    found = {}
    for part in inside or [""]:
        for name, file in stems(folder / place / part, IMAGE_SUFFIXES, notices).items():
            found[name] = os.path.join(place, part, file)
    if not found:
        raise S4Error(f"UC Merced: {folder / place} holds no image. Expected: {UCMERCED_EXPECTED}.")
    return found


def _parts(folder: Path, groups: Sequence[Sequence[str]]) -> tuple[tuple[list[str], list[str]], str]:
    """Names of the training and of the scored images, and words for the protocol."""
    names = [name for group in groups for name in group]
    scored = next((file for file in ("val.txt", "test.txt") if (folder / file).is_file()), None)
    if scored is None or not (folder / "train.txt").is_file():
        held = {name for group in groups for name in group[::EVERY]}
        return ([n for n in names if n not in held], [n for n in names if n in held]), "scored on every fifth image"
    parts = []
    for file in ("train.txt", scored):
        rows, missing = listed(folder / file, names)
        if missing:
            raise S4Error(f"{folder / file}: {len(missing)} lines name no image that is there ({some(missing)}).")
        parts.append([names[row] for row in rows])
    return (parts[0], parts[1]), f"scored on {scored}"


def _sources(
    kind: type[FileSource],
    what: str,
    folder: Path,
    lists: Sequence[Sequence[str]],
    pictures: Mapping[str, str],
    masks: Mapping[str, str],
    table: Any,
    size: float | int | None,
) -> list[FileSource]:
    train, val = (
        kind(list(names), [pictures[n] for n in names], [masks.get(n) for n in names], str(folder), table, size,
             exif="ignore")
        for names in lists
    )  # fmt: skip
    unmasked = [name for name, label in zip(val.ids, val.labels) if label is None]
    if unmasked or not val.ids:
        raise S4Error(f"{what}: {len(unmasked)} of {len(val.ids)} scored images have no mask ({some(unmasked)}).")
    return [train, val]


def _maskless(source: FileSource) -> frozenset[int]:
    return frozenset(row for row, label in enumerate(source.labels) if label is None)
