"""The same work on many files, in processes, with bounded memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from ... import preemption
from ...errors import S4Error

CHUNK = 32  # jobs that a process takes at a time
FEW = 200  # jobs that are not worth the start of processes

_work: Callable[[Any], Any]


def each(
    work: Callable[[Any], Any],
    jobs: Sequence[Any],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Any]:
    """`work(job)` for every job, in order; only a few chunks of jobs and results are held at a time.

    Args:
        work: a function of a module, or a `partial` of one.
        jobs: its arguments.
        workers: processes; 0 = none, None = one per core, at most 8, and none for a few jobs.
        progress: called with (done, of how many).

    Raises:
        S4Error: of `work`, or because a process died.
    """
    if workers is None:
        workers = 0 if len(jobs) < FEW else min(8, os.cpu_count() or 1)
    results = map(work, jobs) if workers < 1 else _in_processes(work, jobs, workers)
    for done, result in enumerate(results, 1):
        yield result
        if progress:
            progress(done, len(jobs))


def _in_processes(work: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> Iterator[Any]:
    # Forked processes inherit `work` and what it holds, such as images in memory; spawned ones get a pickled copy.
    how = "fork" if sys.platform == "linux" else "spawn"  # elsewhere forks are absent or unsafe
    context = multiprocessing.get_context(how)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(work,))
    waiting: deque[Future] = deque()
    try:
        for start in range(0, len(jobs), CHUNK):
            waiting.append(pool.submit(_chunk, jobs[start : start + CHUNK]))
            if len(waiting) > 3 * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise S4Error(
            f"One of {workers} processes was killed, most likely because the memory is short. Run the command again "
            "with fewer workers."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[Any], Any]) -> None:
    import torch

    global _work
    _work = work
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    for number in preemption.SIGNALS:
        signal.signal(number, signal.SIG_DFL)  # what the main process does then is not done here as well


def _chunk(jobs: Sequence[Any]) -> list[Any]:
    return [_work(job) for job in jobs]
