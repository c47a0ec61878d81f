"""Where to compute and how precisely."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import nullcontext
from typing import Any

import torch

from ..errors import S4Error

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(device: torch.device | str | None = "auto") -> torch.device:
    """The device for "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1".

    Raises:
        S4Error: no such device, one that this machine does not have, or one on which the kit does not compute.
    """
    if isinstance(device, torch.device):
        return device
    if device in (None, "auto"):
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise S4Error(f"There is no device {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:1'.") from error
    if found.type not in ("cpu", "cuda", "mps"):
        raise S4Error(f"The kit does not compute on {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:1'.")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise S4Error("The device 'mps' was asked for, but PyTorch sees no Apple GPU; use device='cpu' or 'auto'.")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise S4Error(f"The device {device!r} was asked for, but PyTorch sees no CUDA GPU; use device='cpu' or 'auto'.")
    if found.type == "cuda" and found.index is None:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    return found


def pick_precision(precision: str, device: torch.device) -> str:
    """ "auto" is float32 on a CPU, bf16 where the GPU has it in hardware (a T4 only emulates it), else fp16.

    Raises:
        S4Error: no such precision.
    """
    if precision not in ("auto", "float32", *_DTYPES):
        raise S4Error(f"precision is 'auto', 'float32', 'bf16' or 'fp16', not {precision!r}.")
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "float32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(device: torch.device, precision: str) -> Any:
    """The autocast context of a precision; nothing for float32.

    Without the weight cache: in older PyTorch a weight that is first used under `no_grad` (a teaching forward) is kept
    in half precision without its gradient, and the training forward that follows reaches no weight at all.
    """
    if precision not in _DTYPES:
        return nullcontext()
    return torch.autocast(device.type, _DTYPES[precision], cache_enabled=False)


def pick_workers(workers: int | str, device: torch.device) -> int:
    """Decode workers: none on a CPU (they would take its cores) and in notebooks on Windows and macOS, two on Colab.

    Raises:
        S4Error: neither "auto" nor a number.
    """
    if workers != "auto":
        if not str(workers).isdigit():
            raise S4Error(f"workers is 'auto' or a number of decode processes, not {workers!r}.")
        return int(workers)
    if "google.colab" in sys.modules:
        return 2
    notebook = "ipykernel" in sys.modules
    if device.type == "cpu" or (notebook and platform.system() in ("Windows", "Darwin")):
        return 0
    return min(8, max(2, (os.cpu_count() or 2) // 2))
