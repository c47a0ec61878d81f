"""Read every file of a task once and report what is wrong, file by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b

import numpy as np

from ...errors import S4Error
from ..points.clouds import Cloud
from ..reading.parallel import each
from ..task import VOID, Source, Task
from .look import MOSTLY

KEPT = 1000  # problems and duplicates that a report keeps; it counts all
SHOWN = 20  # that it prints
TWINS = 10  # images of a group of equal ones that it names
ROWS = 40  # classes that it prints; of more, the most frequent and the rarest


@dataclass
class Report:
    """What `check` found.

    Attributes:
        name: of the data set.
        images: images read, by part: labelled, unlabelled, further lists by name, val.
        broken: how many files are broken; training on them would fail.
        problems: one dict (part, id, message) for each of them, at most KEPT.
        warnings: things that are legal but rarely meant.
        class_pixels: pixels of each class by part (labelled, further lists, val).
        void_share: share of void pixels by part.
        sizes: (height, width) of the smallest and the largest image, by area.
        overlap: labelled images that are also unlabelled.
        duplicates: lists of images ("part:id") with the same pixels, at most KEPT lists of at most TWINS.
    """

    name: str
    classes: tuple[str, ...]
    images: dict[str, int] = field(default_factory=dict)
    broken: int = 0
    problems: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    class_pixels: dict[str, list[int]] = field(default_factory=dict)
    void_share: dict[str, float] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    overlap: int = 0
    duplicates: list[list[str]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No file is broken."""
        return not self.broken

    def to_dict(self) -> dict:
        """For JSON."""
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {part}" for part, count in self.images.items())
        lines = [f"{self.name}: {parts}; {self.broken} broken, {len(self.warnings)} warnings"]
        lines += [f"  BROKEN {p['part']} {p['id']}: {p['message']}" for p in self.problems[:SHOWN]]
        if self.broken > SHOWN:
            lines.append(f"  ... and {self.broken - SHOWN} more (--json lists up to {KEPT})")
        lines += [f"  warning: {text}" for text in self.warnings]
        if self.sizes:
            (h, w), (height, width) = self.sizes
            lines.append(f"  images from {w} x {h} to {width} x {height} pixels (width x height)")
        void = ", ".join(f"{share:.1%} of {part}" for part, share in self.void_share.items())
        return "\n".join([*lines, f"  void: {void}", *self._table()])

    def _table(self) -> list[str]:
        """The share of each class among the labelled pixels."""
        width = max(map(len, self.classes))
        shares = {part: _shares(pixels) for part, pixels in self.class_pixels.items()}
        order = list(range(len(self.classes)))
        head = f"  {'class'.ljust(width)} " + " ".join(f"{part:>10}" for part in shares)
        if len(order) > ROWS:
            order.sort(key=lambda c: -shares["labelled"][c])
            order = [*order[: ROWS // 2], *order[-ROWS // 2 :]]
            head += f"   (of {len(self.classes)} classes the {ROWS // 2} most frequent and the {ROWS // 2} rarest)"
        rows = (" ".join(f"{share[c]:10.2%}" for share in shares.values()) for c in order)
        return [head, *(f"  {self.classes[c].ljust(width)} {row}" for c, row in zip(order, rows))]


def _shares(pixels: Sequence[int]) -> list[float]:
    total = max(1, sum(pixels))
    return [count / total for count in pixels]


@dataclass(frozen=True)
class _Read:
    """What is kept of one image."""

    part: str
    id: str
    problem: str = ""
    shape: tuple[int, int] = (0, 0)
    digest: bytes = b""
    pixels: np.ndarray | None = None  # (256,) of each stored class


def check(
    task: Task,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    expected: Mapping[str, Sequence[int]] | None = None,
) -> Report:
    """Read all images and labels of a task, in processes; broken files are collected, not raised.

    Args:
        task: what to read. Labels of unlabelled images are read too where there are any: another split may need them.
        workers: decoding processes; by default one per core (at most 8), none for a few images.
        progress: called with (images done, images in all).
        expected: how many images "train" and "val" have when nothing is missing, such as {"train": (1464, 10582)}.
    """
    parts = _parts(task)
    jobs = [(part, row) for part, (_, rows) in parts.items() for row in rows]
    sources = {part: source for part, (source, _) in parts.items()}
    tally = _Tally(Report(task.name, task.classes, {part: len(rows) for part, (_, rows) in parts.items()}))
    for read in each(partial(_read, sources), jobs, workers, progress):
        tally.add(read, task.crop)
    tally.report.overlap = task.overlap
    tally.finish(task, expected or {})
    return tally.report


def _parts(task: Task) -> dict[str, tuple[Source, list[int]]]:
    labelled = set(task.labelled)
    return {
        "labelled": (task.train, list(task.labelled)),
        "unlabelled": (task.train, [row for row in task.unlabelled if row not in labelled]),
        **{name: (of.source, list(of.rows)) for name, of in task.more.items()},
        "val": (task.val, list(range(len(task.val)))),
    }


def _read(sources: Mapping[str, Source], job: tuple[str, int]) -> _Read:
    part, row = job
    name = sources[part].ids[row]
    try:
        sample = sources[part].read(row)
    except S4Error as why:
        return _Read(part, name, str(why))
    if sample.label is None and part != "unlabelled":
        return _Read(part, name, f"{name} has no label map; {part} images need one.")
    pixels = None
    if sample.label is not None:
        pixels = np.bincount(sample.label.numpy().ravel(), minlength=VOID + 1)
    whole = sample.points if isinstance(sample, Cloud) else sample.image.permute(1, 2, 0)
    values = np.ascontiguousarray(whole.numpy())
    digest = blake2b(repr(values.shape).encode(), digest_size=12)
    digest.update(values)
    size = (0, 0) if isinstance(sample, Cloud) else values.shape[:2]
    return _Read(part, name, "", size, digest.digest(), pixels)


class _Tally:
    """Adds up what was read; keeps names only of what is wrong, and 12 bytes of every image."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.pixels = {part: np.zeros(VOID + 1, np.int64) for part in report.images if part != "unlabelled"}
        self.first: dict[bytes, str] = {}  # digest -> the first image that has it
        self.twins: dict[str, list[str]] = {}
        self.leaked: dict[str, str] = {}  # val image -> the same image in training
        self.blank: dict[str, list[str]] = {part: [] for part in self.pixels}
        self.small, self.bare = 0, []
        self.shapes: set[tuple[int, int]] = set()

    def add(self, read: _Read, crop: int | None) -> None:
        if read.problem:
            self.report.broken += 1
            if len(self.report.problems) < KEPT:
                self.report.problems.append({"part": read.part, "id": read.id, "message": read.problem})
            return
        if any(read.shape):
            self.shapes.add(read.shape)
        self.small += read.part != "val" and min(read.shape) < (crop or 0)
        here = f"{read.part}:{read.id}"
        first = self.first.setdefault(read.digest, here)
        if first != here:
            same = self.twins.setdefault(first, [first])
            if len(same) < TWINS:
                same.append(here)
            if read.part == "val" and not first.startswith("val:"):  # val comes last
                self.leaked[read.id] = first
        if read.pixels is None:
            self.bare.append(read.id)
        elif read.part in self.pixels:
            self.pixels[read.part] += read.pixels
            if not read.pixels[:VOID].any():
                self.blank[read.part].append(read.id)

    def finish(self, task: Task, expected: Mapping[str, Sequence[int]]) -> None:
        report, say = self.report, self.report.warnings.append
        report.warnings += task.notices
        for part, pixels in self.pixels.items():
            report.class_pixels[part] = pixels[: len(report.classes)].tolist()
            report.void_share[part] = round(int(pixels[VOID]) / max(1, int(pixels.sum())), 4)
        by_area = sorted(self.shapes, key=lambda s: s[0] * s[1])
        report.sizes = [by_area[0], by_area[-1]] if by_area else []
        for part, source in (("train", task.train), ("val", task.val)):
            if part in expected and len(source) not in expected[part]:
                whole = " or ".join(map(str, expected[part]))
                say(f"{len(source)} {part} images, where the whole {task.name} has {whole}: scores do not compare")
        self._twice()
        for part, pixels in report.class_pixels.items():
            if absent := [name for name, count in zip(task.classes, pixels) if not count]:
                say(f"no {part} image shows {_some(absent)}")
        for part, share in report.void_share.items():
            if share > MOSTLY:
                say(f"{share:.0%} of the {part} pixels are void")
        for part, blank in self.blank.items():
            if blank:
                say(f"{len(blank)} {part} label maps are void everywhere (first: {blank[0]})")
        if self.bare:
            say(f"{len(self.bare)} training images have no label map and can only be unlabelled ({_some(self.bare)})")
        if self.small:
            say(f"{self.small} training images are smaller than the crop {task.crop}: they are padded")
        repeated = [name for name, n in Counter(task.train.ids[row] for row in task.unlabelled).items() if n > 1]
        if repeated:
            say(f"{len(repeated)} ids are listed twice as unlabelled (first: {repeated[0]})")

    def _twice(self) -> None:
        groups = list(self.twins.values())
        self.report.duplicates = groups[:KEPT]
        if self.leaked:
            first = next(iter(self.leaked))
            self.report.warnings.append(f"{len(self.leaked)} val images are also training images, such as {first}")
        if more := len(groups) - len(set(self.leaked.values())):
            self.report.warnings.append(f"{more} images occur twice within training or val (`duplicates`)")


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
