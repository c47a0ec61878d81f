"""`grade`: a folder of handed-in notebooks to a table and a page of feedback for each student.

Every notebook runs in a confined process of its own. What it must answer with, inputs and right results, never leaves
this one: the process is asked to call a function with inputs, and what it sends back is judged here.
"""

from __future__ import annotations

import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import S4Error
from . import sheet
from .check import judge_reading
from .confine import Limits
from .exercise import Exercise, Reading, find
from .feedback import write
from .judge import Finding, Verdict, calls, verdict
from .sandbox import NotStarted, Stopped
from .session import Session
from .sheet import Item, Notebook


@dataclass
class Mark:
    """What one item got.

    Attributes:
        points: None for a free text that a person still has to read.
        words: the reasons, for the student.
        mistake: the name of a known one. flags: for the instructor.
    """

    item: Item
    points: float | None
    words: list[str] = field(default_factory=list)
    mistake: str = ""
    flags: list[str] = field(default_factory=list)
    answer: str = ""


@dataclass
class Graded:
    """One handed-in notebook.

    Attributes:
        error: why it could not be graded at all, in words.
        noticed: what was restored or found elsewhere.
        denied: what its process was really denied.
    """

    student: str
    assignment: str
    marks: list[Mark]
    error: str = ""
    noticed: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)

    @property
    def points(self) -> float:
        return sum(mark.points or 0.0 for mark in self.marks)

    @property
    def reachable(self) -> float:
        return sum(mark.item.points for mark in self.marks if not mark.item.text)


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
    that it lies in, else the name of the file.

    Args:
        assignments: folder of the source notebooks; by default notebooks/assignments here or of this checkout.
        seed: of the hidden inputs; by default drawn anew and written into the table.
        jobs: notebooks at a time.

    Returns:
        {"ok", "csv", "feedback", "seed", "denied", "rows"}; a row has student, assignment, points, of, to_read, flags,
        error, page.

    Raises:
        S4Error: no such folders, or no notebook in them.
    """
    sources = load_sources(assignments)
    files = handed_in(Path(submissions))
    seed = secrets.randbelow(2**31) if seed is None else seed
    limits = limits or Limits()
    with ThreadPoolExecutor(jobs) as pool:
        graded = list(pool.map(lambda one: _told(one, sources, seed, limits), files))
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


def handed_in(folder: Path) -> list[tuple[str, Path]]:
    """(student, file) of all notebooks below a folder.

    Raises:
        S4Error: there are none.
    """
    if not folder.is_dir():
        raise S4Error(f"{folder} is not a folder of handed-in notebooks.")
    files = sorted(f for f in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts and not f.is_symlink())
    if not files:
        raise S4Error(f"There is no notebook (*.ipynb) in {folder}.")
    return [(file.relative_to(folder).parts[0] if file.parent != folder else file.stem, file) for file in files]


def _told(who: tuple[str, Path], sources: dict[str, Notebook], seed: int, limits: Limits) -> Graded:
    found = grade_one(*who, sources, seed, limits)
    later = sum(mark.item.points for mark in found.marks if mark.points is None)
    said = found.error or f"{found.points:g} of {found.reachable:g}" + (f", {later:g} to read" if later else "")
    flags = " · look at it" if any(mark.flags for mark in found.marks) else ""
    print(f"{found.student:<24} {found.assignment or who[1].name:<18} {said}{flags}", file=sys.stderr)
    return found


def grade_one(student: str, file: Path, sources: dict[str, Notebook], seed: int, limits: Limits) -> Graded:
    """Grade one file; what is wrong with it is in the result, nothing is raised."""
    try:
        given = sheet.read(file)
        name = _assignment(given, file, sources)
    except S4Error as error:
        return Graded(student, "", [], error=str(error))
    source = sources[name]
    try:
        parts, texts, noticed = sheet.restored(source, given)
    except (TypeError, ValueError, AttributeError, KeyError, RecursionError):
        blank = [Mark(item, None if item.text else 0.0, ["The notebook is damaged."]) for item in sheet.items(source)]
        return Graded(student, name, blank, error="its cells are damaged and cannot be read")
    session = Session(parts, limits)
    found = Graded(student, name, [], noticed=noticed)
    try:
        for item in sheet.items(source):
            found.marks.append(_text(item, texts) if item.text else _mark(item, session, seed))
        found.denied = session.denied
    except NotStarted as error:  # the grader's fault: no points are taken, it has to be graded again
        return Graded(student, name, [], error=f"{error}; grade it again")
    finally:
        session.close()
    found.noticed += session.noticed
    return found


def _assignment(given: Notebook, file: Path, sources: dict[str, Notebook]) -> str:
    """Which assignment: the one with the most cells in common, else by the file's name."""
    marks = {sheet.role(cell).get("grade_id") for cell in given["cells"]} - {None}
    shared = {n: len(marks & {sheet.role(cell).get("grade_id") for cell in s["cells"]}) for n, s in sources.items()}
    best = max(shared, key=shared.get)
    if shared[best]:
        return best
    for name in sources:
        if name in file.stem or name.split("_", 1)[1] in file.stem:
            return name
    raise S4Error(
        f"{file.name} answers no assignment: none of its cells is marked, and its name is none of {', '.join(sources)}."
    )


def _text(item: Item, texts: dict[str, str]) -> Mark:
    said = texts.get(item.key, "").strip()
    if not said or said == "*Write here.*":
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
