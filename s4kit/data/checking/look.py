"""A bounded look at the label maps when a task is made: what a training on them could not mean, before it begins.

Some labelled and some validation maps are read, evenly spread over their lists; `check` reads all. What is certainly
wrong is an error, what is probably wrong a notice, and a map that cannot be used a fault, which `fit` refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ...errors import S4Error
from ..catalog import some
from ..decode import decode_map
from ..reading.stored import opened
from ..task import VOID, Source

MAPS = {"labelled": 32, "val": 16}  # that are looked at
PIXELS = 12_000_000  # in each of the two lists: beyond it four maps are enough
HEADERS = 200  # photos whose EXIF tag is read
TURNABLE = (".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp", ".png")
MOSTLY = 0.5  # share of void that is named
PLENTY = 0.01  # share of void that may be a class


@dataclass
class Look:
    """What was seen of a list of maps.

    Attributes:
        part: "labelled" or "val".
        total: maps in the list; seen: maps that were read.
        pixels: (256,) of each class and of void.
        faults: what is wrong with the maps that cannot be used.
    """

    part: str
    total: int
    seen: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    faults: list[str] = field(default_factory=list)

    @property
    def all(self) -> bool:
        """Whether every map of the list was read."""
        return self.seen + len(self.faults) == self.total

    @property
    def void(self) -> float:
        """Share of void."""
        return float(self.pixels[VOID] / max(1, self.pixels.sum()))

    @property
    def where(self) -> str:
        """ "the 4 labelled maps", "the 32 labelled maps looked at (of 662)"."""
        return f"the {self.seen} {self.part} maps" + ("" if self.all else f" looked at (of {self.total})")

    def add(self, label: np.ndarray | S4Error) -> None:
        """Count a map (H, W) uint8, or what is wrong with it."""
        if isinstance(label, S4Error):
            self.faults.append(str(label))
        else:
            self.seen += 1
            self.pixels += np.bincount(label.ravel(), minlength=256)


def look(
    classes: Sequence[str], train: Source, labelled: Sequence[int], val: Source
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Notices of the files, notices of the labels (of which a `check` knows more), and faults, of a split.

    Raises:
        S4Error: no labelled pixel at all, or a single class while the rest is void; indexed maps of a folder whose
            palettes contradict each other.
    """
    lists = [("labelled", train, labelled), ("val", val, range(len(val)))]
    readers = [(part, reader, rows) for part, source, rows in lists if (reader := getattr(source, "label", None))]
    if not readers:  # embedded or made up
        return (), (), ()
    seen = [_look(part, reader, rows) for part, reader, rows in readers]
    _need_classes(classes, seen, readers)
    labels = (*_absent(classes, seen), *_void(seen))
    files = (*_palettes(train, labelled), *_turned(lists))
    return files, labels, tuple(fault for found in seen for fault in found.faults)


def _look(part: str, reader: Callable[[int], np.ndarray | None], rows: Sequence[int]) -> Look:
    found = Look(part, len(rows))
    for label in _read(reader, spread(rows, MAPS[part])):
        found.add(label)
        if found.pixels.sum() > PIXELS and found.seen >= 4:
            break
    return found


def _read(reader: Callable[[int], np.ndarray | None], rows: Sequence[int]) -> Iterator[np.ndarray | S4Error]:
    def one(row: int) -> np.ndarray | S4Error | None:
        try:
            return reader(row)
        except S4Error as why:
            return why

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(rows), 8):  # no more than is wanted
            yield from (label for label in pool.map(one, rows[start : start + 8]) if label is not None)


