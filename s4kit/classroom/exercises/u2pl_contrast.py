"""Assignment 5, second half: the memory bank and InfoNCE."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
from ._inputs import logits, shares

# ---- the memory bank ----


def _negatives(probability: Tensor, unreliable: Tensor, low: int, high: int) -> Tensor:
    rank = probability.argsort(1, descending=True).argsort(1)
    return (rank >= low) & (rank < high) & unreliable[:, None]


NEGATIVES = Exercise(
    key="u2pl.negatives",
    asks="For every class, the unreliable pixels that are negatives of it: (B, C, H, W) bool, where the class has a "
    "rank in [low, high) among the pixel's probabilities (0 = most likely).",
    prototype="negatives(probability, unreliable, low, high)",
    reference=_negatives,
    cases=lambda rng: [
        Case("low is 2 and high is 4", _ranks(rng, 2, 4)),
        Case("low is 1 and high is 3", _ranks(rng, 1, 3)),
        Case(
            "no pixel is unreliable",
            {**_ranks(rng, 2, 4), "unreliable": torch.zeros(2, 6, 6, dtype=torch.bool)},
            edge=True,
        ),
        Case("there are fewer classes than high", _ranks(rng, 3, 20), edge=True),
    ],
    mistakes=(
        Mistake(
            "argsort once",
            "argsort gives the class at a rank, not the rank of a class; sort the order once more.",
            lambda probability, unreliable, low, high: _between(
                probability.argsort(1, descending=True), unreliable, low, high
            ),
        ),
        Mistake(
            "ascending",
            "Rank 0 is the most likely class; yours counts from the least likely.",
            lambda probability, unreliable, low, high: _between(
                probability.argsort(1).argsort(1), unreliable, low, high
            ),
        ),
        Mistake(
            "reliable pixels too",
            "Reliable pixels are negatives in yours; only unreliable ones go into the bank here.",
            lambda probability, unreliable, low, high: _negatives(probability, torch.ones_like(unreliable), low, high),
        ),
        Mistake(
            "high included",
            "Rank `high` itself is included; the range is half open.",
            lambda probability, unreliable, low, high: _negatives(probability, unreliable, low, high + 1),
        ),
    ),
    picture=("unreliable",),
)


def _between(rank: Tensor, unreliable: Tensor, low: int, high: int) -> Tensor:
    return (rank >= low) & (rank < high) & unreliable[:, None]


def _ranks(rng: Generator, low: int, high: int) -> dict[str, Any]:
    return {
        "probability": logits(rng, classes=5).softmax(1),
        "unreliable": shares(rng, 2, 6, 6) < 0.5,
        "low": low,
        "high": high,
    }


def _push(bank: Tensor, keys: Tensor, size: int) -> Tensor:
    return torch.cat([bank, keys])[-size:].detach()


def _queue(rng: Generator, held: int, new: int, size: int) -> dict[str, Any]:
    return {"bank": shares(rng, held, 3), "keys": shares(rng, new, 3), "size": size}


PUSH = Exercise(
    key="u2pl.push",
    asks="The bank of a class after new keys (n, D) are appended: first in, first out, at most `size` rows.",
    prototype="push(bank, keys, size)",
    reference=_push,
    cases=lambda rng: [
        Case("there is room", _queue(rng, 4, 2, 8)),
        Case("the oldest must go", _queue(rng, 7, 3, 8)),
        Case("the bank is empty", _queue(rng, 0, 3, 8), edge=True),
        Case("nothing is new", _queue(rng, 5, 0, 8), edge=True),
        Case("there are more keys than room at all", _queue(rng, 3, 11, 8), edge=True),
    ],
    mistakes=(
        Mistake(
            "newest dropped",
            "When the bank is full the newest keys are dropped; the oldest have to go.",
            lambda bank, keys, size: torch.cat([bank, keys])[:size].detach(),
        ),
        Mistake(
            "newest first",
            "The new keys stand in front; they are appended at the end.",
            lambda bank, keys, size: torch.cat([keys, bank])[:size].detach(),
        ),
        Mistake("no bound", "The bank grows without bound.", lambda bank, keys, size: torch.cat([bank, keys]).detach()),
    ),
    stops=("keys",),
)

# ---- InfoNCE ----


def _info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
    keys = torch.cat([positive.expand(len(anchor), 1, -1), negative], 1).detach()
    score = F.cosine_similarity(anchor[:, None], keys, dim=-1) / temperature
    return F.cross_entropy(score, torch.zeros(len(anchor), dtype=torch.long, device=anchor.device))


def _variant(scale: bool = True, cosine: bool = True, above: bool = True) -> Any:
    def loss(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Tensor:
        keys = torch.cat([positive.expand(len(anchor), 1, -1), negative], 1).detach()
        a = anchor[:, None]
        score = F.cosine_similarity(a, keys, dim=-1) if cosine else (a * keys).sum(-1)
        score = score / temperature if scale else score
        if above:
            return (score.logsumexp(1) - score[:, 0]).mean()
        return (score[:, 1:].logsumexp(1) - score[:, 0]).mean()

    return loss


def _contrast(rng: Generator, anchors: int = 3, negatives: int = 5, temperature: float = 0.5) -> dict[str, Any]:
    return {
        "anchor": shares(rng, anchors, 4) - 0.5,
        "positive": shares(rng, 4) - 0.5,
        "negative": shares(rng, anchors, negatives, 4) - 0.5,
        "temperature": temperature,
    }


INFO_NCE = Exercise(
    key="u2pl.info_nce",
    asks="InfoNCE of anchors (n, D), one positive (D,) and negatives (n, k, D): cosine similarities / temperature, the "
    "positive among positive and negatives, mean over anchors.",
    prototype="info_nce(anchor, positive, negative, temperature)",
    reference=_info_nce,
    cases=lambda rng: [
        Case("the temperature is 0.5", _contrast(rng)),
        Case("the temperature is 0.1", _contrast(rng, temperature=0.1)),
        Case("there is one anchor", _contrast(rng, anchors=1), edge=True),
        Case("there is one negative", _contrast(rng, negatives=1), edge=True),
    ],
    mistakes=(
        Mistake(
            "dot product", "You take dot products; cosine similarity divides by both lengths.", _variant(cosine=False)
        ),
        Mistake("no temperature", "The similarities are not divided by the temperature.", _variant(scale=False)),
        Mistake(
            "positive not in the divisor",
            "The positive is missing in the divisor: the sum runs over positive and negatives.",
            _variant(above=False),
        ),
    ),
    learns=("anchor",),
    stops=("positive", "negative"),
)

# ---- read in the explorer ----

CERTAIN = Reading(
    key="u2pl.certain",
    asks="Of the 70 % of a recorded image's pixels with the least entropy (policy entropy share, 0.7), how many are "
    "right, in percent?",
    reads=lambda run: 100 * (numbers(run, 0.7, image=1, policy="entropy")["precision"] or 0.0),
    tolerance=4.0,
    unit="%",
    run="u2pl",
    mistakes=(
        (lambda run: 100 * numbers(run, 0.7, image=1, policy="entropy")["coverage"],
         "That is the share that is kept: about 70 % by construction. How many of these are right is asked."),
        (lambda run: 100 * (numbers(run, 0.0, image=1)["precision"] or 0.0),
         "That is the share of ALL pixels that is right; only the certain ones are asked for."),
        (lambda run: 100 * (numbers(run, 0.7, image=1)["precision"] or 0.0),
         "That is the policy `fixed` at 0.7, a confidence; choose `entropy share`."),
        (lambda run: 100 * (numbers(run, 0.7, image=1, policy="entropy", snapshot=0)["precision"] or 0.0),
         "That is what the first snapshot says; drag to the last."),
    ),
)  # fmt: skip

EXERCISES = [NEGATIVES, PUSH, INFO_NCE, CERTAIN]
