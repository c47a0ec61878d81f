"""Assignment 6, second half: all streams together, and what they do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
from ._inputs import logits, shares, sure

# ---- the whole ----


def _total(x: Tensor, s1: Tensor, s2: Tensor, fp: Tensor) -> Tensor:
    return (x + 0.25 * s1 + 0.25 * s2 + 0.5 * fp) / 2


def _terms(rng: Generator) -> dict[str, Tensor]:
    return {name: shares(rng, 1)[0] for name in ("x", "s1", "s2", "fp")}


TOTAL = Exercise(
    key="unimatch.total",
    asks="The whole loss from its four terms: (x + s1 / 4 + s2 / 4 + fp / 2) / 2.",
    prototype="total(x, s1, s2, fp)",
    reference=_total,
    cases=lambda rng: [
        Case("all terms are positive", _terms(rng)),
        Case(
            "the unlabelled terms are 0",
            {**_terms(rng), **dict.fromkeys(("s1", "s2", "fp"), torch.tensor(0.0))},
            edge=True,
        ),
    ],
    mistakes=(
        Mistake(
            "not halved",
            "The sum is not halved: its learning rate is that of a mean of supervised and unlabelled loss.",
            lambda x, s1, s2, fp: 2 * _total(x, s1, s2, fp),
        ),
        Mistake(
            "equal weights",
            "The three unlabelled streams have equal weights; the features' stream weighs as much as both images'.",
            lambda x, s1, s2, fp: (x + (s1 + s2 + fp) / 3) / 2,
        ),
        Mistake(
            "streams in full",
            "Each strong stream counts in full; together they have the weight of FixMatch's one, halved.",
            lambda x, s1, s2, fp: (x + s1 + s2 + fp) / 2,
        ),
        Mistake(
            "a plain sum",
            "All four are added in full: each has its weight, and the whole is halved.",
            lambda x, s1, s2, fp: x + s1 + s2 + fp,
        ),
    ),
    learns=("x", "s1", "s2", "fp"),
)


def _agree(weak_logits: Tensor, strong_logits: Tensor, tau: float) -> Tensor:
    """A design question has more than one good answer; this one has a number."""
    return _share(weak_logits, strong_logits, weak_logits.softmax(1).max(1).values >= tau)


def _share(weak_logits: Tensor, strong_logits: Tensor, keep: Tensor) -> Tensor:
    keep = keep.to(weak_logits.dtype)
    return ((strong_logits.argmax(1) == weak_logits.argmax(1)) * keep).sum() / keep.sum().clamp(min=1)


CONSISTENT = Exercise(
    key="unimatch.consistency",
    asks="Design a number that tells how far weak-to-strong training has come: the share of the confident pixels of "
    "the weak view (largest probability at least tau) on which the strong view has the same class; 0 if none.",
    prototype="consistency(weak_logits, strong_logits, tau)",
    reference=_agree,
    cases=lambda rng: [
        Case("the views differ", {"weak_logits": logits(rng), "strong_logits": logits(rng), "tau": 0.7}),
        Case("the views agree", {**dict.fromkeys(("weak_logits", "strong_logits"), logits(rng)), "tau": 0.7}),
        Case(
            "nobody is confident",
            {"weak_logits": logits(rng, sharp=0.1), "strong_logits": logits(rng), "tau": 0.9},
            edge=True,
        ),
        Case(
            "the batch has one image",
            {"weak_logits": logits(rng, 1), "strong_logits": logits(rng, 1), "tau": 0.5},
            edge=True,
        ),
        Case(
            "a confidence equals tau", {"weak_logits": sure(rng), "strong_logits": logits(rng), "tau": 1.0}, edge=True
        ),
    ],
    mistakes=(
        Mistake(
            "all pixels",
            "Unsure pixels are counted; ask only where the weak view is confident.",
            lambda weak_logits, strong_logits, tau: _agree(weak_logits, strong_logits, 0.0),
        ),
        Mistake(
            "of all pixels",
            "You divide by all pixels: then the number also falls when fewer pixels are confident.",
            lambda weak_logits, strong_logits, tau: (
                _agree(weak_logits, strong_logits, tau) * (weak_logits.softmax(1).max(1).values >= tau).float().mean()
            ),
        ),
        Mistake(
            "confidence of the strong view",
            "The strong view's confidence decides; it is the weak view that teaches.",
            lambda weak_logits, strong_logits, tau: _agree(strong_logits, weak_logits, tau),
        ),
        Mistake(
            "0 / 0",
            "Where no pixel is confident it is 0 / 0.",
            lambda weak_logits, strong_logits, tau: (
                _agree(weak_logits, strong_logits, tau) / (weak_logits.softmax(1).max(1).values >= tau).any().float()
            ),
        ),
        Mistake(
            "logits as confidence",
            "The threshold is compared with logits; it is one for probabilities.",
            lambda weak_logits, strong_logits, tau: _share(
                weak_logits, strong_logits, weak_logits.max(1).values >= tau
            ),
        ),
        Mistake(
            "strictly above",
            "A pixel whose confidence equals tau is left out; reaching it is enough.",
            lambda weak_logits, strong_logits, tau: _share(
                weak_logits, strong_logits, weak_logits.softmax(1).max(1).values > tau
            ),
        ),
    ),
)

# ---- read in the explorer ----


def _kept(run: Any, snapshot: int, threshold: float = 0.5) -> float:
    return 100 * numbers(run, threshold, image=0, snapshot=snapshot)["coverage"]


GROWTH = Reading(
    key="unimatch.growth",
    asks="By how many percentage points did the share of a recorded image's pixels that is kept at the fixed threshold "
    "0.5 grow from the first to the last snapshot?",
    reads=lambda run: _kept(run, -1) - _kept(run, 0),
    tolerance=5.0,
    unit="points",
    run="unimatch",
    mistakes=(
        (lambda run: _kept(run, -1), "That is the share at the last snapshot; take off what was kept at the first."),
        (lambda run: _kept(run, 0), "That is the share at the first snapshot; by how much it grew is asked."),
        (lambda run: _kept(run, 0) - _kept(run, -1), "The sign is wrong: last minus first."),
        (lambda run: 100 * (_kept(run, -1) / _kept(run, 0) - 1) if _kept(run, 0) else -1.0,
         "That is the growth in percent of what was kept; the difference in percentage points is asked."),
        (lambda run: _kept(run, -1, 0.95) - _kept(run, 0, 0.95), "That is the growth at 0.95; set it to 0.5."),
    ),
)  # fmt: skip

EXERCISES = [TOTAL, CONSISTENT, GROWTH]
