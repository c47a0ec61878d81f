"""The trainings of a comparison, one after the other or several at a time; one that fails does not stop the others."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import S4Error
from .. import setup, text
from ..setup import Setup
from . import processes

Job = tuple[Setup, int, Path, bool]  # set-up, seed, folder, whether it continues


def train_all(
    todo: Sequence[Job], total: int, slots: Sequence[str | None], log: Path
) -> tuple[bool, list[dict[str, Any]]]:
    """Train one after the other, or as many at a time as there are slots.

    Args:
        total: number of runs, those that are there included.
        slots: see `placement.slots`.
        log: folder for the traceback of each training that fails, as <method>-seed<seed>.txt.

    Returns:
        Whether the user has stopped it; method, seed and error of each training that failed.
    """
    before = total - len(todo)
    slots = slots[: len(todo)]
    if len(slots) > 1 or (slots and slots[0] is not None):
        return _train_parallel(todo, total, slots, log)
    failed = []
    for number, job in enumerate(todo, before + 1):
        print(f"[{number}/{total}] {job[0].name}, seed {job[1]}", file=sys.stderr)
        found = _train_one(*job, progress=True, log=log)
        _say(found)
        if found.get("interrupted"):
            return True, failed
        failed += [found] if "error" in found else []
    return False, failed


def _train_parallel(
    todo: Sequence[Job], total: int, slots: Sequence[str | None], log: Path
) -> tuple[bool, list[dict[str, Any]]]:
    where = f" on GPU {', '.join(s for s in slots if s is not None)}" if slots[0] is not None else ""
    threads = processes.share(slots)
    print(f"{len(todo)} trainings, {len(slots)} at a time{where} with {threads} thread(s) each", file=sys.stderr)
    done, began, failed = total - len(todo), time.perf_counter(), []
    try:
        with processes.side_by_side(slots) as submit:
            waiting = {submit(_train_one, *job, progress=False, log=log) for job in todo}
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for found in (future.result() for future in ready):
                    done += 1
                    left = (time.perf_counter() - began) / max(1, done - total + len(todo)) * len(waiting)
                    head = f"[{done}/{total}] {found['method']}, seed {found['seed']}: "
                    _say(found, head, f"; about {text.duration(left)} to go" if waiting else "")
                    if found.get("interrupted"):
                        raise KeyboardInterrupt
                    failed += [found] if "error" in found else []
    except KeyboardInterrupt:
        return True, failed
    return False, failed


def _train_one(chosen: Setup, seed: int, folder: Path, resume: bool, progress: bool, log: Path) -> dict[str, Any]:
    """A run's `summary`; or method, seed and error of one that failed, whose traceback goes to a file in `log`."""
    told = log / f"{folder.name}.txt"
    told.unlink(missing_ok=True)
    try:
        seeded = replace(chosen, fit=chosen.fit | {"seed": seed})
        return setup.summary(setup.train(seeded, folder, resume, progress)) | {"method": chosen.name}
    except Exception as error:
        log.mkdir(parents=True, exist_ok=True)
        told.write_text(traceback.format_exc())
        message = str(error) if isinstance(error, S4Error) else f"{type(error).__name__}: {error}"
        return {"method": chosen.name, "seed": seed, "error": message, "traceback": str(told)}


def _say(found: dict[str, Any], head: str = "  ", tail: str = "") -> None:
    if "error" in found:
        print(f"{head}FAILED: {found['error']} ({found['traceback']}){tail}", file=sys.stderr)
    elif not found["interrupted"]:
        scores = f"val {found['score']} {text.percent(found['last'])} (best {text.percent(found['best'])})"
        print(f"{head}{scores}, {text.duration(found['seconds'])}{tail}", file=sys.stderr)
