"""Curves over several runs: one colour per method, everywhere the same; readable without colour vision."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .setup import REFERENCES

# Okabe and Ito (2008), without black and yellow (unreadable on one of the two grounds); what is held against is grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("o", "s", "^", "D", "v", "P")
FIXED = {"unimatch": 0, "fixmatch": 1, "cutmix": 2, "cps": 3, "u2pl": 4, "mean_teacher": 5}
GREYS = REFERENCES
MANY = 2 * len(COLOURS)  # methods that looks can tell apart; more get a panel each
DARK, LIGHT = "#16181d", "#ffffff"
Rounds = Mapping[str, Sequence[Mapping[str, Any]]]


def ink(dark: bool) -> str:
    """The colour of text on the ground."""
    return "#e8e8ea" if dark else "#1c1c22"


def style(name: str, among: Sequence[str], dark: bool = False) -> dict[str, Any]:
    """Line style of a method; those outside the fixed list take free colours, then repeat them dashed.

    What follows a comma names a variant, "cutmix, recorded": the method's colour, dotted.
    """
    of, comma, _ = name.partition(", ")
    if comma and (of in FIXED or of in among):
        return style(of, [n for n in among if n != name], dark) | {"linestyle": (0, (1, 1.2)), "marker": ""}
    if name in GREYS:
        plain = {"color": "#8f929b", "linestyle": (0, (2, 1.4))}
        strong = {"color": "#c9cbd2" if dark else "#4a4d57", "linestyle": (0, (6, 2))}
        everything = {"color": ink(dark), "linestyle": (0, (1, 1))}
        return dict(zip(GREYS, (plain, strong, everything)))[name] | {"marker": "."}
    others = sorted(n for n in among if n not in FIXED and n not in GREYS)
    taken = {FIXED[n] for n in among if n in FIXED}
    free = [i for i in range(len(COLOURS)) if i not in taken] + list(range(len(COLOURS), 99))
    number = FIXED[name] if name in FIXED else free[others.index(name)]
    line = "-" if number < len(COLOURS) else "-."
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": line, "marker": MARKS[number % len(MARKS)]}


class Picture(Figure):
    """A figure that shows itself in a notebook, with or without pyplot."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png", dpi=self.dpi, facecolor=self.get_facecolor())
        return file.getvalue()


def figure(size: tuple[float, float], dark: bool = False) -> Picture:
    """An empty figure of `size` inches on a light or dark ground; works without a display."""
    return Picture(figsize=size, layout="constrained", facecolor=DARK if dark else LIGHT, dpi=100)


def save(fig: Any, path: Path, dpi: int = 150) -> None:
    """Write a PNG as a whole: another process may be reading the old one."""
    part = path.with_name(f".{path.stem}.part.png")
    fig.savefig(part, dpi=dpi, facecolor=fig.get_facecolor())
    part.replace(path)


