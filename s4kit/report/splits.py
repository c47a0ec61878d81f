"""`s4.splits`: published splits by name, as a table, and two of them side by side.

s4.splits.table()                                         what there is
s4.splits.get("voc/classic/183")                          one: its facts at once, its ids when they are asked for
s4.splits.compare("voc/classic/732", "voc/classic/732_pseudoseg")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from ..data.splitting.published import Split, get, index, is_name, names, read_list, resolve
from ..data.task import Source, Task
from ..errors import S4Error
from .tables import Table

__all__ = ["Comparison", "Split", "compare", "datasets", "get", "is_name", "names", "read_list", "resolve", "table"]

MANY = 30  # classes: of more, those that differ most are shown
COUNTED = "counted on the 12031 masks of SegmentationClassAug"
NEVER = (
    "Families are different lists: never compare results across cps, u2pl and classic. voc/blended/N and cityscapes/N "
    "stand for cps."
)


def table(dataset: str | None = None) -> Table:
    """All published splits, or those of one data set: who is labelled and unlabelled, and from where the list comes.

    Raises:
        S4Error: there is none for it.
    """
    facts = index()["splits"]
    if not names(dataset):
        raise S4Error(f"There is no published split for {dataset!r}; there are some for {', '.join(datasets())}.")
    rows = []
    for name in names(dataset):
        split = get(name)
        fine = facts[name].get("fine", split.count if split.family == "classic" else None)
        origin = f"{split.file.repo}@{split.file.commit[:7]}"
        shared = len(split.shared) or None
        rows.append((name, split.fraction, split.count, split.unlabelled_count, shared, split.trains_on, fine, origin))
    head = ("split", "share", "labelled", "unlabelled", "in both", "of", "VOC's own masks", "source")
    return Table(head, rows, NEVER)


def datasets() -> list[str]:
    """Data sets with published splits."""
    return list(dict.fromkeys(name.split("/")[0] for name in names()))


@dataclass(frozen=True)
class Comparison:
    """Two splits side by side; see `compare`.

    Attributes:
        names: of the two. protocols: the same with counts.
        labelled: how many labelled images each has.
        shared, only: labelled images of both, and of one alone.
        hidden: labelled images of the one that are unlabelled under the other.
        classes: names; () where the class balance is unknown.
        images: per split and class, how many labelled images show it.
        pixels: per split and class, its share of the labelled pixels that are not void.
        counted: where `images` and `pixels` come from, or why there are none.
    """

    names: tuple[str, str]
    protocols: tuple[str, str]
    labelled: tuple[int, int]
    shared: int
    only: tuple[int, int]
    hidden: tuple[int | None, int | None]
    classes: tuple[str, ...]
    images: tuple[tuple[int, ...], ...]
    pixels: tuple[tuple[float, ...], ...]
    counted: str

    @property
    def jaccard(self) -> float:
        """Shared labelled images over those of either."""
        return self.shared / (self.shared + sum(self.only))

    @property
    def distance(self) -> float | None:
        """Half the sum of the differences of the classes' pixel shares: 0 = same balance, 1 = no class in common."""
        return 0.5 * sum(abs(a - b) for a, b in zip(*self.pixels)) if self.classes else None

    def sentences(self) -> list[str]:
        """The overlap and the balance in words."""
        a, b = self.names
        found = [
            f"{self.shared} labelled images are in both, {self.only[0]} only in {a}, {self.only[1]} only in {b} "
            f"(Jaccard {self.jaccard:.3f})."
        ]
        if self.only == (0, 0):
            found.append("The labelled images are the same.")
        elif 0 in self.only:
            found.append(f"{a} lies within {b}." if self.only[0] == 0 else f"{b} lies within {a}.")
        for k, (one, other) in enumerate(((a, b), (b, a))):
            if self.hidden[k] is not None:
                found.append(f"{self.hidden[k]} of the labelled images of {one} are unlabelled under {other}.")
        if self.distance is not None:
            found.append(f"Class balance: the shares of the pixels differ by {100 * self.distance:.1f} points in all.")
        else:
            found.append(f"Class balance unknown: {self.counted}.")
        return found

    def by_difference(self) -> list[int]:
        """Classes by how much their shares of the pixels differ, the most different one first."""
        return sorted(range(len(self.classes)), key=lambda c: -abs(self.pixels[0][c] - self.pixels[1][c]))

    def balance(self) -> Table:
        """Images and pixels per class, side by side."""
        order = self.by_difference() if len(self.classes) > MANY else list(range(len(self.classes)))
        a, b = self.names
        rows = [
            (
                self.classes[c],
                *(self.images[k][c] for k in (0, 1)),
                *(f"{100 * self.images[k][c] / self.labelled[k]:.1f}" for k in (0, 1)),
                *(f"{100 * self.pixels[k][c]:.2f}" for k in (0, 1)),
            )
            for c in order[:MANY]
        ]
        head = ("class", "images A", "images B", "% A", "% B", "pixels A, %", "pixels B, %")
        cut = f" The {MANY} of {len(order)} classes that differ most." if len(order) > MANY else ""
        note = (
            f"Labelled images that show a class and its share of their pixels; {self.counted}. A = {a}, B = {b}.{cut}"
        )
        return Table(head, rows, note)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "jaccard": self.jaccard, "distance": self.distance}

    def __str__(self) -> str:
        parts = [*(f"{letter}: {text}" for letter, text in zip("AB", self.protocols)), "", *self.sentences()]
        return "\n".join(parts) + (f"\n\n{self.balance()!r}" if self.classes else "")

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "<br>".join(f"{letter}: <b>{escape(text)}</b>" for letter, text in zip("AB", self.protocols))
        body = "".join(f"<li>{escape(text)}</li>" for text in self.sentences())
        return f"<p>{head}</p><ul>{body}</ul>" + (self.balance()._repr_html_() if self.classes else "")


