"""What a handed-in notebook got: a mark for each of its items."""

from __future__ import annotations

from dataclasses import dataclass, field

from .sheet import Item


@dataclass
class Mark:
    """What one item got.

    Attributes:
        points: None for a free text that a person still has to read.
        words: the reasons, for the student.
        mistake: the name of a known one. flags: for the instructor.
    """

    item: Item
    points: float | None
    words: list[str] = field(default_factory=list)
    mistake: str = ""
    flags: list[str] = field(default_factory=list)
    answer: str = ""


@dataclass
class Graded:
    """One handed-in notebook.

    Attributes:
        file: see `Handed`.
        error: why it could not be graded at all, in words.
        noticed: what was restored or found elsewhere.
        denied: what its process was really denied.
        counts: whether it is the student's best for this assignment.
    """

    student: str
    assignment: str
    marks: list[Mark]
    error: str = ""
    noticed: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    file: str = ""
    counts: bool = True

    @property
    def points(self) -> float:
        """Of all marks together; what a person has yet to mark counts nothing."""
        return sum(mark.points or 0.0 for mark in self.marks)

    @property
    def reachable(self) -> float:
        """Points of all items that are marked here; texts are marked by a person."""
        return sum(mark.item.points for mark in self.marks if not mark.item.text)
