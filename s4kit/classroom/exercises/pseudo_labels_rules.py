"""Assignment 2, second half: the loss and the threshold."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
from ._inputs import VOID, labels, logits, padding, shares

# ---- losses and rules ----


def weighted(logits: Tensor, label: Tensor, weight: Tensor, valid: Tensor, over: str = "valid") -> Tensor:
    """Cross entropy times `weight`, over the number of valid pixels, of kept ones or of all."""
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
        Case("the logits are huge", {**inputs(), "logits": 200 * logits(rng)}, edge=True),
    ]


def slips(keep: Any) -> tuple[Mistake, ...]:
    """The usual wrong ways to write a masked cross entropy; `keep` gives the kept pixels of a call's inputs."""

    def each(given: dict[str, Any]) -> Tensor:
        return F.cross_entropy(given["logits"], given["label"], reduction="none")

    def left(given: dict[str, Any]) -> Tensor:
        label = given["label"].masked_fill(~keep(given), VOID)
        return F.cross_entropy(given["logits"], label, ignore_index=VOID)

    def logarithm(given: dict[str, Any]) -> Tensor:
        taken = -given["logits"].softmax(1).log().gather(1, given["label"][:, None])[:, 0]
        return (taken * keep(given) * given["valid"]).sum() / given["valid"].sum().clamp(min=1)

    return (
        Mistake(
            "unsure pixels ignored",
            "ignore_index averages over the pixels that are left: your divisor counts the kept pixels, where all valid "
            "ones belong into it; and padding is taught.",
            lambda **given: left(given),
        ),
        Mistake(
            "plain cross entropy",
            "It is the plain mean: neither what is kept nor what is padding plays a part.",
            lambda **given: each(given).mean(),
        ),
        Mistake(
            "padding in the sum",
            "Padded pixels carry a loss: they are out of the divisor, but not out of the sum.",
            lambda **given: (each(given) * keep(given)).sum() / given["valid"].sum().clamp(min=1),
        ),
        Mistake(
            "0 / 0",
            "Where nothing is valid it is 0 / 0.",
            lambda **given: (each(given) * keep(given) * given["valid"]).sum() / given["valid"].sum(),
        ),
        Mistake(
            "logarithm of a softmax",
            "softmax rounds a small probability to 0, and its logarithm is infinite: cross_entropy takes the logits.",
            lambda **given: logarithm(given),
        ),
    )


LOSS = Exercise(
    key="pseudo_labels.loss",
    asks="FixMatch's term: cross entropy of the kept pixels, divided by the number of valid pixels (0 for none).",
    prototype="loss(logits, label, weight, valid)",
    reference=weighted,
    cases=_loss_cases,
    mistakes=(
        Mistake(
            "mean over kept pixels",
            "Your loss averages over the kept pixels; FixMatch divides by the valid ones, so that few sure "
            "pixels pull less.",
            lambda **given: weighted(**given, over="kept"),
        ),
        Mistake(
            "mean over all pixels",
            "Your loss averages over all pixels; padding belongs out of the divisor.",
            lambda **given: weighted(**given, over="all"),
        ),
        Mistake(
            "padding counts",
            "Padded pixels carry a loss.",
            lambda logits, label, weight, valid: weighted(logits, label, weight, torch.ones_like(valid)),
        ),
        Mistake(
            "weights ignored",
            "Rejected pixels carry a loss.",
            lambda logits, label, weight, valid: weighted(logits, label, torch.ones_like(weight), valid),
        ),
        Mistake(
            "log-softmax twice",
            "The probabilities go through another softmax: cross_entropy wants logits.",
            lambda logits, label, weight, valid: weighted(logits.softmax(1), label, weight, valid),
        ),
        *slips(lambda given: given["weight"] > 0),
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

EXERCISES = [LOSS, THRESHOLD, KEPT]
