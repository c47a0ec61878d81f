"""Which GPU a training gets: one each in turn, several on one only as far as the planner says that they fit.

What is to be trained at a time goes into processes of their own, each of which sees one GPU (CUDA_VISIBLE_DEVICES).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import S4Error

if TYPE_CHECKING:
    from ...data.task import Task
    from ..setup import Setup

VISIBLE = "CUDA_VISIBLE_DEVICES"
BUSY = 0.5  # of a GPU's memory in other hands: it is left alone where there is another
ASK = """
import json, torch
print(json.dumps([torch.cuda.mem_get_info(k) for k in range(torch.cuda.device_count())]))
"""


@dataclass(frozen=True)
class Card:
    """A GPU that processes started from here may be given.

    Attributes:
        name: what their CUDA_VISIBLE_DEVICES calls it. free, memory: bytes that nobody holds, and all of them.
    """

    name: str
    free: float
    memory: float


def slots(jobs: int, device: str = "auto", need: Callable[[], float] | None = None) -> list[str | None]:
    """One entry for each training that runs at a time: the GPU that it sees; None = whatever this process would use.

    Args:
        jobs: how many are wanted; 0 = one for each free GPU, one where there is none.
        device: of the trainings. Only "auto" and "cuda" leave the choice: elsewhere they run side by side as they are.
        need: bytes that one of them takes at most on a GPU; asked for where several would share one.

    Raises:
        S4Error: fewer than 0 jobs.
    """
    import torch

    from ...engine.device import pick_device

    if jobs < 0:
        raise S4Error(f"jobs={jobs}: give how many trainings run at a time, or 0 for one on each GPU.")
    if jobs == 1 or device not in ("auto", "cuda") or pick_device(device).type != "cuda":
        return [None] * max(1, jobs)
    if not jobs and torch.cuda.device_count() == 1:
        return [None]
    found = cards()
    share = need() if need and jobs > len(found) else None
    places: list[str | None] = [*place(found, jobs or len(found), share)]
    if jobs > len(places):
        taken = f" of {share / 1e9:.1f} GB each" if share else ""
        print(f"{len(places)} trainings at a time instead of {jobs}: no more{taken} fit.", file=sys.stderr)
    return places


def place(found: Sequence[Card], jobs: int, need: float | None = None) -> list[str]:
    """Names of the GPUs of at most `jobs` trainings: each GPU once, then again those with room for one more.

    GPUs whose memory others hold (more than `BUSY` of it, or what leaves less than `need`) get none; where all of them
    are like that, the one with most room gets one.

    Args:
        need: bytes of a training; None = unknown, and no GPU gets a second one.
    """
    open_to = [card for card in found if card.free >= max(need or 0, (1 - BUSY) * card.memory)]
    if not open_to:
        return [max(found, key=lambda card: card.free).name]
    places: list[str] = []
    for turn in range(1, jobs + 1):
        more = [card.name for card in open_to if turn == 1 or (need and turn * need <= card.free)]
        places += more[: jobs - len(places)]
    return places


def largest(setups: Sequence[Setup], task: Task) -> float:
    """Bytes that the largest of some settled trainings takes on a GPU, by the planner."""
    from ..planning.planner import demand

    return max(demand(chosen.method, task, chosen.options, chosen.fit) for chosen in setups)


def cards() -> list[Card]:
    """The GPUs that PyTorch sees, as they are now; asked in a process of its own, so that this one holds none.

    Raises:
        S4Error: PyTorch cannot ask them.
    """
    asked = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True)
    if asked.returncode:
        raise S4Error(f"The GPUs could not be asked for their memory: {asked.stderr.strip().splitlines()[-1:]}")
    known = json.loads(asked.stdout)
    listed = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    names = listed if len(listed) >= len(known) else [str(k) for k in range(len(known))]
    return [Card(name, free, memory) for name, (free, memory) in zip(names, known)]
