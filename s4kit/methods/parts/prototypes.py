"""Class prototypes: what stands for a class, of a batch or running, and how far from each a pixel lies (ProDA, Zhang et
al., CVPR 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from .contrast import members, rows
from .precision import float32
from .processes import over_processes
from .roles import among, tell


@float32
def centres(features: Tensor, mask: Tensor) -> Tensor:
    """(K, D) means of (N, D) features over the rows of a (K, N) mask; 0 for an empty row."""
    tell(lambda: {"positive": among(features, mask)})
    return mask.to(features.dtype) @ features / mask.sum(1, keepdim=True).clamp(min=1)


@float32
def cosine_map(features: Tensor, prototypes: Tensor) -> Tensor:
    """(B, P, h, w) cosines of (B, D, h, w) features with (P, D) prototypes; 0 for a prototype of 0."""
    return torch.einsum("bdhw,pd->bphw", F.normalize(features, dim=1), F.normalize(prototypes, dim=1))


@float32
def class_means(features: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(B, C, D) mean feature of each class in each image, 0 where there is none, and (B, C) the number of its pixels.

    Args:
        features: (B, D, h, w). label: (B, h, w) long, 255 = nobody's.
    """
    belongs = torch.stack([members(of_one.flatten(), classes) for of_one in label]).to(features.dtype)
    number = belongs.sum(2)
    return belongs @ features.flatten(2).mT / number.clamp(min=1)[..., None], number


@float32
def behind(features: Tensor, prototypes: Tensor, known: Tensor) -> Tensor:
    """(B, C, h, w): how much farther each class's prototype is than the nearest, in plain Euclidean distance.

    Args:
        features: (B, D, h, w). prototypes: (C, D). known: (C,) bool; a class without a prototype counts as near as the
            nearest.
    """
    batch, _, height, width = features.shape
    apart = torch.cdist(rows(features), prototypes)
    nearest = torch.where(known, apart, torch.inf).amin(1, keepdim=True)
    return torch.where(known, apart - nearest, 0.0).view(batch, height, width, -1).permute(0, 3, 1, 2)


class Prototypes(nn.Module):
    """One running mean feature per class, the same in all processes.

    Args:
        classes, dim: C and D.

    Attributes:
        mean: (C, D). moves: (C,) how often each was moved; 0 = there is none yet, the first one is taken as it is.
    """

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(classes, dim))
        self.register_buffer("moves", torch.zeros(classes))

    def behind(self, features: Tensor) -> Tensor:
        """See the function: of features (B, D, h, w), (B, C, h, w)."""
        return behind(features, self.mean, self.moves > 0)

    @torch.no_grad()
    def learn(self, features: Tensor, label: Tensor, decay: float) -> None:
        """mean <- d mean + (1 - d) that of all pixels of a class, d = min(1 - 1/(k + 1), decay) at its k-th move.

        Args:
            features: (B, D, h, w). label: (B, h, w) long, 255 = nobody's.
        """
        means, number = class_means(features, label, len(self.mean))
        total, pixels = over_processes((means * number[..., None]).sum(0)), over_processes(number.sum(0))
        self._move(total, pixels, (1 - 1 / (self.moves + 1)).clamp(max=decay))

    @torch.no_grad()
    def follow(self, features: Tensor, label: Tensor, momentum: float, least: int) -> None:
        """mean <- momentum^n mean + (1 - momentum^n) v, v the mean of a class's mean features in n images: those with
        at least `least` pixels of it.

        ProDA takes one image after the other, which differs by terms of (1 - momentum)^2 and depends on the order.
        """
        means, number = class_means(features, label, len(self.mean))
        enough = (number >= least).to(means.dtype)
        total, images = over_processes((means * enough[..., None]).sum(0)), over_processes(enough.sum(0))
        self._move(total, images, momentum**images)

    @float32
    @torch.no_grad()
    def average(self, features: Tensor, mask: Tensor, momentum: float) -> None:
        """mean <- momentum mean + (1 - momentum) that of all pixels of a class, in all processes.

        Args:
            features: (N, D). mask: (C, N) bool.
        """
        tell(lambda: {"positive": among(features, mask)})
        total, number = over_processes(mask.to(features.dtype) @ features), over_processes(mask.sum(1))
        self._move(total, number, torch.full_like(self.moves, momentum))

    def _move(self, total: Tensor, number: Tensor, keep: Tensor) -> None:
        shown, keep = number[:, None] > 0, torch.where(self.moves > 0, keep, 0.0)[:, None]
        moved = keep * self.mean + (1 - keep) * total / number.clamp(min=1)[:, None]
        self.mean.copy_(torch.where(shown, moved, self.mean))
        self.moves += shown[:, 0]


class PrototypeSets(nn.Module):
    """Several running prototypes for every class; a pixel is of a class as far as it is like the nearest of them (PCR).

    Args:
        classes, each, dim: C classes, K prototypes of each, D.

    Attributes:
        mean: (C, K, D); 0 = there is none yet, its cosine is 0.
    """

    def __init__(self, classes: int, each: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(classes, each, dim))

    @float32
    def nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) cosine of (N, D) features to the nearest prototype of each class, and (N, C) long, which one it is."""
        unit, own = (F.normalize(t, dim=-1, eps=1e-2) for t in (features, self.mean))
        return torch.einsum("nd,ckd->nck", unit, own).max(2)

    @torch.no_grad()
    def seed(self, rows: Tensor, count: Tensor) -> None:
        """The centres of `k_means` in each class's first `count` (C,) of (C, N, D) rows; a class without rows keeps its
        own."""
        for k, (own, number) in enumerate(zip(rows, count)):
            self.mean[k] = torch.where(number > 0, k_means(own, number, self.mean.shape[1]), self.mean[k])

    @float32
    @torch.no_grad()
    def average(self, features: Tensor, label: Tensor, match: Tensor, momentum: float) -> None:
        """mean <- momentum mean + (1 - momentum) that of the pixels of a class to which it was the nearest, in all
        processes; a prototype without pixels stays.

        Args:
            features: (N, D). label: (N,) long, 255 = nobody's. match: (N, C) of `nearest`.
        """
        classes, each, _ = self.mean.shape
        known = label < classes
        which = match.gather(1, label.where(known, 0)[:, None])[:, 0]
        belongs = members((label * each + which).where(known, VOID), classes * each) & known
        total = over_processes(belongs.to(features.dtype) @ features)
        number = over_processes(belongs.sum(1))[:, None]
        flat = self.mean.flatten(0, 1)
        moved = momentum * flat + (1 - momentum) * total / number.clamp(min=1)
        self.mean.copy_(torch.where(number > 0, moved, flat).view_as(self.mean))


@float32
def k_means(rows: Tensor, count: Tensor, k: int, rounds: int = 10) -> Tensor:
    """(k, D) centres of the first `count` of (N, D) rows, by Lloyd's rounds from rows that lie evenly in their order.

    Nothing is drawn, so that all processes find the same ones.
    """
    used = torch.arange(len(rows), device=rows.device) < count
    first = ((torch.arange(k, device=rows.device) + 0.5) * count / k).long().clamp(max=len(rows) - 1)
    centre = rows.index_select(0, first)
    for _ in range(rounds):
        own = (F.one_hot(torch.cdist(rows, centre).argmin(1), k) * used[:, None]).to(rows.dtype)
        number = own.sum(0)[:, None]
        centre = torch.where(number > 0, own.T @ rows / number.clamp(min=1), centre)
    return centre
