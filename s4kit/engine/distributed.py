"""Several processes with PyTorch's own means: `torchrun --nproc-per-node=gpu -m s4kit train ...`."""

from __future__ import annotations

import os
import sys
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import S4Error
from ..methods.base import Losses


def world() -> int:
    """Processes that train together; 1 without a group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process among them, from 0."""
    return dist.get_rank() if world() > 1 else 0


def join_world(device: torch.device) -> None:
    """Join the process group that torchrun has announced in the environment; does nothing without one."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and not dist.is_initialized():
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


class Whole(nn.Module):
    """The method with all its networks as one module whose forward is a loss function: what DDP wraps.

    Wrapping a network alone would let `encode` / `decode` bypass the wrapper and skip the gradient average.
    """

    def __init__(self, method: nn.Module) -> None:
        super().__init__()
        self.method = method
        self.out: Losses = Losses()

    def forward(self, losses, batch, clock) -> Tensor:
        self.out = losses(batch, clock)
        return self.out.total


def wrap(method: nn.Module) -> tuple[nn.Module, Whole]:
    """(callable, inner): the callable averages gradients over processes where there are several."""
    inner = Whole(method)
    if world() == 1:
        return inner, inner
    kind = nn.parallel.DistributedDataParallel
    new = "forward_sync_buffers" in signature(kind.__init__).parameters  # the option's name in newer PyTorch
    each_its_own = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    return kind(inner, find_unused_parameters=True, **each_its_own), inner


def share_buffers(module: nn.Module) -> None:
    """Give all processes the buffers (BN statistics) of process 0, before anything is evaluated or saved."""
    if world() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)


def summed(counts: Tensor) -> Tensor:
    """The sum over all processes, in place; a meeting of all of them."""
    if world() > 1:
        dist.all_reduce(counts)
    return counts


def gathered(mine: dict) -> dict:
    """The entries of all processes' dicts; a meeting of all of them."""
    if world() == 1:
        return mine
    parts: list[dict] = [{} for _ in range(world())]
    dist.all_gather_object(parts, mine)
    return {key: value for part in parts for key, value in part.items()}


def highest(number: int, device: torch.device) -> int:
    """The largest of what the processes say; a meeting of all of them."""
    if world() == 1:
        return number
    answer = torch.tensor(int(number), device=device)
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return int(answer)


def same(value: Any) -> Any:
    """The value of process 0, for all."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, 0)
    return box[0]


def agreed(value: int, words: str) -> None:
    """Make sure that all processes have the same value; a meeting of all of them.

    Raises:
        S4Error: with `words`, in the processes whose value differs from that of process 0.
    """
    if same(value) != value:
        raise S4Error(words)


def leave(status: int) -> None:
    """End this process, which is one of several; does nothing in a world of one.

    It ends here and now: taken apart in order, threads of the process group may abort a process whose work is done.
    After a success all have come so far; after a failure nobody waits for answers that will not come: torchrun then
    ends the others, so that nothing hangs.
    """
    if world() == 1:
        return
    if status == 0:
        meet()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def lost(error: BaseException) -> bool:
    """Whether an error only says that another process is gone."""
    said = isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "by peer" in str(error))
    return world() > 1 and said


def meet() -> None:
    """Wait for all processes: one that leaves early takes the others' connections with it."""
    if world() > 1:
        dist.barrier()


def share_state(module: nn.Module) -> None:
    """Give all processes the parameters and buffers of process 0, at the start."""
    if world() > 1:
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor, 0)
