"""A device that computes nothing but knows where every tensor lives.

Under PyTorch's FakeTensorMode tensors have shapes, types and a device, and no values. A step that runs there on a
made-up accelerator has no tensor left on the CPU, since mixing devices raises, and never reads a value from the host,
since there is none: `.item()`, `float(t)`, `if t.any()`, `nonzero`, `unique` and boolean indexing all raise.

Not seen: 0-dimensional CPU tensors, which PyTorch lets mix with any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

DEVICE = torch.device("lazy", 0)


@contextmanager
def no_values() -> Iterator[None]:
    """Inside, every tensor that is made is fake."""
    with FakeTensorMode():
        yield


def on_device(tensor: Tensor) -> Tensor:
    """A fake tensor like this one, on the made-up device (to be called inside `no_values`)."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=DEVICE)


def move(module: nn.Module) -> nn.Module:
    """`module.to(DEVICE)`, which fake tensors do not support: parameters and buffers are replaced one by one."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(on_device(parameter), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = on_device(buffer)
    return module


def step(method: Any, batch: Any, clock: Any) -> Any:
    """One training step without an optimiser on the made-up device; returns the losses."""
    losses = method.train().losses(batch, clock)
    losses.total.backward()
    method.after_step(clock)
    return losses
