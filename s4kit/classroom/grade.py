"""`grade`: a folder of handed-in notebooks to a table and a page of feedback for each student.

Every notebook runs in a confined process of its own. What it must answer with, inputs and right results, never leaves
this one: the process is asked to call a function with inputs, and what it sends back is judged here.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ..errors import S4Error
from . import sheet
from .check import judge_reading
from .confine import Limits
from .exercise import Exercise, Reading, find
from .feedback import write
from .intake import Handed, handed_in
from .judge import Finding, Verdict, calls, verdict
from .marks import Graded, Mark
from .restore import restored
from .sandbox import NotStarted, Stopped
from .session import Session
from .sheet import BLANK, Item, Notebook


def grade(
    submissions: str | Path,
    out: str | Path,
    assignments: str | Path | None = None,
    seed: int | None = None,
    jobs: int = 1,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Grade all notebooks below `submissions`; write grades.csv and feedback/<student>-<assignment>.html to `out`.

    Which assignment a notebook answers is read from its cells' marks, else from its name. The student is the folder
    that it lies in, else the name of the file. Archives are looked into; who has no notebook has a row all the same.

    Args:
        assignments: folder of the source notebooks; by default notebooks/assignments here or of this checkout.
        seed: of the hidden inputs; by default drawn anew and written into the table.
        jobs: notebooks at a time.

    Returns:
        {"ok", "csv", "feedback", "seed", "denied", "rows"}; a row has student, assignment, file, counts, points, of,
        to_read, flags, error, page.

    Raises:
        S4Error: no such folders, or no notebook in them.
    """
    sources = load_sources(assignments)
    files = handed_in(Path(submissions), Path(out))
    seed = secrets.randbelow(2**31) if seed is None else seed
    limits = limits or Limits()
    with ThreadPoolExecutor(jobs) as pool:
        graded = list(pool.map(lambda one: _told(one, sources, seed, limits), files))
    counting(graded)
    return write(graded, Path(out), seed)


def load_sources(folder: str | Path | None = None) -> dict[str, Notebook]:
    """The assignments' source notebooks by name, such as "3_cutmix".

    Raises:
        S4Error: there are none.
    """
    root = Path(__file__).parents[2]
    tried = [Path(folder)] if folder else [Path("notebooks/assignments"), root / "notebooks" / "assignments"]
    for place in tried:
        files = sorted(place.glob("[0-9]_*.ipynb"))
        if files:
            return {file.stem: sheet.read(file) for file in files}
    raise S4Error(f"No assignments (such as 3_cutmix.ipynb) in {tried[0]}; say where they are: --assignments DIR.")


def _told(handed: Handed, sources: dict[str, Notebook], seed: int, limits: Limits) -> Graded:
    found = grade_one(handed, sources, seed, limits)
    later = sum(mark.item.points for mark in found.marks if mark.points is None)
    said = found.error or f"{found.points:g} of {found.reachable:g}" + (f", {later:g} to read" if later else "")
    flags = " · look at it" if any(mark.flags for mark in found.marks) else ""
    print(f"{found.student:<24} {found.assignment or found.file:<18} {said}{flags}", file=sys.stderr)
    return found


def grade_one(handed: Handed, sources: dict[str, Notebook], seed: int, limits: Limits) -> Graded:
    """Grade one notebook; what is wrong with it is in the result, nothing is raised."""
    found = Graded(handed.student, "", [], file=handed.file)
    try:
        given = handed.notebook()
        found.assignment = _assignment(given, handed.stem, sources)
    except S4Error as error:
        found.error = str(error)
        return found
    source = sources[found.assignment]
    try:
        parts, texts, found.noticed = restored(source, given)
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError):
        found.marks = [
            Mark(item, None if item.text else 0.0, ["The notebook is damaged."]) for item in sheet.items(source)
        ]
        found.error = "its cells are damaged and cannot be read"
        return found
    session = Session(parts, limits)
    try:
        for item in sheet.items(source):
            found.marks.append(_text(item, texts) if item.text else _mark(item, session, seed))
        found.denied = session.denied
    except NotStarted as error:  # the grader's fault: no points are taken, it has to be graded again
        found.marks, found.error = [], f"{error}; grade it again"
    finally:
        session.close()
    found.noticed += session.noticed
    return found