def compare(
    a: str | Split | Task,
    b: str | Split | Task,
    root: str | os.PathLike | None = None,
    source: str | os.PathLike | None = None,
) -> Comparison:
    """How far two splits of one data set have the same labelled images, and how their classes are balanced.

    The balance comes from the facts of the index where they are known (VOC), else from the masks of the data set where
    that is at hand: that of a task, at `root`, or where `load` looks.

    Args:
        a, b: names of published splits, `Split`s, or tasks (whose own split is meant).
        root: where the data set lies.
        source: where lists come from; see `get`.

    Raises:
        S4Error: unknown, of different data sets, or a list that cannot be had.
    """
    one, other = (_side(given, source) for given in (a, b))
    if one.dataset != other.dataset:
        raise S4Error(
            f"{one.name} is of {one.dataset}, {other.name} of {other.dataset}: compare splits of one data set."
        )
    shared = len(set(one.labelled) & set(other.labelled))
    hidden = tuple(
        None if y.unlabelled is None else len(set(x.labelled) & set(y.unlabelled))
        for x, y in ((one, other), (other, one))
    )
    classes, images, pixels, counted = _balance(one, other, root)
    return Comparison(
        names=(one.name, other.name),
        protocols=(one.protocol, other.protocol),
        labelled=(len(one.labelled), len(other.labelled)),
        shared=shared,
        only=(len(one.labelled) - shared, len(other.labelled) - shared),
        hidden=hidden,
        classes=classes,
        images=images,
        pixels=pixels,
        counted=counted,
    )


@dataclass(frozen=True)
class _Side:
    name: str
    protocol: str
    dataset: str
    labelled: Sequence[str]
    unlabelled: Sequence[str] | None
    split: Split | None
    task: Task | None


def _side(given: str | Split | Task, source: str | os.PathLike | None) -> _Side:
    if isinstance(given, Task):
        labelled, unlabelled = ([given.train.ids[row] for row in rows] for rows in (given.labelled, given.unlabelled))
        asked = given.config.get("labelled")
        split = get(asked, dataset=given.name) if is_name(asked) else None
        name = split.name if split else given.protocol or given.name
        return _Side(name, given.protocol, given.name, labelled, unlabelled, split, given)
    split = given if isinstance(given, Split) else get(given, source)
    return _Side(split.name, split.protocol, split.dataset, split.labelled, split.unlabelled, split, None)


Balance = tuple[tuple[str, ...], tuple[tuple[int, ...], ...], tuple[tuple[float, ...], ...], str]


def _balance(one: _Side, other: _Side, root: str | os.PathLike | None) -> Balance:
    """Classes, images and pixel shares of both sides, and where they come from."""
    known = [side.split for side in (one, other) if side.split and side.split.images_showing]
    if len(known) == 2 and root is None:
        from ..data.palettes import VOC_CLASSES

        return VOC_CLASSES, (known[0].images_showing, known[1].images_showing), _shares(known), COUNTED
    source, classes, where = _at_hand(one, other, root)
    if source is None:
        return (), (), (), where
    row = {name: number for number, name in enumerate(source.ids)}
    wanted = list(dict.fromkeys((*one.labelled, *other.labelled)))
    missing = [name for name in wanted if name not in row]
    if missing:
        return (), (), (), f"{where} lacks {len(missing)} of the images (first: {missing[0]})"
    counts = dict(zip(wanted, _counts(source, [row[name] for name in wanted], len(classes))))
    sides = [np.stack([counts[name] for name in side.labelled]) for side in (one, other)]
    images = tuple(tuple((side > 0).sum(0).tolist()) for side in sides)
    pixels = tuple(tuple((side.sum(0) / max(1, side.sum())).tolist()) for side in sides)
    return classes, images, pixels, f"counted on the masks of {where}"


def _shares(known: Sequence[Split]) -> tuple[tuple[float, ...], ...]:
    return tuple(split.pixel_share for split in known)


def _at_hand(one: _Side, other: _Side, root: str | os.PathLike | None) -> tuple[Source | None, tuple[str, ...], str]:
    """The training images of a data set with masks, its classes and its name; or None and why there is none."""
    from ..data.registry import dataset

    task = one.task or other.task
    if task is not None:
        return task.train, task.classes, f"the task {task.name}"
    entry = dataset(one.dataset)
    found = entry.found(root)
    if found is None:
        return None, (), f"no masks at hand ({one.dataset} is not at {root or entry.default_root()})"
    catalog = entry.open(str(found), cache=False)
    return catalog.train, catalog.classes, str(found)


def _counts(source: Source, rows: Sequence[int], classes: int) -> list[np.ndarray]:
    """(C,) pixels per class of each row's mask."""

    def one(row: int) -> np.ndarray:
        label = source.read(row).label
        if label is None:
            raise S4Error(f"{source.ids[row]} has no label map: the class balance cannot be counted.")
        return np.bincount(label.numpy().ravel(), minlength=256)[:classes]

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, rows))
