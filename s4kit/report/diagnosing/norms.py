"""Batch norm in a run and before one: when training sees another network than the one that labels and is scored."""

from __future__ import annotations

import re
from typing import Any

from ...engine import Run
from ...engine.scores import each
from ...nets.backbones import KINDS
from ..text import percent
from .finding import OK, PROBLEM, WARNING, Finding

FEW = 4  # labelled images: statistics of so few are no good measure of the data's
APART = 0.1  # share of the pixels; once a network has collapsed, both say the same of everything
DIED = 0.25  # of a class's best IoU
SEEN = 0.1  # IoU of a class that was recognised


def norms(run: Run) -> Finding | None:
    """Do the statistics of a batch make another network than the running ones, and do classes die of it?"""
    net, batch, rows = _network(run), run.config["fit"]["batch"], run.norms()
    seen = f"{batch} labelled images a forward"
    if not rows:
        return _unmeasured(net, run.config.get("norms"), batch, seen)
    last, widest = max(rows[-len({r["predictor"] for r in rows}) :], key=_apart), max(rows, key=_apart)
    figures = f"{seen}; their statistics give {percent(last['apart'])} % of the probe pixels another class than the "
    figures += f"running ones do at the end, {percent(widest['apart'])} % at most (step {widest['step']})"
    mend = f"What is trained is not what labels and is scored: {remedies(net)}."
    lost = _lost(run) if any(key.startswith("kept_") for key in run.metrics()[-1]) else []
    if lost and widest["apart"] > APART:
        figures += f". Since pseudo-labels came in: {', '.join(lost)}"
        return Finding("batch norm", PROBLEM, figures, f"The collapse of batch norm under pseudo-labels. {mend}")
    if last["apart"] > APART:
        return Finding("batch norm", WARNING, figures, mend)
    if batch < FEW:
        mend = f"Few images, noisy statistics; --accumulate does not change that: {remedies(net)}."
        return Finding("batch norm", WARNING, figures, mend)
    return Finding("batch norm", OK, figures)


def _network(run: Run) -> str:
    """Spec of the network; of a run of an older version "" where it was the method's own."""
    return run.config.get("network", str(run.config["options"].get("net", "")))


def _apart(row: dict[str, Any]) -> float:
    return row["apart"]


def remedies(net: str) -> str:
    """What mends it, the first first. More images alone did not, where it was tried (notebook 08)."""
    own = "in a method of your own, labels from an eval-mode forward and a forward for each kind of view"
    return f"{without(net)}; or, {own}. Notebook 08 shows both at work, and why more images are not enough"


def without(net: str) -> str:
    """Words for the network `net` with norms that do not look at the batch."""
    base = re.match(r"\w*", net)[0]
    frozen = "freeze_bn=True, " if base in KINDS and "freeze_bn" in KINDS[base].options else ""
    known = base in KINDS or base == "voxel"
    how = f"--backbone \"{base}({frozen}norm='group')\"" if known else "group norms, or batch norms that are frozen"
    return f"a network that does not look at the batch ({how})"


def _unmeasured(net: str, live: int | None, batch: int, seen: str) -> Finding:
    """By the network and the batch alone: no probe images, or no norm that looks at the batch.

    Args:
        live: number of such norms; None in a run of an older version, which says it by the network's name at most.
    """
    still = re.search("freeze_bn=(True|'statistics')|norm='group'", net) if live is None else live == 0
    if still or batch >= FEW:
        return Finding("batch norm", OK, seen)
    mend = f"Its statistics are noisy with so few images, and --accumulate does not change that: {remedies(net)}."
    return Finding("batch norm", PROBLEM if batch == 1 else WARNING, seen, mend)


def _lost(run: Run) -> list[str]:
    """ "star (IoU 3.0, was 41.2 at step 119)" for each class that was recognised once and is no more."""
    rows, words = {row["step"]: run.by_class(row) for row in run.headline}, []
    for name in dict.fromkeys(name for row in rows.values() for name in row):
        course = {step: row.get(name, 0.0) for step, row in rows.items()}
        step, now = max(course, key=course.get), course[max(course)]
        if course[step] > SEEN and now < DIED * course[step]:
            words.append(f"{name} ({each(run.score)} {percent(now)}, was {percent(course[step])} at step {step})")
    return words


def warning(layers: int, batch: int, net: str) -> str:
    """What a plan says where micro-batches are small; "" where batch norm has enough images, or there is none."""
    if not layers or batch > FEW:
        return ""
    images = f"{batch} labelled image{'s' if batch > 1 else ''}"
    return (
        f"{layers} layers take their statistics from micro-batches of {images}: on pseudo-labels such trainings can "
        f"collapse. Mend: {remedies(net)}."
    )
