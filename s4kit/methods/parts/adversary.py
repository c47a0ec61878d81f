"""Virtual adversarial noise (Miyato et al., TPAMI 2018, arXiv 1704.03976): the small change that a network feels most.

A step of length xi in a random direction, the gradient of the divergence there, a step of the full radius along it: one
round of power iteration. Near the start the divergence is quadratic, so its gradient is of the order of xi, and of xi^2
where it is taken for the unit direction, as releases do: with their xi of 1e-6 it vanishes in the arithmetic and in the
1e-8 of the normalisation, and no noise is left. Here it is taken for the step itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .distances import kl
from .precision import float32


def length(x: Tensor) -> Tensor:
    """L2 norm of each image (B, ...), as (B, 1, 1, 1)."""
    return x.flatten(1).norm(dim=1).view(-1, *[1] * (x.dim() - 1))


def unit(x: Tensor) -> Tensor:
    """Each image of (B, ...) divided by its L2 norm plus 1e-8."""
    return x / (length(x) + 1e-8)


@float32
def adversarial_noise(
    predict: Callable[[Tensor], Tensor],
    x: Tensor,
    direction: Tensor,
    xi: float | Tensor,
    radius: float | Tensor,
    reference: Tensor | None = None,
) -> Tensor:
    """The change of `x`, of length `radius` per image, that moves `predict` most.

    Args:
        predict: features or images to logits (B, C, H, W); its parameters get no gradient from here, and the caller
            says in which mode it runs.
        x: (B, F, h, w); a constant here.
        direction: like `x`, the random start; its length does not matter.
        xi: length of the trial step. radius: length of the result. Floats, or (B, 1, 1, 1) per image.
        reference: logits to keep away from; None = those at `x`.

    Returns:
        Like `x`, without gradient.
    """
    x = x.detach()
    if reference is None:
        with torch.no_grad():
            reference = predict(x)
    step = (xi * unit(direction)).requires_grad_()
    with torch.enable_grad():
        divergence = kl(predict(x + step), reference.detach()).sum() / len(x)
    return radius * unit(torch.autograd.grad(divergence, step)[0])
