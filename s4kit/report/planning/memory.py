"""Peak memory of one training step by PyTorch's own book-keeping, not by what the process happens to hold."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ...data.seeding import mix_seed
from ...data.task import Task
from ...engine import optimise
from ...engine.device import autocast, pick_device, pick_precision
from ...methods.base import Clock, Losses, Method, Optim, Stage
from ...nets import place
from ...views import Batch, HostStep, draw_step, render

CPU = torch.profiler.ProfilerActivity.CPU


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Nothing on the process's stderr: the profiler's C++ side writes there when it starts, also into notebooks."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Peak:
    """Filled when the `with tracked()` block ends: `bytes` is the largest sum of live tensors allocated inside it."""

    bytes: int = 0


@contextmanager
def tracked(device: torch.device | str = "cpu") -> Iterator[Peak]:
    """Measure the peak of what PyTorch allocates inside the block on a device.

    On CUDA this is the caching allocator's counter. On a CPU the profiler reports every allocation and release.
    """
    peak, device = Peak(), torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with _without_chatter(), torch.profiler.profile(activities=[CPU], profile_memory=True) as profile:
        yield peak
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak.bytes = max(peak.bytes, live)


class Stepper:
    """A method's training step outside `fit`: same losses, optimisers and seeds; no files, no evaluation.

    Args:
        progress: where in the training the clock stands, in [0, 1): late enough for every term to be on.
        precision: as of `fit`.

    Attributes:
        clock, stage: of the next step; may be set. The optimisers are those of `specs`, not of the stage.
    """

    def __init__(
        self,
        method: Method,
        task: Task,
        recipe: Optim,
        device: torch.device | str = "cpu",
        progress: float = 0.5,
        precision: str = "auto",
    ) -> None:
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.method = place(method, self.device)
        self.specs = method.optimisers(recipe)
        self.optimisers = optimise.build(self.specs)
        self.clock = Clock(step=int(1000 * progress), steps=1000, epoch_steps=10, overall=progress)
        self.stage = Stage("train")

    def batch(self, drawn: HostStep) -> Batch:
        """Drawn views on the device, as `fit` has them."""
        batch = render(drawn, self.stage.views or self.method.views, self.device)
        return batch.map(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)

    def __call__(self, batch: Batch) -> None:
        """One step; `fit` does the same, in the same order."""
        self.method.train()
        optimise.set_rates(self.optimisers, self.specs, self.clock)
        torch.manual_seed(mix_seed("stepper", self.clock.step))

        def update(losses: Callable[..., Losses], only: str | None = None) -> None:
            for optimiser in self.optimisers.values():
                optimiser.zero_grad(set_to_none=True)
            with autocast(self.device, self.precision):
                total = losses(batch, self.clock).total
            self.scaler.scale(total).backward()
            stepped = [self._optimise(name) for name in self.optimisers if only in (None, name)]
            if any(stepped):
                self.scaler.update()

        if self.stage.losses:
            update(self.stage.losses)
            self.method.after_step(self.clock)
        else:
            self.method.step(update, self.clock)

    def _optimise(self, name: str) -> bool:
        """Step an optimiser; False where no gradient has reached its parameters."""
        optimiser = self.optimisers[name]
        if all(p.grad is None for group in optimiser.param_groups for p in group["params"]):
            return False
        self.scaler.step(optimiser)
        return True


def step_peak(build: Callable[[], Method], task: Task, batch: int, recipe: Optim, device: str = "cpu") -> int:
    """Peak bytes of networks, optimiser state, views, activations and gradients over two steps of a fresh method."""
    with tracked(pick_device(device)) as peak:
        method = build()
        step = Stepper(method, task, recipe, device)
        for number in range(2):  # the second one has the optimiser's state as well
            step(step.batch(draw_step(task, method.views, batch, 0, 0, number)))
    return peak.bytes
