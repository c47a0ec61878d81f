"""The training loop. It knows no method by name: views in, losses out, one backward, the optimisers, `after_step`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.seeding import mix_seed
from ..data.task import Task
from ..errors import S4Error
from ..methods.base import Clock, Losses, Method, Stage
from ..methods.parts import schedules
from ..nets import place, sync_bn
from ..nets.compiled import compile_nets
from ..views import Batch, Steps, ViewPlan, render
from ..views.sampling import HostStep
from . import distributed, guards, images, optimise, threads, trace
from .device import autocast, pick_device, pick_precision, pick_workers
from .evaluate import evaluate
from .reading import loaded
from .recorder import Recorder, folder_of, measure
from .run import Run
from .settings import Settings, pass_steps, sampled, share_out
from .stages import carry_over, prepare, rehearse
from .sweep import Stopped

FLUSH = 20  # steps between two readings of the loss terms from the device


class Training:
    """One training: `Training(...).run()` is what `fit` does."""

    def __init__(
        self, method: Method, task: Task, chosen: Settings, out: Path | None, resume: bool, show: bool
    ) -> None:
        self.method, self.task, self.chosen = method, task, chosen
        self.device = pick_device(chosen.device)
        self.slots = distributed.world() * chosen.accumulate
        self.precision = pick_precision(chosen.precision, self.device)
        if distributed.world() > 1 and self.device.type == "cuda":
            method = self.method = sync_bn(method)
        place(method, self.device)
        if chosen.compile:
            compile_nets(method)
        distributed.share_state(method)
        self.call, self.inner = distributed.wrap(method)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.each = pass_steps(task, chosen)
        self.stages = share_out(method.stages(), chosen.steps, self.each)
        if distributed.rank() == 0:
            guards.check(method, task, [stage.views or method.views for stage, _, _ in self.stages])
        self.trace = trace.Tracer(task, chosen, self.device, self.precision)
        self.done, self.score, self.best = 0, None, -1.0
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        self.turns = {first for stage, first, _ in self.stages if stage.prepare or stage.restart}  # see `stages`
        self.ends = {first for _, first, _ in self.stages if self.turns}  # of the rounds: each is scored where it ends
        self.stop = self.stopped = 0  # why this process is to end, see `guards`; why all have agreed to
        folder = distributed.same(folder_of(out, method, task, chosen, resume))
        self.record = Recorder(folder, method, task, chosen, distributed.rank() == 0, show)
        if resume:
            images.same(folder, task)
        self.threads = threads.asked(chosen.threads)
        self.state = self._restore() if resume else None
        self.record.begin(resume, self.stages)
        if self.state is None and any(stage.restart for stage, _, _ in self.stages):
            self.record.save("initial", {"method": method.state_dict()})

    # ---- the loop ----

    def run(self) -> Run:
        """All stages, from where the checkpoint stands to the end or to a stop; the run that they leave."""
        with threads.on(self.threads), guards.interrupt(self), guards.broken_file(self):
            for index, (stage, first, steps) in enumerate(self.stages):
                if self.stopped or self.done >= first + steps:
                    continue
                try:
                    self._enter(index)
                except Stopped:  # the checkpoint before it stands
                    return self._end()
                with closing(self.batches(index, self.done - first)) as drawn:
                    for step, batches in drawn:
                        clock = self.clock(index, step)
                        self._step(stage, batches, clock)
                        self._between_steps(clock)
                        if self._asked_to_stop():
                            break
            if self.stopped:
                self.save()
        return self._end()

    def _end(self) -> Run:
        self.record.close(self.done, self.score)
        distributed.meet()
        return guards.ended(self, Run(self.record.folder))

    def _asked_to_stop(self) -> int:
        """Why to stop, if so; several processes agree on the step, or one would wait for the others for ever."""
        if distributed.world() == 1 or self.done % FLUSH == 0 or self.done == self.chosen.steps:
            self.stopped = distributed.highest(self.stop, self.device)
        return self.stopped

    def _enter(self, index: int) -> None:
        """Build the stage's optimisers; continue them, or try the stage's first and last moment before it begins."""
        chosen, stage, first = self.chosen, *self.stages[index][:2]
        again = bool(self.state) and self.state["stage"] == index
        if not again and first in self.turns:
            prepare(self, index)
        self.index, plan = index, self.views(stage)
        known = replace(self.task, kept=self.record.kept(index))
        guards.kept_maps(known, plan, stage.name)
        self.record.enter(known)
        self.trace.enter(known)
        self.drawn_from = sampled(known, self.method.sampling(self.task))
        schedule = stage.schedule or schedules.schedule(chosen.schedule, chosen.warmup)
        self.specs = self.method.optimisers(chosen.optim(schedule))
        left, self.optimisers = self.optimisers, optimise.build(self.specs, stage.train)
        if again:
            for name, optimiser in self.optimisers.items():
                optimise.restore(optimiser, self.state["optimisers"][name])
            return
        if not stage.fresh:
            carry_over(self.optimisers, left, self.state)
        rehearse(self, index)
        if first in self.turns:
            self.save()

    def views(self, stage: Stage) -> ViewPlan:
        """The streams of a stage, with the unlabelled batch as the user wants it."""
        plan = stage.views or self.method.views
        if self.chosen.unlabelled_batch is None:
            return plan
        share = self.chosen.unlabelled_batch / self.chosen.batch
        scaled = {n: replace(s, batch=share * s.batch) for n, s in plan.items() if s.source in ("unlabelled", "all")}
        return ViewPlan(**plan | scaled)

    def batches(self, index: int, start: int, amount: int | None = None) -> Iterator[tuple[int, list[Batch]]]:
        """(step, this process's micro-batches) of a stage from step `start` on."""
        stage, _, steps = self.stages[index]
        plan, mine = self.views(stage), self.chosen.accumulate
        wanted = range(start, steps if amount is None else start + amount)
        numbers = [step * self.slots + distributed.rank() * mine + k for step in wanted for k in range(mine)]
        workers = 0 if amount else pick_workers(self.chosen.workers, self.device)
        for source in {self.task.source(stream.source) for stream in plan.values() if workers}:
            if hasattr(source, "reserve"):
                source.reserve()  # forked workers then share one cache
        steps_of = Steps(self.drawn_from, plan, self.chosen.batch, self.chosen.seed, index)
        drawn = loaded(steps_of, numbers, workers, self.device)
        for step in wanted:
            try:
                micros = [next(drawn) for _ in range(mine)]
            except S4Error:
                for k in range(mine):  # once more in this process: a worker's error arrives wrapped in its traceback
                    steps_of[step * self.slots + distributed.rank() * mine + k]
                raise
            yield step, [self._to_device(micro, plan) for micro in micros]

    def _to_device(self, drawn: HostStep, plan: ViewPlan) -> Batch:
        batch = render(drawn, plan, self.device)
        return batch.map(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)

    def clock(self, index: int, step: int) -> Clock:
        """The clock at a step of stage `index`, both counted from 0."""
        _, first, steps = self.stages[index]
        overall = (first + step) / self.chosen.steps
        return Clock(step, steps, self.each["unlabelled"], index, overall, self.score, self.each["labelled"])

    def _step(self, stage: Stage, batches: list[Batch], clock: Clock) -> None:
        """One training step: each `update` is one backward over the micro-batches and one step of the optimisers."""
        self.method.train()
        measured: list[dict[str, Tensor]] = [{} for _ in batches]
        rate, calls = optimise.set_rates(self.optimisers, self.specs, clock), 0

        def update(losses: Any, only: str | None = None) -> None:
            nonlocal calls
            for optimiser in self.optimisers.values():
                optimiser.zero_grad(set_to_none=True)
            for k, batch in enumerate(batches):
                self.seed(clock, k, calls)
                self._backward(losses, batch, clock, last=k == len(batches) - 1)
                measured[k] |= measure(self.inner.out)
                self.inner.out = Losses()  # lets go of the images and logits that it has seen
            stepped = [self._optimise(name) for name in self.optimisers if only in (None, name)]
            if any(stepped):
                self.scaler.update()
            calls += 1

        if stage.losses:
            update(stage.losses)
            self.method.after_step(clock)
        else:
            self.method.step(update, clock)
        self.record.note(clock, self.stages[clock.stage][1] + clock.step, rate, measured)

    def seed(self, clock: Clock, k: int, call: int) -> None:
        """Seed every generator from (seed, stage, step, slot): nothing is stored, so resuming is exact."""
        slot = distributed.rank() * self.chosen.accumulate + k
        seed = mix_seed(self.chosen.seed, clock.stage, clock.step, slot, call)
        torch.manual_seed(seed)
        random.seed(seed)

    def _backward(self, losses: Any, batch: Batch, clock: Clock, last: bool) -> None:
        alone = distributed.world() == 1
        with nullcontext() if last or alone else self.call.no_sync():
            with autocast(self.device, self.precision):
                total = self.call(losses, batch, clock)
            self.scaler.scale(total / self.chosen.accumulate).backward()

    def _optimise(self, name: str) -> bool:
        """Step an optimiser; False where no gradient has reached its parameters."""
        optimiser, clip = self.optimisers[name], self.specs[name].clip
        parameters = [p for group in optimiser.param_groups for p in group["params"]]
        if all(p.grad is None for p in parameters):
            return False
        if clip:
            self.scaler.unscale_(optimiser)
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        self.scaler.step(optimiser)
        return True

    # ---- between steps ----

    def _between_steps(self, clock: Clock) -> None:
        self.done += 1
        final = self.done == self.chosen.steps or self.done in self.ends
        if final or len(self.record.pending) >= FLUSH:
            self._flush()
        if final or self.done % (self.chosen.evaluate_every or max(1, self.chosen.steps // 10)) == 0:
            self._evaluate(clock)
        if final or self.done % self.chosen.checkpoint_every == 0:
            self.save()

    def _flush(self) -> None:
        self.record.flush(partial(guards.not_finite, self), self.score)

    def _evaluate(self, clock: Clock) -> None:
        """Score every predictor on the validation set, look at the probe images, keep the best weights."""
        self._flush()
        distributed.share_buffers(self.method)
        step = self.done - 1
        for number, (name, net) in enumerate(self.method.predictors().items()):
            scores = evaluate(net, self.task, precision=self.precision)
            self.record.scores(step, name, scores)
            if number == 0:
                self.score = scores.headline
        self.record.look(clock, step)
        self.record.norms(step)
        if self.chosen.probes:
            stage = self.stages[clock.stage][0]
            seen = self.trace(self.method, stage, self.views(stage), clock).seen
            self.record.path(seen, self.trace.ids, step)
            self.record.roles(self.trace.casts, step)
        if self.score > self.best:
            self.best = self.score
            self.record.save("best", {"method": self.method.state_dict(), "step": self.done, "score": self.score})

    # ---- checkpoints ----

    def save(self) -> None:
        """Write `last.pt`: everything that a bit-exact continuation needs."""
        self._flush()
        guards.finite_weights(self.method, self.done)
        distributed.share_buffers(self.method)
        state = {
            "method": self.method.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "scaler": self.scaler.state_dict(),
            "threads": self.threads or torch.get_num_threads(),
            "stage": self.index,
            "step": self.done,
            "score": self.score,
            "best": self.best,
        }
        self.record.save("last", state)

    def _restore(self) -> dict[str, Any] | None:
        state = self.record.restore()
        if state:
            self.method.load_state_dict(state["method"])
            if state["scaler"] and self.scaler.is_enabled():
                self.scaler.load_state_dict(state["scaler"])
            self.done, self.score, self.best = state["step"], state["score"], state["best"]
            self.threads = self.threads or threads.again(state)
        words = f"This process finds step {self.done} in {self.record.folder}, the first one another; all must see it."
        distributed.agreed(self.done, words)
        return state
