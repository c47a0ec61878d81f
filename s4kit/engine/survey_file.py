"""What a survey leaves on disk: a row and two thumbnails per image, in the order of the lists.

`RUN/sweep/<checkpoint>/` holds `survey.json` (of what), `rows.csv` and `thumbnails.bin` (for each image a JPEG and an
indexed PNG of its labels, one behind the other). Rows only ever grow; a torn last line and the thumbnails behind the
last whole row are what a kill leaves, and are cut when it goes on.
"""

from __future__ import annotations

import csv
import io
import json
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import S4Error
from .checkpoint import write_atomic, writing

VERSION = 1
TEXT = ("id", "list")
PLACES = ("thumbnail", "picture_bytes", "labels_bytes")  # where the thumbnails begin, and their sizes
JUDGED = ("accuracy", "miou", "precision", "confidence", "coverage")  # what says which images are worst, the first wins


def columns(classes: Sequence[str]) -> tuple[str, ...]:
    """The columns of `rows.csv`; a blank is a number over nothing.

    id, list ("unlabelled" or "val"); coverage: share of pixels that the method's rule keeps; confidence, entropy:
    means over the pixels, the latter in units of log C; disagreement: share of pixels of which two predictors (or
    pseudo-labels) say different things; changed: of which the other checkpoint says another thing; against the truth,
    where there is one: accuracy, precision of what is kept, miou over the classes that the truth or the label has;
    `share_<class>`: of all pixels. Shares and scores are in [0, 1].
    """
    measures = ("coverage", "confidence", "entropy", "disagreement", "changed", "accuracy", "precision", "miou")
    return (*TEXT, *measures, *(f"share_{name}" for name in classes), *PLACES)


