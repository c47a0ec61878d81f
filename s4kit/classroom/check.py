"""`check`: is my answer right? At once, in words, with the smallest input that shows the mistake."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import Any

import torch

from ..errors import S4Error
from .answer import abroad, answer
from .exercise import Case, Reading, find
from .judge import Finding, Verdict, calls, verdict


@dataclass(repr=False)
class Report:
    """What `check` found.

    Attributes:
        key: of the exercise.
        findings: what is wrong, worst first; empty = all right.
        share: of the points, in [0, 1].
        tried: how many calls were compared.
    """

    key: str
    findings: list[Finding]
    share: float
    tried: int
    calls: list[str] = field(default_factory=list)
    picture: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was found to be wrong."""
        return not self.findings

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        if self.passed:
            return f"{self.key}: right ({self.tried} {'call' if self.tried == 1 else 'calls'} compared).{self._kit()}"
        lines = [f"{self.key}: not yet."] + [f"  - {found.words}" for found in self.findings]
        return "\n".join(lines) + self._kit()

    def _kit(self) -> str:
        return f" It calls the kit's own {', '.join(self.calls[:3])}; write it yourself." if self.calls else ""

    def _repr_html_(self) -> str:
        colour, word = ("#1b7f4d", "right") if self.passed else ("#b3402a", "not yet")
        rows = "".join(f"<li style='margin:.3em 0'>{escape(found.words)}</li>" for found in self.findings)
        body = f"<ul style='margin:.4em 0 .2em 1.2em;padding:0'>{rows}</ul>" if rows else ""
        drawn = next((found.case for found in self.findings if found.case and self.picture), None)
        image = _picture(drawn, self.picture) if drawn else ""
        return (
            f"<div style='border-left:5px solid {colour};padding:.3em .9em;margin:.3em 0'>"
            f"<b style='color:{colour}'>{escape(self.key)}: {word}</b> "
            f"<span style='opacity:.65'>({self.tried} calls compared){escape(self._kit())}</span>{body}{image}</div>"
        )


def check(given: Callable[..., Any] | float | str, key: str, run: Any = None, *, seed: int = 0) -> Report:
    """Compare an answer with the kit's.

    Args:
        given: your function, or the number that you have read.
        key: of the exercise, such as "cutmix.loss".
        run: the `Run` in which the number was read (only for readings).
        seed: of the inputs.

    Returns:
        A report that a notebook shows; false as long as something is wrong.

    Raises:
        S4Error: no such exercise, or not the kind of answer that it asks for.
    """
    exercise = find(key)
    if isinstance(exercise, Reading):
        return _check_reading(given, exercise, run)
    if not callable(given):
        raise S4Error(
            f"{key} asks for the function {exercise.prototype}; give its name without brackets and arguments."
        )
    cases = calls(exercise, seed)
    before = torch.random.get_rng_state()
    answers = [answer(given, case, exercise.learns, exercise.stops) for case in cases]
    answers[0].foreign = abroad(given, cases[0]) if not abroad(exercise.reference, cases[0]) else ""
    found: Verdict = verdict(exercise, cases, answers)
    torch.random.set_rng_state(before)
    return Report(key, found.findings, found.share, len(cases), found.calls, exercise.picture)


def _check_reading(given: Any, exercise: Reading, run: Any) -> Report:
    if run is None:
        raise S4Error(f"{exercise.key} is read from a run: check(number, {exercise.key!r}, run).")
    if given is None or given is ...:
        return Report(exercise.key, [Finding("unanswered", "Not answered yet.")], 0.0, 1)
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise S4Error(f"{exercise.key} asks for a number, not {given!r}.") from None
    found = judge_reading(number, exercise, run)
    return Report(exercise.key, found.findings, found.share, 1)


_SHARE = "That is a share of one; it is asked for in percent, such as 42."


def judge_reading(number: float, exercise: Reading, run: Any) -> Verdict:
    """Whether a number is what can be read in a run."""
    if abs(number - exercise.reads(run)) <= exercise.tolerance:
        return Verdict()
    if exercise.unit == "%" and 0 < number <= 1 and abs(100 * number - exercise.reads(run)) <= exercise.tolerance:
        return Verdict([Finding("value", _SHARE, mistake="a share for percent")], 0.0)
    for other, words in exercise.mistakes:
        if abs(number - other(run)) <= exercise.tolerance:
            return Verdict([Finding("value", words, mistake=words)], 0.0)
    side = "large" if number > exercise.reads(run) else "small"
    return Verdict(
        [Finding("value", f"{number:g} {exercise.unit}".strip() + f" is too {side}. Read it once more.")], 0.0
    )


def _picture(case: Case, names: tuple[str, ...]) -> str:
    """The inputs of a failing call as small maps: classes in colour, shares from dark to light, void striped."""
    import matplotlib
    from matplotlib.figure import Figure

    drawn = [(name, case.inputs[name]) for name in names if isinstance(case.inputs.get(name), torch.Tensor)]
    maps = [(name, t.reshape(-1, *t.shape[-2:])[0]) for name, t in drawn if t.dim() >= 2 and t.numel()]
    if not maps:
        return ""
    figure = Figure(figsize=(1.7 * len(maps), 1.9), layout="constrained")
    for i, (name, values) in enumerate(maps):
        axis = figure.add_subplot(1, len(maps), i + 1)
        void = values == 255
        if values.is_floating_point():
            axis.imshow(
                values.detach().float().numpy(),
                cmap="cividis",
                vmin=min(0.0, float(values.min())),
                vmax=max(1.0, float(values.max())),
            )
        else:
            shown = values.float().masked_fill(void, float("nan"))
            axis.imshow(shown.numpy(), cmap=matplotlib.colormaps["tab10"], vmin=0, vmax=9)
        for y, x in void.nonzero().tolist():
            axis.text(x, y, "void", ha="center", va="center", fontsize=5, color="#555")
        axis.set_title(name, fontsize=8)
        axis.set_xticks([]), axis.set_yticks([])
    store = io.BytesIO()
    figure.savefig(store, format="png", dpi=110)
    data = base64.b64encode(store.getvalue()).decode()
    words = escape(f"The smallest input that shows it: {case.when}.")
    return (
        f"<div style='opacity:.75;font-size:.9em'>{words}</div><img alt='{words}' src='data:image/png;base64,{data}'>"
    )
