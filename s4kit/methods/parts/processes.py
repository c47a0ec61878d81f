"""Statistics over all processes: what a method writes into a buffer must be the same everywhere."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def number_of_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def over_processes(value: Tensor, largest: bool = False) -> Tensor:
    """Sum of a tensor of any shape over all processes, or its largest values; itself where there is one process."""
    if number_of_processes() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
    return value


@torch.no_grad()
def gathered(value: Tensor) -> list[Tensor]:
    """A tensor of each process, in rank order; all have one shape. One process has only its own."""
    if number_of_processes() == 1:
        return [value]
    found = [torch.empty_like(value) for _ in range(number_of_processes())]
    dist.all_gather(found, value.contiguous())
    return found
