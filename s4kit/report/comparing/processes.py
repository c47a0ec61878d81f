"""Trainings side by side: processes of their own, each with its GPU and its share of the cores."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

from ... import preemption
from .placement import VISIBLE


def share(slots: Sequence[str | None]) -> int:
    """Threads of each of so many processes."""
    return max(1, (os.cpu_count() or 1) // len(slots))


@contextmanager
def side_by_side(slots: Sequence[str | None]) -> Iterator[Callable[..., Future]]:
    """`submit(fn, *args)` into as many processes as there are slots, see `placement.slots`; a process keeps its slot.

    Whatever ends the block before its time (Ctrl-C, a process that was killed) asks the trainings in it to save and
    end, and waits for them.
    """
    # spawn: a fork of a process that has used PyTorch's threads may hang
    context = get_context("spawn")
    places, others = context.SimpleQueue(), set(active_children())
    for slot in slots:
        places.put(slot)
    with ProcessPoolExecutor(len(slots), context, _worker, (share(slots), places)) as pool:
        try:
            yield lambda fn, *args, **more: pool.submit(_apart, fn, *args, **more)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt | preemption.Preempted):
                # what the system has killed once it may kill again
                print("A process ended; the others save and stop, the same command continues them.", file=sys.stderr)
            stop(pool, others)
            raise


def _worker(threads: int, places: Any) -> None:
    """Prepare a process: its GPU, its share of the threads; signals go to the parent, which asks each one to stop."""
    slot = places.get()
    if slot is not None:
        os.environ[VISIBLE] = slot  # before anything asks CUDA
    import torch

    torch.set_num_threads(threads)
    for number in {signal.SIGINT, *preemption.SIGNALS} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)  # `fit` listens while it trains
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _apart(fn: Callable[..., Any], *args: Any, **more: Any) -> Any:
    """`fn` in such a process; one that was told to stop is gone afterwards, as the pool expects of SIGTERM."""
    try:
        return fn(*args, **more)
    except preemption.Preempted:
        os._exit(preemption.STATUS)


def _end_with_parent() -> None:
    """A killed parent must not leave trainings behind that write into the folders of the next one."""
    parent_process().join()
    os._exit(1)


def stop(pool: ProcessPoolExecutor, others: Collection[BaseProcess]) -> None:
    """Ask the running trainings to save and end, again until they have: one may not have begun to listen yet.

    Args:
        others: processes that were there before the pool, and run on.
    """
    pool.shutdown(wait=False, cancel_futures=True)
    while running := [process for process in active_children() if process not in others]:
        for process in running:
            if hasattr(os, "setpgrp") and process.pid:
                os.kill(process.pid, signal.SIGINT)
        time.sleep(0.5)
