"""Scores per class, confusions, and how often a class occurs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...data.task import Task
from ...engine import Run
from ...engine.scores import by_class, each, one_score
from ...errors import S4Error
from ...report.plots import Picture, dress, figure, style


def iou_bars(scores: Any) -> Picture:
    """What each class has, the IoU where mIoU is the score, as bars; below it the mean; one colour per method.

    Args:
        scores: of `evaluate`, a `Run` (its last evaluation), or a dict {name: either}.

    Raises:
        S4Error: a run that was not evaluated, different scores, or one that says nothing of classes.
    """
    named = scores if isinstance(scores, Mapping) else {"": scores}
    rows = {name: _row(of) for name, of in named.items()}
    score = one_score({name: of for name, (of, _) in rows.items()})
    found = {name: by_class(score, row) | {"mean": row[score.lower()]} for name, (_, row) in rows.items()}
    if all(len(values) == 1 for values in found.values()):
        raise S4Error(f"{score} says nothing of single classes: `s4.plots.curves` draws it over the training.")
    classes = list(dict.fromkeys(c for values in found.values() for c in values))
    height = max(0.3, 0.17 * len(found) + 0.12)
    fig = figure((7.5, 1.0 + height * len(classes)))
    axis = fig.subplots()
    wide = 0.8 / len(found)
    for k, (name, values) in enumerate(found.items()):
        at = np.arange(len(classes)) + (k - (len(found) - 1) / 2) * wide
        length = [100 * values.get(c, 0) for c in classes]
        bars = axis.barh(at, length, wide * 0.92, label=name, color=style(name or "unimatch", list(found))["color"])
        axis.bar_label(bars, [f"{v:.0f}" for v in length], padding=2, fontsize=8)
    axis.set_yticks(range(len(classes)), classes)
    axis.set(xlim=(0, 105), xlabel=f"{each(score)}, %")
    axis.axhline(len(classes) - 1.5, color="#999", lw=0.8)
    axis.invert_yaxis()
    dress(axis)
    axis.grid(visible=False, axis="y")
    if len(found) > 1:
        fig.legend(loc="outside lower center", ncols=min(4, len(found)), frameon=False, fontsize=9)
    return fig


def _row(scores: Any) -> tuple[str, dict[str, float]]:
    """The name of a score and its row, of scores or of a run's last evaluation."""
    if not isinstance(scores, Run):
        return scores.name, scores.row()
    if not scores.headline:
        raise S4Error(f"{scores.path} was not evaluated yet.")
    return scores.score, scores.headline[-1]


def confusion(scores: Any, classes: tuple[str, ...] | None = None) -> Picture:
    """The confusion matrix: of the pixels of a true class (row), the percentage that got each label (column).

    Args:
        scores: `Scores`, or a (C, C) array of counts together with `classes`.

    Raises:
        S4Error: an AP of objects, which counts no pixels or points; of rooms those are `scores.points`.
    """
    if hasattr(scores, "headline") and not hasattr(scores, "confusion"):
        more = ": plots.confusion(scores.points)" if hasattr(scores, "points") else ""
        raise S4Error(f"{scores.name} is of objects, not of classes: it has no confusion matrix{more}.")
    counts = np.asarray(getattr(scores, "confusion", scores), float)
    names = classes or getattr(scores, "classes", None) or tuple(str(c) for c in range(len(counts)))
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = max(3.6, 0.42 * len(names) + 1.6)
    fig = figure((side + 0.8, side))
    axis = fig.subplots()
    shown = axis.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axis.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="label given", ylabel="truth")
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.5:
            shade = "white" if value > 55 else "#222"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=shade)
    fig.colorbar(shown, ax=axis, fraction=0.045, label="% of the true class")
    return fig


def bars(values: Mapping[str, float], ylabel: str, task: Task | None = None) -> Picture:
    """One bar per name; with a task, those named like its classes have their colours.

    Args:
        values: the height of each bar, by name. ylabel: what it is.
    """
    colours = dict(zip(task.classes, task.palette)) if task else {}
    fig = figure((max(4.0, 0.75 * len(values) + 0.6), 3.0))
    axis = fig.subplots()
    shades = [np.array(colours.get(name, (0, 114, 178))) / 255 for name in values]
    drawn = axis.bar(list(values), list(values.values()), 0.7, color=shades, edgecolor="#333", lw=0.6)
    axis.bar_label(drawn, [f"{v:g}" if isinstance(v, int) else f"{v:.3g}" for v in values.values()], fontsize=9)
    axis.set_ylabel(ylabel)
    axis.margins(y=0.12)
    dress(axis)
    axis.grid(visible=False, axis="x")
    axis.tick_params(axis="x", rotation=30 if len(values) > 8 else 0)
    return fig


def class_frequency(task: Task, among: int = 200) -> Picture:
    """How often the classes occur: share of pixels (log scale) and number of images, labelled images beside val.

    Args:
        among: read at most this many val images.
    """
    rows = np.unique(np.linspace(0, len(task.val) - 1, min(among, len(task.val))).astype(int))
    found = {
        f"labelled ({len(task.labelled)} images)": _occurrence(task, task.train, task.labelled),
        f"val ({len(rows)} images)": _occurrence(task, task.val, rows),
    }
    fig = figure((10.5, 0.9 + 0.34 * task.num_classes))
    left, right = fig.subplots(1, 2, sharey=True)
    for k, (name, (pixels, images)) in enumerate(found.items()):
        at = np.arange(task.num_classes) + 0.4 * (k - 0.5)
        paint = {"color": [np.array(c) / 255 for c in task.palette], "edgecolor": "#333", "lw": 0.6}
        extra = {"hatch": "" if k == 0 else "////", "label": name, **paint}
        for axis, values, words in ((left, pixels, "{:.1f}"), (right, images, "{:.0f}")):
            bars = axis.barh(at, 100 * values, 0.36, **extra)
            axis.bar_label(bars, [words.format(100 * v) for v in values], padding=2, fontsize=8)
    left.set_yticks(range(task.num_classes), task.classes)
    left.set(xscale="log", xlabel="share of the pixels, % (log scale)")
    left.set_xlim(right=250)
    right.set(xlim=(0, 115), xlabel="share of the images that show it, %")
    left.invert_yaxis()
    for axis in (left, right):
        dress(axis)
        axis.grid(visible=False, axis="y")
    _hatch_legend(fig, list(found))
    return fig


def _hatch_legend(fig: Any, names: list[str]) -> None:
    from matplotlib.patches import Patch

    marks = [
        Patch(facecolor="white", edgecolor="#333", hatch="" if k == 0 else "////", label=n) for k, n in enumerate(names)
    ]
    fig.legend(handles=marks, loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _occurrence(task: Task, source: Any, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Per class its share of the pixels that are not void, and of the images that show it."""
    counts = np.zeros((len(rows), task.num_classes))
    for k, row in enumerate(rows):
        counts[k] = np.bincount(source.read(int(row)).label.numpy().ravel(), minlength=256)[: task.num_classes]
    return counts.sum(0) / max(1, counts.sum()), (counts > 0).mean(0)
