"""The trainings of a comparison, one after the other or several at a time; one that fails does not stop the others."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import replace
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

from ..errors import S4Error
from . import setup, text
from .setup import Plan

Job = tuple[Plan, int, Path, bool]  # plan, seed, folder, whether it continues


def train_all(todo: Sequence[Job], total: int, jobs: int, log: Path) -> tuple[bool, list[dict[str, Any]]]:
    """Train one after the other, or `jobs` at a time.

    Args:
        total: number of runs, those that are there included.
        log: folder for the traceback of each training that fails, as <method>-seed<seed>.txt.

    Returns:
        Whether the user has stopped it; method, seed and error of each training that failed.
    """
    before = total - len(todo)
    if jobs > 1 and len(todo) > 1:
        return _train_parallel(todo, total, min(jobs, len(todo)), log)
    failed = []
    for number, job in enumerate(todo, before + 1):
        print(f"[{number}/{total}] {job[0].name}, seed {job[1]}", file=sys.stderr)
        found = _train_one(*job, progress=True, log=log)
        _say(found)
        if found.get("interrupted"):
            return True, failed
        failed += [found] if "error" in found else []
    return False, failed


def _train_parallel(todo: Sequence[Job], total: int, jobs: int, log: Path) -> tuple[bool, list[dict[str, Any]]]:
    threads = max(1, (os.cpu_count() or 1) // jobs)
    print(f"{len(todo)} trainings, {jobs} at a time with {threads} thread(s) each", file=sys.stderr)
    done, began, failed = total - len(todo), time.perf_counter(), []
    # spawn: a fork of a process that has used PyTorch's threads may hang
    with ProcessPoolExecutor(jobs, get_context("spawn"), _worker, (threads,)) as pool:
        waiting = {pool.submit(_train_one, *job, progress=False, log=log) for job in todo}
        try:
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
            _stop(pool)
            return True, failed
        except BaseException:  # a process was killed: what the system does to one it may do to the next
            print("A process ended; the others save and stop, the same command continues them.", file=sys.stderr)
            _stop(pool)
            raise
    return False, failed


def _worker(threads: int) -> None:
    """Prepare a process: its share of the threads; Ctrl-C goes to the parent alone, which asks each one to stop."""
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # `fit` listens while it trains
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed comparison must not leave trainings behind that write into the folders of the next one."""
    parent_process().join()
    os._exit(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    """Ask the running trainings to save and end, again until they have: one may not have begun to listen yet."""
    pool.shutdown(wait=False, cancel_futures=True)
    while running := active_children():
        for process in running:
            if hasattr(os, "setpgrp") and process.pid:
                os.kill(process.pid, signal.SIGINT)
        time.sleep(0.5)


def _train_one(plan: Plan, seed: int, folder: Path, resume: bool, progress: bool, log: Path) -> dict[str, Any]:
    """A run's `summary`; or method, seed and error of one that failed, whose traceback goes to a file in `log`."""
    told = log / f"{folder.name}.txt"
    told.unlink(missing_ok=True)
    try:
        seeded = replace(plan, fit=plan.fit | {"seed": seed})
        return setup.summary(setup.train(seeded, folder, resume, progress)) | {"method": plan.name}
    except Exception as error:
        log.mkdir(parents=True, exist_ok=True)
        told.write_text(traceback.format_exc())
        message = str(error) if isinstance(error, S4Error) else f"{type(error).__name__}: {error}"
        return {"method": plan.name, "seed": seed, "error": message, "traceback": str(told)}


def _say(found: dict[str, Any], head: str = "  ", tail: str = "") -> None:
    if "error" in found:
        print(f"{head}FAILED: {found['error']} ({found['traceback']}){tail}", file=sys.stderr)
    elif not found["interrupted"]:
        scores = f"val mIoU {text.percent(found['miou_last'])} (best {text.percent(found['miou_best'])})"
        print(f"{head}{scores}, {text.duration(found['seconds'])}{tail}", file=sys.stderr)
