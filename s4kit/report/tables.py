"""A small table that shows itself: HTML in a notebook, aligned text elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from . import text


class Table:
    """Rows under a head.

    Args:
        head: names of the columns.
        rows: cells; None is shown as a dash. A cell that is a string and starts with "https://" becomes a link.
        note: a line below the table.
    """

    def __init__(self, head: Sequence[str], rows: Sequence[Sequence[Any]], note: str = "") -> None:
        self.head, self.rows, self.note = tuple(head), [tuple(row) for row in rows], note

    def __len__(self) -> int:
        return len(self.rows)

    def _right(self) -> str:
        """One letter per column: "r" where all cells are numbers or dashes."""
        return "".join("r" if all(_number(row[i]) for row in self.rows) else "l" for i in range(len(self.head)))

    def __repr__(self) -> str:
        return text.table(self.head, self.rows, self._right()) + (f"\n{self.note}" if self.note else "")

    def _repr_html_(self) -> str:
        sides = ["right" if side == "r" else "left" for side in self._right()]
        head = "".join(f"<th style='text-align:{side}'>{escape(name)}</th>" for side, name in zip(sides, self.head))
        body = "".join(
            "<tr>" + "".join(f"<td style='text-align:{side}'>{_cell(c)}</td>" for side, c in zip(sides, row)) + "</tr>"
            for row in self.rows
        )
        note = f"<p><small>{escape(self.note)}</small></p>" if self.note else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _number(cell: Any) -> bool:
    shown = text.MISSING if cell is None else str(cell)
    return shown == text.MISSING or shown.lstrip("+-").replace("±", "").replace(".", "").replace(" ", "").isdigit()


def _cell(cell: Any) -> str:
    shown = escape(text.MISSING if cell is None else str(cell))
    return f'<a href="{shown}">{shown}</a>' if shown.startswith("https://") else shown
