"""Assignment 1, second half: splits, and what the explorer counts."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers

# ---- splits ----

COUNT = Exercise(
    key="metrics.count",
    asks="How many images are labelled in the 1/`parts` split of `total` images? The published lists round up.",
    prototype="count(total, parts)",
    reference=lambda total, parts: -(-total // parts),
    cases=lambda rng: [
        Case("367 images are split by 16", {"total": 367, "parts": 16}),
        Case("10582 images are split by 8", {"total": 10582, "parts": 8}),
        Case("2975 images are split by 4", {"total": 2975, "parts": 4}),
        Case("it divides evenly", {"total": 64, "parts": 16}, edge=True),
        Case("there are fewer images than parts", {"total": 3, "parts": 16}, edge=True),
    ],
    mistakes=(
        Mistake("rounded down", "It rounds down: 367 / 16 gives 22, the published list has more.",
                lambda total, parts: total // parts),
        Mistake("rounded to the nearest", "It rounds to the nearest; look at a number that is just above a whole one.",
                lambda total, parts: math.floor(total / parts + 0.5)),
        Mistake("one more", "Where it divides evenly there is one image too many.",
                lambda total, parts: total // parts + 1),
    ),
)  # fmt: skip


def _take_out(rows: Tensor, labelled: Tensor) -> Tensor:
    return rows[~torch.isin(rows, labelled)]


UNLABELLED = Exercise(
    key="metrics.unlabelled",
    asks="The unlabelled rows: all rows but the labelled ones, in their order.",
    prototype="unlabelled(rows, labelled)",
    reference=_take_out,
    cases=lambda rng: [
        Case("a few rows are labelled", _rows(rng, 12, 3)),
        Case("the rows are in no order", _rows(rng, 12, 5, mixed=True)),
        Case("no row is labelled", _rows(rng, 6, 0), edge=True),
        Case("every row is labelled", _rows(rng, 6, 6), edge=True),
    ],
    mistakes=(
        Mistake("labelled rows kept", "The labelled rows are still there: a labelled image is also an unlabelled one.",
                lambda rows, labelled: rows),
        Mistake("sorted", "The order is lost; the lists are read in the order of their file.",
                lambda rows, labelled: _take_out(rows, labelled).sort().values),
        Mistake("the first rows cut off", "You cut off as many rows as are labelled; they are not the first ones.",
                lambda rows, labelled: rows[len(labelled):]),
    ),
)  # fmt: skip


def _rows(rng: Generator, total: int, labelled: int, mixed: bool = False) -> dict[str, Tensor]:
    order = torch.randperm(total, generator=rng)
    return {
        "rows": order if mixed else torch.arange(total),
        "labelled": order[1 : labelled + 1] if labelled < total else order,
    }


# ---- read in the explorer ----

SEEN = Reading(
    key="metrics.seen",
    asks="Pixel accuracy of a recorded image in percent: of all its pixels (fixed threshold 0), how many are right?",
    reads=lambda run: 100 * (numbers(run, 0.0, image=1)["precision"] or 0.0),
    tolerance=4.0,
    unit="%",
    run="supervised",
    mistakes=(
        (lambda run: 100 * numbers(run, 0.0, image=1)["coverage"],
         "That is the share of the pixels that is kept, all of them at 0; the share that is right is asked."),
        (lambda run: 100 * (numbers(run, 0.95, image=1)["precision"] or 0.0),
         "That is the share of the pixels kept at 0.95 that is right; drag the threshold to 0."),
        (lambda run: 100 * (numbers(run, 0.0, image=1, snapshot=0)["precision"] or 0.0),
         "That is what the first snapshot says; drag to the last."),
        (lambda run: 100 * run.last["miou"], "That is the mIoU of val, not the pixel accuracy of one image."),
        (lambda run: 100 * (numbers(run, 0.0, image=0)["precision"] or 0.0),
         "That is another image; they count from 0."),
    ),
)  # fmt: skip

EXERCISES = [COUNT, UNLABELLED, SEEN]
