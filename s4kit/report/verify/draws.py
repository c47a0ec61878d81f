"""The same random draws on every device and in every precision, so that only the arithmetic differs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


class SameDraws(TorchDispatchMode):
    """Whatever is drawn inside is drawn on the CPU, in float32 where 16 bits are asked for, and brought to its device.

    A GPU has a generator of its own, and so has each type: the same seed gives other dropout masks. Dropout is drawn as
    a CPU draws it.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func.overloadpacket is torch.ops.aten.native_dropout:
            return _dropout(*args)
        if torch.Tag.nondeterministic_seeded not in func.tags or len(func._schema.returns) != 1:
            return func(*args, **kwargs)  # attention could drop, too; the kit's does not
        first = args[0] if args and isinstance(args[0], Tensor) else None
        device = kwargs.get("device") or (first.device if first is not None else torch.device("cpu"))
        asked = kwargs.get("dtype") or (first.dtype if first is not None else None)
        own = tree_map(_to_host, args)
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
            kwargs.pop("pin_memory", None)
        if kwargs.get("dtype") in WIDE:
            kwargs["dtype"] = WIDE[kwargs["dtype"]]
        drawn = func(*own, **kwargs)
        if func._schema.is_mutable:
            return first.copy_(own[0])
        dtype = asked if drawn.is_floating_point() and asked in WIDE else drawn.dtype
        return drawn.to(device, dtype)


def _to_host(value: Any) -> Any:
    """A tensor's copy on the CPU that may be overwritten."""
    return value.detach().to("cpu", WIDE.get(value.dtype), copy=True) if isinstance(value, Tensor) else value


def _dropout(image: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """`native_dropout`, with the mask that `F.dropout` draws on a CPU."""
    if train is False or p == 0:
        return image.clone(), torch.ones_like(image, dtype=torch.bool)
    keep = torch.empty_like(image, device="cpu", dtype=torch.float32).bernoulli_(1 - p).to(image.device, image.dtype)
    return image * keep / (1 - p), keep.bool()
