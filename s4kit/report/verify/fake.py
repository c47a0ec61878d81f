"""A device that computes nothing but knows where every tensor lives, and when a GPU would be waited for.

Under PyTorch's FakeTensorMode tensors have shapes, types and a device, and no values. A step that runs there on a
made-up accelerator has no tensor left on the CPU, since mixing devices raises, and never reads a value from the host,
since there is none: `.item()`, `float(t)`, `if t.any()`, `nonzero`, `unique` and boolean indexing all raise. What needs
no value but makes the host wait for a CUDA device nevertheless is known by its name, see `Waits`.

Not seen: 0-dimensional CPU tensors, which PyTorch lets mix with any device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ...views import Batch, HostStep, ViewPlan, render

DEVICE = torch.device("lazy", 0)
CUDA = torch.device("cuda", 0)  # need not be there
aten = torch.ops.aten
# Kernels that read the device to size their result or to check their input, though a fake tensor lets them pass.
READING = {aten.histc, aten.bincount, aten.equal, aten.nonzero, aten.masked_select, aten.linalg_cholesky}


class WaitError(RuntimeError):
    """An operation makes the host wait until a CUDA device is done."""


class Waits(TorchDispatchMode):
    """Raises where an operation would make the host wait for a CUDA device.

    Copies between host and device that are not `non_blocking`, among them `torch.tensor([...], device=...)`; indices
    that lie on the host; writing through a boolean mask; drawing by weights where PyTorch checks them first.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if why := _reason(func.overloadpacket, args, kwargs):
            raise WaitError(f"{func.overloadpacket.__name__}: {why}, and the host waits for the device")
        return func(*args, **kwargs)


def _reason(op: Any, args: Any, kwargs: dict[str, Any]) -> str:
    """Why an operation waits, or ""."""
    if op is aten._to_copy:
        target = kwargs.get("device") or args[0].device
        return _copied(args[0].device, torch.device(target), kwargs.get("non_blocking", False))
    if op is aten.copy_:
        return _copied(args[1].device, args[0].device, kwargs.get("non_blocking", len(args) > 2 and args[2]))
    if op in (aten.index, aten.index_put_, aten.index_put) and args[0].device.type != "cpu":
        index = [i for i in args[1] if i is not None]
        if any(i.device.type == "cpu" for i in index):
            return "an index lies on the host"
        if any(i.dtype in (torch.bool, torch.uint8) for i in index) and (op is aten.index or args[2].numel() > 1):
            return "a boolean mask is turned into positions"
    if op is aten.multinomial and (args[1] == 1 or not (kwargs.get("replacement", len(args) > 2 and args[2]))):
        return "the weights are checked"
    return "it reads its input" if op in READING and args[0].device.type != "cpu" else ""


def _copied(source: torch.device, target: torch.device, without_waiting: bool) -> str:
    return "" if source == target or without_waiting else f"a copy from {source.type} to {target.type} that blocks"


@contextmanager
def no_values() -> Iterator[None]:
    """Inside, every tensor that is made is fake, and what waits raises."""
    with FakeTensorMode(), Waits():
        yield


@contextmanager
def cuda_autocast(kind: torch.dtype) -> Iterator[None]:
    """As `no_values`, for tensors on `CUDA`, with the types that autocast chooses for each operation there.

    They are not those of a CPU: sums come out in float32, resizing stays in 16 bits. No backward: for that PyTorch asks
    the driver.
    """
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"), torch.is_autocast_cache_enabled()
    _set_autocast(True, kind, False)
    try:
        with FakeTensorMode(), Waits(), torch.backends.cudnn.flags(enabled=False):  # cuDNN would ask the driver, too
            yield
    finally:
        _set_autocast(*before)


def _set_autocast(enabled: bool, kind: torch.dtype, cached: bool) -> None:
    torch.set_autocast_enabled("cuda", enabled)
    torch.set_autocast_dtype("cuda", kind)
    torch.set_autocast_cache_enabled(cached)


def rendered(drawn: HostStep, plan: ViewPlan) -> Batch:
    """The views of what the host has drawn, made on the made-up device; raises where a GPU would be waited for.

    They do not mix with tensors that are made inside `no_values`.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), Waits():
        return render(drawn, plan, DEVICE)


def on_device(tensor: Tensor, device: torch.device = DEVICE) -> Tensor:
    """A fake tensor like this one, on a made-up device (to be called inside `no_values`)."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def move(module: nn.Module, device: torch.device = DEVICE) -> nn.Module:
    """`module.to(device)`, which fake tensors do not support: parameters and buffers are replaced one by one."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(on_device(parameter, device), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = on_device(buffer, device)
    return module


def step(method: Any, batch: Any, clock: Any, of_stage: Any = None) -> Any:
    """One training step without an optimiser on the made-up device, by the method's losses or those of a stage."""
    method.train()
    losses = (of_stage or method.losses)(batch, clock)
    losses.total.backward()
    method.after_step(clock)
    return losses
