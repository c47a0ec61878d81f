"""What a data set's module hands to `load`: everything of a task but the split."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import S4Error
from .task import Evaluation, Source, Task

Palette = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Catalog:
    """The images of a data set and its defaults.

    Attributes:
        train: all training images, those without label included.
        maskless: rows of `train` that have no label and can only be used unlabelled.
        labelled, cover, crop, scale, evaluation: defaults of `load`; a crop of None: items are not cropped.
        note: words for the protocol, such as which lists were read.
        config: options that `load` needs to open the same catalog again.
        notices: what is probably not meant, such as files that lie there and are not used.
        levels, parents: see `Task`.
        finish: the task, once its split is known, to one that has more of it.
    """

    name: str
    classes: tuple[str, ...]
    palette: Palette
    train: Source
    val: Source
    crop: int | None
    scale: tuple[float, float] = (0.5, 2.0)
    evaluation: Any = field(default_factory=Evaluation)
    labelled: str | int = "1/16"
    cover: int = 0
    maskless: frozenset[int] = frozenset()
    note: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    parents: dict[str, tuple[int, ...]] = field(default_factory=dict)
    finish: Callable[[Task], Task] = lambda task: task


@dataclass(frozen=True)
class DataSet:
    """A data set by name.

    Attributes:
        open: `(root, size=, cache=, **options) -> Catalog`; root is None for embedded sets.
        get: `(root) -> Path` fetches it; None where that is not possible, see `manual`.
        manual: how to come by it by hand.
        images: "367 train, 101 val", for tables.
        marker: a path below the root by which it is recognised; None for embedded sets.
        expected: how many images "train" and "val" have when nothing is missing.
    """

    name: str
    about: str
    open: Callable[..., Catalog]
    classes: int | None
    images: str
    marker: tuple[str, ...] | None = None
    get: Callable[..., Path] | None = None
    manual: str = ""
    expected: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def default_root(self) -> Path:
        """Where it lies unless told: $S4KIT_DATA/NAME, by default ./data/NAME."""
        return Path(os.environ.get("S4KIT_DATA", "data")) / self.name

    def found(self, root: str | os.PathLike | None = None) -> Path | None:
        """The root if the data set seems to lie there, else None."""
        folder = Path(root) if root is not None else self.default_root()
        return folder if self.marker and any((folder / m).exists() for m in self.marker) else None


def need_folder(path: Path, why: str, expected: str) -> Path:
    """`path` if it is a folder.

    Raises:
        S4Error: says what was expected and what is there instead.
    """
    if path.is_dir():
        return path
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    inside = sorted(entry.name for entry in os.scandir(parent))[:8]
    raise S4Error(
        f"{why}: {path} is not a folder. Expected: {expected}. "
        f"Found in {parent}: {', '.join(inside) if inside else 'nothing'}."
    )


_CLUTTER = ("thumbs.db", "desktop.ini")


def stems(folder: Path, suffixes: Sequence[str], notices: list[str] | None = None) -> dict[str, str]:
    """{name without suffix: file name} of a folder, by one directory listing; letters with accents in one spelling.

    Args:
        folder, suffixes: what to list.
        notices: gets a sentence for what lies there and is not read.

    Raises:
        S4Error: two files differ in their suffix only, or in how an accent is stored.
    """
    found: dict[str, str] = {}
    rest = []
    for name in os.listdir(folder):
        stem, _, suffix = name.rpartition(".")
        if not stem or stem[0] == "." or f".{suffix}".lower() not in suffixes:
            rest.append(name)
            continue
        stem = stem if stem.isascii() else unicodedata.normalize("NFC", stem)
        if stem in found:
            raise S4Error(_which(folder, found[stem], name))
        found[stem] = name
    if notices is not None and rest:
        notices += _not_read(folder, rest, len(found))
    return {stem: found[stem] for stem in sorted(found)}


def _which(folder: Path, first: str, second: str) -> str:
    one, other = (unicodedata.normalize("NFC", name) for name in (first, second))
    if one == other:
        return f"{folder} holds two files called {one}, stored as {first!a} and {second!a}: remove one."
    return f"{folder} holds {first} and {second}: which of the two is meant? Remove one."


def _not_read(folder: Path, rest: Sequence[str], read: int) -> list[str]:
    """Sentences for files and folders that are passed over; hidden ones are no one's data."""
    rest = sorted(name for name in rest if name[0] != "." and name.lower() not in _CLUTTER)
    inside = [name for name in rest if "." not in name[-6:] and (folder / name).is_dir()]
    files = [name for name in rest if name not in set(inside)]
    said = []
    if files:
        kinds = Counter(f".{name.rpartition('.')[2]}" if "." in name else "no suffix" for name in files)
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(4))
        said.append(
            f"{len(files)} of the {read + len(files)} files of {folder} are not read ({named}; first: {files[0]})"
        )
    if inside:
        said.append(f"{folder} has folders inside, which are not searched ({some(inside)})")
    return said


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names, for a message."""
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")


def shared_images(train: Source, val: Source) -> tuple[str, ...]:
    """A notice where validation images are in the training list, too."""
    both = sorted(set(train.ids) & set(val.ids))
    words = "val images are in the training list, too: scores on them say nothing about new images"
    return (f"{len(both)} {words} ({some(both)})",) if both else ()


def public(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with paths as strings and sequences as lists, ready for JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return str(value)
        if isinstance(value, Mapping):
            return {str(k): v for k, v in value.items()}
        return list(value) if isinstance(value, tuple | list) else value

    return {key: plain(value) for key, value in config.items() if value is not None}
