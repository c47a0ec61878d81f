"""GTA5 and SYNTHIA: streets as games and simulators render them, in Cityscapes' 19 classes; second domains for it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import S4Error
from ..catalog import Catalog, need_folder, some, stems
from ..checking.look import spread
from ..decode import decode_map, id_table, map_ids
from ..fetching.download import Progress
from ..fetching.unpack import unpack
from ..palettes import CITYSCAPES as CLASSES
from ..reading.stored import told
from ..sources import FileSource, cached
from ..task import VOID
from .cityscapes import label_id_table

GTA5_MANUAL = (
    "GTA5 (Playing for Data, Richter et al., ECCV 2016) lies on its authors' page, for research:\n"
    "  1. read the terms at https://download.visinf.tu-darmstadt.de/data/from_games/ and fetch to {root} the ten parts "
    "of the images, 01_images.zip to 10_images.zip, and of the label maps, 01_labels.zip to 10_labels.zip\n"
    "  2. s4kit data get gta5 --root {root} unpacks what is there: images/00001.png ... 24966.png and labels/ "
    "of the same names (the kit knows no checksum of them)\n"
    "  3. s4kit data check gta5 --root {root} --data-option held_out=500"
)
SYNTHIA_MANUAL = (
    "SYNTHIA (Ros et al., CVPR 2016) needs a form to be filled in:\n"
    "  1. https://synthia-dataset.net/downloads: ask for the set SYNTHIA-RAND-CITYSCAPES, with which papers adapt to "
    "Cityscapes\n"
    "  2. unpack it to {root} (a .rar: unrar x FILE, or 7z x FILE), so that RAND_CITYSCAPES/RGB/0000000.png ... "
    "0009399.png and RAND_CITYSCAPES/GT/LABELS/ of the same names lie there\n"
    "  3. s4kit data check synthia --root {root} --data-option held_out=500"
)
GTA5_EXPECTED = "ROOT/images/*.png and ROOT/labels/*.png of the same names"
SYNTHIA_EXPECTED = "ROOT/RGB/*.png and ROOT/GT/LABELS/*.png of the same names"
# Train id of each class of SYNTHIA, 0 = void to 22 = lane marking; terrain (16), truck (18) and train (20) do not occur
# in the set that resembles Cityscapes, which is why papers train on 16 classes.
SYNTHIA_IDS = (
    VOID, 10, 2, 0, 1, 4, 8, 5, 13, 7, 11, 18, 17, VOID, VOID, 6, 9, 12, 14, 15, 16, 3, VOID,
)  # fmt: skip
PARTS = tuple(f"{part:02d}_{what}.zip" for part in range(1, 11) for what in ("images", "labels"))
LOOKED_AT = 6  # maps that tell label ids from train ids


class Gta5Source(FileSource):
    """Maps of Cityscapes' label ids. One of another size than its image is brought to it, as in the field's loaders,
    which resize both to one size."""

    def _label(self, row: int, path: str, shape: tuple[int, int]) -> np.ndarray:
        target = self._classes(path)
        if target.shape != shape:
            target = np.array(Image.fromarray(target).resize(shape[::-1], Image.Resampling.NEAREST))
        return target


class SynthiaSource(FileSource):
    """Maps of 16-bit colour whose first channel is the class, the second one the object."""

    def _classes(self, path: str) -> np.ndarray:
        return map_ids(first_channel(path), self.table, path)


def first_channel(path: str) -> np.ndarray:
    """(H, W) uint8 of the first channel of a 16-bit colour PNG, whose values are below 256; of a grey one its ids.

    Raises:
        S4Error: the file is missing, damaged, or 8-bit colour: a picture of the classes, not a map.
    """
    with told(path), Image.open(path) as image:
        colour, deep = image.mode == "RGB", image.tile[0][3] == "RGB;16B"
        if colour and deep:
            image.tile = [(*image.tile[0][:3], "RGB;16L")]  # the low byte of each number; Pillow takes the high one
            return np.array(image)[..., 0].copy()
    if colour:
        raise S4Error(
            f"{path} is 8-bit colour, but SYNTHIA's label maps are 16-bit colour with the class in the first channel: "
            "GT/COLOR has pictures of them, GT/LABELS the maps."
        )
    return decode_map(path)[0]


def open_gta5(
    root: str | os.PathLike, size: float | int | None = None, cache: bool | None = None, held_out: int = 0
) -> Catalog:
    """GTA5 below `root`; ids are "00001" to "24966".

    Args:
        root, size, cache: see `load`.
        held_out: images that are scored instead of trained on, evenly spread: it has no list of the field's own.

    Raises:
        S4Error: a folder is missing, or holds images without label maps or maps of train ids.
    """
    table = label_id_table()
    table[34] = VOID  # a licence plate, -1 in Cityscapes
    folder = Path(root)
    ids, images, labels = _pairs("GTA5", folder, "images", "labels", GTA5_EXPECTED)
    _need_label_ids(folder, labels)
    source = Gta5Source(ids, images, labels, str(folder), table, size, exif="ignore")
    return _catalog("gta5", source, cache, held_out)


def open_synthia(
    root: str | os.PathLike, size: float | int | None = None, cache: bool | None = None, held_out: int = 0
) -> Catalog:
    """SYNTHIA-RAND-CITYSCAPES, with `root` its folder; ids are "0000000" to "0009399". Arguments as of `open_gta5`.

    Raises:
        S4Error: a folder is missing, or holds images without label maps.
    """
    folder = Path(root)
    folder = folder / "RAND_CITYSCAPES" if (folder / "RAND_CITYSCAPES").is_dir() else folder
    ids, images, labels = _pairs("SYNTHIA", folder, "RGB", "GT/LABELS", SYNTHIA_EXPECTED)
    table = id_table(dict(enumerate(SYNTHIA_IDS)))
    return _catalog(
        "synthia", SynthiaSource(ids, images, labels, str(folder), table, size, exif="ignore"), cache, held_out
    )


def get_gta5(root: str | os.PathLike, progress: Progress | None = None) -> Path:
    """Unpack the archives of GTA5 that lie in `root`.

    Raises:
        S4Error: there are none, nor images (says how to come by them), or one is damaged.
    """
    folder = Path(root)
    archives = [path for part in PARTS if (path := folder / part).is_file()]
    if not archives and not (folder / "labels").is_dir():
        raise S4Error(GTA5_MANUAL.format(root=folder))
    for path in archives:
        unpack(path, folder, ("images/", "labels/"), progress=progress)
    return folder


def get_synthia(root: str | os.PathLike, progress: Progress | None = None) -> Path:
    """The folder of SYNTHIA where it is there.

    Raises:
        S4Error: it is not; says how to come by it.
    """
    folder = Path(root)
    if not any((folder / below / "GT/LABELS").is_dir() for below in ("", "RAND_CITYSCAPES")):
        raise S4Error(SYNTHIA_MANUAL.format(root=folder))
    return folder


def _pairs(name: str, folder: Path, pictures: str, maps: str, expected: str) -> tuple[list[str], list[str], list[str]]:
    """Ids, and the paths of the images and of their label maps."""
    found = stems(need_folder(folder / pictures, name, expected), (".png",))
    masks = stems(need_folder(folder / maps, name, expected), (".png",))
    if not found:
        raise S4Error(f"{name}: {folder / pictures} holds no *.png. Expected: {expected}.")
    bare, lost = [i for i in found if i not in masks], [i for i in masks if i not in found]
    if bare or lost:
        one, other = (pictures, maps) if bare else (maps, pictures)
        raise S4Error(
            f"{name}: {len(bare or lost)} files of {folder / one} have none of the same name in {other} "
            f"({some(bare or lost)}): unpack all parts of both."
        )
    ids = sorted(found)
    return ids, [f"{pictures}/{found[i]}" for i in ids], [f"{maps}/{masks[i]}" for i in ids]


def _need_label_ids(folder: Path, labels: list[str]) -> None:
    """Refuses train ids: no label id of Cityscapes above 18 in any map, though there are some below 3."""
    pixels = np.zeros(256, np.int64)
    for name in spread(labels, LOOKED_AT):
        try:
            pixels += np.bincount(decode_map(str(folder / name))[0].ravel().clip(0, VOID), minlength=256)
        except S4Error:  # a fault that reading it names
            continue
    if pixels[:3].any() and not pixels[len(CLASSES) : VOID].any():
        raise S4Error(
            f"GTA5: {folder / labels[0]} and the others hold no id above {len(CLASSES) - 1}: these are train ids, "
            "where the maps of the release hold Cityscapes' label ids. Take those."
        )


def _catalog(name: str, source: FileSource, cache: bool | None, held_out: int) -> Catalog:
    if not 0 <= held_out < len(source):
        raise S4Error(f"held_out={held_out}: {name} has {len(source)} images; hold out fewer.")
    val = spread(range(len(source)), held_out) if held_out else []
    train = sorted(set(range(len(source))) - set(val))
    return Catalog(
        name=name,
        classes=tuple(CLASSES),
        palette=tuple(colour for _, colour in CLASSES.values()),
        train=cached(_part(source, train), cache),
        val=cached(_part(source, val), cache),
        crop=512,
        note=f"{held_out} held out" if held_out else "",
    )


def _part(source: FileSource, rows: list[int]) -> FileSource:
    of = [[values[row] for row in rows] for values in (source.ids, source.images, source.labels)]
    return type(source)(*of, source.root, source.table, source.size, exif="ignore")
