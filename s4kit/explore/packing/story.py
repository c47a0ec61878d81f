"""A run's training beside its snapshots: the loss terms, and what `diagnose` found, each with where to look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...engine import Run
from ...report.diagnosing.diagnose import diagnose
from ...report.diagnosing.finding import PROBLEM, WARNING
from .cells import Cells

POINTS = 160  # of a loss curve, at most; each the mean of its steps
OTHERS = ("step", "stage", "lr")  # columns of metrics.csv that are no term


def losses(run: Run) -> dict[str, np.ndarray]:
    """The loss terms over the training.

    Returns:
        step (n,) uint32, the last one of each part; and "loss/<term>" (n,) float32, its mean over the part, NaN where
        it was not computed. {} before the first step.
    """
    rows = run.metrics()
    names = dict.fromkeys(c for row in rows for c in row if c not in OTHERS and not c.startswith("kept_"))
    if not rows or not names:
        return {}
    values = np.array([[np.nan if row.get(n) is None else row[n] for n in names] for row in rows], np.float64)
    parts = np.array_split(np.arange(len(rows)), min(POINTS, len(rows)))
    there = np.isfinite(values)
    sums = np.stack([np.where(there[p], values[p], 0).sum(0) for p in parts])
    means = sums / np.maximum(1, np.stack([there[p].sum(0) for p in parts]))
    means[np.stack([~there[p].any(0) for p in parts])] = np.nan
    found = {"step": np.array([rows[p[-1]]["step"] for p in parts], np.uint32)}
    return found | {f"loss/{name}": means[:, k].astype(np.float32) for k, name in enumerate(names)}


def verdicts(run: Run, steps: Sequence[int], classes: Sequence[str], cells: Cells, ids: Sequence[str]) -> list[dict]:
    """The findings of `diagnose` that are a problem or a warning, one for each class that it names.

    Args:
        steps: of the snapshots. cells: of the track's watched images. ids: of these.

    Returns:
        [{"check", "level", "figures", "advice", "at": index of the snapshot to look at, "class": index or None,
        "image": id of the watched image that shows it most, None where none does}].
    """
    since = cells.starves_since()
    found = []
    for finding in diagnose(run.path)["findings"]:
        if finding["level"] not in (PROBLEM, WARNING):
            continue
        words = {key: finding[key] for key in ("check", "level", "figures", "advice")}
        named = [classes.index(name) for name in finding["classes"] if name in classes]
        for c in named or [None]:
            at = len(steps) - 1 if finding["step"] is None else _nearest(steps, finding["step"])
            if c is not None and finding["step"] is None and since[c] is not None:
                at = since[c]  # where it began
            image = _worst(cells, at, c)
            found.append(words | {"at": at, "class": c, "image": None if image is None else ids[image]})
    return found


def _worst(cells: Cells, at: int, c: int | None) -> int | None:
    """The image with most pixels of a class that are not kept; without a class, with most wrong ones that are."""
    step, image, truth, label = cells.columns
    used = (step == at) & (truth < cells.classes)
    if c is None:
        used, pixels = used & (truth != label), cells.kept
    else:
        used, pixels = used & (truth == c), cells.every - cells.kept
    counts = np.bincount(image[used], pixels[used], cells.images)
    return int(counts.argmax()) if counts.size and counts.max() > 0 else None


def _nearest(steps: Sequence[int], wanted: int) -> int:
    return min(range(len(steps)), key=lambda k: abs(steps[k] - wanted))