def band(runs: Sequence[Sequence[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps that all runs have, mean and standard deviation (n - 1; 0 for one run) of the values there."""
    tables = [dict(run) for run in runs if run]
    steps = sorted(set.intersection(*(set(t) for t in tables))) if tables else []
    values = np.array([[t[s] for s in steps] for t in tables], float).reshape(len(tables), len(steps))
    sd = values.std(0, ddof=1) if len(tables) > 1 else np.zeros(len(steps))
    return np.array(steps), values.mean(0) if len(tables) else values.sum(0), sd


def curves(
    scores: dict[str, list[list[tuple[int, float]]]],
    kept: dict[str, list[tuple[int, float]]],
    dark: bool = False,
    split: str = "",
    rounds: Rounds | None = None,
    score: str = "mIoU",
) -> Picture:
    """A validation score over steps with a band of one standard deviation over seeds; beside it, the kept share.

    More than `MANY` methods have a panel each, without the kept share; see `panels`.

    Args:
        scores: by method, for each seed [(step, score in [0, 1]), ...].
        kept: by method, [(step, share of pseudo-labels that is trained on), ...]; left out where empty.
        split: name of the published split, above the panels.
        rounds: by method, the stages of its training, see `mark_rounds`.
        score: its name; all are of one, see `one_score`.
    """
    if len(set(scores) - set(GREYS)) > MANY:
        return panels(scores, dark, split=split, rounds=rounds, score=score)
    parts = 2 if kept else 1
    fig = figure((7.5 if parts == 1 else 11.5, 4.4), dark)
    axes = fig.subplots(1, parts, squeeze=False, width_ratios=[1.7, 1][:parts])[0]
    ends = []
    for name, runs in scores.items():
        steps, mean, sd = band(runs)
        if not len(steps):
            continue
        look = style(name, list(scores), dark)
        axes[0].plot(steps + 1, 100 * mean, label=name, lw=2.2, ms=4.5, **look)
        axes[0].fill_between(steps + 1, 100 * (mean - sd), 100 * (mean + sd), color=look["color"], alpha=0.16, lw=0)
        ends.append((100 * mean[-1], name))
    several = max((len(runs) for runs in scores.values()), default=1) > 1
    axes[0].set_title(f"validation {score}, %" + (" (band: ± 1 sd over seeds)" if several else ""))
    for name, row in kept.items():
        look = style(name, list(scores), dark)
        axes[-1].plot(*zip(*((s + 1, 100 * v) for s, v in row)), lw=1.8, ms=0, **{**look, "marker": ""})
    if kept:
        axes[1].set(title="unlabelled pixels trained on, %", ylim=(0, 102))
    for axis in axes:
        mark_rounds(axis, rounds or {}, list(scores), dark)
        dress(axis, dark)
        axis.set_xlabel("step")
    order = [name for _, name in sorted(ends, reverse=True)]
    handles = dict(zip(*reversed(axes[0].get_legend_handles_labels()), strict=True))
    axes[0].legend([handles[n] for n in order], order, frameon=False, labelcolor=ink(dark), fontsize=10)
    if split:
        fig.suptitle(split, color=ink(dark), fontsize=11)
    return fig


def panels(
    scores: dict[str, list[list[tuple[int, float]]]],
    dark: bool = False,
    columns: int = 6,
    split: str = "",
    rounds: Rounds | None = None,
    score: str = "mIoU",
) -> Picture:
    """One small panel per method, the best at the end first: its curve over those of all others, which are grey.

    Args:
        scores: see `curves`; the baselines and `all labels` have no panel, they are dashed in every one.
        rounds: see `curves`; their names have no room here.
    """
    bands = {name: found for name, runs in scores.items() if len((found := band(runs))[0])}
    own = sorted((name for name in bands if name not in GREYS), key=lambda name: -bands[name][1][-1])
    rows = -(-len(own) // columns)
    fig = figure((12.5, 0.5 + 1.75 * rows), dark)
    grid = fig.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis, name in zip(grid.flat, own):
        for other in own:
            axis.plot(bands[other][0] + 1, 100 * bands[other][1], color=ink(dark), alpha=0.16, lw=0.7)
        for base in (b for b in GREYS if b in bands):
            axis.plot(bands[base][0] + 1, 100 * bands[base][1], lw=1.3, **{**style(base, GREYS, dark), "marker": ""})
        steps, mean, sd = bands[name]
        line = {"color": "#56B4E9" if dark else COLOURS[0]}
        axis.plot(steps + 1, 100 * mean, lw=2, **line)
        axis.fill_between(steps + 1, 100 * (mean - sd), 100 * (mean + sd), alpha=0.2, lw=0, **line)
        mark_rounds(axis, {name: (rounds or {}).get(name, ())}, list(scores), dark, names=False)
        axis.set_title(f"{name}  {100 * mean[-1]:.1f}", fontsize=9)
        dress(axis, dark)
        axis.tick_params(labelsize=8)
    for axis in list(grid.flat)[len(own) :]:
        axis.set_visible(False)
    dashed = [f"{words}: {b}" for b, words in zip(GREYS, ("short dashes", "long dashes", "dots")) if b in bands]
    title = "; ".join(
        [f"validation {score}, %, over steps, with the last value, best first; grey: the others", *dashed]
    )
    fig.suptitle(f"{split}: {title}" if split else title, fontsize=10, color=ink(dark))
    return fig


def mark_rounds(axis: Any, rounds: Rounds, among: Sequence[str], dark: bool = False, names: bool = True) -> None:
    """A thin upright line where each round of a training begins, with its name, in the colour of the method.

    Of variants that have the same rounds one is marked; what ended before the curves begin is left out. To be called
    behind them.

    Args:
        rounds: by method, its stages as in `Run.rounds`: "name", "first" (step, from 0), "steps"; a training in one
            piece has none. among: all methods of the picture, see `style`.
    """
    left = axis.get_xlim()[0]
    several = {name: stages for name, stages in rounds.items() if stages}
    seen: set[tuple[int, str]] = set()
    for k, (method, stages) in enumerate(several.items()):
        colour = style(method, among, dark)["color"]
        for stage in stages:
            first, name = at = (stage["first"], stage["name"])
            if at in seen or first + stage["steps"] < left:
                continue
            seen.add(at)
            if first:
                axis.axvline(first + 1, color=colour, lw=0.8, alpha=0.7, zorder=1)
            if names:  # of a further method lower down, where the names of the first do not reach
                height = 0.985 - 0.33 * (k % 3)
                how = {"rotation": 90, "va": "top", "fontsize": 7.5, "transform": axis.get_xaxis_transform()}
                ground = {"fc": DARK if dark else LIGHT, "ec": "none", "alpha": 0.75, "pad": 0.4}
                words = axis.text(max(first + 1, left), height, f" {name}", color=colour, bbox=ground, **how)
                words.set_parse_math(False)


def dress(axis: Any, dark: bool = False) -> None:
    """Ground, grid and ink of an axis."""
    axis.set_facecolor(DARK if dark else LIGHT)
    axis.grid(alpha=0.22)
    axis.spines[["top", "right"]].set_visible(False)
    for part in (axis.title, axis.xaxis.label, axis.yaxis.label, *axis.get_xticklabels(), *axis.get_yticklabels()):
        part.set_color(ink(dark))
    axis.tick_params(colors=ink(dark))
    for spine in axis.spines.values():
        spine.set_color(ink(dark))
