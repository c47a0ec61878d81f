"""Compare answers with the reference, and say in words what differs. The answer itself is never said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .answer import Answer, answer
from .exercise import Case, Exercise, Mistake

DRAWS = 3  # of the cases
COST = {"damage": 0.5, "gradient": 0.5, "stop": 0.5, "dtype": 0.1, "device": 0.1}  # else: all, at an edge the half


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: "unanswered", "raises", "form", "shape", "dtype", "finite", "value", "damage", "gradient", "stop",
            "device".
        words: a sentence for the student.
        case: the smallest call that shows it.
        mistake: its name, where it is a known one.
    """

    kind: str
    words: str
    case: Case | None = None
    mistake: str = ""


@dataclass
class Verdict:
    """What was found, worst first, and the share of the points in [0, 1]."""

    findings: list[Finding] = field(default_factory=list)
    share: float = 1.0
    calls: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.findings


def calls(exercise: Exercise, seed: int = 0) -> list[Case]:
    """The calls of a test, smallest first: several draws of the cases, and the first one in double precision."""
    drawn = [exercise.cases(torch.Generator().manual_seed(seed * 1009 + draw)) for draw in range(DRAWS)]
    found = [case for at in zip(*drawn) for case in at]
    first = drawn[0][0]
    inputs = {
        n: v.double() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for n, v in first.inputs.items()
    }
    if any(isinstance(v, torch.Tensor) and v.is_floating_point() for v in first.inputs.values()):
        found.append(Case("the inputs are float64", inputs, edge=True))
    return found


def verdict(exercise: Exercise, cases: list[Case], answers: list[Answer]) -> Verdict:
    """Judge the answers to `calls`, one per case; answers must be asked for with the exercise's learns and stops.

    The share of the points falls by the dearest mistake: all for a wrong result, half at an edge, half for damaged
    inputs and wrong gradients, a tenth for a wrong type or device.
    """
    right = [answer(exercise.reference, case, exercise.learns, exercise.stops) for case in cases]
    findings: dict[str, Finding] = {}
    cost = 0.0
    for case, given, wanted in zip(cases, answers, right):
        found = _judge(exercise, case, given, wanted)
        if found:
            cost = max(cost, COST.get(found.kind, 0.5 if case.edge else 1.0))
            findings.setdefault(found.kind, found)
            if found.kind == "unanswered":
                return Verdict([found], 0.0)
    known = _recognise(exercise, cases, answers, right) if findings else None
    if known:
        kind = next(k for k in _ORDER if k in findings)
        findings[kind] = Finding(kind, known.words, findings[kind].case, known.name)
    ordered = [findings[k] for k in _ORDER if k in findings]
    used = sorted({name for given in answers for name in given.calls})
    return Verdict(ordered, 1.0 - cost, used)


_ORDER = ("raises", "form", "shape", "finite", "value", "damage", "gradient", "stop", "dtype", "device")


