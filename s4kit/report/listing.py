"""`s4kit methods` and `s4kit data`: list methods; list, fetch and check data sets; for people."""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import S4Error, S4Warning, closest
from .text import table

if TYPE_CHECKING:
    from ..data import Task

PARITY = {
    "golden": "gives what recordings of the authors' code give",
    "reference": "gives what an independent slow version gives",
    "reconstruction": "its sources leave parts open",
}


def methods(family: str | None = None) -> list[dict[str, Any]]:
    """Print and return the methods by family, the baselines first; of each its idea and what its version was checked
    against.

    Raises:
        S4Error: there is no such family.
    """
    from ..methods import table as cards

    rows = sorted(cards(), key=lambda row: (row["family"] != "baselines", row["family"], row["year"], row["name"]))
    families = list(dict.fromkeys(row["family"] for row in rows))
    if family is not None and family not in families:
        raise S4Error(f"There is no family {family!r}. {closest(family, families)}")
    rows = [row for row in rows if family in (None, row["family"])]
    lines: list[tuple[str, ...]] = []
    room = max(30, shutil.get_terminal_size((120, 24)).columns - _width(rows))
    for name in dict.fromkeys(row["family"] for row in rows):
        of = [row for row in rows if row["family"] == name]
        lines += [("", "", "", "")] * bool(lines) + [(f"{name} ({len(of)})", "", "", "")]
        for row in of:
            said = row["idea"] + (f" ({row['note']})" if row["note"] else "")
            first, *more = textwrap.wrap(said, room)
            lines.append((f"  {row['name']}", f"{row['venue']} {row['year']}", row["parity"], first))
            lines += [("", "", "", line) for line in more]
    print(table(("method", "published", "checked", "idea"), lines))
    print(f"\n{len(rows)} methods, checked as follows.")
    for parity, words in PARITY.items():
        print(f"  {parity}: {words}")
    return rows


def _width(rows: list[dict[str, Any]]) -> int:
    """Columns left of the idea."""
    cells = ((f"  {row['name']}", f"{row['venue']} {row['year']}", row["parity"]) for row in rows)
    return sum(max(len(cell) for cell in column) + 2 for column in zip(*cells))


def datasets() -> list[dict[str, Any]]:
    """Print and return the data sets, where they were found and how to get the others."""
    from ..data import registry

    rows = registry.table()
    cells = [[r["name"], r["classes"], r["images"], r["found"] or "not found", r["about"]] for r in rows]
    print(table(("name", "classes", "images", "found at", "about"), cells, right="lr", stretch=4))
    missing = [row for row in rows if not row["found"] and row["name"] != "folder"]
    if missing:
        print("\nTo get the others, or pass --root DIR where you have them:")
        for row in missing:
            print(f"  {row['name']}: {row['get']}")
    return rows


def splits(name: str | None, other: str | None, root: str | None) -> Any:
    """Print and return the published splits (of a data set), the facts of one, or two side by side."""
    from . import splits

    if other:
        found = splits.compare(name, other, root)
        print(found)
        return found.to_dict()
    if name is None or name in splits.datasets():
        print(splits.table(name))
        return [splits.get(each).facts() for each in splits.names(name)]
    split = splits.get(name)
    print(f"{split}\nlist       {split.where() or 'not here yet: fetched when it is used'}")
    return split.facts() | {"kept": split.where()}


def fetch(name: str, root: str | None) -> dict[str, Any]:
    """Download a data set with a counter on stderr."""
    from ..data import registry

    counter = _Counter(name)
    try:
        folder = registry.get(name, root, progress=counter)
    finally:
        counter.end()
    known = "voc" if name == "sbd" else name
    print(f"{name} lies in {folder}. Check it: s4kit data check {known} --root {folder}")
    return {"name": name, "root": str(folder)}


class _Counter:
    """One line on stderr for each kind of thing counted: rewritten on a terminal, else printed when it is over."""

    def __init__(self, name: str) -> None:
        self.name, self.what, self.line = name, "", ""
        self.begun, self.first, self.shown = 0.0, 0, 0.0

    def __call__(self, done: int, total: int, what: str) -> None:
        if what != self.what:
            self.end()
            self.what, self.begun, self.first = what, time.monotonic(), done
        now = time.monotonic()
        passed = now - self.begun
        speed = (done - self.first) / passed if passed > 2 else 0.0
        left = f", {speed:.1f} a second, {_minutes((total - done) / speed)} left" if speed and done < total else ""
        of = f" of {total}" if total else ""
        self.line = f"{self.name}: {done}{of} {what}{left}"
        if sys.stderr.isatty() and (now - self.shown > 0.1 or done == total):
            self.shown = now
            print(f"\r\033[K{self.line}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line as it stands."""
        if self.what:
            print("" if sys.stderr.isatty() else self.line, file=sys.stderr, flush=True)
        self.what = ""


def _images(counter: _Counter, done: int, total: int) -> None:
    counter(done, total, "images read")


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


def _quietly(name: str, options: dict[str, Any]) -> Task:
    """The task, its notices unsaid: the report has them."""
    from ..data import load

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", S4Warning)
        return load(name, **options)


def check(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Read every file of a data set and print what is wrong; `ok` is False when a file is broken.

    Args:
        name: of the data set. options: of `load`.
    """
    from ..data import registry
    from ..data.checking import checks

    task = _quietly(name, options)
    counter = _Counter(name)
    told = partial(_images, counter)
    report = checks.check(task, progress=told, expected=registry.dataset(name).expected)
    counter.end()
    print(report)
    return report.to_dict()


def look(name: str, options: dict[str, Any], out: str, images: int) -> dict[str, Any]:
    """Write what a data set looks like, as a page or a picture; the remarks are printed.

    Args:
        name: of the data set. options: of `load`. out, images: see `look.write` and `look.look`.

    Raises:
        S4Error: no image is asked for; as `load`.
    """
    from .looking import look as looked

    if images < 1:
        raise S4Error(f"--images {images}: show at least one.")
    found = looked.look(_quietly(name, options), images)
    path = looked.write(found, out)
    print(f"{found!r}\n{path}")
    shares = {part: dict(zip(found.task.classes, of.shares.tolist())) for part, of in found.parts.items()}
    void = {part: of.void for part, of in found.parts.items()}
    return {"file": str(path), "remarks": found.remarks, "turned": found.turned, "shares": shares, "void": void}
