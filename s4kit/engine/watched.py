"""Which images a run watches: so many unlabelled ones, or those of a list, wherever the task has them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..data.seeding import generator
from ..data.splitting.lists import Index, bare, read_list
from ..data.task import Task
from ..errors import S4Error, closest

WORST = "worst"
USUAL = 16  # images that are watched where only "worst" is said
CANDIDATES = 256  # images of which the worst are taken

Wanted = int | str | os.PathLike | Sequence[str]


@dataclass(frozen=True)
class Item:
    """An image of a task.

    Attributes:
        part: "train" or "val", the source. row: in it. id: its name there.
        kind: "unlabelled", "labelled" (and not unlabelled as well), "val", or "unused" (in none of the lists).
    """

    part: str
    row: int
    id: str
    kind: str


def chosen(task: Task, wanted: Wanted) -> list[Item]:
    """The images to watch.

    Args:
        wanted: a number of images, drawn from the unlabelled list (fewer where it is shorter); ids; the path of a text
            file of ids; "worst" stands for as many as usual, until it is known which are.

    Raises:
        S4Error: `check` refuses it, or an id is not in the task.
    """
    check(wanted)
    if isinstance(wanted, str) and wanted == WORST:
        wanted = USUAL
    if isinstance(wanted, int):
        return drawn(task, wanted)
    return find(task, *read_list(wanted))


def check(wanted: Wanted) -> None:
    """Raises S4Error where `wanted` is neither a number of images, ids, a file of them nor "worst"."""
    if isinstance(wanted, bool) or not isinstance(wanted, int | str | os.PathLike | list | tuple):
        raise S4Error(f"probes={wanted!r}: give a number of images, a list of ids, a file of ids or 'worst'.")
    if isinstance(wanted, int) and wanted < 0:
        raise S4Error(f"probes={wanted}: give a number of images, 0 for none.")


def drawn(task: Task, amount: int) -> list[Item]:
    """`amount` images of the unlabelled list, the same ones for every run."""
    rows = np.array(task.unlabelled or task.labelled)
    rows = np.sort(generator(0, "probe").permutation(rows)[:amount]).tolist()
    return _items(task, rows)


def first(task: Task, amount: int, of: str) -> list[Item]:
    """The first images of the list "labelled", or of "val"."""
    part, rows = ("val", range(len(task.val))) if of == "val" else ("train", task.rows(of))
    return [Item(part, row, getattr(task, part).ids[row], of) for row in rows[:amount]]


def find(task: Task, ids: Sequence[str], where: str = "the list") -> list[Item]:
    """The images with these ids, each once, in their order; a bare file name does where only one image has it.

    Raises:
        S4Error: an id that no image of the training or validation set has, or that fits several.
    """
    names = [*task.train.ids, *task.val.ids]
    index = Index(names)
    index.exact = {name: place for place, name in reversed(list(enumerate(names)))}  # the training set first
    places = list(dict.fromkeys(_place(index, name, where) for name in ids))
    known = _kinds(task)
    first = len(task.train.ids)
    return [
        Item("train", place, names[place], known.get(place, "unused"))
        if place < first
        else Item("val", place - first, names[place], "val")
        for place in places
    ]


def _place(index: Index, name: str, where: str) -> int:
    if name in index.exact:
        return index.exact[name]
    fits = index.rows(bare(name))
    if len(fits) > 1:
        raise S4Error(f"{where}: {name!r} fits {index.names[fits[0]]}, {index.names[fits[1]]}: write the whole id.")
    if not fits:
        raise S4Error(f"{where}: there is no image {name!r}. {closest(name, list(index.names))}")
    return fits[0]


def _items(task: Task, rows: Sequence[int]) -> list[Item]:
    known = _kinds(task)
    return [Item("train", row, task.train.ids[row], known[row]) for row in rows]


def _kinds(task: Task) -> dict[int, str]:
    """The kind of each training image that a list has."""
    return dict.fromkeys(task.labelled, "labelled") | dict.fromkeys(task.unlabelled, "unlabelled")
