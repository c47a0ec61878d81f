"""How far two predictions differ in how they compare PIXELS with each other, class by class (IPixMatch).

Student and teacher logits (B, K, H, W), a mask (B, H, W) bool of the pixels that are compared; the teacher's side gets
no gradient, nor do pixels outside the mask. Both give a scalar: the mean over the images with at least two such pixels,
0 where there is none.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .precision import float32

FAR = -1e30  # a logit that is as good as minus infinity and stays a number


@float32
def spatial_kl(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 / K times the sum over classes of KL(P_c || Q_c), each a softmax over the image's pixels, not over classes.

    A constant on one class's map changes nothing (Shu et al., ICCV 2021, distil channels in this way).
    """
    log_q, log_p = (
        torch.where(mask[:, None], z / temperature, FAR).flatten(2).log_softmax(2) for z in (student, teacher.detach())
    )
    each = (log_p.exp() * (log_p - log_q)).sum(2).mean(1) * temperature**2
    return _mean_over_images(each, mask)


@float32
def class_correlation(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 1.0) -> Tensor:
    """1 - Pearson correlation over the pixels of each class's probabilities, mean over the classes.

    Scale and shift of a class's map change nothing (Huang et al., NeurIPS 2022, distil classes in this way). A class
    whose map the teacher holds constant adds nothing.
    """
    b, a = (((z / temperature).softmax(1)).flatten(2) for z in (student, teacher.detach()))
    m = mask.flatten(1)[:, None].to(a.dtype)
    number = m.sum(2, keepdim=True).clamp(min=1)
    a, b = ((t - (t * m).sum(2, keepdim=True) / number) * m for t in (a, b))
    spread_a, spread_b = (t.square().sum(2) for t in (a, b))
    varies = spread_a > 1e-8
    pearson = (a * b).sum(2) / (spread_a.clamp(min=1e-8) * spread_b.clamp(min=1e-8)).sqrt()
    return _mean_over_images(torch.where(varies, 1 - pearson, 0.0).mean(1), mask)


RELATIONS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "kl": spatial_kl,
    "correlation": class_correlation,
}


def _mean_over_images(each: Tensor, mask: Tensor) -> Tensor:
    counts = (mask.flatten(1).sum(1) >= 2).to(each.dtype)
    return (each * counts).sum() / counts.sum().clamp(min=1)
