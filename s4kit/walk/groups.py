"""Which notebooks are executed side by side, and where: as many as do not open each other's runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..engine.device import pick_device
from ..preemption import STATUS, Preempted
from ..report.comparing import placement
from . import profiles

OPENS = ("02", "06", "07")  # pages that, with those after them, may open the runs of all before them
LAST = "06"  # the only one that opens what others have trained, where the kit has recordings of the rest


def together(files: Sequence[Path], recorded: bool = False) -> list[list[Path]]:
    """The notebooks in groups whose members open no run that another of the group trains.

    Args:
        recorded: what they share comes with the kit, so that each trains only what no other opens.
    """
    if recorded:
        last = [file for file in files if file.name[:2] == LAST]
        return [group for group in ([file for file in files if file not in last], last) if group]
    groups: list[list[Path]] = [[]]
    for file in files:
        if file.name[:2] in OPENS:
            groups.append([])
        groups[-1].append(file)
    return [group for group in groups if group]


def slots(profile: str, data: str, jobs: int) -> list[str | None]:
    """The GPU of each notebook that is executed at a time, see `placement.slots`."""
    if not jobs and pick_device("auto").type == "cpu":
        jobs = 2 if profile == "cpu" and (os.cpu_count() or 1) > 1 else 1
    return placement.slots(jobs, need=lambda: profiles.demand(profile, data))


def side_by_side(
    one: Callable[[Path, str | None], dict[str, Any]], files: list[Path], slots: Sequence[str | None]
) -> list[dict[str, Any]]:
    """Of each file, one that is alone with all GPUs; an interruption waits for none of them, and a kernel whose parent
    is gone ends by itself."""
    if len(slots) < 2 or len(files) < 2:
        return [one(file, None) for file in files]
    free: SimpleQueue[str | None] = SimpleQueue()
    for slot in slots:
        free.put(slot)

    def placed(file: Path) -> dict[str, Any]:
        slot = free.get()
        try:
            return one(file, slot)
        finally:
            free.put(slot)

    pool = ThreadPoolExecutor(len(slots))
    try:
        return list(pool.map(placed, files))
    except (KeyboardInterrupt, Preempted) as why:
        print("\nStopped; the same command goes on.", file=sys.stderr, flush=True)
        os._exit(STATUS if isinstance(why, Preempted) else 130)
    finally:
        pool.shutdown(wait=False)
