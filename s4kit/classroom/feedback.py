"""What comes back: a page for each student, without script and network, and the instructor's table."""

from __future__ import annotations

import csv
import hashlib
import unicodedata
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from .marks import Graded, Mark

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52em; margin: 2em auto; padding: 0 1em; color: #1d1d1f; }
h1 { font-size: 1.5em; margin-bottom: .1em } .sum { font-size: 1.2em; margin: .2em 0 1.2em }
section { border-left: 5px solid #b3402a; padding: .2em 1em; margin: 1em 0 } section.full { border-color: #1b7f4d }
section.part { border-color: #b98900 } section.read { border-color: #5b6b8c }
h2 { font-size: 1.05em; margin: .2em 0 } h2 span { float: right; font-weight: normal }
pre { background: #f5f5f3; padding: .7em 1em; overflow-x: auto; font-size: .85em } p { margin: .35em 0 }
.asks, .note { color: #5a5a5e } summary { cursor: pointer; color: #5a5a5e; font-size: .9em }
@media print { details { display: block } }
"""


def page(graded: Graded) -> str:
    """The page of one handed-in notebook; everything that came from the student is escaped."""
    to_read = sum(mark.item.points for mark in graded.marks if mark.points is None)
    later = f", and up to {to_read:g} for the texts that a person reads" if to_read else ""
    points = f"<b>{graded.points:g}</b> of {graded.reachable:g} points{later}"
    body = f"<p>It could not be graded: {escape(graded.error.rstrip('.'))}.</p>" if graded.error else ""
    body += "".join(_section(mark) for mark in graded.marks)
    notes = "".join(f"<li>{escape(words)}</li>" for words in graded.noticed)
    body += f"<p class=note>Noticed:</p><ul class=note>{notes}</ul>" if notes else ""
    title = f"{escape(graded.student)}: {escape(graded.assignment or 'not graded')}"
    body = f"<p class=note>{escape(graded.file)}</p>{body}"
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1><p class=sum>{points}</p>{body}</body></html>\n"
    )


def _section(mark: Mark) -> str:
    from .exercise import all_exercises

    known = all_exercises().get(mark.item.key)
    asks = f"<p class=asks>{escape(known.asks)}</p>" if known else ""
    words = "".join(f"<p>{escape(word)}</p>" for word in mark.words)
    code = mark.answer.strip()
    shown = f"<details><summary>Your answer</summary><pre>{escape(code)}</pre></details>" if code else ""
    share = None if mark.points is None else mark.points / mark.item.points if mark.item.points else 1.0
    kind = "read" if share is None else "full" if share == 1 else "part" if share else "none"
    got = "to be read" if mark.points is None else f"{mark.points:g}"
    return (
        f"<section class={kind}><h2>{escape(mark.item.key)}<span>{got} of {mark.item.points:g}</span></h2>"
        f"{asks}{words}{shown}</section>"
    )


# ---- what is left on disk ----


FIRST = ("student", "assignment", "file", "counts", "points", "of", "to_read")
LAST = ("mistakes", "flags", "noticed", "error", "seed", "page")


def write(graded: Sequence[Graded], out: Path, seed: int) -> dict[str, Any]:
    """grades.csv, one row per notebook, and a page for each row."""
    pages = out / "feedback"
    pages.mkdir(parents=True, exist_ok=True)
    keys = list(dict.fromkeys(mark.item.key for one in graded for mark in one.marks))
    rows, taken = [], set()
    with (out / "grades.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow([*FIRST, *keys, *LAST])
        for one in graded:
            got = {mark.item.key: mark for mark in one.marks}
            to_read = sum(mark.item.points for mark in one.marks if mark.points is None)
            flags = [f"{m.item.key}: {flag}" for m in one.marks for flag in m.flags]
            mistakes = [f"{m.item.key}: {m.mistake}" for m in one.marks if m.mistake]
            points = ["" if key not in got or got[key].points is None else f"{got[key].points:g}" for key in keys]
            name = _page_name(one, taken)
            cells = [one.student, one.assignment, one.file, "yes" if one.counts else "no"]
            cells += [f"{one.points:g}", f"{one.reachable:g}", f"{to_read:g}", *points]
            cells += ["; ".join(mistakes), "; ".join(flags), "; ".join(one.noticed), one.error, seed, name]
            table.writerow([harmless(str(cell)) for cell in cells])
            (pages / name).write_text(page(one), encoding="utf-8")
            row = {"student": one.student, "assignment": one.assignment, "file": one.file, "counts": one.counts}
            row |= {"points": one.points, "of": one.reachable, "to_read": to_read}
            rows.append(row | {"flags": flags, "error": one.error, "page": name})
    denied = list(dict.fromkeys(what for one in graded for what in one.denied))
    where = {"csv": str(out / "grades.csv"), "feedback": str(pages)}
    return {"ok": True, **where, "seed": seed, "denied": denied, "rows": rows}


def harmless(cell: str) -> str:
    """A cell that a spreadsheet takes for a formula gets an apostrophe: names of files and folders are not trusted."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _page_name(one: Graded, taken: set[str]) -> str:
    """A file name that no other row has, on file systems too that tell no upper from lower case; adds it to `taken`."""
    name = _file_name(f"{one.student}-{one.assignment or 'not-graded'}")
    number = next(k for k in range(1, 10**6) if _folded(f"{name}-{k}") not in taken)
    taken.add(_folded(f"{name}-{number}"))
    return f"{name}-{number}.html" if number > 1 else f"{name}.html"


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _file_name(name: str) -> str:
    """The name with what a file name may not have replaced; then a few letters tell it from its like."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip(".")[:120]
    return safe if safe == name else f"{safe or 'student'}-{hashlib.blake2b(name.encode(), digest_size=3).hexdigest()}"
