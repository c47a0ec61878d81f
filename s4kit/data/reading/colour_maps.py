"""Label maps that carry colours: palettes that say which class an index is, and folders of colour maps to convert."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import S4Error, caution
from ..decode import LABEL_SUFFIXES, decode_image
from ..task import VOID

Colour = tuple[int, int, int]
STRAY = 0.05  # share of pixels outside the palette above which a folder is not converted
NEAR = 3  # levels by which a colour that is meant may be off


def by_colour(stored: np.ndarray, palette: np.ndarray, colours: Mapping[Colour, int], path: str) -> np.ndarray:
    """(H, W) classes of an indexed map whose palette holds the classes' colours, in whatever order.

    Where no index in use has a class's colour the palette is unrelated, and the indices stand as they are; 255 is void.

    Args:
        stored: (H, W) indices. palette: (n, 3) uint8.
        colours: the class of each colour that the user has given.

    Raises:
        S4Error: some indices have a class's colour and some have not, or the index is another class's.
    """
    used = [int(index) for index in np.unique(stored) if index != VOID and index < len(palette)]
    shown = {index: tuple(int(part) for part in palette[index]) for index in used}
    classes = {index: colours.get(colour) for index, colour in shown.items()}
    if all(label is None for label in classes.values()) or all(i == label for i, label in classes.items()):
        return stored
    for index, label in classes.items():
        if label is None:
            raise S4Error(
                f"{path} is an indexed image whose palette shows class colours, but index {index} is {shown[index]}, "
                f"which no class has; the nearest is {_nearest(shown[index], colours)}. Mend classes.txt or the map, "
                'or pass palettes="ignore" if the indices are the class ids whatever their colours.'
            )
    table = np.arange(256, dtype=np.uint8)
    table[list(classes)] = list(classes.values())
    return table[stored]


def _nearest(colour: Colour, colours: Mapping[Colour, int]) -> str:
    near = min(colours, key=lambda other: _distance(colour, other))
    return f"{near} of class {colours[near]}"


def _distance(a: Colour, b: Colour) -> int:
    return max(abs(x - y) for x, y in zip(a, b))


def convert_labels(
    source: str | Path, target: str | Path, palette: Sequence[Colour], void: Sequence[Colour] = ()
) -> int:
    """Turn a folder of colour label maps into index maps (PNG); colours outside the palette become void, aloud.

    Args:
        source: the folder of colour maps.
        target: another folder, made if missing.
        palette: (r, g, b) of class 0, 1, ..., at most 255.
        void: colours that are meant to be void, such as that of borders.

    Returns:
        How many maps were written.

    Raises:
        S4Error: the palette is not valid; a file cannot be read, or none of its pixels has a colour of the palette;
            there is no map; a colour seems to be off by a little; more than 5 % of all pixels have a colour that is
            neither of the palette nor void. Then nothing is written.
    """
    source, target = Path(source), Path(target)
    table = _checked(palette, void)
    files = _maps(source, target)
    stray: Counter[Colour] = Counter()
    seen: set[int] = set()
    pixels = 0
    for write in (False, True):  # all is looked at before anything is written
        for file in files:
            index, outside = _indexed(file, table)
            if write:
                Image.fromarray(index).save(target / f"{file.stem}.png")
                continue
            pixels += index.size
            stray.update(outside)
            seen.update(np.unique(index).tolist())
        if not write:
            _need_few(stray, seen, pixels, palette)
            target.mkdir(parents=True, exist_ok=True)
    if stray:
        caution(f"{source}: {_strays(stray, pixels)} became void.")
    return len(files)


def _checked(palette: Sequence[Colour], void: Sequence[Colour]) -> dict[int, int]:
    """{r g b as one number: class}."""
    if not 1 <= len(palette) <= VOID:
        raise S4Error(f"The palette has {len(palette)} colours; an 8-bit map holds classes 0..254, so at most {VOID}.")
    table: dict[int, int] = {}
    for label, colour in [*enumerate(palette), *((VOID, colour) for colour in void)]:
        if len(colour) != 3 or not all(0 <= int(part) <= 255 for part in colour):
            raise S4Error(f"The colour {tuple(colour)} of class {label} is no (r, g, b) of 0..255.")
        r, g, b = (int(part) for part in colour)
        code = (r << 16) | (g << 8) | b
        if code in table:
            raise S4Error(f"The palette has the colour {(r, g, b)} twice: class {table[code]} and {label}.")
        table[code] = label
    return table


def _maps(source: Path, target: Path) -> list[Path]:
    if not source.is_dir():
        raise S4Error(f"{source} is not a folder of colour maps.")
    if os.path.realpath(source) == os.path.realpath(target):
        raise S4Error(f"{source} would be written over itself: give another folder as the target.")
    files = [f for f in sorted(source.iterdir()) if f.suffix.lower() in LABEL_SUFFIXES]
    if not files:
        there = sorted({f.suffix for f in source.iterdir() if f.is_file()})
        jpeg = (
            " JPEG maps cannot be converted: the compression changes colours." if {".jpg", ".jpeg"} & set(there) else ""
        )
        raise S4Error(
            f"{source} holds no map ({', '.join(LABEL_SUFFIXES)}), only {', '.join(there) or 'nothing'}.{jpeg}"
        )
    stems: dict[str, Path] = {}
    for file in files:
        if file.stem in stems:
            raise S4Error(f"{source} holds {stems[file.stem].name} and {file.name}: both would be {file.stem}.png.")
        stems[file.stem] = file
    return files


def _indexed(file: Path, table: Mapping[int, int]) -> tuple[np.ndarray, Counter[Colour]]:
    """(H, W) uint8 of classes, and how many pixels each colour outside the palette has."""
    rgb = decode_image(str(file)).astype(np.int64)
    codes, where = np.unique((rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2], return_inverse=True)
    if not any(int(code) in table for code in codes):
        raise S4Error(f"{file}: no pixel has a colour of the palette; is it the palette of this data set?")
    index = np.array([table.get(int(code), VOID) for code in codes], dtype=np.uint8)[where.reshape(rgb.shape[:2])]
    counts = np.bincount(where.ravel(), minlength=len(codes))
    outside = {_colour(int(code)): int(n) for code, n in zip(codes, counts) if int(code) not in table}
    return index, Counter(outside)


def _colour(code: int) -> Colour:
    return code >> 16, (code >> 8) & 255, code & 255


def _need_few(stray: Counter[Colour], seen: set[int], pixels: int, palette: Sequence[Colour]) -> None:
    """Refuses what is hardly meant: a class that no map shows while its colour is there, off by a little; much void."""
    for label, colour in enumerate(palette):
        near = max((c for c in stray if _distance(c, colour) <= NEAR), key=lambda c: stray[c], default=None)
        if label not in seen and near is not None:
            raise S4Error(
                f"No map shows the colour {tuple(colour)} of class {label}, but {stray[near]} pixels are {near}: mend "
                "the palette."
            )
    if stray.total() > STRAY * pixels:
        raise S4Error(
            f"{_strays(stray, pixels)}: mend the palette, or name the colours that are meant to be void "
            f"(void=[{max(stray, key=lambda c: stray[c])}])."
        )


def _strays(stray: Counter[Colour], pixels: int) -> str:
    most = ", ".join(f"{colour} {count}" for colour, count in stray.most_common(3))
    return f"{stray.total()} pixels ({stray.total() / pixels:.1%}) outside the palette (most: {most})"
