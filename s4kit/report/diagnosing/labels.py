"""`s4kit diagnose`: the pseudo-labels of a run: how many are trained on, of which classes, and how many are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...engine import Run
from ...errors import S4Error
from ..text import percent
from .finding import DOWN, OK, PROBLEM, STEPS, THRESHOLD, UP, WARNING, Finding

COVER = 3  # labelled images that show a class: what is proposed where a draw does not see to it
NOTHING = 0.02  # of the pixels
MANY = 50  # kept pixels of a class from which it is judged
DOUBT = 0.9  # mean weight below which the rule itself says that it trusts little


def kept(run: Run) -> Finding | None:
    """Is a sensible share of the pseudo-labels trained on?"""
    rows = run.metrics()
    names = [key for key in (rows[-1] if rows else {}) if key.startswith("kept_")]
    if not names:
        return None
    values = [mean([row[n] for n in names if row.get(n) is not None]) for row in rows if row.get(names[0]) is not None]
    last = mean(values[-max(3, len(values) // 5) :])
    right, weight = _last_pseudo(run).get("precision"), _weight(run)
    figures = f"{percent(last)} % of the unlabelled pixels are trained on at the end{_weighing(weight)}"
    figures += f", {percent(right)} % of them right" if right is not None else ""
    if last * weight < NOTHING:
        mend = "Next to nothing is learnt from unlabelled images"
        return Finding("kept share", PROBLEM, figures, mend, turns={STEPS: UP, THRESHOLD: DOWN})
    if last > 0.98 and threshold(run) != 0 and (right is None or right < 0.9):
        mend = "The rule rejects nothing, wrong pixels included"
        if weight < DOUBT:
            mend = (
                "The rule refuses no pixel, wrong ones included; only their common weight says how far it trusts them"
            )
        return Finding("kept share", WARNING, figures, mend, more_labels(run), {THRESHOLD: UP})
    return Finding("kept share", OK, figures)


def starved(run: Run) -> Finding | None:
    """Does every class get pseudo-labels?"""
    row = _last_pseudo(run) if _trains_on_them(run) else {}
    classes = [key[len("coverage_") :] for key in row if key.startswith("coverage_") and row[key] is not None]
    if not classes or not row.get("coverage"):
        return None
    limit = 0.1 * row["coverage"]
    poor = {c: (row[f"coverage_{c}"], row.get(f"share_{c}") or 0.0) for c in classes if row[f"coverage_{c}"] < limit}
    none = [c for c in classes if not row.get(f"share_{c}")]
    if not poor and not none:
        least = min(classes, key=lambda c: row[f"coverage_{c}"])
        figures = f"the least is {least}: {percent(row[f'coverage_{least}'])} % of its pixels are kept"
        return Finding("classes with pseudo-labels", OK, figures)
    words = [
        f"{c} ({percent(a)} % of its pixels kept, {percent(b)} % of the kept labels)" for c, (a, b) in poor.items()
    ]
    words += [f"{c} (no pixel gets this label)" for c in none if c not in poor]
    level = PROBLEM if none else WARNING
    figures = f"{percent(row['coverage'])} % of all pixels kept{_weighing(_weight(run))}; starved: {', '.join(words)}"
    mend, options = "These classes are forgotten on unlabelled images", [*more_labels(run), "a class-adaptive rule"]
    names = [*poor, *(c for c in none if c not in poor)]
    return Finding("classes with pseudo-labels", level, figures, mend, options, {THRESHOLD: DOWN}, names)


def precision(run: Run) -> Finding | None:
    """Do the kept pseudo-labels stay right, or does the method confirm its own errors?"""
    rows = run.pseudo() if _trains_on_them(run) else []
    rows = [row for row in rows if row.get("precision") is not None and (row.get("coverage") or 0) > NOTHING]
    rows = [row for row in rows if row["name"] == rows[0]["name"]]
    if len(rows) < 3:
        return None
    best, last = max(rows, key=lambda row: row["precision"]), rows[-1]
    figures = (
        f"{percent(last['precision'])} % of the kept labels are right at the end "
        f"(best {percent(best['precision'])} at step {best['step']}, keeping {percent(best['coverage'])} %; "
        f"now {percent(last['coverage'])} %)"
    )
    if last["precision"] < 0.6:
        mend = "The method teaches itself mistakes"
        return Finding("precision of pseudo-labels", PROBLEM, figures, mend, more_labels(run), {THRESHOLD: UP})
    if last["precision"] < best["precision"] - 0.1:
        turns = {STEPS: DOWN, THRESHOLD: UP}
        mend = "It fell as more was kept"
        return Finding("precision of pseudo-labels", WARNING, figures, mend, turns=turns, step=best["step"])
    return Finding("precision of pseudo-labels", OK, figures)


def mistaken(run: Run) -> Finding | None:
    """Is a class taught by the name of another?"""
    names, counts = taught(run) if _trains_on_them(run) else ([], np.zeros((0, 0), int))
    judged = np.flatnonzero(counts.sum(1) >= MANY)
    if len(names) < 2 or not judged.size:
        return None
    share = counts[judged] / counts[judged].sum(1, keepdims=True)
    own = share[range(len(judged)), judged]
    share[range(len(judged)), judged] = -1.0
    other, most = share.argmax(1), share.max(1)
    words = [
        f"of {names[k]} {percent(a)} % are taught as {names[k]}, {percent(b)} % as {names[j]}"
        for k, a, b, j in zip(judged, own, most, other)
    ]
    lost = np.flatnonzero(most > own)
    if not lost.size:
        return Finding("classes taught as another", OK, f"at worst, {words[int((own - most).argmin())]}")
    mend = "The rule keeps these mistakes; the errors in the explorer show where"
    classes = [names[judged[k]] for k in lost]
    figures = f"of the pixels kept at the end: {'; '.join(words[k] for k in lost)}"
    return Finding("classes taught as another", WARNING, figures, mend, more_labels(run), classes=classes)


def taught(run: Run) -> tuple[list[str], np.ndarray]:
    """What the watched images without a label are taught as at the last snapshot.

    Returns:
        names of the K classes, and (K, K) pixels of a class (row) that are kept with a name (column), by all
        pseudo-labels of the method together; [] and (0, 0) where nothing was watched.
    """
    try:
        snapshots = run.snapshots()
    except S4Error:
        return [], np.zeros((0, 0), int)
    classes = len(snapshots.classes)
    counts = np.zeros((classes, classes), int)
    for k in (k for k, kind in enumerate(snapshots.kinds) if kind != "labelled"):
        truth = snapshots.image(k)["truth"]
        for name, steps in snapshots.steps.items():
            if steps[-1] in snapshots.recorded(name, k):
                maps = snapshots.read(steps[-1], name, k, "weight")
                at = (maps["weight"] > 0) & (truth < classes)
                np.add.at(counts, (truth[at], maps["label"][at]), 1)
    return snapshots.classes, counts


# ---- of the run ----


def drawn(run: Run) -> bool:
    """Whether the labelled images are a seeded draw, not a list of somebody's."""
    return run.config["protocol"].startswith("seeded")


