"""A run held against both supervised baselines and `all labels`: in a picture and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from ..engine.scores import one_score
from ..explore import plots
from ..report.comparing import figures
from ..report.setup import ALL_LABELS, BASELINES
from .claim import claim

Runs = Mapping[str, Any]
Seeds = Mapping[str, Sequence[Any]]


def curves(runs: Runs, references: Runs, recorded: Seeds, kept: bool = True) -> plots.Picture:
    """The validation score over the training, and the share of pixels trained on.

    Args:
        runs: by name. references: the baselines and `all labels`, drawn in grey; only their lines, no share.
        recorded: of the same names, several seeds each: dotted, with their spread.
    """
    found = {**references, **runs, **{f"{name}, recorded": of for name, of in recorded.items() if name in runs}}
    return plots.curves(found, kept=kept and any(name not in references for name in runs))


def verdict(name: str, run: Any, references: Runs, recorded: Seeds) -> None:
    """Say where a run ends, in points from the baselines and as a share of the gap to `all labels`; and what several
    recorded seeds say, where there are some. Every word follows from the numbers."""
    shown = {**references, name: run}
    score = one_score({of: run.score for of, run in shown.items()})
    ends = {of: run.last[run.column] for of, run in shown.items()}
    words = [f"{name} ends at {100 * ends[name]:.1f} % {score}: {_over(ends, name)}."]
    room = figures.head_room([{"method": of, "last": end} for of, end in ends.items()])
    if room and room["enough"]:
        share = figures.gap_closed({"method": name, "last": ends[name]}, room)
        words.append(f"All labels would give {100 * ends[ALL_LABELS]:.1f} %: {_gap(share)}.")
    words += figures.no_room(room)
    seeds = {of: [run.last[run.column] for run in runs] for of, runs in recorded.items()}
    if len(seeds.get(name, ())) > 1 and all(of in seeds for of in BASELINES if of in ends):
        means = {of: mean(values) for of, values in seeds.items()}
        words.append(
            f"Recorded with {len(seeds[name])} seeds: {100 * means[name]:.1f} ± {100 * stdev(seeds[name]):.1f} %, "
            f"{_over(means, name)}."
        )
    claim("{}", " ".join(words))


def _over(ends: Mapping[str, float], name: str) -> str:
    others = [of for of in BASELINES if of != name and of in ends]
    parts = [f"{100 * (ends[name] - ends[of]):+.1f} points from {of}" for of in others]
    below = [of for of in others if ends[name] < ends[of]]
    return " and ".join(parts) + (f"; the unlabelled images have not helped it past {below[-1]}" if below else "")


def _gap(share: float | None) -> str:
    if share is None or share <= 0:
        return "nothing of the gap is closed"
    return f"{100 * share:.0f} % of the gap from supervised to there is closed"
