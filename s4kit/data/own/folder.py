"""Any images and index maps: a folder of yours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import S4Error
from ..catalog import Catalog, need_folder, some, stems
from ..checking.guess import guess_classes
from ..decode import IMAGE_SUFFIXES, LABEL_SUFFIXES, id_table
from ..sources import FileSource, cached
from ..splitting.splits import count_of, shuffled
from ..task import VOID
from .class_tables import ClassTable, class_table, read_classes

EXPECTED = "ROOT/images/{train,val} (and images/unlabelled), ROOT/labels/{train,val}, and ROOT/classes.txt if you like"
UNLABELLED = ("images/unlabelled", "images/unlabeled")


def open_folder(
    root: str | os.PathLike = ".",
    size: float | int | None = None,
    cache: bool | None = None,
    images: str = "images/train",
    labels: str = "labels/train",
    val_images: str = "images/val",
    val_labels: str = "labels/val",
    unlabelled_images: str | None = None,
    classes: Sequence[str] | int | None = None,
    ids: Mapping[int | str, int] | None = None,
    partial: bool = False,
    holdout: str | int | float | None = None,
    exif: str = "turn",
    bits: int | None = None,
    palettes: str = "auto",
) -> Catalog:
    """Images and index maps that share their names up to the suffix.

    Args:
        root: the folder; all other paths are relative to it or absolute.
        size, cache: see `load`.
        images, labels: training images and their index maps.
        val_images, val_labels: the scored ones.
        unlabelled_images: more training images, which need no map; by default images/unlabelled (or images/unlabeled)
            where there is one.
        classes: names or number; by default from ROOT/classes.txt (`class_tables` has its forms), else the label maps
            are all read once and the classes are called class0, class1, ...
        ids: stored value -> class, such as {0: 0, 255: 1} for binary masks, 255 = void; by default the values are the
            classes.
        partial: training images without a map are used unlabelled, instead of being an error.
        holdout: how many of the images with a map to score on ("1/5", 20), for sets without val folders.
        exif: "turn": photos are turned as their EXIF tag says, labels are drawn on the turned photo; "ignore": both are
            as stored.
        bits: of grey images that store more than eight, how many count (8..16); by default those that some images use.
        palettes: "auto": indexed label maps whose palette shows the colours of classes.txt are read by colour, and
            palettes that contradict each other are refused; "ignore": the indices are the ids.

    Raises:
        S4Error: a folder is missing or empty, a map is missing, the classes cannot be found out, or an option is wrong.
    """
    _check(ids, partial, exif, bits, palettes)
    base, notices, maps = Path(root), [], {}
    masked = _pairs(base, images, labels, "train", partial, notices, maps)
    train, scored = masked, []
    if holdout is not None:
        train, scored = _hold_out(masked, holdout)
    else:
        scored = _pairs(base, val_images, val_labels, "val", False, notices, maps)
    notices += _orphans(base, masked + scored, maps)
    train = train + _unlabelled(base, unlabelled_images, notices)
    notices += _idle(base, train + scored)
    table = _classes(base, classes, [label for _, _, label in masked + scored], ids, notices)
    read = {"table": id_table(len(table.names) if ids is None else {int(k): v for k, v in ids.items()}), "size": size}
    read |= {"exif": exif, "bits": bits, "palettes": "refuse" if palettes == "auto" else palettes}
    read["colours"] = table.given if palettes == "auto" and ids is None else None
    maskless = frozenset(row for row, (_, _, label) in enumerate(train) if label is None)
    return Catalog(
        name=base.resolve().name,
        classes=table.names,
        palette=table.palette,
        train=cached(FileSource(*_columns(train), str(base), **read), cache),
        val=cached(FileSource(*_columns(scored), str(base), **read), cache),
        crop=321,
        labelled="all" if maskless else "1/16",
        maskless=maskless,
        config={} if classes is not None or (base / "classes.txt").is_file() else {"classes": len(table.names)},
        notices=tuple(notices),
    )


Row = tuple[str, str, str | None]  # id, image, label


def _columns(rows: list[Row]) -> tuple[list, list, list]:
    return tuple(list(column) for column in zip(*rows)) if rows else ([], [], [])


def _check(ids: Mapping | None, partial: bool, exif: str, bits: int | None, palettes: str) -> None:
    if ids is not None and (not isinstance(ids, Mapping) or not ids):
        raise S4Error(f"ids={ids!r} is no mapping from stored value to class; write ids={{0: 0, 255: 1}}.")
    for stored, label in (ids or {}).items():
        if not str(stored).lstrip("-").isdigit() or isinstance(label, bool) or not isinstance(label, int):
            raise S4Error(f"ids={ids!r}: {stored!r}: {label!r} is no pair of numbers; write ids={{0: 0, 255: 1}}.")
    if not isinstance(partial, bool):
        raise S4Error(f"partial={partial!r}: give True or False.")
    if exif not in ("turn", "ignore"):
        raise S4Error(f"exif={exif!r}: photos with an EXIF tag are 'turn'ed, or the tag is 'ignore'd.")
    if palettes not in ("auto", "ignore"):
        raise S4Error(f"palettes={palettes!r}: give 'auto' or 'ignore'.")
    if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int) or not 8 <= bits <= 16):
        raise S4Error(f"bits={bits!r}: give a whole number from 8 to 16.")


def _pairs(
    base: Path,
    images: str,
    labels: str,
    part: str,
    partial: bool,
    notices: list[str],
    listed: dict[str, dict[str, str]],
) -> list[Row]:
    """Rows of a part; `listed` gets the maps of its folder."""
    folder = need_folder(base / images, "folder", EXPECTED)
    pictures = stems(folder, IMAGE_SUFFIXES, notices)
    if not pictures:
        raise S4Error(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); folders inside it are not searched.")
    target = need_folder(base / labels, "folder", EXPECTED)
    maps = listed[labels] = stems(target, LABEL_SUFFIXES, notices if labels != images else None)
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
    if any(name.lower().endswith((".jpg", ".jpeg", ".webp", ".gif")) for name in os.listdir(target)):
        words += "JPEG maps are not read: the compression changes ids; save them as PNG. "
    elif maps:
        words += f"A map there is called {next(iter(maps.values()))}. "
    mend = "Move such images to images/unlabelled, or pass partial=True to use them unlabelled."
    return words + (mend if part == "train" else "Each scored image needs one.")


def _orphans(base: Path, rows: list[Row], listed: dict[str, dict[str, str]]) -> list[str]:
    """Maps without an image, of the folders that were listed."""
    used = {label for _, _, label in rows}
    said = []
    for folder, names in listed.items():
        maps = [f"{folder}/{name}" for name in names.values()]
        if left := [name for name in maps if name not in used]:
            said.append(f"{len(left)} of the {len(maps)} label maps of {base / folder} have no image ({some(left)})")
    return said


def _idle(base: Path, rows: list[Row]) -> list[str]:
    """Folders that lie beside those in use and are not read."""
    used = {os.path.dirname(name) for _, image, label in rows for name in (image, label) if name}
    shelves = {os.path.dirname(folder) for folder in used} - {""}
    beside = sorted(
        f"{shelf}/{entry.name}" for shelf in shelves for entry in os.scandir(base / shelf) if entry.is_dir()
    )
    idle = [folder for folder in beside if not any(f"{name}/".startswith(f"{folder}/") for name in used)]
    return [f"folders that lie beside those in use and are not used: {some(idle)}"] if idle else []


def _unlabelled(base: Path, named: str | None, notices: list[str]) -> list[Row]:
    present = [name for name in ((named,) if named else UNLABELLED) if (base / name).is_dir()]
    if named and not present:
        raise S4Error(f"unlabelled_images={named!r}: {base / named} is not a folder.")
    if not present:
        return []
    pictures = stems(base / present[0], IMAGE_SUFFIXES, notices)
    return [(f"unlabelled/{stem}", f"{present[0]}/{name}", None) for stem, name in pictures.items()]


def _hold_out(rows: list[Row], holdout: str | int | float) -> tuple[list[Row], list[Row]]:
    names = [name for name, _, _ in rows]
    able = [row for row, (_, _, label) in enumerate(rows) if label is not None]
    chosen = set(shuffled(names, able, seed=-1)[: count_of(holdout, len(able))])
    if len(chosen) == len(able):
        raise S4Error(f"holdout={holdout!r} leaves no labelled image to train on.")
    return [r for i, r in enumerate(rows) if i not in chosen], [r for i, r in enumerate(rows) if i in chosen]


def _classes(
    base: Path, classes: Sequence[str] | int | None, labels: list[str | None], ids: Mapping | None, notices: list[str]
) -> ClassTable:
    if classes is None and (base / "classes.txt").is_file():
        table = read_classes(base / "classes.txt")
    elif classes is None:
        count = _count(ids) if ids else guess_classes(base, [name for name in labels if name])
        table = class_table([f"class{i}" for i in range(count)], [None] * count, "classes")
    else:
        names = _names(classes)
        table = class_table(names, [None] * len(names), "classes")
    if ids:
        _check_targets(ids, table.names, notices)
    return table


def _names(classes: Sequence[str] | int) -> list[str]:
    if isinstance(classes, str | bool):
        raise S4Error(f'classes={classes!r} is neither a number nor a list of names, such as ["sky", "tree"].')
    names = [f"class{i}" for i in range(classes)] if isinstance(classes, int) else [str(name) for name in classes]
    if not 0 < len(names) <= VOID:
        raise S4Error(f"classes={classes!r}: there are at least 1 and at most {VOID} classes.")
    return names


def _count(ids: Mapping) -> int:
    """The number of classes that `ids` maps to; 255 is void."""
    targets = {label for label in ids.values() if label != VOID}
    if missing := sorted(set(range(1 + max(targets, default=-1))) - targets) or ([0] if not targets else []):
        raise S4Error(
            f"ids={dict(ids)!r} gives no stored value to class {missing[0]}: classes count from 0 without gaps, and "
            "255 means void."
        )
    return len(targets)


def _check_targets(ids: Mapping, names: Sequence[str], notices: list[str]) -> None:
    for stored, label in ids.items():
        if label != VOID and not 0 <= label < len(names):
            raise S4Error(
                f"ids gives the stored value {stored} to class {label}, but there are {len(names)} classes "
                f"(0..{len(names) - 1}; 255 = void)."
            )
    if never := [name for label, name in enumerate(names) if label not in ids.values()]:
        notices.append(f"ids gives no stored value to {some(never)}: no pixel can have that class")
