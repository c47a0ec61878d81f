"""What a check of `s4kit diagnose` found, and what all of them ask for together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

OK, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "unknown"
UP, DOWN = 1, -1
STEPS, THRESHOLD = "steps", "threshold"  # what one finding may want more of, and another less
LEAST, MOST = 0.5, 0.99  # a threshold that is proposed
CHANGE = {UP: 0.02, DOWN: -0.15}  # most confidences lie close to 1


@dataclass
class Finding:
    """One check: its level, the figures it rests on, and what to do ("" where all is well).

    Attributes:
        options: mends, any of which may do; they follow the advice, which then ends without a stop.
        classes: names of those that it is about. step: of the training where it shows; None: at the end, or everywhere.
        turns: {STEPS or THRESHOLD: UP or DOWN}: what the finding wants turned, joined to the options by `agreed`.
    """

    check: str
    level: str
    figures: str
    advice: str = ""
    options: Sequence[str] = ()
    turns: Mapping[str, int] = field(default_factory=dict)
    classes: Sequence[str] = ()
    step: int | None = None


def agreed(findings: Sequence[Finding], tau: float | None = None) -> list[Finding]:
    """The findings with their advice as one text each; what two of them want turned both ways is turned neither way.

    Args:
        tau: the confidence threshold of the run; None where it has none.
    """
    wants = {(knob, way): found.check for found in reversed(findings) for knob, way in found.turns.items()}
    return [_in_words(found, wants, tau) for found in findings]


def _in_words(found: Finding, wants: Mapping[tuple[str, int], str], tau: float | None) -> Finding:
    options, against = list(found.options), []
    for knob, way in found.turns.items():
        words = _steps(way) if knob == STEPS else _threshold(way, tau)
        if words and (knob, -way) in wants:
            against.append(_against(knob, way, wants[knob, -way]))
        elif words:
            options.append(words)
    *first, last = options or [""]
    mend = f"{', '.join(first)}, or {last}" if first else last
    advice = f"{found.advice}: {mend}." if mend else found.advice
    if advice and not advice.endswith("."):
        advice += "."
    return replace(found, advice=" ".join([advice, *against]), options=(), turns={})


def _steps(way: int) -> str:
    return "more --steps" if way == UP else "fewer --steps"


def _threshold(way: int, tau: float | None) -> str:
    """Words for another threshold; "" where there is none, or no room."""
    if not isinstance(tau, int | float):
        return ""
    value = round(min(MOST, max(LEAST, tau + CHANGE[way])), 2)
    if way * (value - tau) <= 0:
        return ""
    return f"a {'higher' if way == UP else 'lower'} threshold (--option tau={value:.2f}, now {tau})"


def _against(knob: str, way: int, other: str) -> str:
    """Why the knob is left alone, though a finding would have it turned this way."""
    if knob == STEPS:
        return f"Leave --steps as they are: {other!r} asks for {'fewer' if way == UP else 'more'}."
    return f"Leave the threshold: {other!r} asks for a {'lower' if way == UP else 'higher'} one; no number serves both."
