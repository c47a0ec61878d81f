"""A pseudo-label corrected by hand becomes a label: written beside the run, with all that is known of how it came.

What the brush paints comes in runs of pixels of the stored map; the label is written at the size of the image. It goes
into `RUN/corrections`, which `load(..., labelled=...)` takes.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from ..data.corrections import FILE, VERSION, Correction, read_corrections, stem
from ..data.palettes import indexed
from ..data.task import VOID
from ..engine import Run, images, open_run
from ..engine.checkpoint import write_atomic
from ..engine.scores import Scores
from ..errors import S4Error
from .state import check

REST = ("model", "void")
Painted = Sequence[Sequence[int]]


def why_not(run: Run) -> str:
    """Why no label of a run can be corrected by hand; "" where it can."""
    if run.score == Scores.name:
        return ""
    return (
        f"Nothing to paint here: a corrected label is a map of the classes of pixels, and {run.path.resolve().name} "
        f"learns what is scored by {run.score}, which such a map does not say."
    )


def correct(
    run: Run | str | Path,
    id: str,
    label: ndarray,
    painted: ndarray | None = None,
    folder: str | os.PathLike | None = None,
    task: Any = None,
    **about: Any,
) -> Correction:
    """Keep a corrected label of an unlabelled image for the next training.

    Args:
        run: whose pseudo-label was corrected, or its folder.
        id: of the image.
        label: (H, W) at the size of the image: the class of each pixel, 255 = not taught.
        painted: (H, W) bool: what a hand has set; by default all that is not 255.
        folder: where it goes; by default `RUN/corrections`. A run that was trained with corrections brings them along.
        task: the run's own, where it is at hand.
        about: what else is to be known of it: the step, the pseudo-label's name, ...

    Returns:
        Correction: train with `load(..., labelled=FOLDER)`.

    Raises:
        S4Error: the image is not an unlabelled one of the run, the map is of another size or has other classes, the
            folder is of a run with other labelled images, or the run learns points or single objects.
    """
    run = run if isinstance(run, Run) else open_run(run)
    _refuse(run)
    task = task or run.task()
    label = np.asarray(label)
    painted = label != VOID if painted is None else np.asarray(painted, bool)
    row = _row(run, task, id)
    size = tuple(task.train.read(row, label=False).image.shape[1:])
    if label.shape != size or painted.shape != size:
        raise S4Error(f"{id} is {size} pixels (H, W); the label is {label.shape}, what was painted {painted.shape}.")
    if label.dtype.kind not in "ui" or ((label >= task.num_classes) & (label != VOID)).any() or label.min() < 0:
        raise S4Error(f"The label of {id} holds other values than 0..{task.num_classes - 1} and {VOID} (not taught).")
    folder = Path(folder) if folder else run.path / "corrections"
    _begin(folder, run, task)
    return _write(folder, id, label.astype(np.uint8), painted, task, {**_of(run), **about})


def _refuse(run: Run) -> None:
    if words := why_not(run):
        raise S4Error(words)


def _row(run: Run, task: Any, id: str) -> int:
    if id not in task.train.ids:
        word = "a validation image: its label is for scoring" if id in task.val.ids else "none of its training images"
        raise S4Error(f"{id!r} of {run.path} cannot be corrected: it is {word}.")
    row = task.train.ids.index(id)
    if row in task.labelled and id not in _made(run):
        raise S4Error(f"{id!r} of {run.path} has a label already, which the run was trained with.")
    return row


def _made(run: Run) -> dict[str, Correction]:
    """What the run was trained with, corrected before."""
    before = (run.config.get("task") or {}).get("corrections")
    return dict(read_corrections(before).made) if before else {}


def _of(run: Run) -> dict[str, Any]:
    return {"run": run.path.resolve().name, "method": str(run.config["method"])}


def _begin(folder: Path, run: Run, task: Any) -> None:
    """Make the folder, with the corrections that the run was trained with; or make sure that it is of such a run."""
    earlier = _made(run)
    before = [name for name in images.lists(task)["labelled"] if name not in earlier]
    if (folder / FILE).is_file():
        known = read_corrections(folder)
        stated = set(known.labelled) - set(earlier)
        if not set(before) >= set(known.before) or set(before) - stated:
            raise S4Error(f"{folder} holds corrections of a run with other labelled images; give another folder.")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in earlier.values():
            for file in (one.file, one.file.with_suffix(".json")):
                shutil.copyfile(file, folder / file.name)
    except OSError as error:
        raise S4Error(f"{folder} cannot be written: {error.strerror}.") from error
    index = {"version": VERSION, "classes": list(task.classes), "labelled": before}
    _json(folder / FILE, index)


def _write(folder: Path, id: str, label: ndarray, painted: ndarray, task: Any, about: dict[str, Any]) -> Correction:
    file = folder / f"{stem(id)}.png"
    picture = io.BytesIO()
    indexed(label, task.palette).save(picture, "PNG", optimize=True)
    write_atomic(file, lambda out: out.write(picture.getvalue()))
    found = {
        "version": VERSION,
        "id": id,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        **about,
        "size": list(label.shape),
        "painted": int(painted.sum()),
        "of_the_model": int(((label != VOID) & ~painted).sum()),
        "not_taught": int((label == VOID).sum()),
        "pixels": [[a, n] for a, n, _ in runs(np.where(painted, 0, VOID))],
    }
    _json(file.with_suffix(".json"), found)
    return Correction(id, file, found["painted"], found)


def _json(file: Path, values: dict[str, Any]) -> None:
    write_atomic(file, lambda out: out.write((json.dumps(values) + "\n").encode()))


# ---- what the brush sends ----


def runs(painted: ndarray) -> list[list[int]]:
    """A map (h, w) of classes with 255 = not painted as runs [first pixel, how many, class], row by row."""
    flat = painted.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=np.int64(-1)))
    lengths = np.diff(starts, append=flat.size)
    return [[int(a), int(n), int(flat[a])] for a, n in zip(starts, lengths) if flat[a] != VOID]


def painted_map(painted: Any, shape: tuple[int, int], classes: int) -> tuple[ndarray, ndarray]:
    """What was painted, from the runs [first pixel, how many, class] of a map, the class -1 for "not taught".

    Returns:
        The classes (h, w), 255 where not taught or not painted; and what was painted (h, w) bool.

    Raises:
        S4Error: it is not such a list.
    """
    label, hand = np.full(shape[0] * shape[1], VOID, np.uint8), np.zeros(shape[0] * shape[1], bool)
    try:
        for first, many, c in painted:
            if not (all(type(v) is int for v in (first, many, c)) and first >= 0 < many and -1 <= c < classes):
                raise ValueError(f"[{first!r}, {many!r}, {c!r}]")
            if first + many > hand.size:
                raise ValueError(f"[{first}, {many}, {c}] ends beyond the {hand.size} pixels")
            label[first : first + many] = VOID if c < 0 else c
            hand[first : first + many] = True
    except (TypeError, ValueError) as why:
        raise S4Error(f"What was painted must be a list of [first pixel, how many, class]: {why}.") from None
    return label.reshape(shape), hand.reshape(shape)


def onto_image(maps: ndarray, valid: ndarray, crop: int | None, size: tuple[int, int], fill: int) -> ndarray:
    """A stored map (h, w) at the size of its image.

    Every pixel of the image gets the value of the picked pixel in whose cell it lies, see `engine.maps.picked`.

    Args:
        valid: (h, w), 0 = padding. crop: side of the middle crop that the map was picked from; None: the whole image,
            at the top left of the map. size: (H, W) of the image. fill: outside the crop.
    """
    whole = np.full(size, fill, maps.dtype)
    inside, cells = [], []
    for side, n, real in zip(size, maps.shape, (valid.any(1), valid.any(0))):
        start, extent, n = (0, side, int(real.sum())) if crop is None else ((side - crop) // 2, crop, n)
        if crop is not None and side < crop:
            start = 0 if real[0] else -((crop - side) // 2)
        first, last = max(0, start), min(side, start + extent)
        inside.append(slice(first, last))
        cells.append((2 * (np.arange(first, last) - start) + 1) * n // (2 * extent))
    whole[tuple(inside)] = maps[cells[0][:, None], cells[1]]
    return whole


def take(view: Any, asked: dict[str, Any], folder: str | os.PathLike | None = None) -> dict[str, Any]:
    """Keep what a brush has painted over a pseudo-label of a `View`.

    Args:
        asked: {"image", "track": indices; "at": index of the track's snapshot, None for the whole image through the
            last weights; "painted": see `painted_map`; "rest": the other pixels are taught as the "model" says, or not
            at all ("void")}.
        folder: see `correct`.

    Returns:
        {"id", "folder", "file": where it is now, "painted", "changed": pixels of the image that were painted, and of
        these those that had another label, "of_the_model", "not_taught": the others}.

    Raises:
        S4Error: what is asked for is out of range, nothing is painted, or the label cannot be kept, see `correct`.
    """
    image = check(view.meta, {}, "image", asked.get("image"))
    (track,) = check(view.meta, {}, "tracks", asked.get("track"))
    if asked.get("rest", "model") not in REST:
        raise S4Error(f"rest={asked['rest']!r}: the other pixels are those of the 'model', or 'void'.")
    about, run, id = view.meta["tracks"][track], view.data.tracks[track].run, view.meta["images"][image]["id"]
    _refuse(run)
    label, valid, crop, at = _shown(view, image, track, asked.get("at"))
    new, hand = painted_map(asked.get("painted"), label.shape, len(view.meta["classes"]))
    hand &= valid
    if not hand.any():
        raise S4Error("Nothing is painted on this image: there is nothing to keep.")
    task = view.task(track)
    size = tuple(task.train.read(_row(run, task, id), label=False).image.shape[1:])
    model = np.where(valid, label, VOID).astype(np.uint8)
    new = np.where(hand, new, model if asked.get("rest", "model") == "model" else VOID).astype(np.uint8)
    model, new = (onto_image(maps, valid, crop, size, VOID) for maps in (model, new))
    painted = onto_image(hand, valid, crop, size, False)
    made = correct(
        run, id, new, painted, folder, task,
        pseudo_label=about["name"], step=about["steps"][at], rest=asked.get("rest", "model"),
        changed=int((painted & (new != model)).sum()),
        strokes={"grid": list(label.shape), "painted": [list(one) for one in asked["painted"]]},
    )  # fmt: skip
    counts = {name: made.about[name] for name in ("id", "painted", "changed", "of_the_model", "not_taught")}
    return counts | {"folder": str(made.file.parent), "file": str(made.file)}


def offered(meta: dict[str, Any], painted: str | os.PathLike | dict[str, Any]) -> dict[str, Any]:
    """What `take` is asked by the file that a page offers, whose images, tracks and snapshots have numbers of its own.

    Raises:
        S4Error: it is no such file, or the runs do not have its image, track or step.
    """
    try:
        found = painted if isinstance(painted, dict) else json.loads(Path(painted).read_text(encoding="utf-8"))
        id, title, step, rest, pixels = (found[name] for name in ("id", "track", "step", "rest", "painted"))
    except (OSError, ValueError, KeyError, TypeError) as why:
        raise S4Error(
            f"{painted if not isinstance(painted, dict) else 'This'} is no label of a page ({why!r})."
        ) from None
    ids, titles = [image["id"] for image in meta["images"]], [track["title"] for track in meta["tracks"]]
    if id not in ids or title not in titles or step not in (steps := meta["tracks"][titles.index(title)]["steps"]):
        raise S4Error(f"These runs have no image {id!r} of {title!r} at step {step!r}.")
    at = None if found.get("full") else steps.index(step)
    return {"image": ids.index(id), "track": titles.index(title), "at": at, "rest": rest, "painted": pixels}


def _shown(view: Any, image: int, track: int, at: Any) -> tuple[ndarray, ndarray, int | None, int]:
    """What was painted over: label, where it is no padding (h, w), the crop that it is of, index of the snapshot."""
    steps, one = view.meta["tracks"][track]["steps"], view.data.tracks[track]
    if at is None:
        maps = view.looked(image, track)
        return maps["label"], maps["valid"] > 0, None, len(steps) - 1
    at = check(view.meta, {"tracks": [track]}, "snapshot", at)
    valid = view.data.first.image(view.data.images[image])["valid"] > 0
    crop = None if one.run.config["fit"].get("probe_whole") else one.snapshots.crop
    return view.data.maps(track, image)["label"][at], valid, crop, at


def so_far(run: Run, folder: str | os.PathLike | None = None) -> dict[str, Any]:
    """What has been corrected of a run.

    Returns:
        {"folder", "made": [{"id", "when", "step", "painted", "rest", "strokes": what was painted, to go on with}]}.
    """
    folder = Path(folder) if folder else run.path / "corrections"
    made = read_corrections(folder).made if (folder / FILE).is_file() else {}
    names = ("id", "when", "step", "painted", "rest", "strokes")
    return {"folder": str(folder), "made": [{name: one.about.get(name) for name in names} for one in made.values()]}
