"""`load`: a data set by name, split, as a `Task`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import S4Error, caution
from .bits import settle_bits
from .catalog import Catalog, DataSet, public
from .class_tables import refuse_equal
from .corrections import Corrections, corrected, is_corrections, read_corrections
from .lists import read_list, rows_of
from .look import look
from .palettes import distinct
from .published import is_name, rows_under
from .registry import dataset
from .sources import MemorySource, parse_size
from .splits import Labelled, count_of, draw, is_list
from .task import Task


def load(
    name: str,
    root: str | os.PathLike | None = None,
    labelled: Labelled | None = None,
    unlabelled: Labelled | None = None,
    crop: int | None = None,
    size: float | int | str | None = None,
    seed: int = 0,
    cover: int | None = None,
    overlap: bool = False,
    scale: Sequence[float] | None = None,
    short: int | None = None,
    cache: bool | None = None,
    corrections: str | os.PathLike | None = None,
    **options: Any,
) -> Task:
    """A data set with a labelled / unlabelled split.

    Args:
        name: see `names()` and `table()`.
        root: where it lies; by default $S4KIT_DATA/NAME or ./data/NAME. Embedded sets have none.
        labelled: a fraction ("1/16", 0.0625; rounds up: 1/16 of 367 is 23), a count (23), "all", a list of ids, the
            path of a text file of ids, a published split ("voc/classic/183"; `s4.splits.table()` lists them), or a
            folder of labels that were corrected by hand in the explorer: what was labelled before and the corrected
            images. By default what suits the data set (scenes 16, others 1/16).
        unlabelled: a list or file of ids; by default every other training image, under a published split those of its
            protocol.
        crop: side of the square training crop in pixels; by default what suits the data set.
        size: resize every image once at reading, train and val alike: a factor (0.5) or a short side in pixels (180).
            Scores are then scores at that resolution, and `Task.protocol` says so.
        seed: of the split.
        cover: each class is in at least this many labelled images (seeded splits; scenes 3, others 0).
        overlap: labelled images are also used unlabelled. By default they are not; lists say it themselves.
        scale: factors of the weak view's random resize, two for a range, more to choose from; by default (0.5, 2),
            scenes (0.85, 1.4).
        short: shorter side in pixels to which these factors refer; by default each image's own. The weak view alone
            is made from it: images are stored and scored at their size.
        cache: keep decoded images in memory; by default where they need less than about 1.5 GB.
        corrections: a folder of corrected labels; those of labelled images stand for the data set's own. By default
            `labelled`, where that is such a folder.
        options: of the data set, such as `n_train` and `side` of scenes.

    Raises:
        S4Error: an unknown name or option, a missing folder or list, or a split that cannot be made.
    """
    entry = dataset(name)
    _check_options(entry, options)
    if root is None and entry.marker:
        root = "." if "images" in options else _found_root(entry)
    size = parse_size(size)
    root = None if root is None else os.path.abspath(os.path.expanduser(root))
    catalog = entry.open(root, size=size, cache=cache, **options)
    config = {"name": name, "root": root, "size": size, "cache": cache, **options, **catalog.config}
    bits, notice = settle_bits((catalog.train, catalog.val))
    if bits and "bits" in inspect.signature(entry.open).parameters:
        config["bits"] = bits  # opened again, it is read alike
    catalog = replace(catalog, notices=catalog.notices + ((notice,) if notice else ()))
    config = public(config)
    return _split(catalog, labelled, unlabelled, crop, size, seed, cover, overlap, scale, short, corrections, config)


def _check_options(entry: DataSet, options: dict[str, Any]) -> None:
    known = [p for p in inspect.signature(entry.open).parameters if p not in ("root", "size", "cache")]
    for option in options:
        if option not in known:
            raise S4Error(f"{entry.name} has no option {option!r}. It knows: {', '.join(known) or 'none of its own'}.")


def _found_root(entry: DataSet) -> str:
    found = entry.found()
    if found is None:
        how = f"Fetch it with `s4kit data get {entry.name}`" if entry.get else entry.manual
        how += " (it needs an account; the command says what to do)" if entry.get and entry.manual else ""
        raise S4Error(f"{entry.name} is not at {entry.default_root()}. {how}, or say where it is: root=... (--root).")
    return str(found)


def load_arrays(
    images: Sequence[np.ndarray | Tensor],
    labels: Sequence[np.ndarray | Tensor | None],
    val_images: Sequence[np.ndarray | Tensor],
    val_labels: Sequence[np.ndarray | Tensor],
    classes: Sequence[str] | int,
    name: str = "arrays",
    labelled: Labelled | None = None,
    unlabelled: Labelled | None = None,
    palette: Sequence[Sequence[int]] | None = None,
    ids: Sequence[str] | None = None,
    crop: int = 128,
    seed: int = 0,
    cover: int = 0,
    overlap: bool = False,
    scale: Sequence[float] = (0.5, 2.0),
) -> Task:
    """A task from images in memory: uint8 (H, W, 3) or (3, H, W), labels (H, W) with 255 = void, None = unlabelled.

    By default all images with a label are labelled where some have none, else 1/16 of them. Such a task cannot be
    reopened: its `config` is {}.

    Raises:
        S4Error: wrong types, sizes or ids, or a split that cannot be made.
    """
    class_names = tuple(f"class{i}" for i in range(classes)) if isinstance(classes, int) else tuple(classes)
    refuse_equal(class_names, "classes")
    train = MemorySource(images, labels, len(class_names), ids)
    maskless = frozenset(row for row, label in enumerate(train.labels) if label is None)
    catalog = Catalog(
        name=name,
        classes=class_names,
        palette=tuple(tuple(c) for c in palette) if palette else distinct(len(class_names)),
        train=train,
        val=MemorySource(val_images, val_labels, len(class_names), [f"val_{i}" for i in range(len(val_images))]),
        crop=crop,
        scale=tuple(scale),
        labelled="all" if maskless else "1/16",
        maskless=maskless,
    )
    return _split(catalog, labelled, unlabelled, crop, None, seed, cover, overlap, None, None, None, {})


def _split(
    catalog: Catalog,
    labelled: Labelled | None,
    unlabelled: Labelled | None,
    crop: int | None,
    size: float | int | None,
    seed: int,
    cover: int | None,
    overlap: bool,
    scale: Sequence[float] | None,
    short: int | None,
    corrections: str | os.PathLike | None,
    config: dict[str, Any],
) -> Task:
    """The task of a catalog; its own `config` is the given one and the split's, {} where nothing can be reopened."""
    labelled = catalog.labelled if labelled is None else labelled
    cover = catalog.cover if cover is None else cover
    corrections = labelled if corrections is None and is_corrections(labelled) else corrections
    made = None if corrections is None else read_corrections(corrections)
    if is_name(labelled):
        labelled, rows, rest, words, more = _published_rows(catalog, labelled, unlabelled, overlap, config.get("root"))
    else:
        rows, words = _labelled_rows(catalog, labelled, seed, cover, made)
        rest, more = _unlabelled_rows(catalog, rows, unlabelled, overlap)
    if catalog.crop is None and (crop or scale or short):
        raise S4Error(f"{catalog.name} has no images: leave out crop, scale and short, by which images are cropped.")
    by_hand = made.words([catalog.train.ids[row] for row in rows]) if made else ""
    scale = catalog.scale if scale is None else tuple(float(s) for s in scale)
    resized = f"resized by {size}" if isinstance(size, float) else f"short side {size}"
    at = f"{resized}, scored at that size" if size is not None else ""
    protocol = ", ".join(filter(None, (words, by_hand, more, at, catalog.note)))
    lists = {"labelled": _absolute(labelled), "unlabelled": _absolute(unlabelled)}
    split = {**lists, "seed": seed, "cover": cover, "overlap": overlap}
    task = Task(
        name=catalog.name,
        classes=catalog.classes,
        palette=catalog.palette,
        train=catalog.train,
        labelled=tuple(rows),
        unlabelled=tuple(rest),
        val=catalog.val,
        crop=None if catalog.crop is None else _side(catalog.crop if crop is None else crop, "crop"),
        scale=_scale(scale),
        short=None if short is None else _side(short, "short"),
        protocol=protocol,
        evaluation=catalog.evaluation,
        levels=catalog.levels,
        parents=catalog.parents,
    )
    files, labels, faults = look(task.classes, task.train, task.labelled, task.val)
    task = replace(task, notices=catalog.notices + files, label_notices=labels, faults=faults)
    if made:
        task = replace(task, train=corrected(task.train, task.labelled, made, task.classes))
    for words in (*task.notices, *labels, *faults[:1]):
        caution(f"{task.name}: {words}", stacklevel=4)
    evaluation = catalog.evaluation
    if getattr(evaluation, "mode", None) == "sliding":
        evaluation = replace(evaluation, window=task.crop)
    if config:
        split["corrections"] = None if made is None else os.path.abspath(made.folder)
        views = {} if task.crop is None else {"crop": task.crop, "scale": scale, "short": task.short}
        config = public({**config, **split, **views})
    return catalog.finish(replace(task, evaluation=evaluation, config=config))


