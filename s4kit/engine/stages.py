"""From one stage of a training to the next: whole images are looked at, networks begin anew, optimisers go on."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from ..data.seeding import mix_seed
from ..methods.base import Clock
from . import checkpoint, cost, distributed, optimise, threads, trace
from .device import autocast
from .sweep import Sweep


def prepare(training: Any, index: int) -> None:
    """What a stage begins with: its `prepare`, from nothing, then its `restart`. All processes meet.

    Raises:
        Stopped: Ctrl-C has come.
    """
    stage, method, record = training.stages[index][0], training.method, training.record
    chosen, kept = training.chosen, record.kept(index)
    distributed.share_buffers(method)
    if distributed.rank() == 0:
        kept.forget()
        cost.forget(kept.root, training.stages[index][1])
    distributed.meet()
    if stage.prepare:
        random.seed(mix_seed(chosen.seed, "prepare", index))
        torch.manual_seed(mix_seed(chosen.seed, "prepare", index))
        sweep = Sweep(
            replace(training.task, kept=kept),
            record.stream,
            kept,
            chosen.seed,
            training.device,
            training.precision,
            chosen.workers,
            tell=lambda done, of: record.progress.passing(stage.name, done, of),
            asked=lambda: training.stop,
            reveals=method.revealed(),
            step=training.stages[index][1],
        )
        with torch.no_grad(), autocast(training.device, training.precision):
            stage.prepare(sweep)
        sweep.settle()
    if stage.restart:
        _restart(method, stage.restart, checkpoint.load(record.folder / "initial.pt")["method"])
    distributed.meet()


def _restart(method: nn.Module, nets: tuple[nn.Module, ...], initial: dict[str, torch.Tensor]) -> None:
    """The networks as they were before the training, in their state of then."""
    names = {id(module): name for name, module in method.named_modules()}
    for net in nets:
        prefix = f"{names[id(net)]}."
        net.load_state_dict({n.removeprefix(prefix): t for n, t in initial.items() if n.startswith(prefix)})


def carry_over(optimisers: dict[str, Any], left: dict[str, Any], state: dict[str, Any] | None) -> None:
    """Give optimisers what those of the stage before have left, or, right behind a resumption, its checkpoint."""
    for name, optimiser in optimisers.items():
        before = left[name].state_dict() if name in left else ((state or {}).get("optimisers") or {}).get(name)
        if before:
            optimise.restore(optimiser, before)


def rehearse(training: Any, index: int) -> None:
    """Run the losses at the stage's first and last moment and undo it: out of memory shows now, not in an hour."""
    stage, _, steps = training.stages[index]
    method, device = training.method, training.device
    _, batches = next(training.batches(index, 0, 1))
    method.zero_grad(set_to_none=True)  # a loop of one's own may have left some, in another layout
    method.train()

    def run(clock: Clock) -> None:
        training.seed(clock, 0, 0)
        with autocast(device, training.precision):
            training.call(stage.losses or method.losses, batches[0], clock).backward()
        method.zero_grad(set_to_none=True)

    with trace.undone(method):
        first, last = training.clock(index, 0), training.clock(index, steps - 1)
        for clock in dict.fromkeys((first, last)):
            run(clock)
            training.record.rehearse(clock)
        if not training.threads and threads.free(device, training.chosen.steps):
            training.threads = threads.choose(lambda: run(last))
