"""`show_diff`: two true sources beside each other as one list of lines: what goes, what comes, what stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from html import escape
from typing import Any

from .source import Source, show

# ground and mark of each kind of line; the mark says it without colour, too
LOOKS = {"-": "#fbe3d6", "+": "#d9ebf7", " ": "transparent"}
BOX = (
    "background:#f6f7f9;color:#1c1c22;padding:.7em 0;border-radius:6px;line-height:1.45;overflow-x:auto;"
    "font-family:monospace;font-size:.9em;white-space:pre"
)


class Difference:
    """The lines of two sources in order: orange with "-" only in the first, blue with "+" only in the second.

    Attributes:
        lines: (mark, text) pairs, the mark one of "-", "+", " ".
        removed, added: how many lines have the mark "-", "+".
    """

    def __init__(self, first: Source, second: Source) -> None:
        self.places = first.place, second.place
        self.lines = list(_compared(first.code.splitlines(), second.code.splitlines()))
        marks = [mark for mark, _ in self.lines]
        self.removed, self.added = marks.count("-"), marks.count("+")

    def __repr__(self) -> str:
        return "\n".join([f"--- {self.places[0]}", f"+++ {self.places[1]}", *(f"{m} {line}" for m, line in self.lines)])

    def _repr_html_(self) -> str:
        head = "<br>".join(f"<code>{mark} {escape(place)}</code>" for mark, place in zip("−+", self.places))
        rows = "".join(
            f"<div style='background:{LOOKS[mark]};padding:0 1em'>{'−' if mark == '-' else mark} {escape(line)}</div>"
            for mark, line in self.lines
        )
        return f"<div style='font-size:.85em;color:#666;margin:.2em 0'>{head}</div><div style='{BOX}'>{rows}</div>"


def show_diff(first: Any, second: Any, *, only: str | Sequence[str] | None = None) -> Difference:
    """What changes from one method (function, class) to another: the lines of both true sources.

    Args:
        first, second, only: as in `show`; `show_diff("fixmatch", "unimatch", only="losses")`.

    Raises:
        S4Error: as in `show`.
    """
    return Difference(show(first, only=only), show(second, only=only))


def _compared(first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[str, str]]:
    for kind, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from ((" ", line) for line in first[a:b])
        else:
            yield from (("-", line) for line in first[a:b])
            yield from (("+", line) for line in second[c:d])
