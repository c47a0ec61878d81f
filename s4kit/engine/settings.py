"""What `fit` can be told, and how it is completed: epochs to steps, learning rate to the batch."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

from torch import Tensor

from ..data.task import Task
from ..errors import S4Error, closest
from ..methods.base import Stage
from . import distributed


@dataclass
class Settings:
    """Everything `fit` was told, resolved; stored in `config.json`."""

    steps: int
    batch: int = 8
    unlabelled_batch: int | None = None
    accumulate: int = 1
    optimiser: str = "adamw"
    lr: float = 6e-4
    head: float = 5.0
    weight_decay: float = 1e-3
    decay_norms: bool = True
    schedule: str = "poly"
    warmup: int = 0
    clip: float | None = None
    seed: int = 0
    checkpoint_every: int = 200
    evaluate_every: int | None = None
    probes: int = 16
    probe_size: int = 256
    device: str = "auto"
    precision: str = "auto"
    workers: int | str = "auto"
    compile: bool = False


def resolve(task: Task, steps: int | None, epochs: float | None, reference: int | None, given: dict) -> Settings:
    """Settings from the arguments of `fit`: epochs to steps, learning rate to the batch."""
    unknown = sorted(set(given) - set(Settings.__dataclass_fields__))
    if unknown:
        raise S4Error(f"fit has no setting {unknown[0]!r}. {closest(unknown[0], list(Settings.__dataclass_fields__))}")
    chosen = Settings(steps=steps or 0, **given)
    for name in ("batch", "accumulate", "checkpoint_every", "evaluate_every", "unlabelled_batch", "probe_size"):
        value = getattr(chosen, name)
        if value is not None and value < 1:
            raise S4Error(f"{name} must be at least 1, not {value}.")
    if chosen.steps < 0 or (epochs or 0) < 0:
        raise S4Error(f"steps and epochs count forwards, not {steps or epochs}.")
    if len(task.labelled) < chosen.batch:
        raise S4Error(
            f"The batch asks for {chosen.batch} labelled images but the split has {len(task.labelled)}: "
            f"use --batch {len(task.labelled)} or less, or more labels."
        )
    if not steps:
        if not epochs:
            raise S4Error("Say how long to train: steps=600, or epochs=80 (passes over the unlabelled list).")
        chosen.steps = max(1, round(epochs * epoch_steps(task, chosen)))
    total = chosen.batch * chosen.accumulate * distributed.world()
    if reference and reference != total:
        chosen.lr *= total / reference
        if distributed.rank() == 0:
            words = f"Learning rate scaled by {total}/{reference} to {chosen.lr:.2g}"
            print(f"{words}: the recipe is for {reference} labelled images a step.", file=sys.stderr)
    return chosen


def epoch_steps(task: Task, chosen: Settings) -> int:
    """Optimiser steps in one pass over the unlabelled list."""
    images = (chosen.unlabelled_batch or chosen.batch) * chosen.accumulate * distributed.world()
    return max(1, math.ceil(len(task.unlabelled or task.labelled) / images))


def share_out(stages: list[Stage], steps: int) -> list[tuple[Stage, int, int]]:
    """(stage, first step, number of steps) for each stage of a training of `steps` steps."""
    whole, first, plan = sum(stage.share for stage in stages), 0, []
    for stage in stages:
        part = steps - first if stage is stages[-1] else max(1, round(steps * stage.share / whole))
        plan.append((stage, first, part))
        first += part
    return plan


def sampled(task: Task, often: dict[str, Tensor]) -> Task:
    """The task whose "labelled" or "unlabelled" list has each image as often as `often` says, (n,) long by source."""
    lists = {name: tuple(r for r, n in zip(task.rows(name), t.tolist()) for _ in range(n)) for name, t in often.items()}
    return replace(task, **lists) if lists else task
