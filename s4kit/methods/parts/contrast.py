"""Pixel contrast: anchors of a class against its centre and against negatives.

What its methods differ in are arguments: which pixels may be anchors, what stands in the centre (`prototypes`), where
negatives come from (`banks.Queues`, or `OtherClasses` of the batch), and how alike two features are (`cosines`,
`likelihoods`).

All shapes are fixed. Pixels are chosen by their rank within a mask (`nth`), not by boolean indexing, and every draw is
an argument, so that recorded draws can be fed in. K classes, N pixels, D features, Q anchors, M negatives per anchor.
Negatives are gathered class by class, for as many anchors at once as a cache or a few kernels like (`PIECE`), and the
gradient is taken while they are at hand: a step holds a piece of the Q M D values, never K times as many as these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .derived import derived
from .precision import float32
from .roles import NOWHERE, Group, among, apart, prototypes, some, tell

AT_ONCE = 4096  # pixels whose likeness to a whole bank is held at a time
PIECE = 2**21, 2**24  # values of negatives at a time: on a CPU what its cache holds, elsewhere 64 MB
NONE = -1e4  # a logit of nothing with a gradient of zero, where that of -inf would be none
Score = Callable[[Tensor, Tensor, Tensor], Tensor]  # anchor (Q, D), positive, negative (Q, M, D) to (Q, 1 + M)


class Draws(NamedTuple):
    """What a step draws, with replacement: `anchors` (K, Q) are ranks among the anchor candidates of each class,
    `negatives` (K, Q * M) are what the `Negatives` draw: rows of each class's queue, or pixels of the batch."""

    anchors: Tensor
    negatives: Tensor


class Negatives(Protocol):
    """Where the negatives of each class come from."""

    @property
    def ready(self) -> Tensor:
        """(K,) bool: which classes have any."""

    def draw(self, which: int, number: int) -> Tensor:
        """(number,) long, for the class `which`, with replacement."""

    def take(self, which: int, index: Tensor) -> Tensor:
        """(n, D) float32, no gradient; any finite rows for a class that is not ready."""

    def whence(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """For those who look, what was drawn: (n,) the pixel of the batch, -1 = none's, and (n,) its class, 255 = not
        known."""


def rows(map: Tensor) -> Tensor:
    """(B, D, h, w) to (B * h * w, D)."""
    return rearrange(map, "b d h w -> (b h w) d")


def shrink(map: Tensor, size: Sequence[int]) -> Tensor:
    """(B, H, W) labels or masks to (B, h, w) by nearest neighbour; the type is kept."""
    return F.interpolate(map[:, None].float(), tuple(size), mode="nearest")[:, 0].to(map.dtype)


def members(label: Tensor, classes: int) -> Tensor:
    """(N,) long labels to (K, N) bool, who belongs to which class; 255 to none."""
    return label == torch.arange(classes, device=label.device)[:, None]


def ranks(probability: Tensor) -> Tensor:
    """(N, K) probabilities to (K, N): the place of each class in each pixel's order, 0 = likeliest."""
    order = probability.sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).T


def nth(mask: Tensor, rank: Tensor) -> Tensor:
    """(K, n) indices of the rank-th True of each row of a (K, N) mask; any index where there is none."""
    order = mask.cumsum(1)
    return torch.searchsorted(order, rank + 1).clamp(max=mask.shape[1] - 1)


def draw(count: Tensor, size: int) -> Tensor:
    """(K,) counts to (K, size) uniform draws from 0 .. count - 1, with replacement; 0 where the count is 0."""
    uniform = torch.rand(len(count), size, device=count.device)
    return torch.minimum((uniform * count[:, None]).long(), (count[:, None] - 1).clamp(min=0))


