"""`s4kit methods` and `s4kit data`: list methods; list, fetch and check data sets; for people."""

from __future__ import annotations

import sys
from typing import Any

from .text import table


def methods() -> list[dict[str, Any]]:
    """Print and return the methods, baselines first."""
    from ..methods import table as cards

    rows = cards()
    head = ("name", "family", "venue", "year", "parity", "title")
    order = sorted(rows, key=lambda row: (row["family"] != "baselines", row["family"], row["year"], row["name"]))
    print(table(head, [[row[key] for key in head] for row in order], stretch=5))
    for row in order:
        if row["note"]:
            print(f"{row['name']}: {row['note']}.")
    return rows


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


def fetch(name: str, root: str | None) -> dict[str, Any]:
    """Download a data set with a counter on stderr."""
    from ..data import registry

    def counter(done: int, total: int) -> None:
        end = "\n" if done == total else ""
        print(f"\r{name}: {done} of {total} files", end=end, file=sys.stderr, flush=True)

    folder = registry.get(name, root, progress=counter)
    print(f"{name} lies in {folder}. Check it: s4kit data check {name} --root {folder}")
    return {"name": name, "root": str(folder)}


def check(name: str, root: str | None, labelled: str | None) -> dict[str, Any]:
    """Read every file of a data set and print what is wrong; `ok` is False when a file is broken."""
    from ..data import checks, load

    task = load(name, root=root, **({"labelled": labelled} if labelled else {}))

    def counter(done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            print(f"\rread {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)

    report = checks.check(task, progress=counter)
    print(report)
    return report.to_dict()
