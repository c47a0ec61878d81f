"""Assignment 3, the end: the loss and the average train a network, a small one that can be compared to the digit."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...views import paste
from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, labels, mask, shares
from .cutmix_loss import _loss


def network(weights: Tensor, images: Tensor) -> Tensor:
    """Weights (K, 6), images (B, 3, H, W) -> logits (B, K, H, W): each pixel by its colour and its neighbours'."""
    seen = torch.cat([images, F.avg_pool2d(images, 3, 1, 1)], 1)
    return torch.einsum("kc,bchw->bkhw", weights, seen)


def _train(
    weights: Tensor,
    x: Tensor,
    label: Tensor,
    u: Tensor,
    v: Tensor,
    mask: Tensor,
    steps: int,
    lr: float,
    tau: float,
    decay: float,
    *,
    teacher_sees: str = "both",
    teacher_is: str = "average",
    unlabelled: bool = True,
    average_first: bool = False,
    downhill: float = 1.0,
) -> tuple[Tensor, Tensor]:
    student = teacher = weights
    valid = torch.ones_like(label, dtype=weights.dtype)
    mixed = paste(mask, v, u)
    for _ in range(steps):
        told = student if teacher_is == "student" else teacher
        q = paste(mask, network(told, v), network(told, u)) if teacher_sees == "both" else network(told, mixed)
        leaf = student.detach().requires_grad_()
        total = F.cross_entropy(network(leaf, x), label, ignore_index=VOID)
        total = total + (_loss(network(leaf, mixed), q, valid, tau) if unlabelled else 0)
        (slope,) = torch.autograd.grad(total, leaf)
        moved = (student - downhill * lr * slope).detach()
        teacher = decay * teacher + (1 - decay) * (student if average_first else moved)
        student = moved
    return student.detach(), teacher.detach()


def _how(**different: Any) -> Any:
    def train(**inputs: Any) -> tuple[Tensor, Tensor]:
        return _train(**inputs, **different)

    return train


def _cases(rng: Generator) -> list[Case]:
    def one(**more: Any) -> dict[str, Any]:
        pictures = {name: shares(rng, 2, 3, 6, 6) for name in ("x", "u", "v")}
        rest = {"steps": 4, "lr": 5.0, "tau": 0.5, "decay": 0.7}
        drawn = {"weights": 3 * torch.randn(4, 6, generator=rng), "label": labels(rng), "mask": mask(rng)}
        return drawn | pictures | rest | more

    return [
        Case("there are four steps", one()),
        Case("there is one step", one(steps=1)),
        Case("some pixels are void", one(label=labels(rng, void=0.3))),
        Case("there are many steps", one(steps=12, lr=2.0)),
        Case("the teacher is never sure", one(tau=1.1), edge=True),
        Case("there is no step", one(steps=0), edge=True),
    ]


TRAIN = Exercise(
    key="cutmix.train",
    asks="Train a network by your own loss: `steps` steps of gradient descent on the cross entropy of the labelled "
    "images plus the consistency term, the teacher averaged after each. Return (student, teacher).",
    prototype="train(weights, x, label, u, v, mask, steps, lr, tau, decay)",
    reference=_train,
    cases=_cases,
    mistakes=(
        Mistake(
            "labels alone",
            "The unlabelled images change nothing: it is the labelled loss alone that trains your network.",
            _how(unlabelled=False),
        ),
        Mistake(
            "the teacher sees the mixed image",
            "Your teacher looks at the mixed image; it is to look at u and at v whole, and its *answers* are pasted.",
            _how(teacher_sees="mixed"),
        ),
        Mistake(
            "the student is its own teacher",
            "The student gives its own targets; they come from the teacher, the average of the students before.",
            _how(teacher_is="student"),
        ),
        Mistake(
            "the average before the step",
            "Your teacher averages in the student from before the step; it is to be the one that has just learned.",
            _how(average_first=True),
        ),
        Mistake("uphill", "Your steps climb: the weights go against the gradient.", _how(downhill=-1.0)),
    ),
    picture=("label", "mask"),
)

EXERCISES = [TRAIN]
