"""Schedules: functions of the clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...errors import S4Error, closest


def poly(power: float = 0.9, after: bool = False, warmup: int = 0, end: float = 0.0) -> Callable[[Any], float]:
    """Polynomial decay (1 - t / T) ** power, with an optional linear warm-up over the first `warmup` steps.

    Args:
        end: share of the rate that the decay ends at: end + (1 - end) (1 - t / T) ** power.
        after: the rate is written after the optimiser step, as in UniMatch: step t runs at the rate of t - 1,
            so that steps 0 and 1 are both at the full rate. Otherwise before it (CPS, U2PL).
    """

    def factor(clock: Any) -> float:
        step = max(0, clock.step - 1) if after else clock.step
        if step < warmup:
            return (step + 1) / warmup
        return end + (1 - end) * max(0.0, 1 - step / clock.steps) ** power

    return factor


def constant(clock: Any) -> float:
    """No decay (CutMix-Seg)."""
    return 1.0


def quarter_cosine(clock: Any) -> float:
    """cos(pi t / 2T): from 1 to 0, ever faster (Grubisic et al., 2021)."""
    return math.cos(math.pi / 2 * clock.progress)


def tenths(clock: Any) -> float:
    """1, a tenth from half of the steps on, a hundredth in the last quarter (shape3d)."""
    return 0.1 ** ((clock.progress >= 0.5) + (clock.progress >= 0.75))


def schedule(name: str, warmup: int = 0) -> Callable[[Any], float]:
    """A learning-rate schedule by its name: "poly", "poly_after", "poly_to_hundredth" (mmsegmentation, whose rate of
    0.01 ends at 1e-4), "linear" (poly of the power 1, SegFormer), "quarter_cosine", "tenths" or "constant".

    Raises:
        S4Error: there is none of that name.
    """
    known = {
        "poly": poly(warmup=warmup),
        "poly_after": poly(after=True, warmup=warmup),
        "poly_to_hundredth": poly(end=0.01, warmup=warmup),
        "linear": poly(1.0, warmup=warmup),
        "quarter_cosine": quarter_cosine,
        "tenths": tenths,
        "constant": constant,
    }
    if name not in known:
        raise S4Error(f"There is no schedule {name!r}. {closest(name, list(known))}")
    return known[name]


def sigmoid_ramp(progress: float, length: float) -> float:
    """exp(-5 (1 - min(t / length, 1))^2): 0.0067 at t = 0, 1 from t = length on (Laine and Aila, 2017)."""
    if length <= 0:
        return 1.0
    return math.exp(-5 * (1 - min(progress / length, 1.0)) ** 2)


def rampdown(progress: float, length: float = 1.0) -> float:
    """exp(-5 (t / length)^2): 1 at t = 0, 0.0067 just before t = length, 0 from there on (PRCL, CSS)."""
    return math.exp(-5 * (progress / length) ** 2) if progress < length else 0.0


def cosine_ramp(progress: float, length: float) -> float:
    """(1 - cos(pi min(t / length, 1))) / 2: 0 at t = 0, 1 from t = length on (PS-MT)."""
    return (1 - math.cos(math.pi * min(progress / length, 1.0))) / 2 if length > 0 else 1.0


def log_ramp(progress: float, length: float) -> float:
    """1 - exp(-5 min(t / length, 1)): 0 at t = 0, fast at first, 0.993 from t = length on (CCT)."""
    return 1 - math.exp(-5 * min(progress / length, 1.0))


def linear(first: float, last: float, progress: float) -> float:
    """From `first` at progress 0 to `last` at progress 1."""
    return last + (first - last) * (1 - progress)


def triangle(progress: float) -> float:
    """From 0 up to 1 at half of the way and down to 0 again."""
    return 1 - abs(2 * progress - 1)
