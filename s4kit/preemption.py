"""When the machine is wanted for something else: what SIGTERM and SIGUSR1 do, and how it is said to a batch system."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
STATUS = 75  # EX_TEMPFAIL of sysexits.h: the same may be tried again


class Preempted(SystemExit):
    """What was going on is saved, or goes on from before. Not caught, it ends the process with `STATUS`.

    A batch system that sees this status puts the job back into its queue.
    """

    def __init__(self, words: str) -> None:
        super().__init__(STATUS)
        self.words = words


@contextmanager
def preemptible() -> Iterator[None]:
    """One of `SIGNALS` ends what goes on inside by `Preempted`, wherever it is; a training hears them by itself."""

    def leave(number: int, _: Any) -> None:
        words = f"told to stop by {signal.Signals(number).name}"
        print(f"s4kit: {words}", file=sys.stderr)
        raise Preempted(words)

    with listening(leave, SIGNALS):
        yield


@contextmanager
def listening(call: Callable[[int, Any], None], numbers: Sequence[int]) -> Iterator[dict[int, Any]]:
    """`call` hears these signals, in the main thread alone; gives what heard them before and will again."""
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    before = {number: signal.signal(number, call) for number in numbers}
    try:
        yield before
    finally:
        for number, heard in before.items():
            signal.signal(number, heard)
