"""From a task to batches: each stream draws its items on the host and makes the views of them on the device.

Sampling is a pure function of (seed, stream, position): stream s at position p takes entry p mod n of the permutation
of its epoch p // n. Nothing depends on workers, on ranks or on what was drawn before, so a run resumes in mid-epoch by
its step number alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Dataset

from ..data.seeding import generator
from ..data.task import Task
from .plan import AnyStream, Batch, ViewPlan


class HostStep(dict):
    """Drawn items by stream name: what a decode worker hands to the engine for one micro-batch."""

    def pin_memory(self) -> HostStep:
        """A copy with every stream in page-locked memory."""
        return HostStep({name: views.pin_memory() for name, views in self.items()})


@lru_cache(maxsize=64)
def _permutation(seed: int, stream: str, stage: int, epoch: int, rows: int) -> np.ndarray:
    return generator(seed, "order", stream, stage, epoch).permutation(rows)


def pick(task: Task, stream: AnyStream, name: str, seed: int, stage: int, position: int) -> int:
    """The row of a stream's source, see `Task.rows`, at a position of it: endless passes, each in its own order."""
    rows = task.rows(stream.source)
    epoch, place = divmod(position, len(rows))
    return rows[_permutation(seed, stream.of or name, stage, epoch, len(rows))[place]]


def stream_size(stream: AnyStream, batch: int) -> int:
    """Items of a stream per micro-batch of `batch` labelled ones."""
    return max(1, round(batch * stream.batch))


def draw_step(task: Task, plan: ViewPlan, batch: int, seed: int, stage: int, micro: int) -> HostStep:
    """All streams of micro-batch number `micro` (= step * slots + slot) of a stage: a pure function of the arguments.

    Args:
        task, plan: whose images, and how they are drawn. batch: labelled images of a micro-batch.
        seed: of the training. stage: its number.
    """
    step = HostStep()
    for name, stream in plan.items():
        size = stream_size(stream, batch)
        positions = range(micro * size, (micro + 1) * size)
        step[name] = stream.draw(task, name, plan, seed, stage, positions)
    return step


class Steps(Dataset):
    """Micro-batches of a stage by number, for a DataLoader with any number of workers.

    Args:
        task, plan, batch, seed, stage: what is drawn.
    """

    def __init__(self, task: Task, plan: ViewPlan, batch: int, seed: int = 0, stage: int = 0) -> None:
        self.arguments = (task, plan, batch, seed, stage)

    def __getitem__(self, micro: int) -> HostStep:
        return draw_step(*self.arguments, micro)


def render(step: HostStep, plan: ViewPlan, device: torch.device | str = "cpu") -> Batch:
    """Turn a drawn micro-batch into a `Batch` on the device."""
    device = torch.device(device)
    with torch.no_grad():
        return Batch({name: plan[name].render(host, device) for name, host in step.items()})
