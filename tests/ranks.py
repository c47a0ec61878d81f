"""Two processes for the tests of several ranks, forked off one that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp

PRELOADED = ["s4kit.classroom.nursery"]  # as the sandboxes have it: there is one such process only


def both(function: Callable[..., None], *arguments: Any) -> None:
    """Run `function(rank, *arguments)` as ranks 0 and 1 of a job, until both are done.

    Raises:
        ProcessRaisedException, ProcessExitedException: one of them failed; the other was ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    forks = sys.platform == "linux"
    if forks:
        multiprocessing.set_forkserver_preload(PRELOADED)
    mp.start_processes(_one, (port, function, arguments), 2, start_method="forkserver" if forks else "spawn")


def _one(rank: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    function(rank, *arguments)
