"""The one reader of split lists: from the lines of a file, in any form that people write, to rows of a data set.

A line is tried whole, so that names with blanks are found; then without a comment; then its first column, where the
second is a path, too ("JPEGImages/x.jpg SegmentationClass/x.png"). The row whose path agrees with most of the line's
path is meant; a path that names another part of the data ("images/val/x" for "images/train/x") never means it, and
what fits two rows equally well is an error.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ...errors import S4Error
from ..corrections import is_corrections, read_corrections
from ..decode import IMAGE_SUFFIXES
from ..reading.text import read_lines
from ..task import Source

PARTS = {"train", "training", "val", "valid", "validation", "test", "testing", "unlabelled", "labelled"}
_SPELT = {"unlabeled": "unlabelled", "labeled": "labelled"}
_COLUMNS = re.compile(r"\t|\s*[,;]\s*|\s+")


def read_list(labelled: Sequence[str] | str | os.PathLike) -> tuple[list[str], str]:
    """The lines of a list, comments left out, or the ids of a folder of corrected labels, and where they come from.

    Raises:
        S4Error: the file is missing, is no text in UTF-8, or is empty.
    """
    if not isinstance(labelled, str | os.PathLike):
        return [str(name) for name in labelled], "the given list"
    path = Path(labelled)
    if is_corrections(path):
        return read_corrections(path).labelled, str(path)
    if not path.is_file():
        raise S4Error(f"The split list {path} does not exist.")
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    if not lines:
        raise S4Error(f"The split list {path} is empty: write one image id per line.")
    return lines, str(path)


def bare(name: str) -> str:
    """An id or path without folders, suffix and Cityscapes' `_leftImg8bit`."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    stem, dot, suffix = base.rpartition(".")
    known = dot and f".{suffix.lower()}" in IMAGE_SUFFIXES
    return (stem if known else base).removesuffix("_leftImg8bit")


def parts_of(name: str) -> tuple[str, ...]:
    """The folders of a path and its `bare` name, spelt in one way."""
    folders = unicodedata.normalize("NFC", name).replace("\\", "/").split("/")
    words = [_SPELT.get(folder, folder) for folder in folders[:-1] if folder not in ("", ".")]
    return (*words, bare(folders[-1]))


class Index:
    """Finds the rows that lines mean.

    Args:
        names: an id per row. paths: the path of each row's image, where it has one.
    """

    def __init__(self, names: Sequence[str], paths: Sequence[str] | None = None) -> None:
        self.names, self.paths = names, paths
        self.exact = {name: row for row, name in enumerate(names)}
        self.parents = {path.rpartition("/")[0].rpartition("/")[2] for path in paths or ()}
        self._stems: dict[str, list[int]] | None = None

    def rows(self, stem: str) -> list[int]:
        """Rows whose id or file has this bare name."""
        if self._stems is None:
            self._stems = {}
            for row, name in enumerate(self.names):
                self._stems.setdefault(parts_of(name)[-1], []).append(row)
            for row, path in enumerate(self.paths or ()):
                stem_there = parts_of(path)[-1]
                if stem_there != parts_of(self.names[row])[-1]:
                    self._stems.setdefault(stem_there, []).append(row)
        return self._stems.get(stem, [])

    def best(self, parts: Sequence[str]) -> tuple[int, list[int]]:
        """How many of the last parts of a path agree with the best rows, and these rows."""
        score, rows = 0, []
        for row in self.rows(parts[-1]):
            of_row = [parts_of(self.names[row])] + ([parts_of(self.paths[row])] if self.paths else [])
            folders = {word for path in of_row for word in path[:-1]}
            if any(_elsewhere(parts, folders, known) for known in (PARTS, self.parents)):
                continue
            agree = max(_agreeing(parts, path) for path in of_row)
            if agree > score:
                score, rows = agree, []
            if agree == score:
                rows.append(row)
        return score, rows


def _agreeing(a: Sequence[str], b: Sequence[str]) -> int:
    count = 0
    for x, y in zip(reversed(a), reversed(b)):
        if x != y:
            break
        count += 1
    return count


def _elsewhere(parts: Sequence[str], folders: set[str], known: set[str]) -> bool:
    """Whether a path names a known part of the data that a row with these folders is not in."""
    named = known & set(parts[:-1])
    return bool(named) and bool(known & folders) and not named & folders


