"""Any images and index maps: a folder of yours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..errors import S4Error
from .catalog import Catalog, Palette, need_folder, stems
from .decode import IMAGE_SUFFIXES, LABEL_SUFFIXES, decode_label, id_table
from .palettes import distinct
from .sources import FileSource, cached
from .splits import count_of, shuffled
from .task import VOID

EXPECTED = "ROOT/images/{train,val} (and images/unlabelled), ROOT/labels/{train,val}, and ROOT/classes.txt if you like"


def open_folder(
    root: str | os.PathLike = ".",
    size: float | int | None = None,
    cache: bool | None = None,
    images: str = "images/train",
    labels: str = "labels/train",
    val_images: str = "images/val",
    val_labels: str = "labels/val",
    unlabelled_images: str = "images/unlabelled",
    classes: Sequence[str] | int | None = None,
    ids: Mapping[int | str, int] | None = None,
    partial: bool = False,
    holdout: str | int | float | None = None,
) -> Catalog:
    """Images and index maps that share their names up to the suffix.

    Args:
        root: the folder; all other paths are relative to it or absolute.
        size, cache: see `load`.
        images, labels: training images and their index maps.
        val_images, val_labels: the scored ones.
        unlabelled_images: more training images, which need no map; the folder may be absent.
        classes: names or number; by default from ROOT/classes.txt ("name" or "name r g b" per line), else the label
            maps are all read once and the classes are called class0, class1, ...
        ids: stored value -> class, such as {0: 0, 255: 1} for binary masks; by default the values are the classes.
        partial: training images without a map are used unlabelled, instead of being an error.
        holdout: how many of the images with a map to score on ("1/5", 20), for sets without val folders.

    Raises:
        S4Error: a folder is missing or empty, a map is missing, or the classes cannot be found out.
    """
    base = Path(root)
    masked = _pairs(base, images, labels, "train", partial)
    train, scored = masked, []
    if holdout is not None:
        train, scored = _hold_out(masked, holdout)
    else:
        scored = _pairs(base, val_images, val_labels, "val", False)
    if (base / unlabelled_images).is_dir():
        extra = stems(base / unlabelled_images, IMAGE_SUFFIXES)
        train = train + [(f"unlabelled/{stem}", f"{unlabelled_images}/{name}", None) for stem, name in extra.items()]
    names, palette = _classes(base, classes, [label for _, _, label in masked + scored], ids)
    table = id_table(len(names) if ids is None else {int(k): v for k, v in ids.items()})
    maskless = frozenset(row for row, (_, _, label) in enumerate(train) if label is None)
    return Catalog(
        name=base.resolve().name,
        classes=names,
        palette=palette,
        train=cached(FileSource(*_columns(train), str(base), table, size), cache),
        val=cached(FileSource(*_columns(scored), str(base), table, size), cache),
        crop=321,
        labelled="all" if maskless else "1/16",
        maskless=maskless,
        config={} if classes is not None or (base / "classes.txt").is_file() else {"classes": len(names)},
    )


Row = tuple[str, str, str | None]  # id, image, label


def _columns(rows: list[Row]) -> tuple[list, list, list]:
    return tuple(list(column) for column in zip(*rows)) if rows else ([], [], [])


def _pairs(base: Path, images: str, labels: str, part: str, partial: bool) -> list[Row]:
    folder = need_folder(base / images, "folder", EXPECTED)
    pictures = stems(folder, IMAGE_SUFFIXES)
    if not pictures:
        raise S4Error(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); folders inside it are not searched.")
    target = need_folder(base / labels, "folder", EXPECTED)
    maps = stems(target, LABEL_SUFFIXES)
    missing = [stem for stem in pictures if stem not in maps]
    if missing and (not partial or len(missing) == len(pictures)):
        raise S4Error(_missing(folder, target, pictures, maps, missing, part))
    return [
        (f"{part}/{stem}", f"{images}/{name}", f"{labels}/{maps[stem]}" if stem in maps else None)
        for stem, name in pictures.items()
    ]


def _missing(
    folder: Path, target: Path, pictures: dict[str, str], maps: dict[str, str], missing: list[str], part: str
) -> str:
    words = f"{len(missing)} of the {len(pictures)} images of {folder} have no label map in {target} (first: "
    words += f"{pictures[missing[0]]}; maps are found by the same name, suffix apart). "
    if any(name.lower().endswith((".jpg", ".jpeg")) for name in os.listdir(target)):
        words += "JPEG maps are not read: the compression changes ids; save them as PNG. "
    elif maps:
        words += f"A map there is called {next(iter(maps.values()))}. "
    mend = "Move such images to images/unlabelled, or pass partial=True to use them unlabelled."
    return words + (mend if part == "train" else "Each scored image needs one.")


def _hold_out(rows: list[Row], holdout: str | int | float) -> tuple[list[Row], list[Row]]:
    names = [name for name, _, _ in rows]
    able = [row for row, (_, _, label) in enumerate(rows) if label is not None]
    chosen = set(shuffled(names, able, seed=-1)[: count_of(holdout, len(able))])
    if len(chosen) == len(able):
        raise S4Error(f"holdout={holdout!r} leaves no labelled image to train on.")
    return [r for i, r in enumerate(rows) if i not in chosen], [r for i, r in enumerate(rows) if i in chosen]


def _classes(
    base: Path, classes: Sequence[str] | int | None, labels: list[str | None], ids: Mapping | None
) -> tuple[tuple[str, ...], Palette]:
    if classes is None and (base / "classes.txt").is_file():
        return read_classes(base / "classes.txt")
    if classes is None:
        classes = 1 + max(ids.values()) if ids else _scan(base, [name for name in labels if name])
    names = tuple(f"class{i}" for i in range(classes)) if isinstance(classes, int) else tuple(classes)
    return names, distinct(len(names))


def read_classes(path: Path) -> tuple[tuple[str, ...], Palette]:
    """Names and colours of a classes file; a class without "r g b" gets a colour of the kit.

    Raises:
        S4Error: the file names no class, or a colour is not 0..255.
    """
    names, colours = [], []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        words = line.split()
        if not words:
            continue
        coloured = len(words) > 3 and all(word.isdigit() for word in words[-3:])
        names.append(" ".join(words[:-3] if coloured else words))
        colours.append(tuple(int(word) for word in words[-3:]) if coloured else None)
        if coloured and max(colours[-1]) > 255:
            raise S4Error(f"{path}: the colour of {names[-1]!r} is {colours[-1]}; each part is 0..255.")
    if not names or len(names) > VOID:
        raise S4Error(f"{path} names {len(names)} classes; write one per line, at least 1 and at most {VOID}.")
    spare = distinct(len(names))
    return tuple(names), tuple(given or other for given, other in zip(colours, spare))


def _scan(base: Path, labels: list[str]) -> int:
    """The number of classes in the maps: the highest id below 255, plus one."""

    def highest(name: str) -> int:
        values = np.unique(decode_label(str(base / name)))
        values = values[values != VOID]
        return int(values.max()) if len(values) else -1

    with ThreadPoolExecutor(4) as pool:
        count = 1 + max(pool.map(highest, labels))
    if count < 2:
        raise S4Error(
            f"The label maps of {base} hold no class but 0 (and 255, which means void). For binary masks of 0 and 255 "
            "pass ids={0: 0, 255: 1}; else name the classes in classes.txt."
        )
    if count > VOID:
        raise S4Error(f"The label maps of {base} hold ids up to {count - 1}; class ids are 0..254, and 255 is void.")
    return count
