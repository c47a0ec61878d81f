"""`fit`: train a method on a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.task import Task
from ..methods.base import Method
from . import distributed
from .device import pick_device
from .run import Run
from .settings import resolve
from .training import Training


def fit(
    method: Method,
    task: Task,
    steps: int | None = None,
    *,
    epochs: float | None = None,
    before: str | None = None,
    reference_batch: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Train a method on a task.

    Args:
        steps: optimiser steps; or `epochs`, passes over the unlabelled list.
        before: passes that come on top of `epochs`, such as a method's warm-up: "5 labelled epochs".
        reference_batch: the labelled batch for which `lr` is meant; with another batch the rate is scaled in
            proportion, and that is said.
        out: folder of the run; default `runs/<method>-<data set>-seed<seed>`, numbered if taken.
        resume: continue from `out/last.pt`.
        progress: show a progress bar, and live curves in a notebook.
        settings: fields of `Settings`: batch (labelled images per step and process), unlabelled_batch, accumulate,
            optimiser ("sgd", "adamw", "adam"), nesterov (of the first), betas (of the other two), lr (of the
            backbone), head (its multiple for new layers), weight_decay, schedule ("poly", "poly_after": the rate is
            set after the step, "poly_to_hundredth", "linear", "quarter_cosine", "tenths", "constant"), warmup (steps),
            clip (gradient norm), seed, checkpoint_every, evaluate_every, probes (images that the explorer shows: a
            number of unlabelled ones, a list of ids from anywhere in the task, a file of ids, or "worst", those that
            the method gets worst at its first evaluation), probe_size (longest side, in pixels, at which it does),
            probe_whole (whole images instead of centre crops), device, precision, workers, threads (on a CPU; "auto"
            times some steps first and takes fewer where more are no faster, and what is resumed keeps its number),
            compile (the networks, with `torch.compile`: minutes at the first steps, then faster on a GPU).

    Returns:
        The run; after Ctrl-C too, with `interrupted` set and a checkpoint written.

    Raises:
        S4Error: a setting that cannot work, a loss that is not finite, a full disk.
        Preempted: SIGTERM or SIGUSR1 came; a checkpoint is written. Nothing need catch it: it ends a script with 75.
    """
    distributed.join_world(pick_device(settings.get("device", "auto")))  # batch, rate and epochs depend on its size
    chosen = resolve(task, steps, epochs, before, reference_batch, settings)
    return Training(method, task, chosen, Path(out) if out else None, resume, progress).run()
