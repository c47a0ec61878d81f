"""How a data set is scored: the type of `Task.evaluation` decides which tally is kept of the validation items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import nn

from ...data.clouds import PartEvaluation
from ...data.objects import MaskEvaluation
from ...data.task import Evaluation, Task
from ...errors import S4Error
from .masks import Masks, MaskScores
from .parts import PartScores, PartTally
from .segmentation import Confusion, Scores, count, to_image


class AnyScores(Protocol):
    """The scores of one network over a data set, of whatever kind.

    Attributes:
        name: of the headline, for people; in small letters it is the column of `evaluations.csv`. Only scores of one
            name are compared.
        headline: what runs are ranked by, in [0, 1], more is better.
    """

    name: str

    @property
    def headline(self) -> float: ...

    def row(self) -> dict[str, float]:
        """The columns of `evaluations.csv`, the headline under its name first."""

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""


class Tally(Protocol):
    """What adds up over the validation items of this process: `tally_of(how)(task, how, device, precision)`."""

    name: str

    def __init__(self, task: Task, how: Any, device: torch.device, precision: str) -> None: ...

    def add(self, net: nn.Module, items: Iterable[Any]) -> None:
        """Count what a network in eval mode makes of the items, as `Source.read` gives them."""

    def scores(self) -> AnyScores:
        """The scores over the items of all processes; a meeting of all of them."""


TALLIES: dict[type, type[Tally]] = {Evaluation: Confusion, PartEvaluation: PartTally, MaskEvaluation: Masks}


def tally_of(how: Any) -> type[Tally]:
    """The tally for a `Task.evaluation`.

    Raises:
        S4Error: there is none for its type.
    """
    if type(how) not in TALLIES:
        known = ", ".join(sorted(kind.__name__ for kind in TALLIES))
        raise S4Error(f"Nothing is known of how to score by {type(how).__name__}; there is {known}.")
    return TALLIES[type(how)]


__all__ = [
    "TALLIES",
    "AnyScores",
    "Confusion",
    "MaskScores",
    "Masks",
    "PartScores",
    "PartTally",
    "Scores",
    "Tally",
    "count",
    "tally_of",
    "to_image",
]
