"""`convert`: photos and the export of a labelling tool to the folder that the kit trains on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import S4Error, closest
from ..decode import IMAGE_SUFFIXES
from ..splitting.splits import count_of, shuffled
from ..task import VOID
from .class_tables import class_table, refuse_equal
from .exports import FORMS
from .exports.common import Export, Picture, files, some
from .exports.write import Table, write_folder

SHELVES = ("images", "JPEGImages", "img")  # where exports keep the photos
BACKGROUND = ("background", "_background_", "__background__")
IGNORED = ("__ignore__", "void", "ignore")


@dataclass
class Converted:
    """What was written.

    Attributes:
        root: the folder, for `load("folder", root=...)`.
        form: of the export. classes: names in the order of the ids.
        labelled, val, unlabelled: how many photos each has. scored: those of val.
        said: what was left out, turned or taken for something, in words.
    """

    root: str
    form: str
    classes: tuple[str, ...]
    labelled: int
    val: int
    unlabelled: int
    scored: tuple[str, ...] = ()
    said: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        names = ", ".join(f"{label} {name}" for label, name in enumerate(self.classes))
        many = f"{self.labelled} photos labelled, {self.val} to score, {self.unlabelled} unlabelled"
        head = f"{self.form} to {self.root}: {many}; classes: {names}"
        return "\n".join([head, *(f"  {words}" for words in self.said)])

    __repr__ = __str__


def convert(
    source: str | os.PathLike,
    out: str | os.PathLike,
    images: str | os.PathLike | None = None,
    form: str | None = None,
    classes: Sequence[str] | None = None,
    background: str | None = "background",
    void: Sequence[str] = IGNORED,
    leave_out: Sequence[str] = (),
    val: str | int | float | Sequence[str] = "1/5",
    empty: str = "unlabelled",
) -> Converted:
    """Write OUT/images/{train,val,unlabelled}, OUT/labels/{train,val} and OUT/classes.txt; the source stays as it is.

    A photo that its EXIF tag turns is written upright, as tools show it, unless only the stored pixels fit the size
    that the export names. Photos that the export does not mention are used without labels.

    Args:
        source: the export: a folder, or its one file.
        out: a folder that is not there, or empty.
        images: the photos; by default beside or below the source.
        form: "coco", "cvat", "labelme", "yolo", "voc", "per_class" or "indexed"; by default recognised.
        classes: names in the order of the ids; by default the export's, after the background.
        background: the class of what no shape covers; None: void, for photos that are labelled in part.
        void: names whose pixels are 255, neither trained on nor scored.
        leave_out: names of classes, or kinds of shapes such as "point", that are not drawn.
        val: how many of the labelled photos are held out to score on ("1/5", 20), drawn by their names; or their names,
            such as the `scored` of an earlier conversion.
        empty: photos of the export without a single shape are "unlabelled", or "background" all over.

    Raises:
        S4Error: the form is unknown or ambiguous; a class, shape, colour or photo cannot be placed; `out` holds files
            or lies in the source. Nothing is written then.
    """
    source, out = Path(source), Path(out)
    beside = source if source.is_dir() else source.parent
    folder = Path(images) if images is not None else beside
    if empty not in ("unlabelled", "background"):
        raise S4Error(f"empty={empty!r}: photos without a shape are 'unlabelled' or 'background'.")
    form = _recognised(source) if form is None else form
    if form not in FORMS:
        raise S4Error(f"There is no form {form!r}. {closest(form, list(FORMS))}")
    _check_target(source, folder, out)
    said: list[str] = []
    export = FORMS[form].read(source)
    table = _table(form, export, classes, background, void, leave_out, said)
    photos = _photos(folder, export, inside=images is None)
    placed = _placed(export, photos)
    if empty == "unlabelled":
        placed = _shown(placed, said)
    written = write_folder(out, export, table, placed, photos, _parts(placed, photos, val), said)
    many = [sum(part == name for part in written.values()) for name in ("train", "val", "unlabelled")]
    scored = tuple(sorted(path for path, part in written.items() if part == "val"))
    return Converted(str(out), form, table.names, *many, scored, said)


def _recognised(source: Path) -> str:
    if not source.exists():
        raise S4Error(f"There is no export at {source}.")
    found = [name for name, form in FORMS.items() if form.found(source)]
    for general in ("indexed", "per_class"):  # which are folders of pictures, as others are as well
        if general in found and len(found) > 1:
            found.remove(general)
    if len(found) != 1:
        what = f"looks like {' and '.join(found)}" if found else f"is none of {', '.join(FORMS)}"
        raise S4Error(f"{source} {what}: say which it is, form={(found or [*FORMS])[0]!r}.")
    return found[0]


def _check_target(source: Path, folder: Path, out: Path) -> None:
    there = out.resolve()
    for place in (source.resolve(), folder.resolve()):
        if place == there or there in place.parents:
            raise S4Error(f"{out} is (or holds) the source {place}, which is never written to; name another folder.")
    if source.is_dir() and source.resolve() in there.parents:
        raise S4Error(f"{out} lies in the source {source}, which is never written to; name a folder beside it.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise S4Error(f"{out} is there already; name a folder that is not, or empty it.")


def _table(
    form: str,
    export: Export,
    classes: Sequence[str] | None,
    background: str | None,
    void: Sequence[str],
    leave_out: Sequence[str],
    said: list[str],
) -> Table:
    """Which name has which id."""
    left, ignored = frozenset(leave_out), set(void)
    refuse_equal(export.classes, f"the {form} export")
    own = [name for name in export.classes if name not in left and name not in ignored]
    first = next((name for name in own if name.lower() in BACKGROUND), None)
    if first and not export.complete:
        own = [first, *(name for name in own if name != first)]
    names, rest = list(own if classes is None else classes), VOID
    if not export.complete and background is not None:
        base = first if first and classes is None else background
        names = names if base in names else [base, *names]
        rest = names.index(base)
    if missing := [name for name in own if name not in names]:
        raise S4Error(
            f"The export has the classes {', '.join(map(repr, missing[:6]))}, which `classes` does not name. Name "
            f"them, or drop them: leave_out={missing[:6]!r}."
        )
    if not 2 <= len(names) <= VOID:
        raise S4Error(f"The export has {len(names)} classes ({', '.join(names[:3])}); it takes 2 to {VOID}.")
    if used := sorted(ignored & set(export.classes)):
        said.append(f"void (255): {', '.join(used)}")
    colours = dict(zip(export.classes, export.palette or ()))
    table = class_table(names, [colours.get(name) for name in names], "classes")
    ids = {name: names.index(name) for name in own} | dict.fromkeys(ignored, VOID)
    return Table(table.names, table.palette, ids, rest, left)


# ---- photos ----


def _photos(folder: Path, export: Export, inside: bool) -> dict[str, Path]:
    """All photos below a folder by their path there; masks of the export are none.

    Args:
        inside: the folder is the export's: its photos may be on a shelf of their own.
    """
    if not folder.is_dir():
        raise S4Error(f"{folder} is not a folder of photos; say where they are: images=...")
    shelf = next((folder / name for name in SHELVES if (folder / name).is_dir()), folder)
    base = shelf if inside else folder
    masks = {mask.resolve() for mask in export.masks}
    every = [file for file in files(base, *IMAGE_SUFFIXES) if file.resolve() not in masks]
    if not every:
        raise S4Error(f"There is no photo in {base}; say where they are: images=...")
    return {file.relative_to(base).as_posix(): file for file in every}


def _placed(export: Export, photos: dict[str, Path]) -> dict[str, Picture]:
    """What the export says of each photo that it labels."""
    by: dict[str, list[str]] = {}
    for path in photos:
        for key in _keys(path):
            by.setdefault(key, []).append(path)
    placed: dict[str, Picture] = {}
    missing = []
    for picture in export.pictures:
        found = next((by[key] for key in _keys(picture.image) if key in by), [])
        if len(set(found)) > 1:
            raise S4Error(f"{picture.where}: {picture.image} may be {found[0]} or {found[1]}; rename one of them.")
        if not found:
            missing.append(picture.image)
        elif found[0] in placed:
            raise S4Error(f"{picture.where} and {placed[found[0]].where} both label the photo {found[0]}.")
        else:
            placed[found[0]] = picture
    if missing:
        many = f"{len(missing)} of {len(export.pictures)} images of the export have no photo ({some(missing)})"
        raise S4Error(f"{many}. Say where the photos are, images=..., or take these out of the export.")
    return placed


def _keys(path: str) -> list[str]:
    """What a photo may be called, the surest first: its path, its name, both without the ending."""
    path = path.replace("\\", "/")
    name = path.rpartition("/")[2]
    return list(dict.fromkeys([path, name, f"{os.path.splitext(path)[0]}.*", f"{os.path.splitext(name)[0]}.*"]))


def _shown(placed: dict[str, Picture], said: list[str]) -> dict[str, Picture]:
    """Those that have a shape; the others are named and go without a label."""
    bare = {path for path, picture in placed.items() if not picture.shapes and not picture.whole}
    if bare:
        said.append(
            f"{len(bare)} photos of the export have no shape and are taken as unlabelled ({some(sorted(bare))}); "
            "empty='background' makes them background"
        )
    return {path: picture for path, picture in placed.items() if path not in bare}


def _parts(
    placed: dict[str, Picture], photos: dict[str, Path], val: str | int | float | Sequence[str]
) -> dict[str, str]:
    """train, val or unlabelled, for each photo."""
    if len(placed) < 2:
        raise S4Error(f"{len(placed)} photos have labels; at least two are needed, one to train on and one to score.")
    order = sorted(placed)
    if isinstance(val, str | int | float):
        held = {order[row] for row in shuffled(order, range(len(order)), -1)[: count_of(val, len(order))]}
    elif unknown := [name for name in val if name not in placed]:
        raise S4Error(f"val: {some(unknown)} is no labelled photo; they are called {some(order)}.")
    else:
        held = set(val)
    if len(held) == len(order):
        raise S4Error(f"val={val!r} leaves no labelled photo to train on.")
    return {path: "val" if path in held else "train" if path in placed else "unlabelled" for path in photos}
