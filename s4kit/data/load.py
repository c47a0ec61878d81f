"""`load`: a data set by name, split, as a `Task`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..errors import S4Error, caution
from .catalog import Catalog, public
from .checking.look import look
from .corrections import Corrections, corrected, is_corrections, read_corrections
from .further import further, said
from .objects import MaskEvaluation
from .opening import open_catalog
from .own.class_tables import refuse_equal
from .palettes import distinct
from .sources import MemorySource, parse_size
from .splitting.chosen import labelled_rows, published_rows, unlabelled_rows
from .splitting.published import is_name
from .splitting.splits import Labelled, is_list
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
    more: Mapping[str, Any] | None = None,
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
        more: further labelled lists by name, each another data set of the same classes, for methods that learn from a
            second domain: {"domain": "plain"}, "gta5(size=720)" with arguments of `load`, or these as a dict. All its
            labelled images are taken unless `labelled` says otherwise.
        options: of the data set, such as `n_train` and `side` of scenes.

    Raises:
        S4Error: an unknown name or option, a missing folder or list, or a split that cannot be made.
    """
    size = parse_size(size)
    catalog, config = open_catalog(name, root, size, cache, options)
    asked = {} if more is None else {of: said(given) for of, given in more.items()}
    lists = {of: further(of, given, catalog.classes) for of, given in asked.items()}
    config = public({**config, "more": asked or None})
    task = _split(catalog, labelled, unlabelled, crop, size, seed, cover, overlap, scale, short, corrections, config)
    return replace(task, more=lists)


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

    Args:
        images, labels: to train on, equally many. val_images, val_labels: those that are scored.
        classes: their names, or how many there are; labels are 0 .. their number - 1, and 255.
        name: what errors and reports call it. ids: names of the training images; None = their numbers.
        palette: (R, G, B) in 0..255 for each class; None = colours that are told apart.
        crop: side of the training crop in pixels. scale: factors of the random resize of the weak view.
        labelled, unlabelled, seed, cover, overlap: as of `load`.

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
    made = None if corrections is None else _by_hand(catalog, corrections)
    if is_name(labelled):
        labelled, rows, rest, words, about = published_rows(catalog, labelled, unlabelled, overlap, config.get("root"))
    else:
        rows, words = labelled_rows(catalog, labelled, seed, cover, made)
        rest, about = unlabelled_rows(catalog, rows, unlabelled, overlap)
    _refuse(catalog, bool(crop or scale or short))
    by_hand = made.words([catalog.train.ids[row] for row in rows]) if made else ""
    scale = catalog.scale if scale is None else tuple(float(s) for s in scale)
    protocol = ", ".join(filter(None, (words, by_hand, about, _resized(size), catalog.note)))
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


def _by_hand(catalog: Catalog, folder: str | os.PathLike) -> Corrections:
    """The corrected labels of a folder.

    Raises:
        S4Error: it cannot be read, or single objects are the task.
    """
    made = read_corrections(folder)
    if isinstance(catalog.evaluation, MaskEvaluation):
        raise S4Error(
            f"{made.folder} holds maps of the classes of pixels, which part no object from another: load without "
            "instances=True, or without corrections."
        )
    return made


def _refuse(catalog: Catalog, cropped: bool) -> None:
    """Raises S4Error where crops are asked for of what has none, or there is nothing to score on."""
    if catalog.crop is None and cropped:
        raise S4Error(f"{catalog.name} has no images: leave out crop, scale and short, by which images are cropped.")
    if not len(catalog.val):
        raise S4Error(
            f"{catalog.name} has no list of its own to score on: hold images out for it, held_out=500 (--data-option "
            f"held_out=500), or learn from it beside another data set: more={{'domain': '{catalog.name}'}}."
        )


def _resized(size: float | int | None) -> str:
    """What a protocol says of images that are resized at reading."""
    resized = f"resized by {size}" if isinstance(size, float) else f"short side {size}"
    return "" if size is None else f"{resized}, scored at that size"


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
