"""Assignment 5: U2PL: entropy partition, memory bank, InfoNCE (Wang et al., CVPR 2022)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, labels, logits, shares

# ---- entropy partition ----


def _entropy(logits: Tensor) -> Tensor:
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def _plain_entropy(logits: Tensor) -> Tensor:
    p = logits.softmax(1)
    return -(p * p.log()).sum(1)


ENTROPY = Exercise(
    key="u2pl.entropy",
    asks="The entropy of every pixel's class probabilities in nats, (B, H, W); 0 where the network is certain.",
    prototype="entropy(logits)",
    reference=_entropy,
    cases=lambda rng: [
        Case("the batch is ordinary", {"logits": logits(rng)}),
        Case("all classes are equally likely", {"logits": torch.zeros(2, 4, 6, 6)}),
        Case("the network is certain", {"logits": 300 * logits(rng)}, edge=True),
        Case("there is one class", {"logits": logits(rng, classes=1)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "0 log 0",
            "Where a probability is 0, 0 times log 0 is not a number; add a little inside the log or use log_softmax.",
            _plain_entropy,
        ),
        Mistake("sign", "An entropy is never negative: the minus is missing.", lambda logits: -_entropy(logits)),
        Mistake(
            "bits",
            "Your entropy is in bits (log2); nats are asked for.",
            lambda logits: _entropy(logits) / torch.log(torch.tensor(2.0, dtype=logits.dtype)),
        ),
        Mistake(
            "mean over classes",
            "You average over the classes; an entropy is a sum over them.",
            lambda logits: _entropy(logits) / logits.shape[1],
        ),
    ),
    tolerance=1e-3,
)


def _percent(alpha_0: float, progress: float) -> float:
    return alpha_0 * (1 - progress)


PERCENT = Exercise(
    key="u2pl.percent",
    asks="The percentage of unreliable pixels: alpha_0 at the start, falling linearly to 0 at progress 1.",
    prototype="percent(alpha_0, progress)",
    reference=_percent,
    cases=lambda rng: [
        Case(f"progress is {p}", {"alpha_0": 20.0, "progress": p}, edge=p in (0.0, 1.0))
        for p in (0.1, 0.5, 0.9, 0.0, 1.0)
    ],
    mistakes=(
        Mistake(
            "rising",
            "It rises; as the teacher gets better, fewer pixels are unreliable.",
            lambda alpha_0, progress: alpha_0 * progress,
        ),
        Mistake("constant", "It stays at alpha_0.", lambda alpha_0, progress: alpha_0),
        Mistake(
            "the rest",
            "That is the share of reliable pixels.",
            lambda alpha_0, progress: 100 - alpha_0 * (1 - progress),
        ),
    ),
)


def _unreliable(entropy: Tensor, label: Tensor, percent: float) -> Tensor:
    known = label != VOID
    cut = torch.quantile(entropy[known].float(), 1 - percent / 100).to(entropy.dtype)
    return (entropy >= cut) & known


def _ranked(rng: Generator, void: float = 0.3, percent: float = 20.0) -> dict[str, Any]:
    return {"entropy": shares(rng, 2, 6, 6), "label": labels(rng, void=void), "percent": percent}


UNRELIABLE = Exercise(
    key="u2pl.unreliable",
    asks="True for the `percent` % most uncertain pixels: entropy at or above that quantile of the non-void pixels; "
    "void pixels are False.",
    prototype="unreliable(entropy, label, percent)",
    reference=_unreliable,
    cases=lambda rng: [
        Case("no pixel is void", _ranked(rng, void=0.0)),
        Case("some pixels are void", _ranked(rng, void=0.4)),
        Case("percent is 50", _ranked(rng, percent=50.0), edge=True),
        Case("one pixel is known", _lonely(rng), edge=True),
    ],
    mistakes=(
        Mistake(
            "void in the quantile",
            "Void pixels take part in the quantile; they move the threshold.",
            lambda entropy, label, percent: (entropy >= torch.quantile(entropy, 1 - percent / 100)) & (label != VOID),
        ),
        Mistake(
            "void marked",
            "Void pixels are marked as unreliable; they belong to neither side.",
            lambda entropy, label, percent: entropy >= torch.quantile(entropy[label != VOID], 1 - percent / 100),
        ),
        Mistake(
            "the reliable ones",
            "Those are the most certain pixels.",
            lambda entropy, label, percent: (
                (entropy <= torch.quantile(entropy[label != VOID], percent / 100)) & (label != VOID)
            ),
        ),
        Mistake(
            "percent as a threshold",
            "The percentage is compared with entropies; it says how many, not how uncertain.",
            lambda entropy, label, percent: (entropy >= percent / 100) & (label != VOID),
        ),
    ),
    picture=("entropy", "label"),
)


def _lonely(rng: Generator) -> dict[str, Any]:
    label = torch.full((2, 6, 6), VOID)
    label[1, 2, 2] = 0
    return {"entropy": shares(rng, 2, 6, 6), "label": label, "percent": 20.0}


# ---- the loss of the reliable pixels ----


def _reliable_ce(logits: Tensor, label: Tensor) -> Tensor:
    kept = (label != VOID).sum().clamp(min=1)
    mean = F.cross_entropy(logits, label, ignore_index=VOID, reduction="sum") / kept
    return mean * label.numel() / kept


RELIABLE = Exercise(
    key="u2pl.reliable_loss",
    asks="The cross entropy of the reliable pixels (unreliable ones are 255): their mean, times all pixels / kept "
    "pixels; 0 if none is kept.",
    prototype="reliable_loss(logits, label)",
    reference=_reliable_ce,
    cases=lambda rng: [
        Case("all pixels are reliable", {"logits": logits(rng), "label": labels(rng)}),
        Case("some pixels are unreliable", {"logits": logits(rng), "label": labels(rng, void=0.4)}),
        Case("the batch has one image", {"logits": logits(rng, 1), "label": labels(rng, 1, void=0.4)}, edge=True),
        Case("no pixel is reliable", {"logits": logits(rng), "label": labels(rng, void=1.1)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "no up-weighting",
            "The factor all / kept is missing: the released code multiplies the mean by it.",
            lambda logits, label: (
                F.cross_entropy(logits, label, ignore_index=VOID, reduction="sum") / (label != VOID).sum().clamp(min=1)
            ),
        ),
        Mistake(
            "mean over all pixels",
            "You divide by all pixels; take the mean over the kept ones, then the factor.",
            lambda logits, label: F.cross_entropy(logits, label, ignore_index=VOID, reduction="sum") / label.numel(),
        ),
        Mistake(
            "0 / 0",
            "Where no pixel is kept it is 0 / 0; the loss is 0 then.",
            lambda logits, label: (
                F.cross_entropy(logits, label, ignore_index=VOID) * label.numel() / (label != VOID).sum()
            ),
        ),
    ),
    learns=("logits",),
    picture=("label",),
)

EXERCISES = [ENTROPY, PERCENT, UNRELIABLE, RELIABLE]
