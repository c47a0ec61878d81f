"""`s4kit diagnose`: a run's health from its own files, each finding with its figures and what to do.

Health is judged on the supervised term: losses on pseudo-labels start at zero and rise as pixels pass the threshold,
which is as it should be.
"""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

from ...engine import Run, open_run
from ...engine.records import read
from ...engine.scores import each
from ..text import percent
from .finding import DOWN, OK, PROBLEM, STEPS, UNKNOWN, UP, WARNING, Finding, agreed
from .images import images, notices
from .labels import COVER, covered, drawn, kept, mean, mistaken, more_labels, precision, starved, threshold
from .norms import norms

SAID = ("check", "level", "figures", "advice", "step")


def diagnose(path: str | Path) -> dict[str, Any]:
    """Look at a run.

    Returns:
        {"run", "method", "healthy": no problem, "findings": [{check, level, figures, advice, classes, step}]}.

    Raises:
        S4Error: the folder holds no run.
    """
    run = open_run(path)
    checks = (
        complete,
        images,
        notices,
        finite,
        supervised,
        kept,
        starved,
        precision,
        mistaken,
        teacher,
        norms,
        last_and_best,
        still_rising,
        dead,
    )
    findings = agreed([found for check in checks for found in [check(run)] if found], threshold(run))
    return {
        "run": str(run.path),
        "method": run.config["method"],
        "healthy": all(f.level != PROBLEM for f in findings),
        "findings": [{key: getattr(f, key) for key in SAID} | {"classes": list(f.classes)} for f in findings],
    }


def show(result: dict[str, Any]) -> str:
    """The findings for the terminal, worst first."""
    order = {PROBLEM: 0, WARNING: 1, UNKNOWN: 2, OK: 3}
    marks = {OK: "ok     ", WARNING: "warning", PROBLEM: "PROBLEM", UNKNOWN: "?      "}
    lines = [f"{result['method']} in {result['run']}", ""]
    for found in sorted(result["findings"], key=lambda f: order[f["level"]]):
        lines += _wrapped(f"{marks[found['level']]}  {found['check']}: {found['figures']}", 9)
        lines += _wrapped(f"         → {found['advice']}", 11) if found["advice"] else []
    return "\n".join(lines)


def _wrapped(line: str, indent: int) -> list[str]:
    return textwrap.wrap(line, 110, subsequent_indent=" " * indent)


# ---- the checks: a run in, a finding out, None where a check does not apply ----


def complete(run: Run) -> Finding | None:
    """Did it reach its last step?"""
    rows, steps = run.metrics(), run.config["fit"]["steps"]
    done = rows[-1]["step"] + 1 if rows else 0
    if done >= steps:
        return Finding("complete", OK, f"{done} of {steps} steps")
    mend = f"Continue: s4kit train --resume {run.path}"
    if finite(run).level == PROBLEM:  # the same steps would end the same way
        mend = "--resume alone would meet the same value: train anew in another --out, with the mend of finite losses."
    return Finding("complete", WARNING, f"{done} of {steps} steps", mend)


def finite(run: Run) -> Finding:
    """Are all recorded values finite? (The engine stops at the first that is not, and names it.)"""
    for row in read(run.path / "metrics.csv"):
        for name, value in row.items():
            if value and name not in ("step", "stage") and not math.isfinite(float(value)):
                mend = "Lower --lr, clip the gradients (--clip 1), or train with --precision float32."
                figures = f"{name} is {value} at step {row['step']}"
                return Finding("finite losses", PROBLEM, figures, mend, step=int(row["step"]))
    return Finding("finite losses", OK, "every recorded term is finite")


