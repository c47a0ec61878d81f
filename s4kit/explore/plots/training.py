"""Curves over the training: the validation score with bands over seeds, loss terms, and any lines beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...engine.progress import NOT_TERMS, running_means
from ...engine.scores import one_score
from ...errors import S4Error
from ...report import plots as shared
from ...report.comparing.page import kept_shares
from ...report.plots import Picture, dress, figure, mark_rounds, style

FEW = 12  # points: so many are drawn as dots, too


def named(runs: Any) -> dict[str, list[Any]]:
    """{name: runs}: of one run, a list (by method: its seeds), or a dict {name: run or list of runs}.

    Runs on different published splits are no seeds of one another: in a list each split is a name of its own.

    Raises:
        S4Error: one name of a dict has runs on different splits.
    """
    if isinstance(runs, Mapping):
        found = {name: list(of) if isinstance(of, Sequence) else [of] for name, of in runs.items()}
        for name, of in found.items():
            if len(splits := _splits(of)) > 1:
                raise S4Error(f"{name!r} has runs on {' and '.join(splits)}: draw them under a name each.")
        return found
    every = list(runs) if isinstance(runs, Sequence) else [runs]
    several = len(_splits(every)) > 1
    found = {}
    for run in every:
        method = run.config["method"]
        found.setdefault(f"{method}, {run.split or 'own split'}" if several else method, []).append(run)
    return found


def _splits(runs: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(run.split or "a split of one's own" for run in runs))


def split_of(found: Mapping[str, Sequence[Any]]) -> str:
    """The published splits of all runs, for a title; "" where there is none."""
    return " and ".join(dict.fromkeys(run.split for of in found.values() for run in of if run.split))


def rounds_of(found: Mapping[str, Sequence[Any]]) -> dict[str, list[dict[str, Any]]]:
    """The rounds of the first run of each name, for `mark_rounds`."""
    return {name: of[0].rounds for name, of in found.items()}


def curves(runs: Any, kept: bool = True) -> Picture:
    """The validation score over the training, with a band of one standard deviation over seeds; the kept share beside.

    Thin lines with a name stand where the rounds of a training in several stages begin.

    Args:
        runs: a `Run`; a list of them, those of one method being its seeds; or {name: run or list of runs}.
        kept: show the share of unlabelled pixels that was trained on.

    Raises:
        S4Error: they are not scored alike.
    """
    found = named(runs)
    score = one_score({f"{name} ({run.path})": run.score for name, of in found.items() for run in of})
    scores = {name: [run.course for run in of] for name, of in found.items()}
    shares = {name: kept_shares(of[0].metrics()) for name, of in found.items()} if kept else {}
    shares = {name: rows for name, rows in shares.items() if rows}
    return shared.curves(scores, shares, split=split_of(found), rounds=rounds_of(found), score=score)


def losses(runs: Any, terms: Sequence[str] | None = None) -> Picture:
    """The loss terms over the training as running means, one panel per term, one line per run.

    Args:
        runs: as in `curves`; of several seeds the first one is drawn.
        terms: names of the terms; by default all that occur.
    """
    by_name = named(runs)
    found = {name: of[0].metrics() for name, of in by_name.items()}
    skip = (*NOT_TERMS, "loss")
    every = dict.fromkeys(key for rows in found.values() for key in (rows[-1] if rows else {}))
    wanted = list(terms or [key for key in every if key not in skip and not key.startswith("kept_")])
    columns = min(3, len(wanted))
    lines = -(-len(wanted) // columns)
    fig = figure((3.7 * columns, 2.7 * lines + (0.3 if len(found) > 1 else 0)))
    if split := split_of(by_name):
        fig.suptitle(split, fontsize=11)
    axes = fig.subplots(lines, columns, squeeze=False).ravel()
    for axis, term in zip(axes, wanted):
        for name, rows in found.items():
            points = [(row["step"], row[term]) for row in rows if row.get(term) is not None]
            if points:
                look = style(name, list(found)) | {"marker": ""}
                axis.plot(*zip(*running_means(points, max(1, len(points) // 25))), lw=1.8, label=name, **look)
        mark_rounds(axis, rounds_of(by_name), list(found))
        axis.set_title(f"loss term {term}", fontsize=10)
        axis.set_xlabel("step")
        axis.set_ylim(bottom=0)
        dress(axis)
    for axis in axes[len(wanted) :]:
        axis.set_visible(False)
    if len(found) > 1:
        handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels())}
        fig.legend(handles.values(), handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return fig


def lines(
    x: Sequence[float],
    values: Mapping[str, Sequence[float]],
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    mark: float | None = None,
) -> Picture:
    """Lines over a common axis, such as a schedule or a knob turned; few points are dotted.

    Args:
        x: the axis. values: the height of each line at each x, by name. xlabel, ylabel, title: words.
        mark: a value of x for an upright line.
    """
    fig = figure((5.6, 3.2))
    axis = fig.subplots()
    for name, row in values.items():
        look = style(name, list(values)) | {"marker": "o" if len(x) <= FEW else ""}
        axis.plot(x, row, lw=2.2, ms=5, label=name, **look)
    if mark is not None:
        axis.axvline(mark, color="#555", lw=1, ls=":")
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    dress(axis)
    if len(values) > 1:
        axis.legend(frameon=False, fontsize=9)
    return fig
