"""Less memory for more time: what a term needs for its gradient is made again when the backward pass comes to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        ctx.fn = fn
        ctx.save_for_backward(x)
        return fn(x)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor]:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = ctx.fn(x)
        return None, torch.autograd.grad(y, x, upstream)[0]


def recomputed(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`fn(x)` with the same value and gradient, of which nothing but x is kept for the backward pass.

    Args:
        fn: draws nothing, and all else that it uses (banks, other tensors) gets no gradient and must not change before
            the backward pass.
    """
    return _Recomputed.apply(fn, x)
