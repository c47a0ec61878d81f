"""Assignment 2: pseudo-labels: confidence, threshold, coverage against precision."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
from ._inputs import VOID, labels, logits, padding, shares

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
        Case("a confidence equals tau", {"confidence": (8 * shares(rng, 2, 6, 6)).round() / 8, "tau": 0.75}, edge=True),
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
    return (label == truth)[used].float().mean()  # nothing kept: NaN


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

# ---- losses and rules ----


def _loss(logits: Tensor, label: Tensor, weight: Tensor, valid: Tensor, over: str = "valid") -> Tensor:
    each = F.cross_entropy(logits, label, reduction="none") * weight * valid
    divisor = {"valid": valid, "kept": weight * valid, "all": torch.ones_like(valid)}[over].sum()
    return each.sum() / divisor.clamp(min=1)


def _loss_cases(rng: Generator) -> list[Case]:
    def inputs(batch: int = 2, kept: float = 0.5) -> dict[str, Any]:
        weight = (torch.rand(batch, 6, 6, generator=rng) < kept).float()
        return {"logits": logits(rng, batch), "label": labels(rng, batch), "weight": weight, "valid": padding(batch)}

    return [
        Case("nothing is padded", {**inputs(), "valid": torch.ones(2, 6, 6)}),
        Case("a part of an image is padding", inputs()),
        Case("nothing is kept", inputs(kept=0.0), edge=True),
        Case("the batch has one image", inputs(batch=1), edge=True),
        Case("everything is padding", {**inputs(), "valid": torch.zeros(2, 6, 6)}, edge=True),
    ]


LOSS = Exercise(
    key="pseudo_labels.loss",
    asks="FixMatch's term: cross entropy of the kept pixels, divided by the number of valid pixels (0 for none).",
    prototype="loss(logits, label, weight, valid)",
    reference=_loss,
    cases=_loss_cases,
    mistakes=(
        Mistake(
            "mean over kept pixels",
            "Your loss averages over the kept pixels; FixMatch divides by the valid ones, so that few sure "
            "pixels pull less.",
            lambda **given: _loss(**given, over="kept"),
        ),
        Mistake(
            "mean over all pixels",
            "Your loss averages over all pixels; padding belongs out of the divisor.",
            lambda **given: _loss(**given, over="all"),
        ),
        Mistake(
            "padding counts",
            "Padded pixels carry a loss.",
            lambda logits, label, weight, valid: _loss(logits, label, weight, torch.ones_like(valid)),
        ),
        Mistake(
            "weights ignored",
            "Rejected pixels carry a loss.",
            lambda logits, label, weight, valid: _loss(logits, label, torch.ones_like(weight), valid),
        ),
        Mistake(
            "log-softmax twice",
            "The probabilities go through another softmax: cross_entropy wants logits.",
            lambda logits, label, weight, valid: _loss(logits.softmax(1), label, weight, valid),
        ),
    ),
    learns=("logits",),
    picture=("label", "weight", "valid"),
)


def _quantile(confidence: Tensor, share: float) -> Tensor:
    order = confidence.flatten().sort(descending=True).values
    return order[max(0, min(len(order), round(share * len(order))) - 1)]


THRESHOLD = Exercise(
    key="pseudo_labels.threshold_for",
    asks="The threshold at which the `share` surest pixels are kept: the confidence of the n-th surest, with n = "
    "round(share N), at least 1.",
    prototype="threshold_for(confidence, share)",
    reference=_quantile,
    cases=lambda rng: [
        Case("share is 0.25", {"confidence": shares(rng, 2, 6, 6), "share": 0.25}),
        Case("share is 0.8", {"confidence": shares(rng, 2, 6, 6), "share": 0.8}),
        Case("share is 1", {"confidence": shares(rng, 2, 6, 6), "share": 1.0}, edge=True),
        Case("share is next to nothing", {"confidence": shares(rng, 2, 6, 6), "share": 0.001}, edge=True),
    ],
    mistakes=(
        Mistake(
            "the least sure",
            "It keeps all but that share: sort from sure to unsure.",
            lambda confidence, share: _quantile(confidence, 1 - share),
        ),
        Mistake(
            "share used as threshold",
            "The share is not a confidence: look at how the confidences are distributed.",
            lambda confidence, share: torch.as_tensor(share, dtype=confidence.dtype),
        ),
        Mistake(
            "one pixel too many",
            "It keeps one pixel more than asked for: indices count from 0.",
            lambda confidence, share: (
                confidence.flatten()
                .sort(descending=True)
                .values[min(confidence.numel() - 1, round(share * confidence.numel()))]
            ),
        ),
    ),
    picture=("confidence",),
)

# ---- read in the explorer ----

KEPT = Reading(
    key="pseudo_labels.kept",
    asks="Coverage of a recorded image in percent: which share of its pixels is kept at the fixed threshold 0.95?",
    reads=lambda run: 100 * numbers(run, 0.95, image=1)["coverage"],
    tolerance=4.0,
    unit="%",
    run="unimatch",
    mistakes=(
        (lambda run: 100 * (numbers(run, 0.95, image=1)["precision"] or 0.0),
         "That is the precision: the share of the kept pixels that is right. How many are kept is asked."),
        (lambda run: 100 * (1 - numbers(run, 0.95, image=1)["coverage"]), "That is the share that is rejected."),
        (lambda run: 100 * numbers(run, 0.5, image=1)["coverage"], "That is what is kept at 0.5; go back to 0.95."),
        (lambda run: 100 * numbers(run, 0.95, image=1, snapshot=0)["coverage"],
         "That is what the first snapshot says; drag to the last."),
        (lambda run: 100 * numbers(run, 0.95, image=2)["coverage"], "That is another image; they count from 0."),
    ),
)  # fmt: skip

EXERCISES = [PROBABILITIES, PSEUDO, KEEP, COVERAGE, PRECISION, LOSS, THRESHOLD, KEPT]