class Pages:
    """The files of a survey while it is being made.

    Args:
        folder: of the survey. about: of what it is; rows of another one are not gone on with.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder, self.about = folder, {"version": VERSION, **about}
        self.rows, self.thumbnails = folder / "rows.csv", folder / "thumbnails.bin"
        self.names = columns(about["classes"])
        self.waiting: list[list[Any]] = []
        self.bytes = bytearray()

    def begin(self) -> int:
        """Go on where a survey of the same was left, or begin anew; how many rows there are."""
        head = self.folder / "survey.json"
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        if not head.is_file() or _json(head) != json.loads(json.dumps(self.about)):
            self.rows.unlink(missing_ok=True)
            self.thumbnails.unlink(missing_ok=True)
            write_atomic(head, lambda file: file.write(json.dumps(self.about, indent=1).encode()))
        if not self.rows.is_file():
            write_atomic(self.rows, lambda file: file.write(",".join(map(_quoted, self.names)).encode() + b"\n"))
        self.thumbnails.touch()
        done, end = self._whole()
        self.end = end
        with open(self.thumbnails, "r+b") as file:
            file.truncate(end)
        return done

    def _whole(self) -> tuple[int, int]:
        """Cut a torn last line; (number of whole rows, where the last one's thumbnails end)."""
        done, size, last = -1, 0, b""
        with open(self.rows, "rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                done, size, last = done + 1, size + len(line), line
        with open(self.rows, "r+b") as file:
            file.truncate(size)
        if not done:
            return 0, 0
        return done, sum(int(word) for word in last.decode().strip().rsplit(",", len(PLACES))[1:])

    def add(self, row: dict[str, Any], picture: bytes, labels: bytes) -> None:
        """Take one image's row and thumbnails; they are on disk after `flush`."""
        row |= dict(zip(PLACES, (self.end + len(self.bytes), len(picture), len(labels))))
        self.waiting.append([_plain(row.get(name)) for name in self.names])
        self.bytes += picture + labels

    def flush(self) -> None:
        """Write what waits: the thumbnails first, so that no row stands without its own."""
        lines = "".join(",".join(map(_quoted, row)) + "\n" for row in self.waiting)
        for path, data in ((self.thumbnails, bytes(self.bytes)), (self.rows, lines.encode())):
            with writing(path), open(path, "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        self.end += len(self.bytes)
        self.waiting, self.bytes = [], bytearray()


def _plain(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    """A cell of one line, whatever the name of a file holds."""
    text = text.replace("\r", "\\r").replace("\n", "\\n")
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"') else text


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None


class Survey:
    """One row per image of the whole set, as far as a survey has come; numbers as columns.

    Args:
        folder: `RUN/sweep/<checkpoint>`.

    Attributes:
        about: which run, checkpoint and step; classes, palette; images: how many rows a whole survey has.
        ids, lists: of each row. columns: by name, (n,) float32, NaN = nothing to say; see `columns`.

    Raises:
        S4Error: the folder holds no survey, or a damaged one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = _json(folder / "survey.json") if (folder / "survey.json").is_file() else None
        if not isinstance(self.about, dict) or self.about.get("version") != VERSION:
            raise S4Error(f"{folder} holds no survey of a whole set: make one with `s4kit sweep {folder.parents[1]}`.")
        self._end = 0  # bytes of rows that have been read
        try:
            self._begin()
            self.more()
        except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
            raise S4Error(f"{folder} is damaged ({error}): delete it and sweep again.") from error

    def _begin(self) -> None:
        about, names = self.about, columns([str(name) for name in self.about["classes"]])
        self.about = about | {name: int(about[name]) for name in ("step", "images")} | {"method": str(about["method"])}
        self.about["palette"] = [[int(level) & 255 for level in colour[:3]] for colour in about["palette"]]
        self.names = names
        self.ids: list[str] = []
        self.lists: list[str] = []
        self._numbers = [array("d") for _ in names[len(TEXT) :]]

    def more(self) -> bool:
        """Read the rows that have come since; whether there are any.

        Raises:
            S4Error: the file is shorter than it was. ValueError: what is there makes no sense.
        """
        with open(self.folder / "rows.csv", "rb") as file:
            if os.fstat(file.fileno()).st_size < self._end:
                raise S4Error(f"{self.folder} has been made anew; read it again.")
            file.seek(self._end)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        rows = csv.reader(io.StringIO(data.decode(), newline=""))
        if not self._end and next(rows, None) != list(self.names):
            raise ValueError("its columns are others")
        for row in rows:
            if len(row) != len(self.names):
                raise ValueError(f"row {len(self.ids) + 1} has {len(row)} cells")
            self.ids.append(row[0])
            self.lists.append(row[1])
            for column, cell in zip(self._numbers, row[len(TEXT) :]):
                column.append(float(cell) if cell else np.nan)
        self._end += len(data)
        if data:
            found = dict(zip(self.names[len(TEXT) :], map(np.array, self._numbers)))
            self._places = [np.nan_to_num(found.pop(name)).astype(np.int64) for name in PLACES]
            self.columns = {name: column.astype(np.float32) for name, column in found.items()}
        return bool(data)

    def __len__(self) -> int:
        return len(self.ids)

    def thumbnail(self, row: int, labels: bool = False) -> bytes:
        """The picture of a row as JPEG, or that of its labels as PNG.

        Raises:
            S4Error: there is no such row, or the file is shorter than it says.
        """
        if not 0 <= row < len(self):
            raise S4Error(f"There is no row {row}: the survey has {len(self)}, counted from 0.")
        start, first, second = (int(column[row]) for column in self._places)
        start, size = (start + first, second) if labels else (start, first)
        with open(self.folder / "thumbnails.bin", "rb") as file:
            room = os.fstat(file.fileno()).st_size
            if min(start, size) < 0 or start + size > room:
                raise S4Error(f"{self.folder} is damaged: row {row} has no thumbnail. Delete it and sweep again.")
            file.seek(start)
            return file.read(size)

    def order(self, by: str, falling: bool = False) -> np.ndarray:
        """Rows by a column, the lowest first, or the highest; those without a value last.

        Raises:
            S4Error: there is no such column.
        """
        if by not in self.columns:
            raise S4Error(f"A survey has no column {by!r}; it has {', '.join(self.columns)}.")
        values = self.columns[by]
        return np.argsort(np.where(np.isnan(values), np.inf, -values if falling else values), kind="stable")

    def worst(self, amount: int, which: str = "unlabelled") -> list[str]:
        """Ids of the worst images of a list: by accuracy where there is a truth, else by confidence."""
        by = next((name for name in JUDGED if not np.isnan(self.columns[name]).all()), JUDGED[0])
        return [self.ids[row] for row in self.order(by) if self.lists[row] == which][:amount]

    def __repr__(self) -> str:
        of, about = self.about["images"], self.about
        words = f"Survey of {about['method']} ({about['which']} checkpoint, step {about['step']}): {len(self)} images"
        return words if len(self) == of else f"{words} of {of}; it goes on with `s4kit sweep`"
