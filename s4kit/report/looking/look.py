"""`s4kit data look`: what a person would want to see before training on their own data, as a page or a picture.

Some images of each list are read, evenly spread over it, and what is said of a list says how many those were.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.points.clouds import Cloud
from ...data.task import VOID, Sample, Source, Task
from ...errors import S4Error
from .looked import Looked, Part

LOOKED, FURTHER = {"labelled": 64, "val": 32}, 64  # maps that are counted; of a further list
HEADERS = 1000  # images whose size and EXIF tag are read
MOSTLY = 0.5  # share of void that is remarked
ORIENTATION = 0x0112


class Look(Looked):
    """A task, looked at; a notebook shows the figure."""

    def page(self) -> str:
        """The whole as one HTML page, pictures inside."""
        from .page import page

        return page(self)

    def figure(self, dark: bool = False) -> Any:
        """The images with their labels and the classes, as a figure."""
        from .figure import figure

        return figure(self, dark)

    def _repr_png_(self) -> bytes:
        """What a notebook shows: few colours, since it is kept in the notebook."""
        import io

        from PIL import Image

        store = io.BytesIO()
        with Image.open(io.BytesIO(self.figure()._repr_png_())) as whole:
            few = whole.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(store, "PNG", optimize=True)
        return store.getvalue()

    def __repr__(self) -> str:
        lines = [str(self.task), *(f"  ! {words}" for words in self.remarks)]
        return "\n".join(lines)


def look(task: Task, images: int = 12) -> Look:
    """Look at a task.

    Args:
        images: how many are shown, three quarters of them labelled ones; of each further list as many as of val.

    Raises:
        S4Error: not a single image can be read.
    """
    rows = {"labelled": task.labelled, **{name: of.rows for name, of in task.more.items()}, "val": range(len(task.val))}
    sources = {"labelled": task.train, **{name: of.source for name, of in task.more.items()}, "val": task.val}
    parts: dict[str, Part] = {}
    samples: list[tuple[str, Sample]] = []
    for name, source in sources.items():
        seen: list[Sample] = []
        parts[name] = _count(source, spread(rows[name], LOOKED.get(name, FURTHER)), len(rows[name]), seen)
        many = images - images // 4 if name == "labelled" else images // 4
        chosen = _varied(seen, many)
        samples += [(name, item.picture() if isinstance(item, Cloud) else item) for item in chosen]
    if not samples:
        raise S4Error(f"No image of {task.name} can be read; the first: {parts['labelled'].broken[0]}")
    sizes, turned = _headers(task)
    return Look(task, parts, samples, sizes, turned, [*_remarks(task, parts, turned)])


def spread(rows: Sequence[int], most: int) -> list[int]:
    """At most so many of the rows, evenly spread over them."""
    return [rows[k * len(rows) // most] for k in range(most)] if len(rows) > most else list(rows)


def _count(source: Source, rows: Sequence[int], total: int, seen: list[Sample]) -> Part:
    part = Part(total)
    for row in rows:
        try:
            sample = source.read(row)
        except S4Error as why:
            part.broken.append(str(why))
            continue
        counts = np.bincount(sample.label.numpy().ravel(), minlength=256)
        part.seen += 1
        part.pixels += counts
        part.images += counts > 0
        seen.append(sample)
    return part


def _varied(seen: list[Sample], many: int) -> list[Sample]:
    """Those that show most classes between them, rare ones counting more, in their order."""
    shows = [set(sample.label.unique().tolist()) - {VOID} for sample in seen]
    often: dict[int, int] = {}
    chosen: list[int] = []
    while len(chosen) < min(many, len(seen)):
        rest = [k for k in range(len(seen)) if k not in chosen]
        best = max(rest, key=lambda k: (sum(1 / (1 + often.get(c, 0)) ** 2 for c in shows[k]), -k))
        chosen.append(best)
        for c in shows[best]:
            often[c] = often.get(c, 0) + 1
    return [seen[k] for k in sorted(chosen)]


def _headers(task: Task) -> tuple[list[tuple[int, int]], list[str]]:
    """Sizes, and the photos that their EXIF tag turns, of images spread over the training list and val."""
    sizes, turned = [], []
    for source in (task.train, task.val):
        if not hasattr(source, "shape"):
            continue
        for row in spread(range(len(source)), HEADERS // 2):
            try:
                sizes.append(tuple(source.shape(row)))
                turned += [source.ids[row]] if _is_turned(source.image_path(row)) else []
            except (S4Error, OSError, ValueError, AttributeError):  # a broken file is named where it is read
                continue
    return sizes, turned


def _is_turned(path: str) -> bool:
    from PIL import Image

    with Image.open(path) as image:
        return image.getexif().get(ORIENTATION, 1) != 1


def _remarks(task: Task, parts: dict[str, Part], turned: list[str]) -> Iterator[str]:
    for name, part in parts.items():
        where = f"the {part.seen} {name} images" + (f" looked at (of {part.total})" if part.seen < part.total else "")
        absent = [c for c, many in zip(task.classes, part.images) if not many]
        if absent and part.seen:
            yield f"No pixel of {some(absent)} in {where}."
        if part.void > MOSTLY:
            yield f"{100 * part.void:.0f} % of the pixels of {where} are void: neither trained on nor scored."
        if part.broken:
            yield f"{len(part.broken)} of {where} cannot be read: {part.broken[0]}"
    if turned:
        yield (
            f"{len(turned)} photos are turned by their EXIF tag ({some(turned)}): the kit turns them; are their labels "
            "drawn on the turned photo?"
        )
    yield from task.notices


def some(names: Sequence[str]) -> str:
    """The first names, as words."""
    return ", ".join(names[:4]) + (f", ... ({len(names)} in all)" if len(names) > 4 else "")


def write(found: Look, out: str | os.PathLike) -> Path:
    """Write the page (.html) or the picture (.png).

    Raises:
        S4Error: another ending, or the disk refuses.
    """
    from ..plots import save

    path = Path(out)
    if path.suffix.lower() not in (".html", ".png"):
        raise S4Error(f"{path}: what is written is a page or a picture, so call it .html or .png.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() == ".html":
            path.write_text(found.page(), encoding="utf-8")
        else:
            save(found.figure(), path, dpi=130)
    except OSError as why:
        raise S4Error(f"{path} cannot be written: {why.strerror}.") from None
    return path