def spread(rows: Sequence[int], most: int) -> list[int]:
    """At most so many of the rows, evenly spread, the first among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[number * len(rows) // most] for number in range(most)]


def _need_classes(classes: Sequence[str], seen: list[Look], readers: Sequence[tuple]) -> None:
    """Refuses labels that teach nothing: all void, or one class and void. Looks at all maps before it says so."""
    if not seen[0].seen:
        return
    if not seen[0].pixels[:VOID].any():
        seen[0] = _all(*readers[0], enough=1)
        if not seen[0].pixels[:VOID].any():
            raise S4Error(
                f"No labelled pixel: {seen[0].where} are {VOID} (void) everywhere. Export them again, or, where {VOID} "
                "is a class, map it: ids={255: 0, ...}."
            )
    for number, reader in enumerate(readers):
        if np.count_nonzero(_known(seen)) == 1:
            seen[number] = _all(*reader, enough=2)
    known, void = _known(seen), sum(int(found.pixels[VOID]) for found in seen)
    if np.count_nonzero(known) == 1 < len(classes) and void > PLENTY * (void + int(known.sum())):
        only = int(np.flatnonzero(known)[0])
        others = [name for label, name in enumerate(classes) if label != only]
        raise S4Error(
            f"No label map has a pixel of {some(others)}: all are {only} ({classes[only]}) or {VOID}, which means "
            f"void. Where {VOID} is a class pass ids={{0: 0, 255: 1}}."
        )


def _all(part: str, reader: Callable[[int], np.ndarray | None], rows: Sequence[int], enough: int) -> Look:
    """A look at all maps of a list, until so many classes were seen."""
    found = Look(part, len(rows))
    for label in _read(reader, rows):
        found.add(label)
        if np.count_nonzero(found.pixels[:VOID]) >= enough:
            break
    return found


def _known(seen: Sequence[Look]) -> np.ndarray:
    """(255,) pixels of each class over all looks."""
    return sum(found.pixels for found in seen)[:VOID]


def _absent(classes: Sequence[str], seen: list[Look]) -> list[str]:
    """Classes without a pixel: where all maps of a list were read, or where void is plentiful and may be the class."""
    said = []
    for found in seen:
        absent = [name for name, count in zip(classes, found.pixels) if not count]
        if found.seen and found.all and absent:
            said.append(f"no pixel of {some(absent)} in {found.where}")
    pixels = sum(found.pixels for found in seen)
    never = [label for label in range(len(classes)) if not pixels[label]]
    if len(never) == 1 and pixels[VOID] > PLENTY * pixels.sum():
        ids = {label: label for label in range(len(classes)) if label != never[0]} | {VOID: never[0]}
        mend = f"ids={ids}" if len(classes) < 12 else f"ids={{..., {VOID}: {never[0]}}}"
        said.append(
            f"{classes[never[0]]} has no pixel in {' and '.join(found.where for found in seen)}, while {VOID} (void) "
            f"has {pixels[VOID] / pixels.sum():.1%}: if {VOID} is that class pass {mend}"
        )
    return said


def _void(seen: list[Look]) -> list[str]:
    return [f"{found.void:.0%} of {found.where} is void ({VOID})" for found in seen if found.void > MOSTLY]


def _palettes(train: Source, labelled: Sequence[int]) -> list[str]:
    """Indexed maps in which one index has different colours.

    Raises:
        S4Error: likewise, where the data set is a folder whose options can settle it.
    """
    paths = getattr(train, "label_path", None)
    if paths is None or train.palettes == "ignore":
        return []
    shown: dict[int, tuple[tuple[int, ...], str]] = {}
    for path in filter(None, map(paths, spread(labelled, MAPS["val"]))):
        try:
            stored, palette = decode_map(path)
        except S4Error:  # a fault that the look has named
            continue
        if palette is None:
            continue
        used = np.unique(stored)
        for index in used[(used < len(palette)) & (used != VOID)].tolist():
            colour = tuple(palette[index].tolist())
            known, first = shown.setdefault(index, (colour, path))
            if known != colour and not _by_colour(train, known, colour):
                words = f"index {index} is {known} in the palette of {first} and {colour} in that of {path}"
                return [_differing(train, words)]
    return []


def _by_colour(train: Source, *colours: tuple[int, ...]) -> bool:
    """Whether the classes of these indices are told by their colours."""
    return all(colour in train.colours for colour in colours)


def _differing(train: Source, words: str) -> str:
    if train.palettes == "refuse":
        raise S4Error(
            f"The label maps are indexed images that contradict each other: {words}. Write the classes' colours "
            'to classes.txt ("name r g b"), or pass palettes="ignore" if the indices are the ids all the same.'
        )
    return f"the palettes of the label maps differ ({words}); the indices are taken as the ids"


def _turned(lists: Sequence[tuple[str, Source, Sequence[int]]]) -> list[str]:
    """Photos that are turned by their EXIF tag while the shape of their label does not tell in which frame it is."""
    count = looked = 0
    first = ""
    for _, source, rows in lists:
        if not getattr(source, "turn", False):
            continue
        rows = [row for row in rows if source.image_path(row).lower().endswith(TURNABLE)]
        for row in spread(rows, HEADERS // 2):
            looked += 1
            if source.label_path(row) is not None and _ambiguous(source.image_path(row)):
                count, first = count + 1, first or source.image_path(row)
    if not count:
        return []
    return [
        f"{count} of the {looked} photos with a label map that were looked at are turned or mirrored by their EXIF tag "
        f"(first: {first}), and their labels are taken as drawn on the turned photo: if they are drawn on the stored "
        'pixels pass exif="ignore"'
    ]


def _ambiguous(path: str) -> bool:
    try:
        with opened(path, load=False) as (image, stored):
            return stored.orientation in (2, 3, 4) or (stored.orientation >= 5 and image.width == image.height)
    except S4Error:  # a fault that reading names
        return False
