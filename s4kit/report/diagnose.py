"""`s4kit diagnose`: a run's health from its own files, each finding with its figures and what to do.

Health is judged on the supervised term: losses on pseudo-labels start at zero and rise as pixels pass the threshold,
which is as it should be.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..engine import Run, open_run
from ..engine.records import read
from .finding import OK, PROBLEM, UNKNOWN, WARNING, Finding
from .found_images import images, notices
from .norms import norms
from .text import percent


def diagnose(path: str | Path) -> dict[str, Any]:
    """Look at a run.

    Returns:
        {"run", "method", "healthy": no problem, "findings": [{check, level, figures, advice}]}.

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
        teacher,
        norms,
        last_and_best,
        still_rising,
        dead,
    )
    findings = [found for check in checks for found in [check(run)] if found]
    return {
        "run": str(run.path),
        "method": run.config["method"],
        "healthy": all(f.level != PROBLEM for f in findings),
        "findings": [asdict(f) for f in findings],
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
                return Finding("finite losses", PROBLEM, f"{name} is {value} at step {row['step']}", mend)
    return Finding("finite losses", OK, "every recorded term is finite")


def supervised(run: Run) -> Finding | None:
    """Does the supervised term fall?"""
    rows = run.metrics()
    names = [key for key in (rows[0] if rows else {}) if key == "x" or (key.startswith("x") and key[1:].isdigit())]
    values = [sum(row[n] for n in names) / len(names) for row in rows if all(row.get(n) is not None for n in names)]
    values = [value for value in values if math.isfinite(value)]
    if not names or len(values) < 10:
        return Finding("supervised loss", UNKNOWN, "fewer than 10 steps recorded")
    part = max(3, len(values) // 10)
    first, last = _mean(values[:part]), _mean(values[-part:])
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
        return Finding("supervised loss", WARNING, figures, "It falls slowly: more steps, or a higher --lr.")
    return Finding("supervised loss", OK, figures)


def kept(run: Run) -> Finding | None:
    """Is a sensible share of the pseudo-labels trained on?"""
    rows = run.metrics()
    names = [key for key in (rows[-1] if rows else {}) if key.startswith("kept_")]
    if not names:
        return None
    values = [_mean([row[n] for n in names if row.get(n) is not None]) for row in rows if row.get(names[0]) is not None]
    last = _mean(values[-max(3, len(values) // 5) :])
    tau = _tau(run)
    right = _last_pseudo(run).get("precision")
    figures = f"{percent(last)} % of the unlabelled pixels are trained on at the end"
    figures += f", {percent(right)} % of them right" if right is not None else ""
    if last < 0.02:
        mend = f"Next to nothing is learnt from unlabelled images: train longer{_try(tau, -0.15)}."
        return Finding("kept share", PROBLEM, figures, mend)
    if last > 0.98 and tau != 0 and (right is None or right < 0.9):
        mend = f"The rule rejects nothing, wrong pixels included: more labelled images{_try(tau, 0.02)}."
        return Finding("kept share", WARNING, figures, mend)
    return Finding("kept share", OK, figures)


def starved(run: Run) -> Finding | None:
    """Does every class get pseudo-labels?"""
    row = _last_pseudo(run) if _trains_on_them(run) else {}
    classes = [key[len("coverage_") :] for key in row if key.startswith("coverage_") and row[key] is not None]
    if not classes or not row.get("coverage"):
        return None
    limit = 0.1 * row["coverage"]
    poor = {c: (row[f"coverage_{c}"], row.get(f"share_{c}") or 0.0) for c in classes if row[f"coverage_{c}"] < limit}
    none = [c for c in classes if not row.get(f"share_{c}")]
    if not poor and not none:
        least = min(classes, key=lambda c: row[f"coverage_{c}"])
        figures = f"the least is {least}: {percent(row[f'coverage_{least}'])} % of its pixels are kept"
        return Finding("classes with pseudo-labels", OK, figures)
    words = [
        f"{c} ({percent(a)} % of its pixels kept, {percent(b)} % of the kept labels)" for c, (a, b) in poor.items()
    ]
    words += [f"{c} (no pixel gets this label)" for c in none if c not in poor]
    mend = (
        "These classes are forgotten on unlabelled images: more labelled images of them (--labelled, or --data-option "
        f"cover=3), a class-adaptive rule{_try(_tau(run), -0.15)}."
    )
    level = PROBLEM if none else WARNING
    figures = f"{percent(row['coverage'])} % of all pixels kept; starved: {', '.join(words)}"
    return Finding("classes with pseudo-labels", level, figures, mend)


def precision(run: Run) -> Finding | None:
    """Do the kept pseudo-labels stay right, or does the method confirm its own errors?"""
    rows = run.pseudo() if _trains_on_them(run) else []
    rows = [row for row in rows if row.get("precision") is not None and (row.get("coverage") or 0) > 0.02]
    rows = [row for row in rows if row["name"] == rows[0]["name"]]
    if len(rows) < 3:
        return None
    best, last = max(rows, key=lambda row: row["precision"]), rows[-1]
    figures = (
        f"{percent(last['precision'])} % of the kept labels are right at the end "
        f"(best {percent(best['precision'])} at step {best['step']}, keeping {percent(best['coverage'])} %; "
        f"now {percent(last['coverage'])} %)"
    )
    if last["precision"] < 0.6:
        mend = f"The method teaches itself mistakes: more labelled images{_try(_tau(run), 0.02)}."
        return Finding("precision of pseudo-labels", PROBLEM, figures, mend)
    if last["precision"] < best["precision"] - 0.1:
        mend = f"It fell as more was kept: fewer steps{_try(_tau(run), 0.02)}."
        return Finding("precision of pseudo-labels", WARNING, figures, mend)
    return Finding("precision of pseudo-labels", OK, figures)


def teacher(run: Run) -> Finding | None:
    """Is the EMA teacher at least as good as its student?"""
    last = {row["predictor"]: row["miou"] for row in run.evaluations()}
    if not {"teacher", "student"} <= last.keys():
        return None
    figures = f"teacher {percent(last['teacher'])}, student {percent(last['student'])} mIoU at the end"
    if last["teacher"] >= last["student"] - 0.01:
        return Finding("teacher and student", OK, figures)
    decay = run.config["options"].get("decay")
    memory = f" (decay {decay} remembers about {round(1 / (1 - decay))} steps)" if decay and decay < 1 else ""
    mend = f"The average lags behind{memory}: a lower decay or more steps."
    return Finding("teacher and student", WARNING, figures, mend)


def last_and_best(run: Run) -> Finding | None:
    """How far is the end from the best evaluation?"""
    if not run.last:
        return Finding("last and best", UNKNOWN, "not evaluated yet")
    gap = run.best["miou"] - run.last["miou"]
    figures = (
        f"{percent(run.last['miou'])} mIoU at the end, best {percent(run.best['miou'])} at step {run.best['step']}, "
        f"{100 * gap:.1f} points more"
    )
    if gap > 0.03:
        mend = "It got worse: fewer steps or a lower --lr. Report the last all the same: the best was chosen on val."
        return Finding("last and best", WARNING, figures, mend)
    return Finding("last and best", OK, figures)


def still_rising(run: Run) -> Finding | None:
    """Would more steps help?"""
    rows = run.headline if run.evaluations() else []
    if len(rows) < 5:
        return None
    gain = rows[-1]["miou"] - rows[-1 - len(rows) // 4]["miou"]
    figures = f"{100 * gain:+.1f} points over the last quarter of the evaluations"
    if gain > 0.02:
        return Finding(
            "length", WARNING, figures, "It is still rising: more --steps (semi-supervised methods rise late)."
        )
    return Finding("length", OK, figures)


def dead(run: Run) -> Finding | None:
    """Is any class never recognised?"""
    if not run.last:
        return None
    iou = {key[4:]: value for key, value in run.headline[-1].items() if key.startswith("iou_") and value is not None}
    absent = [name for name, value in iou.items() if value < 0.01]
    if not absent:
        worst = min(iou, key=iou.get)
        return Finding("classes recognised", OK, f"the worst is {worst} with IoU {percent(iou[worst])}")
    mend = "Are they in the labelled images? `s4kit data check` counts; --data-option cover=3 draws a split with each."
    return Finding("classes recognised", WARNING, f"IoU below 1: {', '.join(absent)}", mend)


def _trains_on_them(run: Run) -> bool:
    """Whether the method trains on pseudo-labels; the supervised baselines only show what they would be."""
    rows = run.metrics()
    return any(key.startswith("kept_") for key in (rows[-1] if rows else {}))


def _tau(run: Run) -> float | None:
    """The confidence threshold of the run's method; None where it has none."""
    import inspect

    from ..methods import get

    known = inspect.signature(get(run.config["method"]).__init__).parameters
    default = known["tau"].default if "tau" in known else None
    return run.config["options"].get("tau", default)


def _try(tau: float | None, change: float) -> str:
    """Words that propose another threshold, where there is one."""
    if not isinstance(tau, int | float):
        return ""
    value = min(0.99, max(0.5, tau + change))
    return f", or a {'higher' if change > 0 else 'lower'} threshold (--option tau={value:.2f}, now {tau})"


def _last_pseudo(run: Run) -> dict[str, Any]:
    """The last row of pseudo.csv (of its first name); {} where the method has no rule."""
    rows = run.pseudo()
    return [row for row in rows if row["name"] == rows[0]["name"]][-1] if rows else {}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
