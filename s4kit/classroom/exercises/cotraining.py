"""The lesson on co-training: how far apart two networks are, and what keeps them so (CPCL, CCVC)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...methods.cotraining.ccvc import discrepancy
from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID, eighths, labels


def _maps(rng: Generator, void: float = 0.0, **how: Any) -> dict[str, Tensor]:
    """Two predictions, each wrong on some pixels, and the truth."""
    truth, first = labels(rng, **how), labels(rng, **how)
    second = torch.where(torch.rand(first.shape, generator=rng) < 0.5, first, labels(rng, **how))
    known = torch.rand(truth.shape, generator=rng) >= void
    return {"label_1": first, "label_2": second, "truth": torch.where(known, truth, VOID)}


def _disagreement(label_1: Tensor, label_2: Tensor, truth: Tensor) -> Tensor:
    return (label_1 != label_2)[truth != VOID].float().mean()


DISAGREEMENT = Exercise(
    key="cotraining.disagreement",
    asks="The share, in [0, 1], of all non-void pixels on which two networks say different classes.",
    prototype="disagreement(label_1, label_2, truth)",
    reference=_disagreement,
    cases=lambda rng: [
        Case("no pixel is void", _maps(rng)),
        Case("some pixels are void", _maps(rng, void=0.5)),
        Case("one image is all void", _one_void(rng), edge=True),
    ],
    mistakes=(
        Mistake(
            "void counted",
            "Void pixels are counted, too; what is said on them is no matter.",
            lambda label_1, label_2, truth: (label_1 != label_2).float().mean(),
        ),
        Mistake(
            "void in the divisor",
            "Void pixels are left out of the sum, but not out of the number by which it is divided.",
            lambda label_1, label_2, truth: ((label_1 != label_2) & (truth != VOID)).float().mean(),
        ),
        Mistake(
            "agreement",
            "This is the share on which they agree.",
            lambda label_1, label_2, truth: 1 - _disagreement(label_1, label_2, truth),
        ),
    ),
    picture=("label_1", "label_2", "truth"),
)


def _one_void(rng: Generator) -> dict[str, Tensor]:
    given = _maps(rng, void=0.2)
    given["truth"][0] = VOID
    return given


def _shared(label_1: Tensor, label_2: Tensor, truth: Tensor) -> Tensor:
    wrong = (label_1 != truth) & (truth != VOID)
    return ((label_1 == label_2) & wrong).sum() / wrong.sum().clamp(min=1)


SHARED = Exercise(
    key="cotraining.shared_mistakes",
    asks="Of the non-void pixels that network 1 has wrong, the share on which network 2 says the same class; 0 if none "
    "is wrong.",
    prototype="shared_mistakes(label_1, label_2, truth)",
    reference=_shared,
    cases=lambda rng: [
        Case("no pixel is void", _maps(rng)),
        Case("some pixels are void", _maps(rng, void=0.5)),
        Case("network 1 is right everywhere", (lambda of: {**of, "label_1": of["truth"]})(_maps(rng)), edge=True),
    ],
    mistakes=(
        Mistake(
            "of all pixels",
            "The divisor is all pixels; it should be those that network 1 has wrong.",
            lambda label_1, label_2, truth: (
                ((label_1 == label_2) & (label_1 != truth) & (truth != VOID)).sum() / (truth != VOID).sum()
            ),
        ),
        Mistake(
            "both wrong",
            "Pixels on which both are wrong are counted though they say different classes: these are not shared.",
            lambda label_1, label_2, truth: (
                ((label_2 != truth) & (label_1 != truth) & (truth != VOID)).sum()
                / ((label_1 != truth) & (truth != VOID)).sum().clamp(min=1)
            ),
        ),
        Mistake(
            "void is wrong",
            "On void pixels no class is right, and so they count as mistakes here; they should not count at all.",
            lambda label_1, label_2, truth: (
                ((label_1 == label_2) & (label_1 != truth)).sum() / (label_1 != truth).sum().clamp(min=1)
            ),
        ),
        Mistake(
            "no guard",
            "Nothing wrong makes 0/0; the answer is then 0.",
            lambda label_1, label_2, truth: (
                ((label_1 == label_2) & (label_1 != truth) & (truth != VOID)).sum()
                / ((label_1 != truth) & (truth != VOID)).sum()
            ),
        ),
    ),
    picture=("label_1", "label_2", "truth"),
)


def _union(label_1: Tensor, label_2: Tensor, w: Tensor) -> Tensor:
    return torch.where(w[label_1] > w[label_2], label_1, label_2)


def _disputed(rng: Generator, classes: int = 4) -> dict[str, Tensor]:
    pair = [labels(rng, classes=classes) for _ in "12"]
    return {"label_1": pair[0], "label_2": pair[1], "w": torch.randperm(classes, generator=rng) / 10}


UNION = Exercise(
    key="cotraining.union",
    asks="CPCL's label of the progressive network: of two labels that of the class with the larger w (C,), one value a "
    "class; of equal ones label_2.",
    prototype="union(label_1, label_2, w)",
    reference=_union,
    cases=lambda rng: [
        Case("the classes are disputed differently", _disputed(rng)),
        Case("both networks agree", (lambda of: {**of, "label_2": of["label_1"]})(_disputed(rng))),
        Case("some classes are equally disputed", {**_disputed(rng), "w": eighths(rng, 4).round()}, edge=True),
    ],
    mistakes=(
        Mistake(
            "the smaller one",
            "The class with the smaller w wins: the easy classes. CPCL lets the disputed ones win.",
            lambda label_1, label_2, w: torch.where(w[label_1] < w[label_2], label_1, label_2),
        ),
        Mistake(
            "equal ones to label_1",
            "Of two classes with equal w the first network's is taken.",
            lambda label_1, label_2, w: torch.where(w[label_1] >= w[label_2], label_1, label_2),
        ),
        Mistake(
            "the class index",
            "The larger class index is taken; compare the values of w at the two classes.",
            lambda label_1, label_2, w: torch.maximum(label_1, label_2),
        ),
    ),
    picture=("label_1", "label_2"),
)


def _features(rng: Generator, batch: int = 2) -> dict[str, Tensor]:
    return {name: torch.randn(batch, 5, 4, 4, generator=rng) for name in ("map_1", "map_2")}


def _cosine(map_1: Tensor, map_2: Tensor, axis: int = 1) -> Tensor:
    return F.cosine_similarity(map_1, map_2, dim=axis, eps=1e-6).mean()


APART = Exercise(
    key="cotraining.discrepancy",
    asks="CCVC's term that pushes features (B, D, h, w) apart: half of (1 + mean cosine along D) with map_1 detached, "
    "plus half of it with map_2 detached.",
    prototype="discrepancy(map_1, map_2)",
    reference=lambda map_1, map_2: discrepancy(map_1, map_2),
    cases=lambda rng: [
        Case("the features are ordinary", _features(rng)),
        Case("there is one image", _features(rng, batch=1), edge=True),
        Case("they are opposite", (lambda of: {**of, "map_2": -of["map_1"]})(_features(rng)), edge=True),
    ],
    mistakes=(
        Mistake(
            "the wrong axis",
            "The cosine is taken along the wrong axis; the features are axis 1.",
            lambda map_1, map_2: 1 + _cosine(map_1, map_2, -1),
        ),
        Mistake(
            "without the 1",
            "The 1 is missing: opposite features have 0, and nothing is below.",
            lambda map_1, map_2: (_cosine(map_1.detach(), map_2) + _cosine(map_1, map_2.detach())) / 2,
        ),
        Mistake(
            "towards each other",
            "This falls as the features become alike; they should be pushed apart.",
            lambda map_1, map_2: 2 - discrepancy(map_1, map_2),
        ),
        Mistake(
            "not halved",
            "The two directions are added; it is half of each.",
            lambda map_1, map_2: 2 * discrepancy(map_1, map_2),
        ),
    ),
    learns=("map_1", "map_2"),
)

EXERCISES = [DISAGREEMENT, SHARED, UNION, APART]
