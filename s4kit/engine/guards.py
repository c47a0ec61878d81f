"""What keeps a training from being lost: checks before it, and an orderly end where something goes wrong."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .. import preemption
from ..data.catalog import some
from ..data.task import Task
from ..errors import S4Error
from ..methods import fitting
from ..methods.base import Clock, Method
from ..views import ViewPlan
from ..views.sampling import pick, stream_size
from . import distributed

INTERRUPTED, PREEMPTED = 1, 2  # why a training is to stop: Ctrl-C; the machine is wanted for something else
TRIED = 64  # labelled and validation images, and of each further list, that are read once before the training


class NotFiniteError(S4Error):
    """A loss term is NaN or infinite; what came of it is not worth a checkpoint."""


def check(method: Method, task: Task, plans: list[ViewPlan]) -> None:
    """Find before the training what can be found: streams without images, unreadable labelled or validation files.

    Raises:
        S4Error: with the stream or the file, and the mend.
    """
    for plan in plans:
        for name, stream in plan.items():
            stream.check(task, name)
            if not task.rows(stream.source):
                raise S4Error(
                    f"{type(method).__name__} learns from {stream.source} images (stream {name!r}), but the task has "
                    "none: label fewer images, add unlabelled ones, or train `supervised`."
                )
    scored_alike(method, task)
    if task.faults:
        raise S4Error(task.faults[0])
    for name in ("labelled", *task.more):
        rows = task.rows(name)
        for row in rows[:: max(1, len(rows) // TRIED)]:
            task.source(name).read(row)
    for row in range(0, len(task.val), max(1, len(task.val) // TRIED)):
        task.val.read(row)


def scored_alike(method: Method, task: Task) -> None:
    """What a method's networks predict must be what the task is scored by.

    Raises:
        S4Error: names what fits.
    """
    own, asked = method.scored_by, type(task.evaluation)
    if own is asked:
        return
    name = getattr(method, "name", type(method).__name__)
    others = fitting(task)
    raise S4Error(
        f"{name} predicts {own.of}, but {task.name} as it is loaded is scored by {asked.of}: train "
        f"{some(others, 4) if others else 'another method'} on it, or give {name} {own.how}."
    )


def kept_maps(task: Task, plan: ViewPlan, stage: str) -> None:
    """Every map that a stage's streams read must have been kept, or be one that the source has, see `Source.maps`, and
    may show of all images of the list.

    Raises:
        S4Error: names the one that is missing.
    """
    there = task.kept.names() if task.kept else []
    named = [(n, stream.source) for stream in plan.values() for n in stream.maps if isinstance(n, str)]
    missing = [n for n, of in named if n not in there and not (n in task.source(of).maps and _all_shown(task, of))]
    if missing:
        own = ", ".join(task.train.maps) or "no map"
        raise S4Error(
            f"The stage {stage!r} reads the map {missing[0]!r}: no `prepare` has kept it of any image, and {task.name} "
            f"comes with {own} of its labelled ones."
        )


def _all_shown(task: Task, source: str) -> bool:
    return task.shown(source).issuperset(task.rows(source))


@contextmanager
def broken_file(training: Any) -> Iterator[None]:
    """A file that turns out broken in mid-training ends it with a checkpoint, so that nothing is lost."""
    try:
        yield
    except NotFiniteError:
        raise
    except S4Error:
        if training.done and distributed.world() == 1:
            training.save()
        raise


def not_finite(training: Any, clock: Clock, step: int, term: str, value: float, k: int) -> None:
    """Stop with the step, the term and the images of micro-batch `k`, which follow from the step's number."""
    chosen, task = training.chosen, training.drawn_from
    micro = clock.step * training.slots + distributed.rank() * chosen.accumulate + k
    images = []
    for name, stream in training.views(training.stages[clock.stage][0]).items():
        size = stream_size(stream, chosen.batch)
        places = range(micro * size, (micro + 1) * size)
        rows = [pick(task, stream, name, chosen.seed, clock.stage, place) for place in places]
        images.append(f"{name}: {', '.join(task.source(stream.source).ids[row] for row in rows)}")
    raise NotFiniteError(
        f"The loss term {term!r} is {value} at step {step} (images {'; '.join(images)}). Lower the learning rate, clip "
        f"the gradients (clip=1.0) or use precision='float32'; {training.record.folder} keeps what came before."
    )


def finite_weights(method: Method, step: int) -> None:
    """A step with a finite loss may still break the weights; such weights must not become a checkpoint."""
    if not torch.stack([p.isfinite().all() for p in method.parameters()]).all():  # one reading of the device
        raise NotFiniteError(
            f"After step {step} some weights are not finite. Lower the learning rate, clip the gradients (clip=1.0) or "
            "use precision='float32'; the last checkpoint is from before."
        )


def deaf(worker: int) -> None:
    """Signals are for the main process alone; the decode workers live on until it has saved."""
    for number in (signal.SIGINT, *preemption.SIGNALS):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def interrupt(training: Any) -> Iterator[None]:
    """Ctrl-C ends the training after the current step, with a checkpoint; a second Ctrl-C ends it at once.

    One of `preemption.SIGNALS` does the same, and no second one hurries: whoever sends them has SIGKILL.
    """

    def ask(number: int, _: Any) -> None:
        training.stop = max(training.stop, INTERRUPTED if number == signal.SIGINT else PREEMPTED)
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    with preemption.listening(ask, (signal.SIGINT, *preemption.SIGNALS)) as before:
        yield


def ended(training: Any, run: Any) -> Any:
    """The `Run` of a training that has saved and left its loop.

    Raises:
        Preempted: it left before its last step because the machine is wanted for something else.
    """
    why = training.stopped or (training.stop if distributed.world() == 1 else 0)  # 0: a stage was being prepared
    run.interrupted = bool(why) and training.done < training.chosen.steps
    if run.interrupted and why == PREEMPTED:
        words = f"told to stop, saved after {training.done} steps; s4kit train --resume {run.path} goes on"
        if distributed.rank() == 0:
            print(f"s4kit: {words}", file=sys.stderr)
        raise preemption.Preempted(words)
    return run
