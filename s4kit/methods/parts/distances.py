"""How far a student's prediction is from a teacher's, pixel by pixel: the consistency terms on offer.

All map student and teacher logits (B, C, H, W) to (B, H, W), summed over classes; the teacher's side is a constant. The
names are those by which methods ask for them; the first five are the ones of CutMix-Seg (French et al., BMVC 2020).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import S4Error, closest
from .precision import float32


@float32
def squared(student: Tensor, teacher: Tensor) -> Tensor:
    """sum_c (p_c - q_c)^2 of the probabilities, between 0 and 2."""
    return (student.softmax(1) - teacher.softmax(1)).square().sum(1)


@float32
def binary(student: Tensor, teacher: Tensor, eps: float = 1e-6) -> Tensor:
    """-sum_c q_c log p_c + (1 - q_c) log(1 - p_c), every class a coin of its own; `eps` keeps the logarithms finite."""
    p, q = student.softmax(1), teacher.softmax(1)
    return -(q * (p + eps).log() + (1 - q) * (1 - p + eps).log()).sum(1)


@float32
def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """(B, H, W) KL(q || p) in nats, of logits (B, C, H, W)."""
    log_q = teacher.log_softmax(1)
    return (log_q.exp() * (log_q - student.log_softmax(1))).sum(1)


@float32
def logits(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the logits, summed and divided by sqrt(C)."""
    return (student - teacher).square().sum(1) / student.shape[1] ** 0.5


@float32
def logits_smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 difference of the logits, summed and divided by sqrt(C)."""
    return F.smooth_l1_loss(student, teacher, reduction="none").sum(1) / student.shape[1] ** 0.5


@float32
def js(student: Tensor, teacher: Tensor, eps: float = 1e-5) -> Tensor:
    """(B, H, W) (KL(m || p) + KL(m || q)) / 2 in nats with m = (p + q) / 2, the order of arguments that CCT's release
    has; of logits (B, C, H, W)."""
    p, q = student.softmax(1), teacher.softmax(1)
    m = (p + q) / 2
    return (torch.xlogy(m, m) - m * (student.log_softmax(1) + (q + eps).log()) / 2).sum(1)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    fn.__name__: fn for fn in (squared, binary, kl, logits, logits_smooth_l1, js)
}


def distance(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of that name: logits (B, C, H, W) of student and teacher to (B, H, W).

    Raises:
        S4Error: there is none.
    """
    if name not in DISTANCES:
        raise S4Error(f"There is no distance {name!r}. {closest(name, list(DISTANCES))}")
    return DISTANCES[name]