def _judge(exercise: Exercise, case: Case, given: Answer, wanted: Answer) -> Finding | None:
    """The first thing that is wrong with one answer."""

    def wrong(kind: str, words: str) -> Finding:
        return Finding(kind, words, case)

    if given.unanswered:
        return wrong("unanswered", "Not answered yet.")
    if given.error:
        return wrong("raises", f"It stops with {given.error} when {case.when}.")
    if (
        given.values is None
        or len(given.values) != len(wanted.values)
        or given.form.split()[0] != wanted.form.split()[0]
    ):
        more = " The gradient cannot flow through a number: return the tensor." if given.form == "number" else ""
        return wrong("form", f"It returns {_a(given.form)}; {_a(wanted.form)} is asked for.{more}")
    for i, (mine, theirs) in enumerate(zip(given.values, wanted.values)):
        which = f"Value {i + 1} of {len(wanted.values)}" if len(wanted.values) > 1 else "The result"
        if mine.shape != theirs.shape:
            return wrong("shape", f"{which} has the shape {mine.shape}; {theirs.shape} is asked for when {case.when}.")
        if np.isnan(mine).any() > np.isnan(theirs).any():
            return wrong("finite", f"{which} is not a number (0 / 0?) when {case.when}.")
        if exercise.rule is None and not _close(mine, theirs, exercise.tolerance):
            return wrong("value", f"{which} is wrong when {case.when}: {_how(mine, theirs)}.")
    if exercise.rule is not None:
        said = exercise.rule(case.inputs, given.values[0] if len(given.values) == 1 else given.values)
        if said:
            return wrong("value", f"{said} (when {case.when})")
    if given.damaged:
        return wrong(
            "damage", f"It changes its input {given.damaged[0]!r}: who calls it still needs that. Work on a copy."
        )
    for name in exercise.stops:
        arrived = given.gradients.get(name)
        if arrived is not None and np.abs(arrived).max(initial=0) > 0:
            return wrong(
                "stop",
                f"The gradient flows into {name!r}; the paper stops it there.",
            )
    for name in exercise.learns:
        mine, theirs = given.gradients.get(name), wanted.gradients.get(name)
        if theirs is None:
            continue
        if mine is None:
            return wrong(
                "gradient", f"No gradient reaches {name!r}: something on the way is detached, or not differentiable."
            )
        if not _close(mine, theirs, 10 * exercise.tolerance):
            return wrong("gradient", f"The value is right, but the gradient of {name!r} is not, when {case.when}.")
    for mine, theirs in zip(given.kinds, wanted.kinds):
        if mine != theirs and given.form == "tensor":
            return wrong("dtype", f"The result is {mine}; {theirs} is asked for when {case.when}.")
    if given.foreign:
        return wrong("device", f"On a GPU it would fail: {given.foreign}.")
    return None


def _recognise(exercise: Exercise, cases: list[Case], answers: list[Answer], right: list[Answer]) -> Mistake | None:
    """The known mistake that gives the student's results in every call in which it can be told from the right ones."""
    for mistake in exercise.mistakes:
        wrong = [answer(mistake.answer, case, exercise.learns, exercise.stops) for case in cases]
        told = [i for i in range(len(cases)) if not _same(wrong[i], right[i], exercise.tolerance)]
        if told and all(_same(answers[i], wrong[i], exercise.tolerance) for i in told):
            return mistake
    return None


def _same(a: Answer, b: Answer, tolerance: float) -> bool:
    if a.values is None or b.values is None:
        return a.values is b.values and bool(a.error) == bool(b.error)
    if len(a.values) != len(b.values) or any(x.shape != y.shape for x, y in zip(a.values, b.values)):
        return False
    grads = [(a.gradients.get(n), b.gradients.get(n)) for n in a.gradients.keys() | b.gradients.keys()]
    pairs = [*zip(a.values, b.values), *((x, y) for x, y in grads if x is not None and y is not None)]
    return all((x is None) == (y is None) for x, y in grads) and all(_close(x, y, 10 * tolerance) for x, y in pairs)


def _close(mine: np.ndarray, theirs: np.ndarray, tolerance: float) -> bool:
    if mine.dtype == bool or theirs.dtype == bool:
        return bool((mine.astype(bool) == theirs.astype(bool)).all())
    scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=0) if theirs.dtype.kind == "f" else 1.0
    return bool(np.allclose(mine, theirs, rtol=tolerance, atol=tolerance * max(scale, 1e-3), equal_nan=True))


def _how(mine: np.ndarray, theirs: np.ndarray) -> str:
    """How a result differs, without the right one."""
    if mine.size == 1:
        return f"yours is {_number(mine)}, that is too {'large' if mine.item() > theirs.item() else 'small'}"
    off = ~np.isclose(mine.astype(float), theirs.astype(float), rtol=1e-4, atol=1e-6, equal_nan=True)
    where = ", ".join(str(int(i)) for i in np.argwhere(off)[0])
    return (
        f"{int(off.sum())} of {off.size} entries differ, the first at [{where}], where yours is {_number(mine[off][0])}"
    )


def _number(value: Any) -> str:
    return f"{float(np.asarray(value).reshape(-1)[0]):.4g}"


def _a(form: str) -> str:
    return (
        "nothing (is the `return` missing?)" if form == "NoneType" else f"{'an' if form[0] in 'aeiou' else 'a'} {form}"
    )
