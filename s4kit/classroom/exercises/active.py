"""The lesson on what to label: a margin, the cells that are asked for, what answers weigh, predictions that pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import eighths, logits, mask, shares


def _tags(rng: Generator, tie: bool = False) -> dict[str, Tensor]:
    """Probabilities of four tags for five images; with `tie` two tags of the first image are equally likely."""
    p = shares(rng, 5, 4) + 0.05
    if tie:
        p[0, :2] = 2.0
    return {"p": p / p.sum(1, keepdim=True)}


def _margin(p: Tensor, second: int = 1) -> Tensor:
    order = p.sort(dim=1, descending=True).values
    return order[:, second] - order[:, 0]


MARGIN = Exercise(
    key="active.margin",
    asks="How unsure a classifier is of each image, (B,), from its probabilities p (B, T) of T tags: minus the margin "
    "that the likeliest tag has over the second one, so that the largest value is asked for first.",
    prototype="margin(p)",
    reference=_margin,
    cases=lambda rng: [
        Case("one tag is the likeliest", _tags(rng)),
        Case("two tags are equally likely", _tags(rng, tie=True), edge=True),
    ],
    mistakes=(
        Mistake(
            "the sure ones first",
            "The sign: as it stands the images are asked for first of which the classifier is surest.",
            lambda p: -_margin(p),
        ),
        Mistake(
            "confidence",
            "This looks at the likeliest tag alone; how near the second one comes is what a margin says.",
            lambda p: -p.amax(1),
        ),
        Mistake(
            "the least likely",
            "The likeliest tag is compared with the least likely one; its rival is the second.",
            lambda p: _margin(p, -1),
        ),
        Mistake(
            "entropy",
            "This is the entropy; it counts all tags, a margin the two first ones.",
            lambda p: -(p * p.log()).sum(1),
        ),
        Mistake(
            "the next smaller one",
            "Of two equally likely tags one is passed over: then nothing is ahead, and the margin is 0.",
            lambda p: p.where(p < p.amax(1, keepdim=True), 0.0).amax(1) - p.amax(1),
        ),
    ),
)


def _map(rng: Generator, side: int) -> dict[str, Tensor]:
    """Doubts of an image of 6 x 6 pixels, a single one far above all others."""
    doubt = shares(rng, 6, 6)
    doubt[int(torch.randint(6, (), generator=rng)), 0] += 1.2
    return {"doubt": doubt, "side": torch.tensor(side), "count": torch.tensor(2)}


def _cells(doubt: Tensor, side: Tensor, count: Tensor, of: str = "mean", surest: bool = False) -> Tensor:
    """The cells whose mean, sum or maximum is the highest, or the lowest."""
    n, (high, wide) = int(side), doubt.shape
    corners = [(y, x) for y in range(0, high, n) for x in range(0, wide, n)]
    worth = torch.stack([getattr(doubt[y : y + n, x : x + n], of)() for y, x in corners])
    asked = torch.zeros_like(doubt, dtype=torch.bool)
    for k in worth.topk(int(count), largest=not surest).indices.tolist():
        y, x = corners[k]
        asked[y : y + n, x : x + n] = True
    return asked


def _pixels(doubt: Tensor, side: Tensor, count: Tensor) -> Tensor:
    """As many pixels, wherever they lie."""
    best = doubt.flatten().topk(int(count) * int(side) ** 2).indices
    return torch.zeros_like(doubt, dtype=torch.bool).flatten().index_fill(0, best, True).view_as(doubt)


CELLS = Exercise(
    key="active.cells",
    asks="S4AL: the pixels (H, W) that are asked for. A grid of cells of `side` x `side` pixels begins in the upper "
    "left corner, the last cells may be smaller; all pixels of the `count` cells whose mean doubt (H, W) is the "
    "highest are True.",
    prototype="cells(doubt, side, count)",
    reference=_cells,
    cases=lambda rng: [
        Case("the grid fits", _map(rng, 2)),
        Case("the last cells are smaller", _map(rng, 4), edge=True),
    ],
    mistakes=(
        Mistake(
            "the surest",
            "These are the cells of which the network is surest: nothing new is learned there.",
            lambda doubt, side, count: _cells(doubt, side, count, surest=True),
        ),
        Mistake(
            "single pixels",
            "These are pixels here and there; a person labels whole cells.",
            _pixels,
        ),
        Mistake(
            "the largest value",
            "A cell counts by its largest doubt; one pixel of noise decides, the mean should.",
            lambda doubt, side, count: _cells(doubt, side, count, of="max"),
        ),
        Mistake(
            "the sum",
            "A cell counts by its sum; the smaller ones at the rim come off badly.",
            lambda doubt, side, count: _cells(doubt, side, count, of="sum"),
        ),
        Mistake(
            "one cell",
            "Only the most doubtful cell is asked for; `count` of them should be.",
            lambda doubt, side, count: _cells(doubt, side, torch.ones_like(count)),
        ),
    ),
    picture=("doubt",),
)


def _answers(rng: Generator, share: float) -> dict[str, Tensor]:
    """Confidences in eighths, some just at the threshold, and a share of pixels that were asked for."""
    confidence = eighths(rng, 2, 6, 6)
    confidence[0] = confidence[0] * 0.5  # one image is hard
    return {"confidence": confidence, "asked": mask(rng, share=share), "tau": torch.tensor(0.75)}


def _weight(confidence: Tensor, asked: Tensor, tau: Tensor, over: tuple[int, ...] = (1, 2)) -> Tensor:
    k = confidence.masked_fill(asked, 1.0)
    return (k >= tau).to(k.dtype).mean(over, keepdim=True) * k


WEIGHT = Exercise(
    key="active.weight",
    asks="S4AL: what each pixel of a pseudo-label weighs, (B, H, W). Where a person was asked the confidence is 1; "
    "the share of the pixels of an image whose confidence is at least `tau`, times a pixel's own confidence.",
    prototype="weight(confidence, asked, tau)",
    reference=_weight,
    cases=lambda rng: [
        Case("nothing was asked yet", _answers(rng, 0.0)),
        Case("some pixels were asked", _answers(rng, 0.3)),
        Case("all pixels were asked", _answers(rng, 1.1)),
    ],
    mistakes=(
        Mistake(
            "answers are doubted",
            "Where a person was asked the network's own confidence still counts.",
            lambda confidence, asked, tau: _weight(confidence, torch.zeros_like(asked), tau),
        ),
        Mistake(
            "answers come too late",
            "The share is counted before the answers are in: an image that was asked much still weighs little.",
            lambda confidence, asked, tau: (
                (confidence >= tau).to(confidence.dtype).mean((1, 2), keepdim=True) * confidence.masked_fill(asked, 1.0)
            ),
        ),
        Mistake(
            "answers count in full",
            "The answers weigh 1 whatever their image does; the share of the image weighs them as well.",
            lambda confidence, asked, tau: _weight(confidence, asked, tau).masked_fill(asked, 1.0),
        ),
        Mistake(
            "one share for all",
            "The share is that of the whole batch; each image has its own.",
            lambda confidence, asked, tau: _weight(confidence, asked, tau, (0, 1, 2)),
        ),
        Mistake(
            "the share alone",
            "All pixels of an image weigh the same; a pixel's own confidence is missing.",
            lambda confidence, asked, tau: (
                (confidence.masked_fill(asked, 1.0) >= tau)
                .to(confidence.dtype)
                .mean((1, 2), keepdim=True)
                .expand_as(confidence)
                .clone()
            ),
        ),
        Mistake(
            "above",
            "A pixel just at the threshold is not counted.",
            lambda confidence, asked, tau: (
                ((k := confidence.masked_fill(asked, 1.0)) > tau).to(k.dtype).mean((1, 2), keepdim=True) * k
            ),
        ),
    ),
    picture=("confidence", "asked"),
)


def _judged(rng: Generator, score: tuple[float, float, float]) -> dict[str, Tensor]:
    """Logits of three images, and what the critic says of each."""
    return {"logits": logits(rng, 3), "score": torch.tensor(score), "tau": torch.tensor(0.5)}


def _own(z: Tensor) -> Tensor:
    """(B, H, W) cross entropy with the own argmax."""
    return F.cross_entropy(z, z.argmax(1), reduction="none")


def _over(loss: Tensor, kept: Tensor) -> Tensor:
    """The mean over the pixels that are kept; 0 where there is none."""
    kept = kept.to(loss.dtype).expand_as(loss)
    return (loss * kept).sum() / kept.sum().clamp(min=1)


def _passing(score: Tensor, tau: Tensor) -> Tensor:
    return (score > tau)[:, None, None]


PASSING = Exercise(
    key="active.passing",
    asks="s4GAN's self-training (a scalar): the cross entropy of the logits (B, C, H, W) with their own argmax, the "
    "mean over all pixels of the images whose critic's score (B,) is above `tau`; 0 where no image passes.",
    prototype="passing(logits, score, tau)",
    reference=lambda logits, score, tau: _over(_own(logits), _passing(score.detach(), tau)),
    cases=lambda rng: [
        Case("some images pass", _judged(rng, (0.4, 0.6, 0.9))),
        Case("all images pass", _judged(rng, (0.7, 0.6, 0.9))),
        Case("no image passes", _judged(rng, (0.4, 0.5, 0.1)), edge=True),
    ],
    mistakes=(
        Mistake(
            "all images",
            "All images are trained on; those that the critic has seen through should not be.",
            lambda logits, score, tau: _own(logits).mean(),
        ),
        Mistake(
            "the others",
            "The images are trained on that the critic has seen through.",
            lambda logits, score, tau: _over(_own(logits), ~_passing(score, tau)),
        ),
        Mistake(
            "over all images",
            "The sum is divided by the pixels of all images; it is a mean over those that pass.",
            lambda logits, score, tau: (_own(logits) * _passing(score, tau)).mean(),
        ),
        Mistake(
            "sure pixels",
            "Single pixels are chosen by the network's confidence; the critic accepts or rejects a whole prediction.",
            lambda logits, score, tau: _over(_own(logits), logits.softmax(1).amax(1) > tau),
        ),
        Mistake(
            "weighed by the score",
            "The images count as much as the critic's score says; they count in full, or not at all.",
            lambda logits, score, tau: (_own(logits) * score.detach()[:, None, None]).mean(),
        ),
        Mistake(
            "no guard",
            "Where no image passes this is 0 / 0.",
            lambda logits, score, tau: (
                (_own(logits) * (kept := _passing(score, tau))).sum() / kept.expand_as(_own(logits)).sum()
            ),
        ),
    ),
    learns=("logits",),
    stops=("score",),
)

EXERCISES = [MARGIN, CELLS, WEIGHT, PASSING]
