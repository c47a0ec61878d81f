"""What a data set's module hands to `load`: everything of a task but the split."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import S4Error
from .task import Evaluation, Source

Palette = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Catalog:
    """The images of a data set and its defaults.

    Attributes:
        train: all training images, those without label included.
        maskless: rows of `train` that have no label and can only be used unlabelled.
        labelled, cover, crop, scale, evaluation: defaults of `load`.
        note: words for the protocol, such as which lists were read.
        config: options that `load` needs to open the same catalog again.
    """

    name: str
    classes: tuple[str, ...]
    palette: Palette
    train: Source
    val: Source
    crop: int
    scale: tuple[float, float] = (0.5, 2.0)
    evaluation: Evaluation = field(default_factory=Evaluation)
    labelled: str | int = "1/16"
    cover: int = 0
    maskless: frozenset[int] = frozenset()
    note: str = ""
    config: dict[str, Any] = field(default_factory=dict)


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


def stems(folder: Path, suffixes: Sequence[str]) -> dict[str, str]:
    """{name without suffix: file name} of a folder, by one directory listing.

    Raises:
        S4Error: two files differ in their suffix only.
    """
    found: dict[str, str] = {}
    for name in os.listdir(folder):
        stem, _, suffix = name.rpartition(".")
        if not stem or stem[0] == "." or f".{suffix}".lower() not in suffixes:
            continue
        if stem in found:
            raise S4Error(f"{folder} holds {found[stem]} and {name}: which of the two is meant? Remove one.")
        found[stem] = name
    return {stem: found[stem] for stem in sorted(found)}


def public(config: dict[str, Any]) -> dict[str, Any]:
    """`config` with paths as strings and sequences as lists, ready for JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return str(value)
        if isinstance(value, Mapping):
            return {str(k): v for k, v in value.items()}
        return list(value) if isinstance(value, tuple | list) else value

    return {key: plain(value) for key, value in config.items() if value is not None}
