"""What `fit` can be told, and how it is completed: epochs to steps, learning rate to the batch."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from ..data.task import Task
from ..errors import S4Error, closest
from ..methods import lengths
from ..methods.base import Clock, Optim, Stage
from . import distributed, watched


@dataclass
class Settings:
    """Everything `fit` was told, resolved; stored in `config.json`. What each means is said there."""

    steps: int
    batch: int = 8
    unlabelled_batch: int | None = None
    accumulate: int = 1
    optimiser: str = "adamw"
    lr: float = 6e-4
    head: float = 5.0
    weight_decay: float = 1e-3
    decay_norms: bool = True
    betas: tuple[float, float] = (0.9, 0.999)
    nesterov: bool = False
    schedule: str = "poly"
    warmup: int = 0
    clip: float | None = None
    seed: int = 0
    checkpoint_every: int = 200
    evaluate_every: int | None = None
    probes: watched.Wanted = watched.USUAL
    probe_size: int = 256
    probe_whole: bool = False
    device: str = "auto"
    precision: str = "auto"
    workers: int | str = "auto"
    threads: int | str = "auto"
    compile: bool = False

    def optim(self, schedule: Callable[[Clock], float]) -> Optim:
        """What a method makes its optimisers of."""
        details = {"clip": self.clip, "betas": tuple(self.betas), "nesterov": self.nesterov, "schedule": schedule}
        return Optim([], self.lr, self.head, self.optimiser, self.weight_decay, self.decay_norms, **details)


def resolve(
    task: Task, steps: int | None, epochs: float | None, before: str | None, reference: int | None, given: dict
) -> Settings:
    """Settings from the arguments of `fit`: epochs to steps, learning rate to the batch.

    Raises:
        S4Error: an unknown setting, one out of range, or settings that contradict each other or the task.
    """
    unknown = sorted(set(given) - set(Settings.__dataclass_fields__))
    if unknown:
        raise S4Error(f"fit has no setting {unknown[0]!r}. {closest(unknown[0], list(Settings.__dataclass_fields__))}")
    chosen = Settings(steps=steps or 0, **given)
    for name in ("batch", "accumulate", "checkpoint_every", "evaluate_every", "unlabelled_batch", "probe_size"):
        value = getattr(chosen, name)
        if value is not None and value < 1:
            raise S4Error(f"{name} must be at least 1, not {value}.")
    watched.check(chosen.probes)
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
        chosen.steps = steps_in(epochs, lengths.passes(before or 0), pass_steps(task, chosen))
    total = chosen.batch * chosen.accumulate * distributed.world()
    if reference and reference != total:
        chosen.lr *= total / reference
        if distributed.rank() == 0:
            words = f"Learning rate scaled by {total}/{reference} to {chosen.lr:.2g}"
            print(f"{words}: the recipe is for {reference} labelled images a step.", file=sys.stderr)
    return chosen


def clock_at(stages: list[Stage], task: Task, chosen: Settings, step: int, score: float | None) -> Clock:
    """The clock of step `step` of a training, counted over all its stages."""
    each = pass_steps(task, chosen)
    plan = share_out(stages, chosen.steps, each)
    index = max(i for i, (_, first, _) in enumerate(plan) if first <= step)
    _, first, steps = plan[index]
    return Clock(step - first, steps, each["unlabelled"], index, step / chosen.steps, score, each["labelled"])


def pass_steps(task: Task, chosen: Settings) -> dict[str, int]:
    """Optimiser steps in one pass over the "unlabelled" and over the "labelled" list."""
    slots = chosen.accumulate * distributed.world()
    images = {"unlabelled": chosen.unlabelled_batch or chosen.batch, "labelled": chosen.batch}
    lists = {"unlabelled": task.unlabelled or task.labelled, "labelled": task.labelled}
    return {name: max(1, math.ceil(len(lists[name]) / (size * slots))) for name, size in images.items()}


def epoch_steps(task: Task, chosen: Settings) -> int:
    """Optimiser steps in one pass over the unlabelled list."""
    return pass_steps(task, chosen)["unlabelled"]


def steps_in(epochs: float, before: lengths.Passes | None, each: Mapping[str, int]) -> int:
    """Steps of a training of so many epochs, with the passes before them; `each` as `pass_steps`."""
    return max(1, round(epochs * each["unlabelled"])) + (before.steps(each) if before else 0)


def share_out(stages: list[Stage], steps: int, each: Mapping[str, int]) -> list[tuple[Stage, int, int]]:
    """(stage, first step, number of steps) for each stage of a training of `steps` steps; `each` as `pass_steps`.

    Raises:
        S4Error: there are fewer steps than stages.
    """
    first, plan = 0, []
    if steps < len(stages) - 1:
        raise S4Error(f"The method has {len(stages)} stages: {steps} steps are too few, give one to each at least.")
    for stage, part in zip(stages, lengths.share_out([stage.length for stage in stages], steps, each)):
        plan.append((stage, first, part))
        first += part
    return plan


def sampled(task: Task, often: dict[str, Tensor]) -> Task:
    """The task whose "labelled", "unlabelled" or "all" list has each image as often as `often` says, (n,) by source.

    Raises:
        S4Error: a list would be empty.
    """
    lists = {}
    for name, times in often.items():
        rows = tuple(r for r, n in zip(task.rows(name), times.tolist()) for _ in range(n))
        if not rows:
            raise S4Error(
                f"The method leaves out all images of the list {name!r}: this stage has nothing to learn from."
            )
        lists["mixed" if name == "all" else name] = rows
    return replace(task, **lists) if lists else task
