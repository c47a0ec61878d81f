"""Fixed, evenly spread directions for classes, and which class gets which (STPG)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .contrast import members
from .precision import float32
from .roles import among, apart, prototypes, tell


def simplex(classes: int, dim: int) -> Tensor:
    """(C, D) unit vectors, each pair of which has the cosine -1 / (C - 1): as far apart as C directions can be.

    Raises:
        ValueError: D is below C.
    """
    if dim < classes:
        raise ValueError(f"{classes} evenly spread directions need as many dimensions, not {dim}.")
    centred = torch.eye(classes) - 1 / classes
    return F.pad(F.normalize(centred, dim=1) if classes > 1 else torch.ones(1, 1), (0, dim - classes))


@torch.no_grad()
@float32
def best_match(gain: Tensor) -> Tensor:
    """(C,) long: the column for each row of a (C, C) gain, each used once, whose sum is largest.

    The Hungarian method by shortest augmenting paths, with loops of fixed length, so that nothing is read from the
    device: C (C + 1) / 2 rounds of small operations.
    """
    n, cost = len(gain), -gain
    row_price, column_price = gain.new_zeros(n + 1), gain.new_zeros(n + 1)
    match = torch.zeros(n + 1, dtype=torch.long, device=gain.device)  # the row of a column; 0 = none, column 0 = start
    index, zero = torch.arange(n + 1, device=gain.device), gain.new_zeros(())
    for row in range(1, n + 1):
        match = match.masked_fill(index == 0, row)
        at, way = torch.zeros_like(match[:1]), torch.zeros_like(match)
        least, used = torch.full_like(row_price, torch.inf), torch.zeros_like(match, dtype=torch.bool)
        for _ in range(row):
            of = match.index_select(0, at)
            going = of > 0
            used = used | ((index == at) & going)
            reduced = cost.index_select(0, (of - 1).clamp(min=0))[0] - row_price.index_select(0, of) - column_price[1:]
            nearer = torch.cat([torch.zeros_like(going), ~used[1:] & (reduced < least[1:]) & going])
            least = torch.where(nearer, torch.cat([zero[None], reduced]), least)
            way = torch.where(nearer, at, way)
            step, following = torch.where(used | (index == 0), torch.inf, least).min(0, keepdim=True)
            step = torch.where(going, step, zero)
            row_price = row_price.index_add(0, match, torch.where(used, step, zero))
            column_price = column_price - torch.where(used, step, zero)
            least = torch.where(used, least, least - step)
            at = torch.where(going, following, at)
        for _ in range(row):
            before = way.index_select(0, at)
            match = torch.where((index == at) & (at > 0), match.index_select(0, before), match)
            at = torch.where(at > 0, before, at)
    return torch.zeros_like(match).scatter(0, match, index)[1:] - 1


@float32
def anchored(
    features: Tensor, label: Tensor, anchors: Tensor, memory: Tensor, count: Tensor, temperature: float = 0.5
) -> Tensor:
    """Features are drawn to the anchor of their class, away from those of others, and to the memory of their class.

        sum over classes with two pixels or more of the mean over their pixels of -log softmax(cos(f, anchors) / T)[c]
        and, where the memory holds two rows or more, of the mean over pixels and rows of 1 - cos(f, row);   / C

    Args:
        features: (N, D). label: (N,) long, 255 = nobody's. anchors: (C, D) unit vectors, that of each class.
        memory: (C, M, D), of which the first `count` (C,) rows are in use.
    """
    classes, f = len(anchors), F.normalize(features, dim=1)
    mine = members(label, classes)
    belongs = mine.to(f.dtype)
    number = belongs.sum(1)
    nll = -(f @ anchors.mT / temperature).log_softmax(1).gather(1, label.clamp(max=classes - 1)[:, None])[:, 0]
    to_anchor = (belongs @ nll) / number.clamp(min=1)
    held = torch.arange(memory.shape[1], device=f.device) < count[:, None]
    tell(lambda: {"anchor": among(features, mine), "positive": apart(memory, held), "prototype": prototypes(anchors)})
    used = held.to(f.dtype)
    rows = (F.normalize(memory.float(), dim=2) * used[..., None]).sum(1) / count.clamp(min=1)[:, None]
    to_memory = 1 - ((belongs @ f) / number.clamp(min=1)[:, None] * rows).sum(1)
    return ((number > 1) * (to_anchor + (count > 1) * to_memory)).sum() / classes
