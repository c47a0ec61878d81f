"""The CSV files of a run: deterministic rows only; times go to a file of their own."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from .checkpoint import write_atomic, writing


class Table:
    """A CSV file that grows; columns are fixed by the first row, later new columns rewrite the file.

    Args:
        path: the file; existing rows are kept.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = next((list(row) for row in read(path)), [])

    def clear(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)
        self.columns = []

    def cut(self, step: int) -> None:
        """Drop the rows from `step` on: they were written after the checkpoint that is resumed."""
        if self.columns:
            self._rewrite([row for row in read(self.path) if int(row["step"]) < step])

    def append(self, rows: list[dict[str, Any]]) -> None:
        """Add rows; numbers are written with full precision."""
        if not rows:
            return
        new = [key for row in rows for key in row if key not in self.columns]
        if new:
            self.columns += list(dict.fromkeys(new))
            self._rewrite(read(self.path) if self.path.is_file() else [])
        with writing(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, restval="").writerows(_plain(row) for row in rows)

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        def write(binary: Any) -> None:
            import io

            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
            binary.write(text.getvalue().encode())

        write_atomic(self.path, write)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {k: repr(float(v)) if isinstance(v, float) else v for k, v in row.items()}


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file as strings; [] where there is no file. A last line cut by a kill is dropped."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    if not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
    return list(csv.DictReader(text.splitlines()))


def numbers(rows: list[dict[str, str]]) -> list[dict[str, float | int | str | None]]:
    """The same rows with numbers for digits and None for blanks."""
    return [{key: _number(value) for key, value in row.items()} for row in rows]


def _number(text: str) -> float | int | str | None:
    if text in ("", None):
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