def _assignment(given: Notebook, stem: str, sources: dict[str, Notebook]) -> str:
    """Which assignment: the one with the most cells in common, else by the file's name."""
    marks = {sheet.role(cell).get("grade_id") for cell in given["cells"]} - {None}
    shared = {n: len(marks & {sheet.role(cell).get("grade_id") for cell in s["cells"]}) for n, s in sources.items()}
    best = max(shared, key=shared.get)
    if shared[best]:
        return best
    for name in sources:
        if name in stem or name.split("_", 1)[1] in stem:
            return name
    raise S4Error(
        f"{stem} answers no assignment: none of its cells is marked, and its name is none of {', '.join(sources)}."
    )


def counting(graded: Sequence[Graded]) -> None:
    """Of several notebooks of one student for one assignment the one with most points counts; said in each of them."""
    by: dict[tuple[str, str], list[Graded]] = {}
    for one in graded:
        if one.assignment:
            by.setdefault((one.student, one.assignment), []).append(one)
    for same in by.values():
        best = max(same, key=lambda one: one.points)
        for one in same if len(same) > 1 else ():
            one.counts = one is best
            which = "this one" if one is best else best.file
            one.noticed.append(f"{len(same)} notebooks were handed in for it; {which} counts, with the most points")


def _text(item: Item, texts: dict[str, str]) -> Mark:
    said = texts.get(item.key, "").strip()
    if not said or said == BLANK:
        return Mark(item, 0.0, ["Nothing was written."])
    return Mark(item, None, ["A person reads this."], answer=said)


def _mark(item: Item, session: Session, seed: int) -> Mark:
    """Points of one exercise; whatever the student's code does, the next one is asked as well."""
    exercise = find(item.key)
    code = session.code(item.key)
    mark = Mark(item, 0.0, flags=[f"uses {name}" for name in sheet.borrowed(code)], answer=code)
    if not code:
        mark.words = ["The answer's cell is missing."]
        return mark
    try:
        found = _twice(exercise, session, seed)
    except Stopped as stopped:
        mark.words = [f"It was stopped: {stopped}."]
        return mark
    mark.points = round(item.points * found.share, 2)
    mark.words = [finding.words for finding in found.findings] or ["Right."]
    mark.mistake = next((finding.mistake for finding in found.findings if finding.mistake), "")
    mark.flags += [f"calls the kit's {name}" for name in found.calls]
    return mark


def _twice(exercise: Exercise | Reading, session: Session, seed: int) -> Verdict:
    """Ask; where the process was stopped, ask a new one: points are not lost because the machine had a bad moment.

    Raises:
        Stopped: both times.
    """
    try:
        session.begin(exercise.key)
        return _ask(exercise, session, seed)
    except Stopped:
        session.restart()
        session.begin(exercise.key)
    try:
        return _ask(exercise, session, seed)
    except Stopped:
        session.restart()
        raise


def _ask(exercise: Exercise | Reading, session: Session, seed: int) -> Verdict:
    error = session.errors.get(exercise.key, "")
    if isinstance(exercise, Reading):
        from .runs import small_run

        number = session.box.value(exercise.key.partition(".")[2])
        if number is None:
            return Verdict([Finding("unanswered", error or "Not answered yet.")], 0.0)
        return judge_reading(number, exercise, small_run(exercise.run))
    name = exercise.prototype.partition("(")[0]
    cases = calls(exercise, seed)
    answers = []
    for at, case in enumerate(cases):
        answers.append(session.box.call(name, case, exercise.learns, exercise.stops, at == 0))
        if answers[-1].error and at == 0:  # it will not get better
            reason = f" ({error})" if error else ""
            words = "Not answered yet." if answers[0].unanswered else f"It stops with {answers[0].error}{reason}."
            return Verdict([Finding("unanswered" if answers[0].unanswered else "raises", words)], 0.0)
    return verdict(exercise, cases, answers)
