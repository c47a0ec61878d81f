"""The lesson on points: shape3d's divergence, its means over parts, and fine parts merged into coarse ones; and twist's
objects, which name their points."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..exercise import Case, Exercise, Mistake
from ._inputs import VOID


def _two(rng: Generator, classes: int = 3, points: int = 12, alike: float = 1.0) -> dict[str, Tensor]:
    """Probabilities (B, K, N) of two copies, above 0."""
    first = 1.5 * torch.randn(2, classes, points, generator=rng)
    other = first + alike * torch.randn(first.shape, generator=rng)
    return {"p": first.softmax(1), "q": other.softmax(1)}


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum(1)


def _divergence(p: Tensor, q: Tensor) -> Tensor:
    return 0.5 * (_kl(p, q) + _kl(q, p))


DIVERGENCE = Exercise(
    key="points.divergence",
    asks="At each point (B, N) the mean of KL(p, q) and KL(q, p), of probabilities p and q (B, K, N), all above 0.",
    prototype="divergence(p, q)",
    reference=_divergence,
    cases=lambda rng: [
        Case("two copies of two shapes", _two(rng)),
        Case("the copies nearly agree", _two(rng, alike=0.05)),
        Case("there are many classes", _two(rng, classes=9)),
    ],
    mistakes=(
        Mistake("one direction", "Only one of the two directions is there: p and q have not the same role.", _kl),
        Mistake("the other direction", "Only KL(q, p) is there.", lambda p, q: _kl(q, p)),
        Mistake("the sum", "This is the sum of the two directions.", lambda p, q: 2 * _divergence(p, q)),
        Mistake(
            "mean over classes",
            "The classes are averaged; a divergence sums over them.",
            lambda p, q: _divergence(p, q) / p.shape[1],
        ),
        Mistake("squares", "This is a squared distance, no divergence.", lambda p, q: (p - q).square().sum(1)),
    ),
    learns=("p", "q"),
)


def _sides(p: Tensor, q: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """(2, B, K) squared differences of the means inside and outside, and how many points there are."""
    inside = F.one_hot(of.argmax(1), p.shape[1]).mT.to(p.dtype)
    chosen = torch.stack([inside, 1 - inside])
    number = chosen.sum(3)
    return (((p - q) * chosen).sum(3) / number.clamp(min=1)).square(), number


def _part(p: Tensor, q: Tensor) -> Tensor:
    squares, number = _sides(p, q, p)
    return squares.sum(0) / (number > 0).sum(0)


def _each(p: Tensor, q: Tensor) -> Tensor:
    inside = F.one_hot(p.argmax(1), p.shape[1]).mT.to(p.dtype)
    chosen = torch.stack([inside, 1 - inside])
    number = chosen.sum(3)
    return (((p - q).square() * chosen).sum(3) / number.clamp(min=1)).sum(0) / (number > 0).sum(0)


def _nowhere(rng: Generator) -> dict[str, Tensor]:
    """The last class is predicted at no point."""
    given = _two(rng)
    for name in ("p", "q"):
        given[name] = given[name] * torch.tensor([1.0, 1.0, 1e-3])[:, None]
        given[name] = given[name] / given[name].sum(1, keepdim=True)
    return given


PART = Exercise(
    key="points.part",
    asks="For each class k (B, K): the squared difference of the means of p_k and of q_k over the points at which p is "
    "largest in k, and the same over all other points; the mean of the two, or the one that has points at all.",
    prototype="part(p, q)",
    reference=_part,
    cases=lambda rng: [
        Case("every class is predicted somewhere", _two(rng, points=30)),
        Case("a class is predicted nowhere", _nowhere(rng), edge=True),
    ],
    mistakes=(
        Mistake(
            "the inside alone",
            "The points that are not of the part are left out.",
            lambda p, q: _sides(p, q, p)[0][0],
        ),
        Mistake(
            "always two",
            "A side without points is counted in the divisor: a class that is predicted nowhere gets half.",
            lambda p, q: _sides(p, q, p)[0].mean(0),
        ),
        Mistake(
            "squares first",
            "The square is taken at each point, before the mean: errors of opposite sign no longer cancel.",
            _each,
        ),
        Mistake(
            "parts of q",
            "The parts are those that q predicts.",
            lambda p, q: (lambda squares, number: squares.sum(0) / (number > 0).sum(0))(*_sides(p, q, q)),
        ),
    ),
    learns=("p", "q"),
)


def _nested(rng: Generator, coarse: int = 3, more: int = 3) -> dict[str, Tensor]:
    parent = torch.cat([torch.arange(coarse), torch.randint(coarse, (more,), generator=rng)])
    parent = parent[torch.randperm(len(parent), generator=rng)]
    return {"p": torch.randn(2, len(parent), 5, generator=rng).mul(2).softmax(1), "parent": parent}


def _merge(p: Tensor, parent: Tensor) -> Tensor:
    return p.new_zeros(len(p), int(parent.max()) + 1, p.shape[2]).index_add(1, parent, p)


def _counts(parent: Tensor) -> Tensor:
    return parent.bincount()[:, None]


MERGE = Exercise(
    key="points.merge",
    asks="The probabilities (B, C, N) of the coarse parts: of each the sum over the fine parts (B, K, N) in it. "
    "`parent` (K,) is the coarse part, 0 to C - 1, of each fine one.",
    prototype="merge(p, parent)",
    reference=_merge,
    cases=lambda rng: [
        Case("coarse parts have some fine ones each", _nested(rng)),
        Case("every coarse part has one", _nested(rng, more=0)),
    ],
    mistakes=(
        Mistake(
            "mean",
            "Fine parts are averaged: then the coarse probabilities do not sum to 1.",
            lambda p, parent: _merge(p, parent) / _counts(parent),
        ),
        Mistake(
            "largest",
            "Only the likeliest fine part of each counts.",
            lambda p, parent: torch.stack([p[:, parent == c].amax(1) for c in range(int(parent.max()) + 1)], 1),
        ),
        Mistake(
            "softmax again",
            "The sums are put through a softmax once more; they are probabilities already.",
            lambda p, parent: _merge(p, parent).softmax(1),
        ),
    ),
    learns=("p",),
)


def _room(rng: Generator, groups: int = 3, points: int = 40, sharp: float = 2.5) -> dict[str, Tensor | float]:
    """Points of some groups, each of a class that most of its points are likely to be; the first ones of no group."""
    ids = torch.randint(0, groups + 1, (points,), generator=rng)
    ids[: 2 * groups + 2] = torch.arange(groups + 1).repeat(2)
    own = torch.randint(0, 4, (groups + 1,), generator=rng)[ids]
    z = sharp * torch.randn(4, points, generator=rng) + 1.2 * F.one_hot(own, 4).T
    return {"p": z.softmax(0), "ids": ids, "share": 0.45, "tau": 0.8}


def _named(p: Tensor, ids: Tensor, share: float, tau: float, first: int = 1) -> Tensor:
    confidence, label = p.max(0)
    label = label.where(confidence >= tau, VOID)
    for group in range(first, int(ids.max()) + 1):
        chance, name = p[:, ids == group].mean(1).max(0)
        label = label.where((ids != group) | (chance < share), name)
    return label


def _by_votes(p: Tensor, ids: Tensor, share: float, tau: float) -> Tensor:
    label = _named(p, ids, 2.0, tau)
    for group in range(1, int(ids.max()) + 1):
        chance, name = F.one_hot(p[:, ids == group].argmax(0), len(p)).float().mean(0).max(0)
        label = label.where((ids != group) | (chance < share), name)
    return label


def _last_word(p: Tensor, ids: Tensor, share: float, tau: float) -> Tensor:
    confidence, own = p.max(0)
    return own.where(confidence >= tau, _named(p, ids, share, tau))


NAMED = Exercise(
    key="points.named",
    asks="Objects name their points. All points of a group get the class whose mean probability over them is largest, "
    "where that mean is at least `share`. Any other point gets its own likeliest class where its probability is at "
    "least `tau`, else 255. p is (K, N), ids (N,) the number of each point's group, 0 = of none; the labels (N,) long.",
    prototype="named(p, ids, share, tau)",
    reference=_named,
    cases=lambda rng: [
        Case("there are some groups", _room(rng)),
        Case("a group is of several classes", _room(rng, sharp=4.0) | {"share": 0.6}),
        Case("no point is of a group", (given := _room(rng)) | {"ids": torch.zeros_like(given["ids"])}, edge=True),
    ],
    mistakes=(
        Mistake(
            "own word first",
            "A point that is sure keeps its own class also inside of an object: just those are to be overruled.",
            _last_word,
        ),
        Mistake(
            "hard votes",
            "Every point has one vote, however unsure it is; take the mean of the probabilities.",
            _by_votes,
        ),
        Mistake(
            "no share",
            "Every group names its points, also one of which no class has a large enough share.",
            lambda p, ids, share, tau: _named(p, ids, 0.0, tau),
        ),
        Mistake(
            "no tau",
            "Points without a group keep their class however unsure they are.",
            lambda p, ids, share, tau: _named(p, ids, share, 0.0),
        ),
        Mistake(
            "nothing without a group",
            "Points that no group names get nothing, also where they are sure.",
            lambda p, ids, share, tau: _named(p, ids, share, 2.0),
        ),
        Mistake(
            "0 is no group",
            "The points of number 0 are of no group, they have nothing in common.",
            lambda p, ids, share, tau: _named(p, ids, share, tau, first=0),
        ),
    ),
)

EXERCISES = [DIVERGENCE, PART, MERGE, NAMED]
