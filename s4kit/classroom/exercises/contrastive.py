"""The lesson on the contrastive family: what pulls, what becomes an anchor or a negative, what stands in the centre."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import labels, shares


def _push(scores: Tensor, temperature: float) -> Tensor:
    return (scores / temperature).softmax(1)[:, 1:] / temperature


def _scores(rng: Generator, anchors: int = 3, negatives: int = 5, temperature: float = 0.5) -> dict[str, Any]:
    return {"scores": 2 * shares(rng, anchors, 1 + negatives) - 1, "temperature": temperature}


PUSH = Exercise(
    key="contrastive.push",
    asks="How strongly InfoNCE pushes each negative away: the derivative of each anchor's -log(e^(s+/T) / sum of all "
    "e^(s/T)) by the score s- of each negative, (Q, M); column 0 of the scores (Q, 1 + M) is the positive.",
    prototype="push(scores, temperature)",
    reference=_push,
    cases=lambda rng: [
        Case("the temperature is 0.5", _scores(rng)),
        Case("the temperature is 0.1", _scores(rng, temperature=0.1)),
        Case("the temperature is above 1", _scores(rng, temperature=4.0)),
        Case("there is one negative", _scores(rng, negatives=1), edge=True),
    ],
    mistakes=(
        Mistake(
            "without 1/T",
            "The share is right, but s stands in the exponent as s/T: a factor is missing.",
            lambda scores, temperature: (scores / temperature).softmax(1)[:, 1:],
        ),
        Mistake(
            "positive not in the divisor",
            "The sum in the divisor runs over all columns, the positive included.",
            lambda scores, temperature: (scores[:, 1:] / temperature).softmax(1) / temperature,
        ),
        Mistake(
            "no temperature",
            "The temperature does not enter the softmax.",
            lambda scores, temperature: scores.softmax(1)[:, 1:] / temperature,
        ),
        Mistake(
            "sign",
            "The loss grows with the score of a negative.",
            lambda scores, temperature: -_push(scores, temperature),
        ),
    ),
)


def _anchors(label: Tensor, probability: Tensor, hard: float) -> Tensor:
    return _belongs(label, probability) & (probability < hard).T


def _pixels(rng: Generator, void: float = 0.0, hard: float = 0.6, classes: int = 4) -> dict[str, Any]:
    probability = (3 * torch.randn(30, classes, generator=rng)).softmax(1)
    return {"label": labels(rng, 1, classes, 30, void)[0, 0], "probability": probability, "hard": hard}


def _tied(rng: Generator) -> dict[str, Any]:
    """The first pixel gives its class exactly `hard`."""
    given = _pixels(rng)
    return {**given, "hard": given["probability"][0, given["label"][0]].item()}


def _only_first(rng: Generator) -> dict[str, Any]:
    given = _pixels(rng)
    return {**given, "label": torch.zeros_like(given["label"])}


ANCHORS = Exercise(
    key="contrastive.anchors",
    asks="ReCo's candidates for anchors, (K, N) bool: the pixels labelled k (label (N,), 255 = no label) to whose "
    "class k the student gives less than `hard`; probability is (N, K).",
    prototype="anchors(label, probability, hard)",
    reference=_anchors,
    cases=lambda rng: [
        Case("every pixel has a label", _pixels(rng)),
        Case("some pixels have no label", _pixels(rng, void=0.4)),
        Case("a pixel gives its class exactly `hard`", _tied(rng), edge=True),
        Case("only one class is there", _only_first(rng), edge=True),
        Case("hard is 1", _pixels(rng, void=0.2, hard=1.0), edge=True),
    ],
    mistakes=(
        Mistake(
            "the easy ones",
            "Those are the pixels that the student has learned already.",
            lambda label, probability, hard: _belongs(label, probability) & (probability > hard).T,
        ),
        Mistake(
            "the largest probability",
            "What counts is the probability of the pixel's own class, not the largest one: a pixel that is surely "
            "taken for another class is a hard one.",
            lambda label, probability, hard: _belongs(label, probability) & (probability.max(1).values < hard),
        ),
        Mistake(
            "at the threshold",
            "A probability of exactly `hard` is not below it.",
            lambda label, probability, hard: _belongs(label, probability) & (probability <= hard).T,
        ),
        Mistake(
            "all of the class",
            "These are all pixels of the class; the easy ones should go.",
            lambda label, probability, hard: _belongs(label, probability),
        ),
        Mistake(
            "of any class",
            "A pixel can only be an anchor of the class that it is labelled with.",
            lambda label, probability, hard: (probability < hard).T.contiguous(),
        ),
    ),
)


def _belongs(label: Tensor, probability: Tensor) -> Tensor:
    return label == torch.arange(probability.shape[1], device=label.device)[:, None]


def _share(centre: Tensor, count: Tensor, temperature: float) -> Tensor:
    return _share_of(F.normalize(centre, dim=1), count, temperature)


def _share_of(unit: Tensor, count: Tensor, temperature: float, itself: bool = False, absent: bool = False) -> Tensor:
    closed = torch.zeros(len(unit), len(unit), dtype=torch.bool, device=unit.device)
    closed = closed if itself else closed | torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    closed = closed if absent else closed | (count == 0)
    return (unit @ unit.T / temperature).masked_fill(closed, -torch.inf).softmax(1)


def _centres(rng: Generator, absent: int = 0, temperature: float = 0.5, classes: int = 5) -> dict[str, Any]:
    count = torch.randint(1, 40, (classes,), generator=rng)
    count[:absent] = 0
    return {"centre": shares(rng, classes, 3) - 0.3, "count": count, "temperature": temperature}


SHARE = Exercise(
    key="contrastive.negative_share",
    asks="Of which class ReCo draws a negative, (K, K): in row k the softmax over j of cos(centre_k, centre_j) / T, "
    "with 0 for k itself and for classes without pixels (count (K,) is 0).",
    prototype="negative_share(centre, count, temperature)",
    reference=_share,
    cases=lambda rng: [
        Case("all classes are there", _centres(rng)),
        Case("the temperature is low", _centres(rng, temperature=0.1)),
        Case("one class has no pixels", _centres(rng, absent=1)),
        Case("two classes are there", _centres(rng, absent=3), edge=True),
    ],
    mistakes=(
        Mistake(
            "its own class",
            "A class can be its own negative here, and is its most frequent one.",
            lambda centre, count, temperature: _share_of(F.normalize(centre, dim=1), count, temperature, itself=True),
        ),
        Mistake(
            "absent classes",
            "Classes without pixels get a share; there is nothing of them to draw.",
            lambda centre, count, temperature: _share_of(F.normalize(centre, dim=1), count, temperature, absent=True),
        ),
        Mistake(
            "dot product",
            "These are dot products; the cosine divides by both lengths.",
            lambda centre, count, temperature: _share_of(centre, count, temperature),
        ),
        Mistake(
            "no temperature",
            "The temperature is left out.",
            lambda centre, count, temperature: _share(centre, count, 1.0),
        ),
        Mistake(
            "by number",
            "This draws a class by the number of its pixels; ReCo asks how alike it is, however rare.",
            lambda centre, count, temperature: (
                (count * ~torch.eye(len(count), dtype=torch.bool, device=count.device)).to(centre.dtype)
                / (count.sum() - count).clamp(min=1)[:, None]
            ),
        ),
    ),
)


def _product(mean: Tensor, variance: Tensor) -> Tensor:
    return (mean / variance).sum(0) / (1 / variance).sum(0)


def _gaussians(rng: Generator, pixels: int = 6, alike: bool = False) -> dict[str, Tensor]:
    variance = torch.full((pixels, 4), 0.3) if alike else 0.05 + shares(rng, pixels, 4)
    return {"mean": torch.randn(pixels, 4, generator=rng), "variance": variance}


PRODUCT = Exercise(
    key="contrastive.product",
    asks="PRCL's centre of a class, (D,): the mean of the product of its pixels' Gaussians, given by means and "
    "variances (N, D); every channel for itself.",
    prototype="product(mean, variance)",
    reference=_product,
    cases=lambda rng: [
        Case("some pixels are surer than others", _gaussians(rng)),
        Case("all are equally sure", _gaussians(rng, alike=True)),
        Case("there is one pixel", _gaussians(rng, pixels=1), edge=True),
    ],
    mistakes=(
        Mistake(
            "the plain mean",
            "Every pixel counts the same here; the sure ones should count more.",
            lambda mean, variance: mean.mean(0),
        ),
        Mistake(
            "by the variance",
            "The weights are the variances, so that the most uncertain pixel counts most.",
            lambda mean, variance: (mean * variance).sum(0) / variance.sum(0),
        ),
        Mistake(
            "not divided",
            "The weighted sum is not divided by the sum of the weights.",
            lambda mean, variance: (mean / variance).sum(0),
        ),
        Mistake(
            "by the standard deviation",
            "The weights are 1 / standard deviation; precisions, 1 / variance, add up.",
            lambda mean, variance: (mean / variance.sqrt()).sum(0) / (1 / variance.sqrt()).sum(0),
        ),
    ),
)

EXERCISES = [PUSH, ANCHORS, SHARE, PRODUCT]
