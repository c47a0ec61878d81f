"""Pseudo-labels in numbers: precision and coverage over the training, reliability, class shares, histograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.task import VOID
from ...errors import S4Error
from ...methods import PseudoLabels
from ...report.plots import Picture, dress, figure, mark_rounds, style
from .training import named, rounds_of, split_of


def quality(runs: Any) -> Picture:
    """Precision and coverage of the pseudo-labels on the probe images, over the training, on axes that show changes.

    The coverage of methods that keep everything is a sentence, no picture.

    Args:
        runs: as in `curves`; of several seeds the first is drawn, of several pseudo-labels each.

    Raises:
        S4Error: no run has recorded pseudo-labels.
    """
    by_name = named(runs)
    found = {name: of[0].pseudo() for name, of in by_name.items()}
    kept = [r["coverage"] for rows in found.values() for r in rows if r.get("coverage") is not None]
    everything = bool(kept) and min(kept) > 0.999
    fig = figure((6 if everything else 10.5, 3.7))
    if split := split_of(by_name):
        fig.suptitle(split, fontsize=11)
    axes = fig.subplots(1, 1 if everything else 2, squeeze=False)[0]
    right = "right among all: every pixel is kept" if everything else "precision: right among kept"
    for axis, column, title in zip(axes, ("precision", "coverage"), (right, "coverage: kept")):
        for name, rows in found.items():
            tracks = dict.fromkeys(row["name"] for row in rows)
            for k, track in enumerate(tracks):
                line = [
                    (r["step"] + 1, 100 * r[column]) for r in rows if r["name"] == track and r.get(column) is not None
                ]
                label = name if len(tracks) == 1 else f"{name}, {track}"
                look = style(name, list(found)) | ({"linestyle": (0, (4, 1.5))} if k else {})
                if line:
                    axis.plot(*zip(*line), lw=2, ms=4, label=label, **look)
        mark_rounds(axis, rounds_of(by_name), list(found))
        axis.set(title=f"{title}, %", xlabel="step")
        axis.margins(y=0.12)
        dress(axis)
    handles = {label: h for axis in axes for h, label in zip(*axis.get_legend_handles_labels())}
    if not handles:
        raise S4Error("None of these runs recorded pseudo-labels: they were trained with probes=0.")
    fig.legend(
        handles.values(), handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9, handlelength=3.6
    )
    return fig


def recorded(run: Any, snapshot: int = -1, name: str | None = None) -> tuple[Tensor, PseudoLabels, Tensor]:
    """What a run has recorded of its probe images: (images, pseudo-labels, truth), as the other pictures take them.

    Args:
        snapshot: which one, counted from 0, or from the end where negative.
        name: of the pseudo-label where the method has several; by default the first.

    Returns:
        images (B, 3, h, w) in [0, 1], the `PseudoLabels` with confidence and weight in levels of 1/255, and the truth
        (B, h, w), 255 where unknown.

    Raises:
        S4Error: the run recorded none.
    """
    stored = run.snapshots()
    if not stored.steps:
        raise S4Error(f"The run in {run.path} recorded no pseudo-labels.")
    name = name or next(iter(stored.steps))
    step = stored.steps[name][snapshot]
    there = [k for k in range(len(stored)) if step in stored.recorded(name, k)]
    images = [stored.image(k) for k in there]
    beliefs = [stored.read(step, name, k) for k in there]

    def stacked(rows: list[dict[str, np.ndarray]], key: str) -> Tensor:
        return torch.from_numpy(np.stack([row[key] for row in rows]))

    labels = PseudoLabels(
        stacked(beliefs, "label").long(),
        stacked(beliefs, "confidence").float() / 255,
        stacked(beliefs, "weight").float() / 255,
        stacked(images, "valid").float(),
    )
    return stacked(images, "image").permute(0, 3, 1, 2).float() / 255, labels, stacked(images, "truth").long()


def _sources(source: Any, truth: Any) -> dict[str, tuple[PseudoLabels, Any]]:
    """{name: (pseudo-labels, truth)} of `PseudoLabels`, of runs (their last snapshot), or of a dict of either."""
    if isinstance(source, PseudoLabels):
        return {"": (source, truth)}
    if isinstance(source, Mapping) and all(isinstance(of, PseudoLabels) for of in source.values()):
        return {name: (of, truth) for name, of in source.items()}
    return {name: recorded(of[0])[1:] for name, of in named(source).items()}


def _known(labels: PseudoLabels, truth: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(confidence, label, truth, kept) of the pixels whose truth is known."""
    maps = (labels.confidence, labels.label, truth, labels.weight, labels.valid)
    confidence, label, true, weight, valid = (np.asarray(t.cpu() if isinstance(t, Tensor) else t) for t in maps)
    known = (true != VOID) & (valid > 0)
    return confidence[known], label[known], true[known], weight[known] > 0


