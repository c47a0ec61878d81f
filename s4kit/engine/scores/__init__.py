"""How a data set is scored: the type of `Task.evaluation` decides which tally is kept of the validation items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ...data.objects import MaskEvaluation
from ...data.points.clouds import PartEvaluation, RoomEvaluation
from ...data.task import Evaluation, Task
from ...errors import S4Error
from .masks import Masks, MaskScores
from .parts import PartScores, PartTally
from .rooms import RoomScores, RoomTally
from .segmentation import Confusion, Scores, count, to_image


class AnyScores(Protocol):
    """The scores of one network over a data set, of whatever kind.

    Attributes:
        name: of the headline, for people; in small letters it is the column of `evaluations.csv`. Only scores of one
            name are compared.
    """

    name: str

    @property
    def headline(self) -> float:
        """What runs are ranked by, in [0, 1], more is better."""

    def row(self) -> dict[str, float]:
        """The columns of `evaluations.csv`: the headline under its name first; `<each>_<class>` of classes that have a
        score of their own, see `each`."""

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""


def each(score: str) -> str:
    """What a class has where a score is the mean over classes: "IoU" of "mIoU" and "PartIoU", "AP" of "AP"."""
    return "IoU" if score.endswith("IoU") else score


def by_class(score: str, row: Mapping[str, Any]) -> dict[str, float]:
    """What a row of `evaluations.csv` says of each class, in [0, 1]; {} of a score that says nothing of classes."""
    of = f"{each(score).lower()}_"
    return {key.removeprefix(of): value for key, value in row.items() if key.startswith(of) and value is not None}


def one_score(scores: Mapping[str, str]) -> str:
    """The score that all have: whatever shows several in one table, curve or ranking asks here first.

    Args:
        scores: name of the score, by what it is of.

    Raises:
        S4Error: there are different ones.
    """
    found: dict[str, str] = {}
    for name, score in scores.items():
        found.setdefault(score, name)
    if len(found) > 1:
        (one, first), (other, second), *_ = found.items()
        raise S4Error(
            f"{first} is scored by {one}, {second} by {other}: such numbers are not held against each other. Choose "
            "those of one score."
        )
    return next(iter(found), "")


class Tally(Protocol):
    """What adds up over the validation items of this process: `tally_of(how)(task, how, device, precision)`."""

    name: str

    def __init__(self, task: Task, how: Any, device: torch.device, precision: str) -> None: ...

    def add(self, net: nn.Module, items: Iterable[Any]) -> None:
        """Count what a network in eval mode makes of the items, as `Source.read` gives them; how many of them a forward
        takes is the tally's to say."""

    def scores(self) -> AnyScores:
        """The scores over the items of all processes; a meeting of all of them."""

    @staticmethod
    def class_scores(net: nn.Module, shown: Tensor, how: Any) -> Tensor:
        """(B, C, *places), by which a picture can be made of whatever a network in eval mode says: the class of a place
        is the largest.

        Args:
            shown: whole items as a view shows them, of images (B, 3, H, W) in [0, 1], see `Views.weak`.
            how: by the defaults of its type, `type(how)()`, one forward, and the scores are class probabilities.
        """


TALLIES: dict[type, type[Tally]] = {
    Evaluation: Confusion,
    PartEvaluation: PartTally,
    MaskEvaluation: Masks,
    RoomEvaluation: RoomTally,
}


def tally_of(how: Any) -> type[Tally]:
    """The tally for a `Task.evaluation`.

    Raises:
        S4Error: there is none for its type.
    """
    if type(how) not in TALLIES:
        known = ", ".join(sorted(kind.__name__ for kind in TALLIES))
        raise S4Error(f"Nothing is known of how to score by {type(how).__name__}; there is {known}.")
    return TALLIES[type(how)]


def class_scores(net: nn.Module, shown: Tensor, how: Any) -> Tensor:
    """(B, C, *places) class scores of whole items by a `Task.evaluation`, see `Tally.class_scores`.

    Raises:
        S4Error: nothing is known of how to score by its type.
    """
    return tally_of(how).class_scores(net, shown, how)


__all__ = [
    "TALLIES",
    "AnyScores",
    "Confusion",
    "MaskScores",
    "Masks",
    "PartScores",
    "PartTally",
    "RoomScores",
    "RoomTally",
    "Scores",
    "Tally",
    "by_class",
    "class_scores",
    "count",
    "each",
    "one_score",
    "tally_of",
    "to_image",
]
