"""How long something takes: a share of the training, or passes over an image list where the paper counts these.

Time is shares, so that a lesson of 600 steps meets every phase that a paper's 40,000 do. Some figures are no shares,
though: PS-MT warms up for 5 passes over the labelled list, whether the training proper then takes 80 epochs or 300.
Such a length is words, "5 labelled epochs" or "12 epochs" (of the unlabelled list), wherever a share may stand: in the
`length` of a `Stage`, in a method's option, in `Clock.since` and `Clock.steps_of`. A short run meets every phase all
the same: what is counted in passes takes at most half of the training, or of the stage that it is a part of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import S4Error

Length = float | str  # a share, or words: "5 labelled epochs", "12 epochs"
WORDS = re.compile(r"(\d+(?:\.\d+)?) (labelled |unlabelled )?epochs?")


class Passes(NamedTuple):
    """So many passes over a list, "labelled" or "unlabelled"."""

    count: float
    over: str

    def steps(self, each: Mapping[str, int]) -> int:
        """Steps, `each` saying for either list how many one pass takes."""
        return round(self.count * each[self.over])


def passes(length: Length) -> Passes | None:
    """What the words of a length say; None for a share.

    Raises:
        S4Error: other words.
    """
    if not isinstance(length, str):
        return None
    if not (found := WORDS.fullmatch(length)):
        raise S4Error(f"A length is a share, or like '5 labelled epochs' or '12 epochs', not {length!r}.")
    return Passes(float(found[1]), (found[2] or "unlabelled").strip())


def steps_of(length: Length, whole: int, each: Mapping[str, int]) -> int:
    """Steps that a length takes of `whole`: the share of it, or the passes, but at most half of it."""
    counted = passes(length)
    return min(counted.steps(each), whole // 2) if counted else round(length * whole)


def share_out(lengths: list[Length], steps: int, each: Mapping[str, int]) -> list[int]:
    """How `steps` are shared out: passes first, at most half of all unless nothing else is there; the rest by shares.

    Each gets a step at least; the last one has what the others leave.
    """
    counted = [passes(length) for length in lengths]
    whole = sum(length for length in lengths if not isinstance(length, str))
    asked = sum(part.steps(each) for part in counted if part)
    room = steps // 2 if whole else steps
    given = min(asked, room)
    rest, parts = steps - given, []
    for length, part in zip(lengths, counted):
        wanted = given * part.steps(each) / asked if part else rest * length / whole
        parts.append(max(1, round(wanted)))
    return [*parts[:-1], steps - sum(parts[:-1])]
