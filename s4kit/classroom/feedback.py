"""The page that a student gets back: points, what was wrong in words, and their own code. No script, no network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .grade import Graded, Mark

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
