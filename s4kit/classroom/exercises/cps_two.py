"""Assignment 4, second half: what two networks tell each other."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake, Reading
from ..runs import disagreement, numbers
from ._inputs import VOID, labels, logits, two_logits

DISAGREE = Exercise(
    key="cps.disagreement",
    asks="The share of pixels to which the two networks give different classes.",
    prototype="disagreement(logits_1, logits_2)",
    reference=lambda logits_1, logits_2: (logits_1.argmax(1) != logits_2.argmax(1)).to(logits_1.dtype).mean(),
    cases=lambda rng: [
        Case("the batch is ordinary", two_logits(rng)),
        Case("both networks agree", dict.fromkeys(("logits_1", "logits_2"), logits(rng)), edge=True),
        Case("they differ in confidence only", _scaled(rng), edge=True),
    ],
    mistakes=(
        Mistake(
            "agreement",
            "That is the share on which they agree.",
            lambda logits_1, logits_2: (logits_1.argmax(1) == logits_2.argmax(1)).to(logits_1.dtype).mean(),
        ),
        Mistake(
            "distance of probabilities",
            "You measure how far the probabilities are apart; only the classes are asked for.",
            lambda logits_1, logits_2: (logits_1.softmax(1) - logits_2.softmax(1)).abs().sum(1).mean() / 2,
        ),
    ),
)


def _scaled(rng: Generator) -> dict[str, Tensor]:
    drawn = logits(rng)
    return {"logits_1": drawn, "logits_2": 5 * drawn}


def _right(logits_1: Tensor, logits_2: Tensor, truth: Tensor) -> Tensor:
    y_1, y_2 = logits_1.argmax(1), logits_2.argmax(1)
    apart = (y_1 != y_2) & (truth != VOID)
    counts = torch.stack([(apart & (y_1 == truth)).sum(), (apart & (y_2 == truth)).sum(), apart.sum()]).to(
        logits_1.dtype
    )
    wrong = counts[2] - counts[0] - counts[1]
    return torch.stack([counts[0], counts[1], wrong]) / counts[2].clamp(min=1)


WHO = Exercise(
    key="cps.who_is_right",
    asks="Where the networks disagree and the truth is known: the shares (3,) of `1 is right`, `2 is right`, `neither "
    "is`; zeros if they never disagree.",
    prototype="who_is_right(logits_1, logits_2, truth)",
    reference=_right,
    cases=lambda rng: [
        Case("no pixel is void", {**two_logits(rng), "truth": labels(rng)}),
        Case("some pixels are void", {**two_logits(rng), "truth": labels(rng, void=0.4)}),
        Case(
            "they never disagree",
            {**dict.fromkeys(("logits_1", "logits_2"), logits(rng)), "truth": labels(rng)},
            edge=True,
        ),
        Case("there are two classes", {**two_logits(rng, classes=2), "truth": labels(rng, classes=2)}, edge=True),
    ],
    mistakes=(
        Mistake(
            "all pixels",
            "You look at all pixels; where they agree the question has no sense.",
            lambda logits_1, logits_2, truth: _of_all(logits_1, logits_2, truth),
        ),
        Mistake(
            "void counted as neither",
            "Void pixels count as `neither`; nobody knows who is right there.",
            lambda logits_1, logits_2, truth: _right(logits_1, logits_2, truth.where(truth != VOID, 254)),
        ),
    ),
    picture=("truth",),
)


def _of_all(logits_1: Tensor, logits_2: Tensor, truth: Tensor) -> Tensor:
    known = truth != VOID
    hits = [((z.argmax(1) == truth) & known).sum() / known.sum().clamp(min=1) for z in (logits_1, logits_2)]
    return torch.stack([*hits, 1 - hits[0] - hits[1]])


# ---- read in the explorer ----

APART = Reading(
    key="cps.apart",
    asks="Where the two networks disagree on a recorded image: which share of its pixels gets different labels, in "
    "percent?",
    reads=lambda run: 100 * disagreement(run, image=1),
    tolerance=3.0,
    unit="%",
    run="cps",
    mistakes=(
        (lambda run: 100 * (1 - disagreement(run, image=1)), "That is the share on which they agree."),
        (lambda run: 100 * (numbers(run, 0.0, image=1)["precision"] or 0.0),
         "That is the share that network 1 has right; how often the two differ is asked."),
        (lambda run: 100 * disagreement(run, image=1, snapshot=0),
         "That is what the first snapshot says; drag to the last."),
        (lambda run: 100 * disagreement(run, image=2), "That is another image; they count from 0."),
    ),
)  # fmt: skip

EXERCISES = [DISAGREE, WHO, APART]
