"""The one reader of class tables: names and colours, one class a line, in the forms that tools write.

    high tree                 a name, with blanks
    sky 10 20 30              and its colour
    sky,10,20,30              with commas (CamVid's class_dict.csv has such a header line, too)
    0 sky                     numbered from 0, every line
    sky:10,20,30::            CVAT's labelmap.txt
    __ignore__                labelme's labels.txt: void, no class; `_background_` follows and is class 0

Lines that begin with # are comments.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import S4Error
from ..catalog import Palette
from ..palettes import distinct
from ..reading.text import read_lines
from ..task import VOID

Colour = tuple[int, int, int]
_CVAT = re.compile(r"([^:]+):\s*(?:(\d+)\s*,\s*(\d+)\s*,\s*(\d+))?\s*:[^:]*:[^:]*")
_COLOURED = re.compile(r"(.*?)[\s,;]+(\d+)[\s,;]+(\d+)[\s,;]+(\d+)")
_HEADER = re.compile(r"(name|class|classes|label|id|category)\b.*\b(r|red)\W+(g|green)\W+(b|blue)", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+)\s*[\s:,;.]\s*(\S.*)")


@dataclass(frozen=True)
class ClassTable:
    """Names and colours of the classes.

    Attributes:
        names: in the order of the ids.
        palette: a colour per class; those that were not given are the kit's.
        given: the class of each colour that was given.
    """

    names: tuple[str, ...]
    palette: Palette
    given: dict[Colour, int]


def read_classes(path: Path) -> ClassTable:
    """The classes of a file; see above for its forms.

    Raises:
        S4Error: the file names no class or too many, names or colours are equal, a colour is not 0..255, or the
            numbers of the classes are not 0, 1, 2, ...
    """
    lines = [line for line in read_lines(path) if not line.startswith("#")]
    lines = [line for line in lines[:1] if not _HEADER.match(line)] + lines[1:]
    lines = [line for line in lines if line.split(":")[0].strip() != "__ignore__"]
    names, colours = [], []
    for line in _unnumbered(lines, path):
        name, colour = _line(line)
        names.append(name)
        colours.append(colour)
        if colour and max(colour) > VOID:
            raise S4Error(f"{path}: the colour of {name!r} is {colour}; each part is 0..255.")
    if not 0 < len(names) <= VOID:
        raise S4Error(f"{path} names {len(names)} classes; write one per line, at least 1 and at most {VOID}.")
    return class_table(names, colours, str(path))


def class_table(names: Sequence[str], colours: Sequence[Colour | None], where: str) -> ClassTable:
    """Names with colours, None where none is given.

    Raises:
        S4Error: two names or two colours are equal.
    """
    names = tuple(unicodedata.normalize("NFC", name.strip()) for name in names)
    refuse_equal(names, where)
    given: dict[Colour, int] = {}
    for label, colour in enumerate(colours):
        if colour is None:
            continue
        if colour in given:
            raise S4Error(f"{where}: {names[given[colour]]!r} and {names[label]!r} have one colour, {colour}.")
        given[colour] = label
    spare = [colour for colour in distinct(2 * len(names)) if colour not in given]
    defaults = distinct(len(names))
    taken = dict.fromkeys(given)
    palette = []
    for colour, usual in zip(colours, defaults):
        chosen = colour or (usual if usual not in taken else next(c for c in reversed(spare) if c not in taken))
        taken[chosen] = None
        palette.append(chosen)
    return ClassTable(names, tuple(palette), given)


def refuse_equal(names: Sequence[str], where: str) -> None:
    """Raises S4Error where two class names are equal or empty: results are kept by name, one would be lost."""
    seen: dict[str, int] = {}
    for label, name in enumerate(names):
        if not str(name).strip():
            raise S4Error(f"{where}: class {label} has no name.")
        if name in seen:
            raise S4Error(f"{where}: class {seen[name]} and class {label} are both called {name!r}; name them apart.")
        seen[name] = label


def _unnumbered(lines: Sequence[str], path: Path) -> list[str]:
    """The lines without their numbers, where every line has one."""
    found = [_NUMBERED.fullmatch(line) for line in lines]
    if not lines or not all(found):
        return list(lines)
    numbers = [int(match[1]) for match in found]
    if numbers != list(range(len(lines))):
        raise S4Error(
            f"{path} numbers its classes {', '.join(map(str, numbers[:4]))}{', ...' * (len(numbers) > 4)}; ids count "
            "from 0 without gaps. Write one name a line in the order of the ids, and pass ids={stored: class} where "
            "the maps store others."
        )
    return [match[2] for match in found]


def _line(line: str) -> tuple[str, Colour | None]:
    cvat = _CVAT.fullmatch(line)
    if cvat:
        colour = tuple(int(part) for part in cvat.groups()[1:]) if cvat[2] else None
        return cvat[1].strip(), colour
    coloured = _COLOURED.fullmatch(line)
    if coloured and coloured[1].strip():
        return " ".join(coloured[1].split()), tuple(int(part) for part in coloured.groups()[1:])
    return " ".join(line.split()), None