def reliability(source: Any, truth: Any = None, bins: int = 10, kept: bool = False) -> Picture:
    """Reliability diagram: among pixels of a confidence, how many are right? Below the diagonal is overconfident.

    Args:
        source: runs as in `curves` (their last snapshots), or `PseudoLabels`, or {name: `PseudoLabels`}.
        truth: of `PseudoLabels`: (B, H, W), 255 where unknown.
        bins: of the confidence in [0, 1]. kept: only the pixels that the rule keeps.
    """
    found = _sources(source, truth)
    edges = np.linspace(0, 1, bins + 1)
    fig = figure((4.8, 5.2))
    upper, lower = fig.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    upper.plot([0, 1], [0, 100], color="#777", lw=1, ls=":")
    for name, (labels, true_labels) in found.items():
        confidence, label, true, chosen = _known(labels, true_labels)
        if kept:
            confidence, label, true = confidence[chosen], label[chosen], true[chosen]
        at = np.clip((confidence * bins).astype(int), 0, bins - 1)
        count = np.bincount(at, minlength=bins)
        right = np.bincount(at, weights=label == true, minlength=bins)
        full = count > 0
        middle = np.bincount(at, weights=confidence, minlength=bins)[full] / count[full]
        look = style(name or "unimatch", list(found))
        upper.plot(middle, 100 * right[full] / count[full], lw=2, ms=5, label=name, **look)
        lower.stairs(100 * count / max(1, count.sum()), edges, color=look["color"], fill=len(found) == 1, lw=1.8)
    upper.set(ylim=(0, 102), ylabel="right, %")
    lower.set(xlim=(0, 1), xlabel="confidence", ylabel="pixels, %")
    for axis in (upper, lower):
        dress(axis)
    if len(found) > 1:
        upper.legend(frameon=False, fontsize=9)
    return fig


def class_share(runs: Any) -> Picture:
    """Which classes the kept pixels are given, at the last snapshot, beside how often the classes truly occur there.

    Args:
        runs: as in `curves`; of several seeds the first.
    """
    chosen = {name: of[0] for name, of in named(runs).items()}
    classes = next(iter(chosen.values())).snapshots().classes
    found: dict[str, np.ndarray] = {}
    for name, run in chosen.items():
        _, label, true, kept = _known(*recorded(run)[1:])
        found.setdefault("truth", np.bincount(true, minlength=len(classes)) / max(1, len(true)))
        found[name] = np.bincount(label[kept], minlength=len(classes)) / max(1, kept.sum())
    fig = figure((max(6.0, 0.8 * len(classes)), 3.4))
    axis = fig.subplots()
    wide = 0.82 / len(found)
    for k, (name, values) in enumerate(found.items()):
        at = np.arange(len(classes)) + (k - (len(found) - 1) / 2) * wide
        shade = "#b9bcc5" if name == "truth" else style(name, list(chosen))["color"]
        axis.bar(at, 100 * values, wide * 0.92, label=name, color=shade)
    axis.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axis.set_ylabel("share of the pixels, %")
    dress(axis)
    axis.grid(visible=False, axis="x")
    fig.legend(loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return fig


def histogram(
    source: Any, truth: Any = None, threshold: float | None = None, bins: int = 25, log: bool = False
) -> Picture:
    """How sure the pseudo-labels are: pixels by confidence, right and wrong ones stacked where the truth is given.

    Args:
        source: a run (its last snapshot), or `PseudoLabels` with or without their `truth` (B, H, W), 255 where unknown.
        threshold: draws an upright line. bins: of the confidence in [0, 1]. log: the count on a log scale.
    """
    labels, truth = next(iter(_sources(source, truth).values()))
    fig = figure((5.6, 3.2))
    axis = fig.subplots()
    if truth is None:
        valid = labels.valid > 0
        axis.hist(labels.confidence[valid].cpu().numpy(), bins, range=(0, 1), color="#0072B2", log=log)
    else:
        confidence, label, true, _ = _known(labels, truth)
        parts = [confidence[label == true], confidence[label != true]]
        shades, names = ["#0072B2", "#D55E00"], ["right", "wrong"]
        axis.hist(parts, bins, range=(0, 1), stacked=True, color=shades, label=names, log=log)
        axis.legend(frameon=False)
    if threshold is not None:
        axis.axvline(threshold, color="#222", lw=1.4, ls="--")
    axis.set(xlim=(0, 1), xlabel="confidence", ylabel="pixels")
    dress(axis)
    return fig
