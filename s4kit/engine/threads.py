"""How many threads a training on a CPU gets: timed once, at its start, on steps that are undone.

The threads of one operation wait for the slowest of them. Where a core has other work to do, two threads on two cores
are no faster than one and take the time of both; a small network gives them too little to share.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from ..errors import S4Error
from . import distributed

REPEATS = 3  # passes that are timed with each number of threads
WORTH = 50  # steps: what a shorter training could gain is less than the timing costs
GAIN = 1.1  # twice the threads must be faster by this factor


def asked(threads: int | str) -> int | None:
    """The number that was asked for, None for "auto".

    Raises:
        S4Error: neither "auto" nor a number from 1 on.
    """
    if threads == "auto":
        return None
    if not str(threads).isdigit() or int(threads) < 1:
        raise S4Error(f"threads is 'auto' or a number of threads from 1 on, not {threads!r}.")
    return int(threads)


def again(state: dict[str, Any]) -> int | None:
    """The number of a checkpoint: on another one sums round otherwise, and what is resumed would end elsewhere."""
    return min(state["threads"], os.cpu_count() or 1) if "threads" in state else None


def free(device: torch.device, steps: int) -> bool:
    """Whether timing may choose: on a CPU, in one process, where nobody has set OMP_NUM_THREADS."""
    unsaid = device.type == "cpu" and distributed.world() == 1 and "OMP_NUM_THREADS" not in os.environ
    return unsaid and steps >= WORTH and torch.get_num_threads() > 1


def choose(run: Callable[[], Any]) -> int:
    """Halve the threads as long as `run` gets no slower; from here on they compute. Returns how many there are.

    Args:
        run: a step that leaves no trace.
    """
    most = count = torch.get_num_threads()
    best = _seconds(run, most)
    while count > 1 and (taken := _seconds(run, count // 2)) <= GAIN * best:
        count, best = count // 2, min(best, taken)
    if count < most:
        _say(count, most)
    torch.set_num_threads(count)
    return count


def _seconds(run: Callable[[], Any], count: int) -> float:
    """Of REPEATS times `run` on `count` threads."""
    with on(count):
        began = time.perf_counter()
        for _ in range(REPEATS):
            run()
        return time.perf_counter() - began


@cache
def _say(count: int, most: int) -> None:
    """Once in a session."""
    words = f"Training on {count} of {most} threads: more were no faster when tried (other work, or a small network)."
    print(words, file=sys.stderr)


@contextmanager
def on(count: int | None = None) -> Iterator[None]:
    """Compute on `count` threads (None: as many as now), and on as many as before afterwards. Decorates, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
