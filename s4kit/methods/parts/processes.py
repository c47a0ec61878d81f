"""Statistics over all processes: what a method writes into a buffer must be the same everywhere."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def over_processes(value: Tensor, largest: bool = False) -> Tensor:
    """Sum of a tensor over all processes, or its largest values; the tensor itself where there is one process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    value = value.clone()
    dist.all_reduce(value, dist.ReduceOp.MAX if largest else dist.ReduceOp.SUM)
    return value
