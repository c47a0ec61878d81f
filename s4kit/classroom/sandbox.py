"""Run a student's cells and call their functions in a process that cannot hurt: killed when it is too slow or dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .answer import Answer
from .confine import Limits
from .exercise import Case
from .worker import LIMIT, encode, read, read_answer, serve


class Stopped(Exception):
    """The process is gone; the words say why."""


class TooLong(Stopped):
    """It took more time than it may."""


class NotStarted(Exception):
    """The process could not even begin: no fault of the student's."""


TICK = 0.1  # seconds between two looks at the clock
PATIENCE = 10  # a limit ends after this many times its length, however little of it counted


class Sandbox:
    """A confined process with a throw-away folder.

    Attributes:
        denied: what the system has really denied it, in words.
        left: seconds that its cells may still take together.
    """

    def __init__(self, limits: Limits | None = None, files: Path | None = None) -> None:
        """`files`: a folder of which it gets a copy to work in."""
        self.limits = limits or Limits()
        self.folder = Path(tempfile.mkdtemp(prefix="s4kit-"))
        if files is not None:
            shutil.copytree(files, self.folder, dirs_exist_ok=True)
        self.denied: list[str] = []
        self.left = self.limits.seconds
        self._process: Any = None

    def __enter__(self) -> Sandbox:
        context = _nursery()
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, str(self.folder), self.limits), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.denied = list(self._ask(None, 60.0)[0]["denied"])
        except Stopped as error:
            raise NotStarted(f"the process for its code did not start ({error})") from None
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cell(self, source: str, place: str = "cell") -> str:
        """Run a cell; returns its error in words, "" if there is none."""
        return str(self._ask(("cell", source, place), self.left, cell=True)[0]["error"])

    def call(self, name: str, case: Case, learns: tuple = (), stops: tuple = (), foreign: bool = False) -> Answer:
        """Call a function of the notebook with a case's inputs."""
        message = ("call", name, encode(case.inputs), learns, stops, foreign)
        try:
            return read_answer(*self._ask(message, self.limits.call))
        except (KeyError, TypeError, ValueError):
            raise self._end("it sent something that is no answer") from None

    def value(self, name: str) -> float | None:
        """A number that the notebook has set."""
        found = self._ask(("value", name), self.limits.call)[0].get("value")
        return float(found) if isinstance(found, int | float) else None

    def output(self, length: int = 2000) -> str:
        """The end of what was printed."""
        with contextlib.suppress(OSError):
            return (self.folder / "output.txt").read_text(errors="replace")[-length:]
        return ""

    @property
    def ended(self) -> bool:
        """Whether its process is gone."""
        return self._process is None

    def kill(self) -> None:
        """End the process and all that it has started."""
        if self._process is None:
            return
        for pid in (*_children(self._process.pid), self._process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        self._process.join(5)
        self._channel.close()
        self._process = None

    def _ask(self, message: tuple | None, seconds: float, cell: bool = False) -> tuple[dict, dict]:
        if self._process is None:
            raise Stopped("its process was stopped before")
        try:
            if message is not None:
                self._channel.send(message)
            used = self._wait(seconds)
            if cell:
                self.left -= used
            if used >= seconds:
                self.kill()
                raise TooLong(f"it took longer than {self.limits.seconds if cell else seconds:.0f} s")
            return read(self._channel.recv_bytes(LIMIT))
        except (EOFError, ConnectionError, BrokenPipeError):
            raise self._end("its process ended by itself (memory, sys.exit or a crash)") from None
        except (OSError, ValueError, KeyError, TypeError):
            raise self._end("it sent something that is no answer") from None

    def _wait(self, seconds: float) -> float:
        """Wait for the next message; returns the seconds that count, `seconds` if none came in time.

        What counts is the time in which the process computed or slept. That a busy machine let it wait for a core or
        a disk is not its fault.
        """
        clock, ends, used = _Clock(self._process.pid), time.monotonic() + PATIENCE * seconds, 0.0
        while used < seconds and time.monotonic() < ends:
            if self._channel.poll(TICK):
                return min(used + clock.tick(), seconds - 1e-3)
            used += clock.tick()
            if len(_children(clock.pid)) > self.limits.processes:  # where the system does not count an administrator's
                raise self._end("it started too many processes")
        return seconds

    def _end(self, words: str) -> Stopped:
        self.kill()
        return Stopped(words)


def _nursery() -> Any:
    """Processes are forked off a clean one that has imported what all need; elsewhere they start from nothing."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["s4kit.classroom.nursery"])
    return context


class _Clock:
    """Measures how long a process computed or slept; where the system does not tell, how long it took."""

    def __init__(self, pid: int) -> None:
        self.pid = (*_children(pid), pid)[0]  # the inner one runs the code, the outer one waits for it
        self._before = time.monotonic(), self._look()[1]

    def tick(self) -> float:
        """Seconds since the last tick."""
        now, (state, computed) = time.monotonic(), self._look()
        took, computing = now - self._before[0], computed - self._before[1]
        self._before = now, computed
        if state == "S":
            return min(took, 2 * TICK)  # longer, and it was this process that had to wait
        return min(took, computing) if state else took

    def _look(self) -> tuple[str, float]:
        """The state ("R" ready, "S" asleep, "D" waits for a disk) and the seconds that it has computed."""
        with contextlib.suppress(OSError, ValueError):
            about = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return about[0], (int(about[11]) + int(about[12])) / os.sysconf("SC_CLK_TCK")
        return "", 0.0


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError, ValueError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
