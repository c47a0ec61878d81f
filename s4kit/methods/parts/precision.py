"""Float32 islands: arithmetic that half precision spoils (log, exp, entropy, quantiles), inside an autocast region."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

P = ParamSpec("P")
R = TypeVar("R")
_HALF = (torch.float16, torch.bfloat16)


def float32(fn: Callable[P, R]) -> Callable[P, R]:
    """Run a part with autocast off and its half-precision tensor arguments in float32.

    Float64 arguments stay as they are, so that gradients can be checked numerically.
    """

    def widen(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.dtype in _HALF else value

    @wraps(fn)
    def island(*args: P.args, **kwargs: P.kwargs) -> R:
        args = [widen(a) for a in args]
        kwargs = {k: widen(v) for k, v in kwargs.items()}
        kind = next((a.device.type for a in args if isinstance(a, Tensor)), "cpu")
        if not is_autocast_available(kind):
            return fn(*args, **kwargs)
        with torch.autocast(kind, enabled=False):
            return fn(*args, **kwargs)

    return island
