"""PRCL with global prototypes: a class's centre is of all that was seen of it, and negatives are drawn from it, too.

A reconstruction: the paper's code is not published. Its abstract says that prototypes are gathered over the
training and that virtual negatives are drawn from them with a small fixed variance; how they are fused, how many
are virtual and how small is unsure; they stay options.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID
from ..base import Card, PseudoLabels
from ..parts.contrast import Draws, Negatives, OtherClasses, class_contrast, likeness, members, rows, shrink
from ..parts.gaussians import likelihoods, means, product
from ..parts.losses import Criterion, ce
from ..parts.precision import float32
from ..parts.processes import over_processes
from ..parts.roles import NOWHERE
from .prcl import PRCL
from .reco import Forward

SOURCE = "PRCL's release (Haoyu-Xie/PRCL); the later paper publishes no code"
UNSURE = "unsure: momentum, virtual, narrow: the global prototypes are reconstructed, see the class"


class GlobalPrototypes(nn.Module):
    """One Gaussian for each class, of all batches: precisions, and means weighted by them, are averaged.

    Args:
        classes, dim: K and D.

    Attributes:
        precision, weighted: (K, D), 1/v and m/v. seen: (K,) bool; the first batch is taken as it is.
    """

    def __init__(self, classes: int, dim: int) -> None:
        super().__init__()
        for name in ("precision", "weighted"):
            self.register_buffer(name, torch.zeros(classes, dim))
        self.register_buffer("seen", torch.zeros(classes, dtype=torch.bool))

    @float32
    @torch.no_grad()
    def follow(self, batch: Tensor, present: Tensor, momentum: float) -> None:
        """Average in the Gaussians (K, 2 D) of a batch, of the classes that are present, (K,) bool."""
        mean, variance = batch.chunk(2, -1)
        keep = torch.where(self.seen, momentum, 0.0)[:, None]
        for held, new in ((self.precision, 1 / variance), (self.weighted, mean / variance)):
            held.copy_(torch.where(present[:, None], keep * held + (1 - keep) * new, held))
        self.seen |= present

    def gaussians(self) -> Tensor:
        """(K, 2 D): means, then variances; 0 and 1 for a class that was never seen."""
        precision = torch.where(self.seen[:, None], self.precision, 1.0)
        return torch.cat([self.weighted / precision, 1 / precision], 1)


class Virtual:
    """Negatives of which a share is no pixel's: drawn from the Gaussians of the classes that pixels are drawn from.

    Args:
        others: where pixels come from. gaussians: (K, 2 D). share: of every anchor's negatives, in [0, 1].
        each: negatives of an anchor. narrow: the variance of a drawn one, as a share of its class's. number: drawn of
            each class.
    """

    def __init__(
        self, others: OtherClasses, gaussians: Tensor, share: float, each: int, narrow: float, number: int = 64
    ) -> None:
        self.others, self.share, self.each, self.number = others, share, each, number
        mean, variance = (t[:, None].expand(-1, number, -1) for t in gaussians.chunk(2, -1))
        drawn = torch.cat([mean + (narrow * variance).sqrt() * torch.randn_like(mean), narrow * variance], 2)
        self.rows = torch.cat([others.features.float(), drawn.flatten(0, 1)])
        self.label = others.label()

    @property
    def ready(self) -> Tensor:
        """(K,) bool: which classes have negatives in the batch; those of none have no drawn ones either."""
        return self.others.ready

    def draw(self, which: int, number: int) -> Tensor:
        """(number,) rows of negatives for class `which`: of each anchor's the first are drawn ones, a `share` of them,
        the rest pixels."""
        pixel = self.others.draw(which, number)
        k = self.label[pixel].clamp(max=len(self.others.count) - 1)
        rank = (torch.rand(number, device=pixel.device) * self.number).long().clamp(max=self.number - 1)
        virtual = torch.arange(number, device=pixel.device) % self.each < round(self.share * self.each)
        return torch.where(virtual, len(self.others.features) + k * self.number + rank, pixel)

    def take(self, which: int, index: Tensor) -> Tensor:
        """(n, 2 D), the means and variances in these rows."""
        return self.rows.index_select(0, index)

    def whence(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The pixel of each row, `NOWHERE` of a drawn one, and the class that it is of."""
        pixels = len(self.label)
        of = torch.where(index < pixels, self.label[index.clamp(max=pixels - 1)], (index - pixels) // self.number)
        return index.where(index < pixels, NOWHERE), of


class PRCLGlobal(PRCL):
    """PRCL, probabilistic representation contrastive learning with global distribution prototypes (Xie et al., 2024).

    Idea: a batch shows a few pixels of a rare class, and a centre of these is anywhere; it jumps from step to step, and
    anchors with it. A Gaussian that remembers all batches stands still. And since it says where the class's features
    lie, negatives can be drawn from it, of classes of which the batch has only a handful of pixels. What it adds to
    `prcl`: this memory, these negatives.

    Equations, with all else as in `prcl`; v_k, m_k the centre of class k by the batch, P and W kept:
        P_k <- momentum P_k + (1 - momentum) / v_k,   W_k <- momentum W_k + (1 - momentum) m_k / v_k   if k is there
        the centre of class k is the Gaussian of mean W_k / P_k and variance 1 / P_k
        of an anchor's negatives a share `virtual` is drawn: m_j + sqrt(narrow v_j) noise with the variance narrow v_j,
            of the class j of which a pixel would have been drawn
    With a momentum of 0 and nothing virtual it is `prcl`.

    Cost: that of `prcl`, 4 K D floats more in the state.

    Args:
        task, net, tau, trust, hard, decay, zoom, contrast, queries, negatives, temperature, pace, supervised: as in
            `prcl`.
        momentum: of the global Gaussians. virtual: share of the negatives that is drawn. narrow: variance of these, as
            a share of the class's.
    """

    card = Card(
        family="contrastive",
        title="PRCL: Probabilistic Representation Contrastive Learning for Semi-Supervised Semantic Segmentation",
        venue="IJCV",
        year=2024,
        authors="Xie et al.",
        arxiv="2402.18117",
        extends=("prcl",),
        parity="reconstruction",
    )
    recipes: ClassVar = {
        name: {**entry, "source": SOURCE, "differs": [*entry.get("differs", ()), UNSURE]} if "fit" in entry else entry
        for name, entry in PRCL.recipes.items()
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.97,
        trust: float = 0.7,
        hard: float = 0.8,
        decay: float = 0.99,
        zoom: tuple[float, float] = (0.5, 1.5),
        contrast: float = 1.0,
        queries: int = 256,
        negatives: int = 512,
        temperature: float = 100.0,
        pace: float = 1 / 64,
        momentum: float = 0.99,
        virtual: float = 0.5,
        narrow: float = 0.1,
        supervised: str | Criterion = ce,
    ) -> None:
        options = (tau, trust, hard, decay, zoom, contrast, queries, negatives, temperature, pace, supervised)
        super().__init__(task, net, *options)
        self.prototypes = GlobalPrototypes(self.classes, self.student.decoder.embedding_channels)
        self.momentum, self.virtual, self.narrow = momentum, virtual, narrow

    def contrast(self, own: list[Forward], label: Tensor, target: PseudoLabels, draws: Draws | None = None) -> Tensor:
        """L_c of the labelled and the mixed images; writes the prototypes. Draws instead of own ones."""
        trusted = (target.confidence >= self.trust) & (target.valid > 0)
        known = torch.cat([label, target.label.where(trusted, VOID)])
        belongs = members(shrink(known, own[0].z.shape[-2:]).flatten(), self.classes)
        z, p = (torch.cat([rows(part) for part in parts]) for parts in zip(*((o.z, o.logits.softmax(1)) for o in own)))
        self.prototypes.follow(product(z.detach(), belongs), over_processes(belongs.sum(1)) > 0, self.momentum)
        centre = self.prototypes.gaussians()
        others: Negatives = OtherClasses(z, belongs, likeness(centre, self.temperature, likelihoods))
        if self.virtual and draws is None:
            others = Virtual(others, centre, self.virtual, self.amounts[1], self.narrow)
        candidates, amounts = belongs & (p.detach().t() < self.hard), (*self.amounts, self.temperature, draws)
        return class_contrast(z, candidates, centre, others, belongs.any(1), *amounts, likelihoods, means)
