"""Assignment 2: pseudo-labels: confidence, threshold, coverage against precision."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, eighths, labels, logits, padding, shares

# ---- from logits to pseudo-labels ----

PROBABILITIES = Exercise(
    key="pseudo_labels.probabilities",
    asks="The class probabilities of every pixel from the logits (B, C, H, W).",
    prototype="probabilities(logits)",
    reference=lambda logits: logits.softmax(1),
    cases=lambda rng: [
        Case("the batch is ordinary", {"logits": logits(rng)}),
        Case("there are as many classes as rows", {"logits": logits(rng, classes=6)}),
        Case("the logits are huge", {"logits": 400 * logits(rng)}, edge=True),
        Case("there is one class", {"logits": logits(rng, classes=1)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "softmax over the wrong axis",
            "A pixel's probabilities do not add up to one: softmax runs over the class axis, 1.",
            lambda logits: logits.softmax(-1),
        ),
        Mistake(
            "sigmoid",
            "Sigmoid asks each class alone, and a pixel's numbers do not add up to one; classes exclude each other.",
            lambda logits: logits.sigmoid(),
        ),
        Mistake(
            "exponentials overflow",
            "exp of a large logit overflows to inf / inf; take off the largest logit first, as softmax does.",
            lambda logits: logits.exp() / logits.exp().sum(1, keepdim=True),
        ),
    ),
    learns=("logits",),
)


def _label(logits: Tensor) -> tuple[Tensor, Tensor]:
    confidence, label = logits.detach().softmax(1).max(1)
    return label, confidence


PSEUDO = Exercise(
    key="pseudo_labels.pseudo",
    asks="Pseudo-labels of the logits: (label, confidence), both (B, H, W), as targets without gradient.",
    prototype="pseudo(logits)",
    reference=_label,
    cases=lambda rng: [
        Case("the batch is ordinary", {"logits": logits(rng)}),
        Case("the batch has one image", {"logits": logits(rng, batch=1)}, edge=True),
        Case("there is one class", {"logits": logits(rng, classes=1)}, edge=True),
        Case("all logits are equal", {"logits": torch.zeros(2, 4, 6, 6)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "logits as confidence",
            "Your confidence is a logit; it is the largest probability, between 1/C and 1.",
            lambda logits: (logits.argmax(1), logits.detach().max(1).values),
        ),
        Mistake("swapped", "Label and confidence come in the other order.", lambda logits: _label(logits)[::-1]),
        Mistake(
            "softmax over the wrong axis",
            "The confidence is no probability of a class: softmax runs over the class axis, 1.",
            lambda logits: (logits.argmax(1), logits.detach().softmax(-1).max(1).values),
        ),
    ),
    stops=("logits",),
)

KEEP = Exercise(
    key="pseudo_labels.keep",
    asks="The weight of each pixel under a fixed threshold: 1.0 where the confidence reaches tau, else 0.0.",
    prototype="keep(confidence, tau)",
    reference=lambda confidence, tau: (confidence >= tau).to(confidence.dtype),
    cases=lambda rng: [
        Case("tau is 0.6", {"confidence": shares(rng, 2, 6, 6), "tau": 0.6}),
        Case(
            "tau is 0",
            {"confidence": shares(rng, 2, 6, 6) * (torch.rand(2, 6, 6, generator=rng) > 0.2), "tau": 0.0},
            edge=True,
        ),
        Case("a confidence equals tau", {"confidence": eighths(rng, 2, 6, 6), "tau": 0.75}, edge=True),
        Case("nobody reaches tau", {"confidence": 0.9 * shares(rng, 2, 6, 6), "tau": 0.95}, edge=True),
    ],
    mistakes=(
        Mistake(
            "strictly above",
            "A pixel whose confidence equals tau is dropped; reaching it is enough.",
            lambda confidence, tau: (confidence > tau).to(confidence.dtype),
        ),
        Mistake(
            "the unsure kept",
            "It keeps the pixels below the threshold: the sure ones are to be kept.",
            lambda confidence, tau: (confidence < tau).to(confidence.dtype),
        ),
        Mistake(
            "confidence as weight",
            "Kept pixels are weighted by their confidence; here each counts one.",
            lambda confidence, tau: confidence * (confidence >= tau),
        ),
    ),
    picture=("confidence",),
)

# ---- coverage against precision ----


def _graded(rng: Generator, void: float = 0.2, kept: float = 0.5, batch: int = 2) -> dict[str, Tensor]:
    truth = labels(rng, batch=batch, void=void)
    right = (torch.rand(truth.shape, generator=rng) < 0.7) & (truth != VOID)
    return {
        "label": torch.where(right, truth, labels(rng, batch=batch)),
        "weight": (torch.rand(truth.shape, generator=rng) < kept).float(),
        "truth": truth,
    }


def _coverage(weight: Tensor, valid: Tensor) -> Tensor:
    return (weight * valid).sum() / valid.sum()


COVERAGE = Exercise(
    key="pseudo_labels.coverage",
    asks="The share of the valid pixels (padding is 0 in `valid`) that is kept.",
    prototype="coverage(weight, valid)",
    reference=_coverage,
    cases=lambda rng: [
        Case("nothing is padded", {"weight": _graded(rng)["weight"], "valid": torch.ones(2, 6, 6)}),
        Case("a part of an image is padding", {"weight": _graded(rng)["weight"], "valid": padding()}),
        Case("nothing is kept", {"weight": torch.zeros(2, 6, 6), "valid": padding()}, edge=True),
        Case("everything is kept", {"weight": torch.ones(2, 6, 6), "valid": padding(columns=4)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "padding in the divisor",
            "You divide by all pixels; padding can't be kept, leave it out of the divisor too.",
            lambda weight, valid: (weight * valid).mean(),
        ),
        Mistake("padding counted", "Padded pixels count as if they were image.", lambda weight, valid: weight.mean()),
        Mistake(
            "mean over images",
            "You average the images' shares; an image that is half padding then counts in full.",
            lambda weight, valid: ((weight * valid).sum((1, 2)) / valid.sum((1, 2))).mean(),
        ),
    ),
    picture=("weight", "valid"),
)


def _precision(label: Tensor, weight: Tensor, truth: Tensor) -> Tensor:
    used = (weight > 0) & (truth != VOID)
    return (label == truth)[used].to(weight.dtype).mean()  # nothing kept: NaN


PRECISION = Exercise(
    key="pseudo_labels.precision",
    asks="Of the kept pixels whose truth is known, the share with the right pseudo-label; NaN if there are none.",
    prototype="precision(label, weight, truth)",
    reference=_precision,
    cases=lambda rng: [
        Case("no pixel is void", _graded(rng, void=0.0)),
        Case("some pixels are void", _graded(rng, void=0.4)),
        Case("nothing is kept", _graded(rng, kept=0.0), edge=True),
        Case("everything is kept", _graded(rng, kept=1.1), edge=True),
        Case("the batch has one image", _graded(rng, batch=1), edge=True),
    ],
    mistakes=(
        Mistake(
            "void counted as wrong",
            "Kept pixels of unknown truth count as wrong; nobody knows whether they are. Leave them out.",
            lambda label, weight, truth: (label == truth)[weight > 0].float().mean(),
        ),
        Mistake(
            "accuracy of all",
            "You count rejected pixels too; precision looks at the kept ones only.",
            lambda label, weight, truth: (label == truth)[truth != VOID].float().mean(),
        ),
        Mistake(
            "recall",
            "You divide by all known pixels: that falls when fewer are kept. Divide by the kept ones.",
            lambda label, weight, truth: (
                ((label == truth) & (weight > 0) & (truth != VOID)).sum() / (truth != VOID).sum()
            ),
        ),
        Mistake(
            "0 for nothing",
            "Where nothing is kept there is no precision: NaN, not 0.",
            lambda label, weight, truth: _precision(label, weight, truth).nan_to_num(0.0),
        ),
    ),
    picture=("label", "weight", "truth"),
)

EXERCISES = [PROBABILITIES, PSEUDO, KEEP, COVERAGE, PRECISION]
