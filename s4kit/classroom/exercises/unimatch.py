"""Assignment 6: UniMatch: weak to strong, two streams, feature perturbation (Yang et al., CVPR 2023)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...views import paste
from ..exercise import Case, Exercise, Mistake
from ._inputs import eighths, labels, logits, mask, padding, shares
from .pseudo_labels_rules import slips, weighted

# ---- weak to strong ----


def _flip(label: Tensor, flipped: Tensor) -> Tensor:
    return torch.where(flipped[:, None, None], label.flip(-1), label)


ALIGN = Exercise(
    key="unimatch.align",
    asks="Pseudo-labels (B, H, W) of an image; mirror them where its strong view is mirrored, `flipped` (B,) bool.",
    prototype="align(label, flipped)",
    reference=_flip,
    cases=lambda rng: [
        Case("one of two images is mirrored", {"label": labels(rng), "flipped": torch.tensor([True, False])}),
        Case("both are mirrored", {"label": labels(rng), "flipped": torch.tensor([True, True])}),
        Case("none is mirrored", {"label": labels(rng), "flipped": torch.tensor([False, False])}, edge=True),
        Case(
            "the image is not square", {"label": labels(rng)[:, :4], "flipped": torch.tensor([True, False])}, edge=True
        ),
    ],
    mistakes=(
        Mistake(
            "upside down",
            "It is turned upside down; mirroring reverses the columns, the last axis.",
            lambda label, flipped: torch.where(flipped[:, None, None], label.flip(-2), label),
        ),
        Mistake(
            "all images",
            "All images are mirrored, whether their view is or not.",
            lambda label, flipped: label.flip(-1),
        ),
        Mistake(
            "not at all",
            "Nothing is mirrored: a mirrored view would be taught with labels of the wrong place.",
            lambda label, flipped: label.clone(),
        ),
        Mistake(
            "the batch reversed",
            "The order of the images is reversed; it is the columns that turn.",
            lambda label, flipped: torch.where(flipped[:, None, None], label.flip(0), label),
        ),
    ),
    picture=("label",),
)


def _stream(
    logits: Tensor, label: Tensor, confidence: Tensor, valid: Tensor, tau: float, over: str = "valid"
) -> Tensor:
    keep = (confidence >= tau).to(logits.dtype)
    return weighted(logits, label, keep, valid, over)


def _stream_inputs(rng: Generator, batch: int = 2, tau: float = 0.6) -> dict[str, Any]:
    return {
        "logits": logits(rng, batch),
        "label": labels(rng, batch),
        "confidence": shares(rng, batch, 6, 6),
        "valid": padding(batch),
        "tau": tau,
    }


STREAM = Exercise(
    key="unimatch.stream",
    asks="The loss of one stream: cross entropy where the confidence reaches tau, over the number of valid pixels.",
    prototype="stream(logits, label, confidence, valid, tau)",
    reference=_stream,
    cases=lambda rng: [
        Case("nothing is padded", {**_stream_inputs(rng), "valid": torch.ones(2, 6, 6)}),
        Case("a part of an image is padding", _stream_inputs(rng)),
        Case("tau is 0", _stream_inputs(rng, tau=0.0), edge=True),
        Case("nobody reaches tau", _stream_inputs(rng, tau=1.1), edge=True),
        Case("the batch has one image", _stream_inputs(rng, batch=1), edge=True),
        Case(
            "a confidence equals tau",
            {**_stream_inputs(rng, tau=0.75), "confidence": eighths(rng, 2, 6, 6)},
            edge=True,
        ),
        Case("everything is padding", {**_stream_inputs(rng), "valid": torch.zeros(2, 6, 6)}, edge=True),
        Case("the logits are huge", {**_stream_inputs(rng), "logits": 200 * logits(rng)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "mean over kept pixels",
            "Your loss averages over the kept pixels; the paper's averages over valid ones.",
            lambda **given: _stream(**given, over="kept"),
        ),
        Mistake(
            "mean over all pixels",
            "Your loss averages over all pixels; the paper's averages over valid ones.",
            lambda **given: _stream(**given, over="all"),
        ),
        Mistake(
            "padding counts",
            "Padded pixels carry a loss.",
            lambda logits, label, confidence, valid, tau: _stream(
                logits, label, confidence, torch.ones_like(valid), tau
            ),
        ),
        Mistake(
            "no threshold",
            "Unsure pixels carry a loss.",
            lambda logits, label, confidence, valid, tau: _stream(logits, label, confidence, valid, 0.0),
        ),
        Mistake(
            "weighted by confidence",
            "Kept pixels are weighted by their confidence; here each counts one.",
            lambda logits, label, confidence, valid, tau: (
                (F.cross_entropy(logits, label, reduction="none") * confidence * (confidence >= tau) * valid).sum()
                / valid.sum().clamp(min=1)
            ),
        ),
        Mistake(
            "strictly above",
            "A pixel whose confidence equals tau carries no loss; reaching it is enough.",
            lambda logits, label, confidence, valid, tau: weighted(
                logits, label, (confidence > tau).to(logits.dtype), valid
            ),
        ),
        *slips(lambda given: given["confidence"] >= given["tau"]),
    ),
    learns=("logits",),
    stops=("confidence",),
    picture=("label", "confidence", "valid"),
)

# ---- two streams ----


def _target(mask: Tensor, own: tuple[Tensor, Tensor], partner: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return tuple(paste(mask, v, u) for u, v in zip(own, partner))


TARGET = Exercise(
    key="unimatch.target",
    asks="The target of a mixed strong view: label and confidence, the partner's inside the mask, its own outside.",
    prototype="target(mask, label_u, confidence_u, label_v, confidence_v)",
    reference=lambda mask, label_u, confidence_u, label_v, confidence_v: _target(
        mask, (label_u, confidence_u), (label_v, confidence_v)
    ),
    cases=lambda rng: [
        Case("the mask is ordinary", _pair(rng)),
        Case("the mask is empty", {**_pair(rng), "mask": mask(rng, share=0.0)}, edge=True),
        Case("the mask covers everything", {**_pair(rng), "mask": mask(rng, share=1.1)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "swapped",
            "Inside and outside are swapped: the partner stands inside the box.",
            lambda mask, label_u, confidence_u, label_v, confidence_v: _target(
                mask, (label_v, confidence_v), (label_u, confidence_u)
            ),
        ),
        Mistake(
            "confidence not mixed",
            "The confidence is the image's own everywhere: inside the box the partner's counts.",
            lambda mask, label_u, confidence_u, label_v, confidence_v: (
                paste(mask, label_v, label_u),
                confidence_u.clone(),
            ),
        ),
        Mistake(
            "labels not mixed",
            "The labels are the image's own everywhere, also where another image is pasted in.",
            lambda mask, label_u, confidence_u, label_v, confidence_v: (
                label_u.clone(),
                paste(mask, confidence_v, confidence_u),
            ),
        ),
    ),
    picture=("mask", "label_u", "label_v"),
)


def _pair(rng: Generator) -> dict[str, Tensor]:
    return {
        "mask": mask(rng),
        "label_u": labels(rng),
        "confidence_u": shares(rng, 2, 6, 6),
        "label_v": labels(rng),
        "confidence_v": shares(rng, 2, 6, 6),
    }


# ---- feature perturbation ----


def _drop(features: Tensor, keep: Tensor, p: float) -> Tensor:
    return features * keep[:, :, None, None] / (1 - p)


DROP = Exercise(
    key="unimatch.drop_channels",
    asks="Channel dropout of features (B, D, H, W) with drawn `keep` (B, D) of 0 and 1 and drop probability p, scaled "
    "so that the expected value stays.",
    prototype="drop_channels(features, keep, p)",
    reference=_drop,
    cases=lambda rng: [
        Case("p is 0.5", {"features": shares(rng, 2, 5, 3, 3), "keep": (shares(rng, 2, 5) < 0.5).float(), "p": 0.5}),
        Case("p is 0.2", {"features": shares(rng, 2, 5, 3, 3), "keep": (shares(rng, 2, 5) < 0.8).float(), "p": 0.2}),
        Case(
            "everything is dropped",
            {"features": shares(rng, 2, 5, 3, 3), "keep": torch.zeros(2, 5), "p": 0.5},
            edge=True,
        ),
        Case("p is 0", {"features": shares(rng, 2, 5, 3, 3), "keep": torch.ones(2, 5), "p": 0.0}, edge=True),
    ],
    mistakes=(
        Mistake(
            "not rescaled",
            "The kept channels are not scaled up: the features shrink on average.",
            lambda features, keep, p: features * keep[:, :, None, None],
        ),
        Mistake(
            "scaled the wrong way",
            "The kept channels are scaled down; they have to make up for the dropped ones.",
            lambda features, keep, p: features * keep[:, :, None, None] * (1 - p),
        ),
        Mistake(
            "scaled by p",
            "The kept channels are divided by p; that is the share that is dropped.",
            lambda features, keep, p: features * keep[:, :, None, None] / p,
        ),
    ),
    learns=("features",),
)

EXERCISES = [ALIGN, STREAM, TARGET, DROP]
