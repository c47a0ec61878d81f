"""A gradient that is taken in the forward pass, so that what a term was made of is let go at once.

Where the loss that a term is part of is linear in it, as sums and means are, its gradient is known up to a factor as
soon as its value is. So many negatives are gathered once and held only as long as their own class takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Derived(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not ctx.needs_input_grad[1]:
            return fn(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = fn(x)
        ctx.save_for_backward(*torch.autograd.grad(y, x, torch.ones_like(y)))
        return y.detach()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[None, Tensor]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * upstream.reshape(upstream.shape + (1,) * (gradient.dim() - upstream.dim()))


def derived(fn: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """`fn(x)` with the same value and gradient, of which a gradient of the size of x is kept for the backward pass.

    Args:
        fn: gives a scalar, or of x (N, ...) a vector (N,) whose every entry depends on its own row alone. Nothing else
            that it uses gets a gradient.
    """
    return _Derived.apply(fn, x)