@float32
def cosines(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(Q, 1 + M) cosines of each anchor to its positive and its negatives.

    Args:
        anchor: (Q, D). positive: (D,) or (Q, D). negative: (Q, M, D).
    """
    unit = F.normalize(anchor, dim=-1, eps=1e-8)
    to_positive = (unit * F.normalize(positive, dim=-1, eps=1e-8)).sum(-1, keepdim=True)
    length = torch.linalg.vector_norm(negative, dim=-1).clamp(min=1e-8)  # dividing the products spares a unit copy
    to_negative = (unit[:, None] @ negative.mT)[:, 0] / length  # einsum has it the slow way round
    return torch.cat([to_positive, to_negative], 1)


@float32
def info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float, score: Score = cosines) -> Tensor:
    """Mean over the anchors of -log(e^(s+/t) / (e^(s+/t) + sum of e^(s-/t))), s = `score`, the cosine by default.

    Args:
        anchor: (Q, D). positive: (D,) or (Q, D). negative: (Q, M, D).
    """
    logits = score(anchor, positive, negative) / temperature
    return -logits.log_softmax(1)[:, 0].mean()


@float32
def class_contrast(
    features: Tensor,
    candidates: Tensor,
    centre: Tensor,
    others: Negatives,
    present: Tensor,
    queries: int,
    negatives: int,
    temperature: float,
    draws: Draws | None = None,
    score: Score = cosines,
    shown: Callable[[Tensor], Tensor] = Tensor.detach,
) -> Tensor:
    """Sum over classes of `info_nce`, divided by the number of classes present.

    A class without candidates or without negatives adds nothing but counts in the divisor; with fewer than two classes
    present the term is 0 (with a gradient of 0).

    Args:
        features: (N, D) of the student. candidates: (K, N) bool, its anchors. centre: (K, D), no gradient.
        others: where the negatives of each class come from.
        present: (K,) bool. queries, negatives: Q and M. draws: instead of own ones.
        shown: what `score` compares the directions of, in rows (n, D); all of them by default. For `roles` alone.
    """
    found = candidates.sum(1)
    drawn = draw(found, queries) if draws is None else draws.anchors
    use = present & (found > 0) & others.ready
    chosen, classes = nth(candidates, drawn), present.sum()
    on = use & (classes > 1)
    tell(lambda: _centred(shown(features), chosen, shown(centre), on))
    anchors = features.index_select(0, chosen.flatten()).unflatten(0, (len(found), -1))

    def term(k: int, index: Tensor, anchor: Tensor) -> Tensor:
        negative = others.take(k, index.flatten()).unflatten(0, index.shape)
        return info_nce(anchor, centre[k], negative, temperature, score) * (len(anchor) / queries)

    total = features.new_zeros(())
    piece = max(1, PIECE[features.device.type != "cpu"] // (negatives * features.shape[1]))  # anchors
    for k, anchor in enumerate(anchors):
        index = others.draw(k, queries * negatives) if draws is None else draws.negatives[k]
        tell(lambda k=k, index=index: _pushing(shown, others, k, index, on))
        pieces = zip(index.reshape(queries, negatives).split(piece), anchor.split(piece))
        mean = torch.stack([derived(partial(term, k, i), part) for i, part in pieces]).sum()
        total = total + torch.where(use[k], mean, 0.0)
    return torch.where(classes > 1, total / classes.clamp(min=1), 0.0)


def _centred(features: Tensor, anchors: Tensor, centre: Tensor, use: Tensor) -> dict[str, Group]:
    """The pixels among the anchors (K, Q) of the classes in use, each once, and the centres."""
    drawn = torch.zeros(len(use), len(features), dtype=torch.bool, device=use.device).scatter_(1, anchors, True)
    return {"anchor": among(features, drawn & use[:, None]), "prototype": prototypes(centre)}


def _pushing(
    shown: Callable[[Tensor], Tensor], others: Negatives, which: int, index: Tensor, use: Tensor
) -> dict[str, Group]:
    """Some of the negatives of a class in use, each once."""
    if not use[which]:
        return {}
    index = some(index.unique(), len(use))
    vector = shown(others.take(which, index))
    return {"negative": Group(vector, torch.full_like(index, which), *others.whence(index))}


@float32
def bank_contrast(
    features: Tensor,
    label: Tensor,
    use: Tensor,
    bank: Tensor,
    ready: Tensor,
    temperature: float,
    positive: Tensor | None = None,
) -> Tensor:
    """Mean over the classes met, of the mean over their pixels, of -log(e^(s+/T) / (e^(s+/T) + sum of e^(s-/T))).

    s are cosines; s- of a pixel's feature to all rows of all other classes. Without `positive` s+ is that to each row
    of its own class, and the loss the mean over these rows; else that to the pixel's own positive.

    Args:
        features: (N, D). label: (N,) long, 255 is no class. use: (N,) bool. bank: (K, R, D). ready: (K,) bool, the
            classes that take part. temperature: T. positive: (N, D) or None. Only `features` get a gradient.
    """
    classes, held = bank.shape[:2]
    unit = F.normalize(bank, dim=2).flatten(0, 1)
    own = members(label, classes)
    belongs = own & (use & ready[label.clamp(max=classes - 1)])

    def term(part: Tensor, at: slice) -> Tensor:
        f, mine = F.normalize(part, dim=1), own.T[at]
        s = (f @ unit.T / temperature).unflatten(1, (classes, held))
        others = s.logsumexp(2).masked_fill(mine | ~ready, NONE).logsumexp(1, keepdim=True)
        if positive is None:
            index = label[at].clamp(max=classes - 1)[:, None, None].expand(-1, 1, held)
            alike = s.gather(1, index)[:, 0]
        else:
            alike = (f * F.normalize(positive[at], dim=1)).sum(1, keepdim=True) / temperature
        return (torch.logaddexp(alike, others) - alike).mean(1)

    cuts = [slice(i, i + AT_ONCE) for i in range(0, len(features), AT_ONCE)]
    each = torch.cat([derived(lambda part, at=at: term(part, at), features[at]) for at in cuts])
    count = belongs.sum(1)
    tell(lambda: _bank_roles(features, belongs, bank, ready, positive))
    means = belongs.to(each.dtype) @ each / count.clamp(min=1)
    return means.sum() / (count > 0).sum().clamp(min=1)


def _bank_roles(
    features: Tensor, belongs: Tensor, bank: Tensor, ready: Tensor, positive: Tensor | None
) -> dict[str, Group]:
    """Who takes part in `bank_contrast`."""
    classes, held = bank.shape[:2]
    met = belongs.any(1, keepdim=True)
    of = torch.arange(classes, device=bank.device).repeat_interleave(held)
    far = met & (of != torch.arange(classes, device=bank.device)[:, None]) & ready[of]
    near = apart(bank, met.expand(-1, held)) if positive is None else among(positive, belongs)
    negative = among(bank.flatten(0, 1), far, torch.full_like(of, NOWHERE), of)
    return {"anchor": among(features, belongs), "positive": near, "negative": negative}


class OtherClasses:
    """Negatives from the batch: pixels of other classes, most from those that are most alike (ReCo).

    A class is drawn for each negative, then a pixel of it; both uniformly where all classes are equally alike.

    Args:
        features: (N, D), used without gradient.
        belongs: (K, N) bool, the pixels that can be drawn; each belongs to one class at most.
        likeness: (K, K) logits of how often class k (row) meets class j; see `likeness`.

    Attributes:
        share: (K, K), the probability that a negative of k is of class j; a class without pixels has no share, nor has
            k itself.
    """

    def __init__(self, features: Tensor, belongs: Tensor, likeness: Tensor) -> None:
        self.features, self.count = features.detach(), belongs.sum(1)
        here = self.count > 0
        open_to = here & ~torch.eye(len(here), dtype=torch.bool, device=here.device)
        self.share = likeness.masked_fill(~open_to, -torch.inf).softmax(1).nan_to_num(0.0)
        label = torch.where(belongs.any(0), belongs.int().argmax(0), len(here))
        self.order = label.argsort(stable=True)  # pixels class by class
        self.start = self.count.cumsum(0) - self.count

    @property
    def ready(self) -> Tensor:
        """(C,) bool: which classes have negatives in the batch."""
        return self.share.sum(1) > 0

    def draw(self, which: int, number: int) -> Tensor:
        """(number,) pixels of other classes than `which`, most of the classes that are most alike it."""
        upto = self.share[which].cumsum(0)
        first, second = torch.rand(2, number, device=upto.device)
        k = torch.searchsorted(upto / upto[-1:].clamp(min=1e-8), first, right=True).clamp(max=len(upto) - 1)
        count = self.count[k]
        rank = torch.minimum((second * count).long(), count - 1).clamp(min=0)
        return self.order[(self.start[k] + rank).clamp(max=len(self.order) - 1)]

    def take(self, which: int, index: Tensor) -> Tensor:
        """(n, D) float32, the features of these pixels, for whatever class they were drawn."""
        return self.features.index_select(0, index).float()

    def label(self) -> Tensor:
        """(N,) the class of each pixel; K where it is of none."""
        rank = torch.arange(len(self.order), device=self.order.device)
        place = torch.searchsorted(self.count.cumsum(0), rank, right=True)
        return torch.empty_like(place).scatter(0, self.order, place)

    def whence(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The pixel itself, and the class that it is of; (n,) each."""
        return index, self.label()[index]


def likeness(prototypes: Tensor, temperature: float, score: Score = cosines) -> Tensor:
    """(K, K): how alike the (K, D) prototypes are, divided by the temperature."""
    every = prototypes.expand(len(prototypes), -1, -1)
    return score(prototypes, prototypes, every)[:, 1:] / temperature
