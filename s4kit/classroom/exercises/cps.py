"""Assignment 4: cross pseudo supervision (Chen et al., CVPR 2021)."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Generator, Tensor

from ...views import paste
from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, labels, logits, mask, two_logits

HARD = Exercise(
    key="cps.hard_label",
    asks="The label that one network gives the other: the class of the largest logit, every pixel, no threshold.",
    prototype="hard_label(logits)",
    reference=lambda logits: logits.argmax(1),
    cases=lambda rng: [
        Case("the batch is ordinary", {"logits": logits(rng)}),
        Case("the batch has one image", {"logits": logits(rng, batch=1)}, edge=True),
        Case("there is one class", {"logits": logits(rng, classes=1)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "argmax over the wrong axis",
            "The largest is looked for along the wrong axis: classes are axis 1.",
            lambda logits: logits.argmax(-1),
        ),
        Mistake(
            "unsure pixels void",
            "Unsure pixels become void; CPS has no threshold, every pixel teaches.",
            lambda logits: logits.argmax(1).where(logits.softmax(1).max(1).values >= 0.9, VOID),
        ),
        Mistake(
            "one-hot",
            "A one-hot map is returned; class indices (B, H, W) are asked for.",
            lambda logits: F.one_hot(logits.argmax(1), logits.shape[1]).movedim(-1, 1),
        ),
    ),
)


def _cross(logits_1: Tensor, logits_2: Tensor) -> Tensor:
    y_1, y_2 = logits_1.argmax(1), logits_2.argmax(1)
    return F.cross_entropy(logits_1, y_2) + F.cross_entropy(logits_2, y_1)


def _soft(logits_1: Tensor, logits_2: Tensor) -> Tensor:
    q_1, q_2 = logits_1.detach().softmax(1), logits_2.detach().softmax(1)
    return F.cross_entropy(logits_1, q_2) + F.cross_entropy(logits_2, q_1)


CROSS = Exercise(
    key="cps.cross",
    asks="The CPS term: each network's cross entropy with the other's labels, mean over all pixels, both added.",
    prototype="cross(logits_1, logits_2)",
    reference=_cross,
    cases=lambda rng: [
        Case("the batch is ordinary", two_logits(rng)),
        Case("the batch has one image", two_logits(rng, batch=1), edge=True),
        Case("both networks agree", dict.fromkeys(("logits_1", "logits_2"), logits(rng)), edge=True),
        Case("there is one class", two_logits(rng, classes=1), edge=True),
    ],
    mistakes=(
        Mistake(
            "each its own teacher",
            "Each network is taught by its own labels: it only becomes surer. The labels must cross.",
            lambda logits_1, logits_2: (
                F.cross_entropy(logits_1, logits_1.argmax(1)) + F.cross_entropy(logits_2, logits_2.argmax(1))
            ),
        ),
        Mistake(
            "one direction",
            "Only network 1 is taught; CPS goes both ways.",
            lambda logits_1, logits_2: F.cross_entropy(logits_1, logits_2.argmax(1)),
        ),
        Mistake(
            "halved",
            "The two directions are averaged; CPS adds them.",
            lambda logits_1, logits_2: _cross(logits_1, logits_2) / 2,
        ),
        Mistake(
            "soft labels",
            "The labels are probabilities; CPS takes hard labels, which is what sharpens the networks.",
            _soft,
        ),
    ),
    learns=("logits_1", "logits_2"),
)

SUM = Exercise(
    key="cps.total",
    asks="The loss of a step: both supervised cross entropies (mean over non-void pixels) + weight x the CPS term.",
    prototype="total(x_1, x_2, label, u_1, u_2, weight)",
    reference=lambda x_1, x_2, label, u_1, u_2, weight: _total(x_1, x_2, label, u_1, u_2, weight),
    cases=lambda rng: [
        Case("no pixel is void", _step(rng, 0.0)),
        Case("some pixels are void", _step(rng, 0.4)),
        Case("the weight is 0", {**_step(rng, 0.4), "weight": 0.0}, edge=True),
        Case("more images are unlabelled than labelled", _step(rng, 0.2, unlabelled=3), edge=True),
    ],
    mistakes=(
        Mistake(
            "void counted in the mean",
            "The supervised terms are divided by all pixels; void ones are no part of them.",
            lambda x_1, x_2, label, u_1, u_2, weight: (
                sum(F.cross_entropy(z, label, ignore_index=VOID, reduction="none").mean() for z in (x_1, x_2))
                + weight * _cross(u_1, u_2)
            ),
        ),
        Mistake(
            "weight on everything",
            "The weight multiplies the supervised terms as well.",
            lambda x_1, x_2, label, u_1, u_2, weight: weight * _total(x_1, x_2, label, u_1, u_2, 1.0),
        ),
        Mistake(
            "weight missing",
            "The CPS term is not weighted.",
            lambda x_1, x_2, label, u_1, u_2, weight: _total(x_1, x_2, label, u_1, u_2, 1.0),
        ),
        Mistake(
            "second network unsupervised",
            "Only network 1 sees the true labels; both learn from them.",
            lambda x_1, x_2, label, u_1, u_2, weight: (
                F.cross_entropy(x_1, label, ignore_index=VOID) + weight * _cross(u_1, u_2)
            ),
        ),
    ),
    learns=("x_1", "x_2", "u_1", "u_2"),
    picture=("label",),
)


def _total(x_1: Tensor, x_2: Tensor, label: Tensor, u_1: Tensor, u_2: Tensor, weight: float) -> Tensor:
    supervised = [F.cross_entropy(z, label, ignore_index=VOID) for z in (x_1, x_2)]
    return sum(supervised) + weight * _cross(u_1, u_2)


def _step(rng: Generator, void: float, unlabelled: int = 2) -> dict[str, Any]:
    x, u = two_logits(rng), two_logits(rng, batch=unlabelled)
    return {
        "x_1": x["logits_1"],
        "x_2": x["logits_2"],
        "label": labels(rng, void=void),
        "u_1": u["logits_1"],
        "u_2": u["logits_2"],
        "weight": 1.5,
    }


# ---- CutMix: label first, mix then ----


def _mixed(mask: Tensor, logits_u: Tensor, logits_v: Tensor) -> Tensor:
    return paste(mask, logits_v, logits_u).argmax(1)


MIXED = Exercise(
    key="cps.mixed_label",
    asks="The label of a mixed image from a network's logits on the unmixed ones: v's inside the mask, u's outside.",
    prototype="mixed_label(mask, logits_u, logits_v)",
    reference=_mixed,
    cases=lambda rng: [
        Case("the mask is ordinary", {"mask": mask(rng), "logits_u": logits(rng), "logits_v": logits(rng)}),
        Case(
            "the mask is empty",
            {"mask": mask(rng, share=0.0), "logits_u": logits(rng), "logits_v": logits(rng)},
            edge=True,
        ),
        Case(
            "there are as many images as classes",
            {"mask": mask(rng, batch=4), "logits_u": logits(rng, batch=4), "logits_v": logits(rng, batch=4)},
            edge=True,
        ),
    ],
    mistakes=(
        Mistake(
            "swapped",
            "Inside and outside are swapped.",
            lambda mask, logits_u, logits_v: _mixed(mask, logits_v, logits_u),
        ),
        Mistake(
            "averaged",
            "The two images' logits are averaged; a pixel of the mixed image comes from one of them.",
            lambda mask, logits_u, logits_v: (logits_u + logits_v).argmax(1),
        ),
        Mistake(
            "the mask ignored",
            "The mask is not used: the labels are those of u everywhere.",
            lambda mask, logits_u, logits_v: logits_u.argmax(1),
        ),
    ),
    picture=("mask",),
)

EXERCISES = [HARD, CROSS, SUM, MIXED]