def _absolute(labelled: Labelled | None) -> Labelled | None:
    """The path of a list file or folder so that it is found from anywhere; anything else as it is."""
    return os.path.abspath(labelled) if isinstance(labelled, str | os.PathLike) and is_list(labelled) else labelled


def _side(side: int, name: str) -> int:
    if isinstance(side, bool) or int(side) != side or side < 8:
        raise S4Error(f"{name}={side!r}: a side of the training's views is a whole number of pixels, at least 8.")
    return int(side)


def _scale(scale: Sequence[float]) -> tuple[float, ...]:
    if len(scale) < 2 or min(scale) <= 0 or (len(scale) == 2 and scale[0] > scale[1]):
        raise S4Error(
            f"scale={tuple(scale)} is no range (low, high) of resize factors above 0, nor a list to choose from."
        )
    return tuple(float(factor) for factor in scale)


def _published_rows(
    catalog: Catalog, name: str, unlabelled: Labelled | None, overlap: bool, root: str | None
) -> tuple[str, list[int], list[int], str, str]:
    """The canonical name, rows of labelled and of unlabelled images, and the words that describe both."""
    split, rows, rest, every = rows_under(name, catalog.name, catalog.train, root)
    _need_labels(catalog, rows, split.name)
    if unlabelled is not None:
        rest, more = _unlabelled_rows(catalog, rows, unlabelled, overlap)
        return split.name, rows, rest, f"{split.name} ({split.count} labelled)", more
    if overlap:
        return split.name, rows, every, split.protocol, f"all {len(every)} used unlabelled"
    return split.name, rows, rest, split.protocol, ""


