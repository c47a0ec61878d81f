"""Part (b): what the planner says of a step against what the device takes for it."""

from __future__ import annotations

import math
import statistics
from typing import Any

from ..text import size
from .checks import FAILED, OK, ONLY_CUDA, SKIPPED, Bench, Say, Time
from .grid import grid

MORE, LESS = 1.06, 0.7  # measured bytes per predicted byte: more breaks the promise that a batch fits
CPU_MORE = 3.0  # a CPU's convolutions take workspaces that no plan for a GPU knows


def planning(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """Memory and time of each case of the grid, as ratios measured : planned."""
    found = grid(bench, left)
    for step in found.steps:
        ratio = step.memory / step.predicted
        holds = LESS <= ratio <= (MORE if bench.cuda else CPU_MORE)
        words = f"{size(step.memory)} of {size(step.predicted)} planned (x {ratio:.2f}), {step.precision}"
        say(f"memory: {step.name}", OK if holds else FAILED, words, SEND)
    for name, why in found.skipped.items():
        say(name, SKIPPED, why)
    figures = {"memory": spread([s.memory / s.predicted for s in found.steps])}
    timed = [s for s in found.steps if s.expected]
    if not timed:
        why = "the planner knows no times for this card" if bench.cuda else ONLY_CUDA
        say("time", SKIPPED, why)
        return found.to_dict() | figures
    figures["time"] = spread([step.seconds / step.expected for step in timed])
    say("time", OK, f"measured : planned {words_of(figures['time'])} over {len(timed)} steps")
    return found.to_dict() | figures


SEND = "the same command with `--only planning` after the other programs on this GPU have ended"


def spread(ratios: list[float]) -> dict[str, float]:
    """Geometric mean, lowest and highest; {} of nothing."""
    if not ratios:
        return {}
    return {
        "mean": math.exp(statistics.fmean(math.log(ratio) for ratio in ratios)),
        "low": min(ratios),
        "high": max(ratios),
    }


def words_of(found: dict[str, float]) -> str:
    """What `spread` found, for people; it has to have found something."""
    return f"x {found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
