"""Over all probe images and snapshots: which classes are kept, what is taken for what, and in which images.

One table of counts says it all: pixels by snapshot, image, true class and label, all of them and those that the
method's own rule keeps. Only what occurs has a row, so that 150 classes need no more than 6. The explorer's JavaScript
sums the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy import ndarray

from ...report.tables import Table
from ...report.text import percent
from ..policies import VOID, ratio

STARVED = 0.1  # a class whose pixels are kept at less than this share of the rate of all pixels


@dataclass(frozen=True)
class Cells:
    """Counts of one pseudo-label over its snapshots.

    Attributes:
        classes, images, steps: how many there are.
        place: (n,) of each row, ascending: ((step * images + image) * (classes + 1) + truth) * classes + label, where
            the truth `classes` stands for unknown.
        every, kept: (n,) pixels of the row, padding left out; those of weight > 0.
    """

    classes: int
    images: int
    steps: int
    place: ndarray
    every: ndarray
    kept: ndarray

    @property
    def columns(self) -> tuple[ndarray, ...]:
        """(step, image, truth, label) of each row."""
        return np.unravel_index(self.place, (self.steps, self.images, self.classes + 1, self.classes))

    def only(self, images: Sequence[int]) -> Cells:
        """The rows of these images alone."""
        rows = np.isin(self.columns[1], images)
        return replace(self, place=self.place[rows], every=self.every[rows], kept=self.kept[rows])

    def confusion(self, step: int, kept: bool = True) -> ndarray:
        """(C, C) pixels by true class (row) and label (column) at a snapshot, unknown truth left out."""
        at, _, truth, label = self.columns
        used = (at == step) & (truth < self.classes)
        found = np.zeros((self.classes, self.classes), np.int64)
        np.add.at(found, (truth[used], label[used]), (self.kept if kept else self.every)[used])
        return found

    def images_of(self, step: int, truth: int | None, label: int | None, kept: bool = True) -> list[tuple[int, int]]:
        """(image, pixels) of a cell, most pixels first; None stands for any class but the other one.

        `images_of(step, truth=3, label=None)` are the images in which class 3 is taken for something else.
        """
        at, image, of, as_ = self.columns
        used = (at == step) & (of < self.classes)
        used &= (of == truth) if truth is not None else (of != label)
        used &= (as_ == label) if label is not None else (as_ != truth)
        pixels = np.bincount(image[used], (self.kept if kept else self.every)[used], self.images).astype(np.int64)
        order = np.argsort(-pixels, kind="stable")
        return [(int(k), int(pixels[k])) for k in order if pixels[k]]

    def by_class(self, step: int) -> list[dict[str, Any]]:
        """What becomes of each class at a snapshot.

        Returns:
            For each class counts: labelled (pixels of this label), kept (of them), judged (of those, with known truth),
            right (of those), there (pixels that truly are of it), found (of those, kept); and shares: kept_share
            (kept / labelled), share (of all kept labels), precision (right / judged), coverage (found / there),
            presence (there, of all pixels with known truth). None stands for a share of nothing.
        """
        at, _, truth, label = self.columns
        here, known = at == step, truth < self.classes

        def count(of: ndarray, what: ndarray, which: ndarray) -> ndarray:
            return np.bincount(of[which], what[which], self.classes).astype(np.int64)

        counts = {
            "labelled": count(label, self.every, here),
            "kept": count(label, self.kept, here),
            "judged": count(label, self.kept, here & known),
            "right": count(label, self.kept, here & (truth == label)),
            "there": count(truth, self.every, here & known),
            "found": count(truth, self.kept, here & known),
        }
        whole = {name: values.sum() for name, values in counts.items()}
        rows = [{name: int(values[c]) for name, values in counts.items()} for c in range(self.classes)]
        return [
            row
            | {
                "kept_share": ratio(row["kept"], row["labelled"]),
                "share": ratio(row["kept"], whole["kept"]),
                "precision": ratio(row["right"], row["judged"]),
                "coverage": ratio(row["found"], row["there"]),
                "presence": ratio(row["there"], whole["there"]),
            }
            for row in rows
        ]

    def starves_since(self) -> list[int | None]:
        """Of each class the first snapshot from which on, up to the last one, it starves; None where it does not.

        It starves where its true pixels are kept at less than a tenth of the rate of all pixels, as in `diagnose`.
        """
        since: list[int | None] = [None] * self.classes
        for step in reversed(range(self.steps)):
            rows = self.by_class(step)
            rate = ratio(sum(row["found"] for row in rows), sum(row["there"] for row in rows)) or 0.0
            for c, row in enumerate(rows):
                still = step == self.steps - 1 or since[c] == step + 1
                if still and row["there"] and row["coverage"] < STARVED * rate:
                    since[c] = step
        return since


def count(classes: int, images: int, steps: int, read: Callable[[int], tuple[ndarray, ...]]) -> Cells:
    """The table of a pseudo-label.

    Args:
        read: image -> truth (h, w) with 255 = unknown, valid (h, w) with 0 = padding, labels and weights (T, h, w).
    """
    found: list[tuple[ndarray, ...]] = []
    size = (classes + 1) * classes
    for k in range(images):
        truth, valid, labels, weights = read(k)
        row = np.where(truth == VOID, classes, truth).astype(np.int64) * classes
        for step in range(steps):
            cell = (row + labels[step])[valid > 0]
            every = np.bincount(cell, minlength=size)
            kept = np.bincount(cell[weights[step][valid > 0] > 0], minlength=size)
            there = np.flatnonzero(every)
            found.append(((step * images + k) * size + there, every[there], kept[there]))
    place, every, kept = (np.concatenate(parts) for parts in zip(*found))
    order = np.argsort(place)
    return Cells(classes, images, steps, place[order], every[order], kept[order])


def table(cells: Cells, step: int, names: Sequence[str], steps: Sequence[int], over: str) -> Table:
    """`by_class` to look at: what is kept of each class, how right it is, and since when it starves.

    Args:
        step: index of the snapshot. names: of the classes. steps: the training step of each snapshot. over: the images,
            in words.
    """
    shares = ("kept_share", "share", "precision", "coverage", "presence")
    head = ("class", "of its labels kept", "of all kept", "precision", "coverage", "presence", "starves since step")
    rows = [
        (name, *(percent(row[key]) for key in shares), None if first is None or first > step else steps[first])
        for name, row, first in zip(names, cells.by_class(step), cells.starves_since())
    ]
    note = f"Percent, over {over} at step {steps[step]}, by the method's own rule."
    return Table(head, rows, note)