def candidates(line: str) -> list[str]:
    """What of a line may be the image, the most of it first."""
    whole = line.strip()
    plain = re.split(r"\s#", whole)[0].strip()
    columns = [word.strip("\"'") for word in _COLUMNS.split(plain) if word]
    found = [whole, plain, *plain.split("\t")[:1]]
    if len(columns) > 1 and all(map(_is_path, columns[1:])):
        found.append(columns[0])
    return list(dict.fromkeys(filter(None, found)))


def _is_path(word: str) -> bool:
    """Whether a further column is a path, not the rest of a name with blanks, nor a number that says something else."""
    return "/" in word or "\\" in word or Path(word).suffix.lower() in IMAGE_SUFFIXES


def rows_of(lines: Sequence[str], source: Source, val: Source, where: str) -> list[int]:
    """Rows of `source` for the lines of a list, in the order of the list.

    Raises:
        S4Error: unknown lines, images of val, lines that fit several images, or duplicates; names the first ones.
    """
    known, held_out = (Index(s.ids, getattr(s, "images", None)) for s in (source, val))
    found = [_row(line, known, held_out, where) for line in lines]
    unknown = [line for line, row in zip(lines, found) if row is None]
    if unknown:
        leaked = [line for line in unknown if any(held_out.best(parts_of(c))[1] for c in candidates(line))]
        if leaked:
            raise S4Error(f"{where}: {len(leaked)} ids are validation images ({_some(leaked)}); take them out.")
        raise S4Error(
            f"{where}: {len(unknown)} of {len(lines)} ids are not among the {len(source)} training images "
            f"({_some(unknown)}); ids there look like {source.ids[0]!r}."
        )
    refuse_twice(lines, found, where)
    return found


def _row(line: str, known: Index, held_out: Index, where: str) -> int | None:
    """The row that a line means; None where it is no training image, or rather one of val."""
    if line in known.exact:
        return known.exact[line]
    for candidate in candidates(line):
        parts = parts_of(candidate)
        score, rows = known.best(parts)
        other, outside = held_out.best(parts)
        if other > score or candidate in held_out.exact:
            return None
        rivals = [row for row in outside if other == score and not _same(known, rows, held_out, row)]
        rivals = rivals if 1 < len(parts) != score else []  # a bare name means the training image
        if len(rows) == 1 and not rivals:
            return rows[0]
        if rows:
            fits = [known.names[row] for row in rows] + [held_out.names[row] for row in rivals]
            raise S4Error(f"{where}: {line!r} fits {_some(fits)} equally well; write more of its path, or the id.")
    return None


def _same(known: Index, rows: Sequence[int], held_out: Index, row: int) -> bool:
    """Whether a validation image is, by its path, one of the training images."""
    if not (known.paths and held_out.paths):
        return False
    return held_out.paths[row] in {known.paths[other] for other in rows}


def listed(path: Path, names: Sequence[str], paths: Sequence[str] | None = None) -> tuple[list[int], list[str]]:
    """Rows of the images that a data set's own list names, and the lines that name none.

    Args:
        path: the list. names, paths: see `Index`.

    Raises:
        S4Error: the file is missing or empty, a line fits two images, or two lines mean the same image.
    """
    lines, where = read_list(path)
    index, nothing = Index(names, paths), Index(())
    found = [_row(line, index, nothing, where) for line in lines]
    refuse_twice(
        [line for line, row in zip(lines, found) if row is not None], [r for r in found if r is not None], where
    )
    return [row for row in found if row is not None], [line for line, row in zip(lines, found) if row is None]


def ids_of(path: Path) -> list[str]:
    """The bare names that a list holds, whether or not their images are here.

    Raises:
        S4Error: as `read_list`.
    """
    return [bare(candidates(line)[-1]) for line in read_list(path)[0]]


def refuse_twice(lines: Sequence[str], rows: Sequence[int], where: str) -> None:
    """Raises S4Error where two lines mean the same row."""
    if len(set(rows)) == len(rows):
        return
    seen: set[int] = set()
    twice = [line for line, row in zip(lines, rows) if row in seen or seen.add(row)]
    raise S4Error(f"{where}: {len(twice)} ids are listed twice ({_some(twice)}); take the copies out.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
