"""Read every file of a task once and report what is wrong, file by file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from hashlib import blake2b

import torch

from ..errors import S4Error
from .task import VOID, Source, Task


@dataclass
class Report:
    """What `check` found.

    Attributes:
        name: of the data set.
        images: images read, by part: labelled, unlabelled, val.
        problems: one dict (part, id, message) per broken file; training on them would fail.
        warnings: things that are legal but rarely meant.
        class_pixels: pixels of each class by part (labelled, val).
        void_share: share of void pixels by part.
        sizes: (height, width) of the smallest and the largest image, by area.
        overlap: labelled images that are also unlabelled.
        duplicates: lists of images ("part:id") with the same pixels.
    """

    name: str
    classes: tuple[str, ...]
    images: dict[str, int] = field(default_factory=dict)
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
        return not self.problems

    def to_dict(self) -> dict:
        """For JSON."""
        return {"ok": self.ok, **asdict(self)}

    def __str__(self) -> str:
        parts = ", ".join(f"{count} {part}" for part, count in self.images.items())
        lines = [f"{self.name}: {parts}; {len(self.problems)} broken, {len(self.warnings)} warnings"]
        lines += [f"  BROKEN {p['part']} {p['id']}: {p['message']}" for p in self.problems]
        lines += [f"  warning: {text}" for text in self.warnings]
        width = max(map(len, self.classes))
        shares = {part: _shares(pixels) for part, pixels in self.class_pixels.items()}
        lines.append(f"  {'class'.ljust(width)} " + " ".join(f"{part:>10}" for part in shares))
        for index, name in enumerate(self.classes):
            lines.append(f"  {name.ljust(width)} " + " ".join(f"{share[index]:10.2%}" for share in shares.values()))
        return "\n".join(lines)


def _shares(pixels: list[int]) -> list[float]:
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
    pixels: torch.Tensor | None = None


def check(task: Task, workers: int = 2, progress: Callable[[int, int], None] | None = None) -> Report:
    """Read all images and labels of a task, in `workers` threads; broken files are collected, not raised.

    Args:
        task: what to read. Labels of unlabelled images are read too where there are any: another split may need them.
        workers: decoding threads.
        progress: called with (images done, images in all).
    """
    parts = _parts(task)
    jobs = [(part, source, row) for part, (source, rows) in parts.items() for row in rows]
    reads = []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for done, read in enumerate(pool.map(lambda job: _read(*job), jobs), 1):
            reads.append(read)
            if progress:
                progress(done, len(jobs))
    report = Report(task.name, task.classes, {part: len(rows) for part, (_, rows) in parts.items()})
    report.overlap = task.overlap
    report.problems = [{"part": r.part, "id": r.id, "message": r.problem} for r in reads if r.problem]
    _count(report, reads)
    _compare(report, reads)
    _warn(report, task, reads)
    return report


def _parts(task: Task) -> dict[str, tuple[Source, list[int]]]:
    labelled = set(task.labelled)
    return {
        "labelled": (task.train, list(task.labelled)),
        "unlabelled": (task.train, [row for row in task.unlabelled if row not in labelled]),
        "val": (task.val, list(range(len(task.val)))),
    }


def _read(part: str, source: Source, row: int) -> _Read:
    name = source.ids[row]
    try:
        sample = source.read(row)
    except S4Error as why:
        return _Read(part, name, str(why))
    if sample.label is None and part != "unlabelled":
        return _Read(part, name, f"{name} has no label map; {part} images need one.")
    pixels = None
    if sample.label is not None:
        pixels = torch.bincount(sample.label.flatten().long(), minlength=VOID + 1)
    digest = blake2b(sample.image.numpy().tobytes(), digest_size=12).digest()
    return _Read(part, name, "", tuple(sample.image.shape[1:]), digest, pixels)


def _count(report: Report, reads: list[_Read]) -> None:
    for part in ("labelled", "val"):
        pixels = sum((r.pixels for r in reads if r.part == part and r.pixels is not None), torch.zeros(256).long())
        report.class_pixels[part] = pixels[: len(report.classes)].tolist()
        report.void_share[part] = round(int(pixels[VOID]) / max(1, int(pixels.sum())), 4)
    shapes = sorted((r.shape for r in reads if r.digest), key=lambda s: s[0] * s[1])
    report.sizes = [shapes[0], shapes[-1]] if shapes else []


def _compare(report: Report, reads: list[_Read]) -> None:
    same = defaultdict(list)
    for read in reads:
        if read.digest:
            same[(read.shape, read.digest)].append(read)
    twins = [group for group in same.values() if len(group) > 1]
    report.duplicates = [[f"{r.part}:{r.id}" for r in group] for group in twins]
    leaks = [group for group in twins if len({r.part == "val" for r in group}) == 2]
    if leaks:
        report.warnings.append(f"{len(leaks)} val images are also training images, such as {leaks[0][0].id}")
    if len(twins) > len(leaks):
        report.warnings.append(f"{len(twins) - len(leaks)} images occur twice within training or val (`duplicates`)")


def _warn(report: Report, task: Task, reads: list[_Read]) -> None:
    for part, pixels in report.class_pixels.items():
        absent = [name for name, count in zip(task.classes, pixels) if not count]
        if absent:
            report.warnings.append(f"no {part} image shows {', '.join(absent)}")
    for part in ("labelled", "val"):
        blank = [r.id for r in reads if r.part == part and r.pixels is not None and r.pixels[:VOID].sum() == 0]
        if blank:
            report.warnings.append(f"{len(blank)} {part} label maps are void everywhere (first: {blank[0]})")
    small = [r.id for r in reads if r.digest and r.part != "val" and min(r.shape) < task.crop]
    if small:
        report.warnings.append(f"{len(small)} training images are smaller than the crop {task.crop}: they are padded")
    repeated = [name for name, n in Counter(task.train.ids[row] for row in task.unlabelled).items() if n > 1]
    if repeated:
        report.warnings.append(f"{len(repeated)} ids are listed twice as unlabelled (first: {repeated[0]})")
