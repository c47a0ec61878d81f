"""`build`: from one source notebook the student's version, the solutions and the instructor's page."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

from . import sheet
from .exercise import Exercise, find
from .feedback import STYLE
from .grade import load_sources
from .sheet import Notebook


def build(out: str | Path, assignments: str | Path | None = None) -> dict[str, Any]:
    """Write `out/student/*.ipynb`, `out/solution/*.ipynb` and `out/instructor.html`.

    In the student's version every solution is cut, and its cell raises until it is answered. `out/nbgrader/source/` has
    the sources in the layout of an nbgrader course.

    Args:
        out: folder; what is there of an earlier build is written over.
        assignments: folder of the source notebooks; by default notebooks/assignments here or of this checkout.

    Returns:
        {"ok", "out", "assignments": [{"name", "exercises", "points"}]}.
    """
    out = Path(out)
    sources = load_sources(assignments)
    for name, source in sources.items():
        _save(out / "student" / f"{name}.ipynb", sheet.student(source))
        _save(out / "solution" / f"{name}.ipynb", solution(source))
        _save(out / "nbgrader" / "source" / name / f"{name}.ipynb", source)
    (out / "instructor.html").write_text(instructor(sources), encoding="utf-8")
    about = [{"name": name, "exercises": len(sheet.items(s)), "points": points(s)} for name, s in sources.items()]
    return {"ok": True, "out": str(out), "assignments": about}


def points(source: Notebook) -> float:
    """All points of an assignment."""
    return sum(item.points for item in sheet.items(source))


def solution(source: Notebook) -> Notebook:
    """The solutions, without the markers and the hidden tests, for those who have handed in."""
    new = json.loads(json.dumps(source))
    for cell in new["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        code = sheet.HIDDEN.sub("", sheet.text(cell))
        kept = [line for line in code.split("\n") if line.strip() not in ("### BEGIN SOLUTION", "### END SOLUTION")]
        cell["source"] = "\n".join(kept).rstrip("\n")
    return new


def _save(path: Path, notebook: Notebook) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def instructor(sources: dict[str, Notebook]) -> str:
    """A page of all exercises: what is asked, points, the solution, and the mistakes that are recognised."""
    body = "".join(_assignment(name, source) for name, source in sources.items())
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>s4kit: assignments, for instructors</title><style>{STYLE}</style></head>"
        f"<body><h1>Assignments, for instructors</h1><p>Solutions: do not hand out.</p>{body}</body></html>\n"
    )


def _assignment(name: str, source: Notebook) -> str:
    answers = {sheet.role(cell).get("grade_id"): sheet.text(cell) for cell in source["cells"]}
    rows = "".join(_item(item, answers.get(sheet.grade_id(item.key), "")) for item in sheet.items(source))
    return f"<h1>{escape(name)} <small>({points(source):g} points)</small></h1>{rows}"


def _item(item: sheet.Item, code: str) -> str:
    head = f"<h2>{escape(item.key)}<span>{item.points:g} points</span></h2>"
    if item.text:
        return f"<section class=read>{head}<p>A free text, read by a person.</p><pre>{escape(code)}</pre></section>"
    one = find(item.key)
    named = (
        [(m.name, m.words) for m in one.mistakes] if isinstance(one, Exercise) else [("", w) for _, w in one.mistakes]
    )
    mistakes = "".join(f"<li><b>{escape(name)}</b> {escape(words)}</li>" for name, words in named)
    known = f"<p class=asks>Recognised mistakes:</p><ul>{mistakes}</ul>" if mistakes else ""
    return f"<section class=full>{head}<p>{escape(one.asks)}</p><pre>{escape(code)}</pre>{known}</section>"
