"""Plain-text tables and figures for the terminal."""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Sequence
from typing import Any

MISSING = "—"


def width(text: str) -> int:
    """Columns that a text takes in a terminal; East Asian wide characters take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, room: int) -> str:
    """`text` shortened with an ellipsis to `room` columns."""
    if width(text) <= room:
        return text
    while text and width(text) > room - 1:
        text = text[:-1]
    return text + "…"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], right: str = "", stretch: int | None = None) -> str:
    """Aligned columns under a rule.

    Args:
        right: one letter per column, "r" = right-aligned; missing letters are left-aligned.
        stretch: the column that is cut when the table is wider than the terminal.
    """
    lines = [[str(MISSING if cell is None else cell) for cell in row] for row in [head, *rows]]
    room = [max(width(line[i]) for line in lines) for i in range(len(head))]
    if stretch is not None:
        free = shutil.get_terminal_size((120, 24)).columns - sum(room) - 2 * (len(head) - 1) + room[stretch]
        room[stretch] = max(min(room[stretch], free), 12)
    out = []
    for number, line in enumerate(lines):
        cells = []
        for i, cell in enumerate(line):
            cell = cut(cell, room[i])
            pad = " " * (room[i] - width(cell))
            cells.append(pad + cell if right[i : i + 1] == "r" else cell + pad)
        out.append("  ".join(cells).rstrip())
        if number == 0:
            out.append("  ".join("─" * r for r in room))
    return "\n".join(out)


def percent(value: float | None, digits: int = 1) -> str:
    """0.6134 -> "61.3"; a dash where there is none."""
    return MISSING if value is None or value != value else f"{100 * value:.{digits}f}"


def spread(mean: float | None, sd: float | None) -> str:
    """ "61.3 ± 0.8" of shares in [0, 1]; without the spread where one seed has none."""
    return percent(mean) + (f" ± {100 * sd:.1f}" if sd is not None and mean is not None else "")


def difference(value: float | None) -> str:
    """A signed difference in points."""
    return MISSING if value is None else f"{100 * value:+.1f}"


def closed(value: float | None) -> str:
    """A share of the head-room: 0.714 -> "71 %"."""
    return MISSING if value is None else f"{100 * value:.0f} %"


def duration(seconds: float | None) -> str:
    """ "45 s", "3 min 20 s", "2 h 05 min"."""
    if seconds is None:
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if seconds < 3600:
        whole, rest = divmod(round(seconds), 60)
        return f"{whole} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float | None) -> str:
    """Bytes for people: "410 MB", "7.9 GB"."""
    if count is None:
        return MISSING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            number = count / scale
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{count:.0f} B"


def finite(value: Any) -> Any:
    """NaN and infinities as null: JSON has none."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value
