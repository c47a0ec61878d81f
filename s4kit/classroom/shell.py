"""What `s4kit classroom` does: the paths in, a function of the classroom, some lines to read."""

from __future__ import annotations

from typing import Any

from ..errors import S4Error

PATHS = {
    "build": ("OUT",),
    "bundle": ("OUT",),
    "grade": ("SUBMISSIONS", "OUT"),
    "hidden-set": ("OUT",),
    "rank": ("SUBMISSIONS", "SECRET", "OUT"),
}


def run(
    action: str,
    paths: list[str],
    assignments: str | None = None,
    seed: str | None = None,
    images: int = 64,
    jobs: int = 1,
    wheels: bool = True,
) -> dict[str, Any]:
    """One action; prints what people read and returns what `--json` prints.

    Raises:
        S4Error: not the paths that the action needs.
    """
    if len(paths) != len(PATHS[action]):
        raise S4Error(f"s4kit classroom {action} takes {' '.join(PATHS[action])}, not {' '.join(paths)}.")
    does = {"build": _build, "bundle": _bundle, "grade": _grade, "hidden-set": _hidden, "rank": _rank}[action]
    return does(*paths, assignments=assignments, seed=seed, images=images, jobs=jobs, wheels=wheels)


def _build(out: str, *, assignments: str | None, **_: Any) -> dict[str, Any]:
    from .build import build

    found = build(out, assignments)
    for one in found["assignments"]:
        print(f"{one['name']:<18} {one['exercises']:>2} exercises, {one['points']:g} points")
    print(f"student/ to hand out, solution/ and instructor.html for you, nbgrader/source/ for nbgrader: {found['out']}")
    return found


def _bundle(out: str, *, assignments: str | None, wheels: bool, **_: Any) -> dict[str, Any]:
    from .bundle import bundle

    found = bundle(out, assignments, wheels)
    data = f", {' and '.join(found['data'])}" if found["data"] else ""
    print(f"{found['wheels']} wheels, {found['notebooks']} lessons, {found['assignments']} assignments{data}")
    print(f"{found['bytes'] / 1e6:.0f} MB in {found['out']}; its README.md says how to install and start.")
    return found


def _grade(
    submissions: str, out: str, *, assignments: str | None, seed: str | None, jobs: int, **_: Any
) -> dict[str, Any]:
    from .grade import grade

    if seed is not None and not seed.isdigit():
        raise S4Error(f"--seed {seed!r}: give a whole number.")
    found = grade(submissions, out, assignments, None if seed is None else int(seed), jobs)
    denied = ", ".join(found["denied"]) or "nothing (this system cannot)"
    print(f"Students' code was denied: {denied}.\n{found['csv']}, a page for each in {found['feedback']}")
    return found


def _hidden(out: str, *, seed: str | None, images: int, **_: Any) -> dict[str, Any]:
    from .project import hidden_set

    found = hidden_set(out, images, seed)
    print(f"{found['count']} images to hand out: {found['images']}\nkeep to yourself: {found['secret']}")
    return found


def _rank(submissions: str, secret: str, out: str, **_: Any) -> dict[str, Any]:
    from .project import rank

    found = rank(submissions, secret, out)
    for row in found["rows"]:
        wrong = f"  ({len(row['problems'])} missing or wrong)" if row["problems"] else ""
        print(f"{row['rank']:>3}  {row['student']:<24} {100 * row['score']:5.1f}{wrong}")
    print(f"{found['csv']}, to project: {found['page']}")
    return found