def covered(run: Run) -> int:
    """In how many labelled images each class is by the run's draw; 0 where the draw does not see to it."""
    return int(run.config["task"].get("cover") or 0) if drawn(run) else 0


def more_labels(run: Run) -> list[str]:
    """The mend that is labels: more of them, or a draw that has every class. [] where all images have theirs."""
    now = run.config["task"].get("labelled")
    if now == "all":
        return []
    if has := covered(run):
        return [f"more labelled images (--labelled, now {now}: each class is in {has} of them or more already)"]
    return ["more labelled images of them (--labelled" + (f", or --data-option cover={COVER})" if drawn(run) else ")")]


def threshold(run: Run) -> float | None:
    """The confidence threshold of the run's method; None where it has none."""
    import inspect

    from ...methods import get

    known = inspect.signature(get(run.config["method"]).__init__).parameters
    default = known["tau"].default if "tau" in known else None
    return run.config["options"].get("tau", default)


def mean(values: Sequence[float]) -> float:
    """Of the values; 0 of none."""
    return sum(values) / max(1, len(values))


def _trains_on_them(run: Run) -> bool:
    """Whether the method trains on pseudo-labels; the supervised baselines only show what they would be."""
    rows = run.metrics()
    return any(key.startswith("kept_") for key in (rows[-1] if rows else {}))


def _last_pseudo(run: Run) -> Mapping[str, Any]:
    """The last row of pseudo.csv (of its first name); {} where the method has no rule."""
    rows = run.pseudo()
    return [row for row in rows if row["name"] == rows[0]["name"]][-1] if rows else {}


def _weight(run: Run) -> float:
    """What a kept probe pixel weighs on average at the last snapshot, in [0, 1]; 1 where nothing says otherwise."""
    try:
        snapshots = run.snapshots()
    except S4Error:
        return 1.0
    for name, steps in snapshots.steps.items():
        there = [k for k in range(len(snapshots)) if steps[-1] in snapshots.recorded(name, k)]
        maps = [snapshots.read(steps[-1], name, k, "weight")["weight"] for k in there]
        chosen = np.concatenate([weight[weight > 0] for weight in maps])
        return float(chosen.mean() / 255) if chosen.size else 1.0
    return 1.0


def _weighing(weight: float) -> str:
    return f", each with a weight of {weight:.2f} on average" if weight < 0.995 else ""
