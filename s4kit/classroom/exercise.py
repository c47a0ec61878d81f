"""What an exercise is: the question, the reference answer, inputs from small to large, and the usual mistakes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Generator

from ..errors import S4Error, closest

Function = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """One call of the student's function.

    Attributes:
        when: completes "it goes wrong when ...": "some pixels are void".
        inputs: arguments by name.
        edge: a mistake that shows only here costs half of the points.
    """

    when: str
    inputs: dict[str, Any]
    edge: bool = False


@dataclass(frozen=True)
class Mistake:
    """A common wrong answer.

    Attributes:
        name: "mean over all pixels".
        words: what is said to who makes it; what is wrong, not the answer.
        answer: the wrong function itself, recognised by its results.
    """

    name: str
    words: str
    answer: Function


@dataclass(frozen=True)
class Exercise:
    """A function that the student writes.

    Attributes:
        key: "cutmix.loss": file and name.
        asks: the task in one sentence.
        prototype: "loss(logits, label, confidence, valid, tau)".
        reference: the right function; pure, any device, float32 and float64.
        cases: a seeded generator -> calls, the smallest inputs first; several draws of it make a test.
        mistakes: the usual ones, most specific first.
        learns: inputs into which the gradient must flow, compared with that of the reference.
        stops: floating-point inputs into which no gradient may flow.
        rule: for answers that are random: (inputs, value) -> what is wrong in words, or None; instead of `reference`,
            which then only shows the shape and type of an answer.
        tolerance: relative to the largest entry of the right answer.
        picture: inputs that are drawn when a case fails: label maps, masks, images, confidences.
    """

    key: str
    asks: str
    prototype: str
    reference: Function
    cases: Callable[[Generator], list[Case]]
    mistakes: tuple[Mistake, ...] = ()
    learns: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    rule: Callable[[dict[str, Any], Any], str | None] | None = None
    tolerance: float = 1e-4
    picture: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """A number that the student reads in the explorer.

    Attributes:
        key, asks: as of an `Exercise`.
        reads: run -> the number.
        tolerance: absolute; a reading is never exact.
        unit: "", "%", "pixels".
        run: the method whose `small_run` it is read in.
        mistakes: (function of the run, words) for numbers that are often read instead.
    """

    key: str
    asks: str
    reads: Callable[[Any], float]
    tolerance: float
    unit: str = ""
    run: str = "fixmatch"
    mistakes: tuple[tuple[Callable[[Any], float], str], ...] = ()


@lru_cache(maxsize=1)
def all_exercises() -> dict[str, Exercise | Reading]:
    """All exercises by key, in the order of the assignments' files."""
    folder = Path(__file__).with_name("exercises")
    found: dict[str, Exercise | Reading] = {}
    for file in sorted(folder.glob("[!_]*.py")):
        for one in importlib.import_module(f"{__package__}.exercises.{file.stem}").EXERCISES:
            found[one.key] = one
    return found


def find(key: str) -> Exercise | Reading:
    """An exercise by its key.

    Raises:
        S4Error: there is none; offers the closest ones.
    """
    known = all_exercises()
    if key not in known:
        raise S4Error(f"There is no exercise {key!r}. {closest(str(key), list(known))}")
    return known[key]
