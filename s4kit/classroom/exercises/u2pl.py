"""Assignment 5: U2PL: entropy partition, memory bank, InfoNCE (Wang et al., CVPR 2022)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import numbers
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

EXERCISES = [ENTROPY, PERCENT, UNRELIABLE, RELIABLE, NEGATIVES, PUSH, INFO_NCE, CERTAIN]