def _need_labels(catalog: Catalog, rows: Sequence[int], where: str) -> None:
    without = [row for row in rows if row in catalog.maskless]
    if without:
        raise S4Error(f"{where}: {catalog.train.ids[without[0]]} is listed as labelled but has no label map.")


def _labelled_rows(
    catalog: Catalog, labelled: Labelled, seed: int, cover: int, made: Corrections | None
) -> tuple[list[int], str]:
    """Rows of the labelled images and the words that describe the draw."""
    if is_list(labelled):
        ids, where = read_list(labelled)
        rows = rows_of(ids, catalog.train, catalog.val, where)
        _need_labels(catalog, [row for row in rows if made is None or catalog.train.ids[row] not in made.made], where)
        return rows, f"{len(rows)} labelled of {os.path.basename(where)}"
    able = [row for row in range(len(catalog.train)) if row not in catalog.maskless]
    if not able:
        raise S4Error(f"{catalog.name}: no training image has a label map; at least one must.")
    count = count_of(labelled, len(able))
    rows = draw(catalog.train, able, count, seed, cover, catalog.classes)
    covered = f", each class in >= {cover}" if cover else ""
    return rows, f"seeded {labelled} ({count} of {len(able)}), seed {seed}{covered}"


def _unlabelled_rows(
    catalog: Catalog, labelled: list[int], unlabelled: Labelled | None, overlap: bool
) -> tuple[list[int], str]:
    taken = set(labelled)
    if unlabelled is None:
        rest = [row for row in range(len(catalog.train)) if overlap or row not in taken]
        return rest, "labelled images also unlabelled" if overlap else ""
    if not is_list(unlabelled):
        raise S4Error(f"unlabelled={unlabelled!r}: give a list of ids or the path of a text file of ids.")
    ids, where = read_list(unlabelled)
    return rows_of(ids, catalog.train, catalog.val, where), f"unlabelled of {os.path.basename(where)}"