def supervised(run: Run) -> Finding | None:
    """Does the supervised term fall?"""
    rows = run.metrics()
    terms = list(rows[0]) if rows else []
    names = [key for key in terms if key == "x" or (key.startswith("x") and key[1:].isdigit())]
    names = names or [key for key in terms if key.startswith("x_")]  # networks that have names, not numbers
    told = [[row[n] for n in names] for row in rows if names and all(row.get(n) is not None for n in names)]
    values = [value for value in map(mean, told) if math.isfinite(value)]
    if len(values) < 10:
        return Finding("supervised loss", UNKNOWN, "fewer than 10 steps recorded")
    part = max(3, len(values) // 10)
    first, last = mean(values[:part]), mean(values[-part:])
    figures = f"{first:.3f} over the first {part} steps, {last:.3f} over the last {part}"
    if first <= 0:
        mend = "No pixel is learnt from: the labelled maps are void (s4kit data check)."
        return Finding("supervised loss", PROBLEM, figures, mend)
    if last > 0.95 * first:
        mend = (
            "The network does not learn its own labels: check the label maps (s4kit data check), lower --lr tenfold if "
            "it rises, raise it if it is flat, and see that the weights are pretrained."
        )
        return Finding("supervised loss", PROBLEM, figures, mend)
    if last > 0.7 * first:
        return Finding("supervised loss", WARNING, figures, "It falls slowly", ["a higher --lr"], {STEPS: UP})
    return Finding("supervised loss", OK, figures)


def teacher(run: Run) -> Finding | None:
    """Is the EMA teacher at least as good as its student?"""
    last = {row["predictor"]: row[run.column] for row in run.evaluations()}
    if not {"teacher", "student"} <= last.keys():
        return None
    figures = f"teacher {percent(last['teacher'])}, student {percent(last['student'])} {run.score} at the end"
    if last["teacher"] >= last["student"] - 0.01:
        return Finding("teacher and student", OK, figures)
    decay = run.config["options"].get("decay")
    memory = f" (decay {decay} remembers about {round(1 / (1 - decay))} steps)" if decay and decay < 1 else ""
    mend = f"The average lags behind{memory}"
    return Finding("teacher and student", WARNING, figures, mend, ["a lower decay (--option decay=...)"], {STEPS: UP})


def last_and_best(run: Run) -> Finding | None:
    """How far is the end from the best evaluation?"""
    if not run.last:
        return Finding("last and best", UNKNOWN, "not evaluated yet")
    last, best, of = run.last[run.column], run.best[run.column], run.best["step"]
    gap = best - last
    figures = f"{percent(last)} {run.score} at the end, best {percent(best)} at step {of}, {100 * gap:.1f} points more"
    if gap > 0.03:
        mend = "It got worse; report the last all the same, for the best was chosen on val. Against it"
        turns = {STEPS: DOWN}
        return Finding("last and best", WARNING, figures, mend, ["a lower --lr"], turns, step=of)
    return Finding("last and best", OK, figures)


def still_rising(run: Run) -> Finding | None:
    """Would more steps help?"""
    scores = [score for _, score in run.course]
    if len(scores) < 5:
        return None
    gain = scores[-1] - scores[-1 - len(scores) // 4]
    figures = f"{100 * gain:+.1f} points over the last quarter of the evaluations"
    if gain > 0.02:
        mend = "It is still rising (semi-supervised methods rise late)"
        return Finding("length", WARNING, figures, mend, turns={STEPS: UP})
    return Finding("length", OK, figures)


def dead(run: Run) -> Finding | None:
    """Is any class never recognised?"""
    found, score = run.by_class(), each(run.score)
    if not found:
        return None  # not evaluated yet, or by a score that says nothing of classes
    absent = [name for name, value in found.items() if value < 0.01]
    if not absent:
        worst = min(found, key=found.get)
        return Finding("classes recognised", OK, f"the worst is {worst} with {score} {percent(found[worst])}")
    figures = f"{score} below 1: {', '.join(absent)}"
    if has := covered(run):
        mend = f"They are in {has} labelled images or more, so it is not the draw"
        return Finding("classes recognised", WARNING, figures, mend, more_labels(run), {STEPS: UP}, absent)
    mend = "Are they in the labelled images? `s4kit data check` counts"
    mend += f"; --data-option cover={COVER} draws a split with each." if drawn(run) and more_labels(run) else "."
    return Finding("classes recognised", WARNING, figures, mend, classes=absent)
