"""PRCL: a pixel's feature is a Gaussian, so that what is uncertain pulls less and counts less in its class's centre.

As released, not as printed: MLS is a mean over channels, not a sum; means are brought to unit length within MLS
alone, not in the centres. The global prototypes and virtual negatives of the authors' later paper are in
`prcl_global`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.task import VOID
from ...nets import SegNet, VarianceHead
from ..base import Card, Clock, Optim, PseudoLabels
from ..parts.contrast import Draws, OtherClasses, class_contrast, likeness, members, rows, shrink
from ..parts.gaussians import likelihoods, means, product
from ..parts.losses import Criterion, ce
from ..parts.schedules import rampdown
from .reco import PAPER_NET, Forward, ReCo

FIT = {"lr": 3.2e-3, "head": 1.0, "weight_decay": 5e-4, "nesterov": True}
DIFFERS = [
    "schedule: poly by the epoch there, poly by the step here",
    "pad_image: reflected there, black here",
    "unsure: gamma and beta of the probability head at the start: not read in the release; 1 and 0",
    "unsure: aspp_rates, dropout: not read in the release; 6, 12, 18 and none, as in ReCo's network",
]


class PRCL(ReCo):
    """Boosting semi-supervised semantic segmentation with probabilistic representations (Xie et al., AAAI 2023).

    Idea: at borders and on small things a pixel's feature is ambiguous, and a contrast that treats it as a point pulls
    in a wrong direction with full force. Here each feature is a Gaussian: a second head says its variances; a class's
    centre is the product of its pixels' Gaussians, and alike are two features that are likely the same one. What it
    adds to `reco`: the variances, and a weight that falls.

    Equations, with the views, y, c, L_u, anchors and negatives of `reco` (`hard` is 0.8 here), each pixel having means
    m and variances v of D channels, and r = progress:
        centre of class k:  1/v_k = sum of 1/v,   m_k = sum of (v_k / v) m   over its pixels of all processes
        MLS(a, b) = -1/2 mean over channels of (m_a - m_b)^2 / (v_a + v_b) + log(v_a + v_b),   m of unit length
        a negative of class k is of class j with probability softmax_j(MLS(k, j) / T)
        L_c = mean over classes present, mean over anchors of -log(e^(MLS+/T) / (the same + sum of e^(MLS-/T)))
        L = CE(f(s(x)), y_x) + L_u + contrast * exp(-5 r^2) * L_c
    T is 100 and DIVIDES: scores of a few units become nearly equal, so L_c stays near log(1 + M), 6.2 for M = 512, and
    its gradient is small; as released. The variance of a centre is that of a pixel over the number of pixels, nearly 0,
    so that MLS+ is ruled by the anchor's own. The variances of anchors learn, too, at a rate of their own (`pace`).

    Cost: that of `reco`; its negatives are twice as wide, and MLS is no product of matrices, but many passes
    over differences and sums. Memory is bounded, whatever the number of classes, since anchors come a piece at a time.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau, trust, hard, decay, zoom, queries, negatives: as in `reco`.
        contrast: weight of L_c at the start. temperature: T.
        pace: learning rate of the probability head, as a share of the others'.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Boosting Semi-Supervised Semantic Segmentation with Probabilistic Representations",
        venue="AAAI",
        year=2023,
        authors="Xie et al.",
        arxiv="2210.14670",
        code="https://github.com/Haoyu-Xie/PRCL",
        extends=("reco",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": (0.5, 1.5)},
            "method": {"net": PAPER_NET},
            "fit": {**FIT, "steps": 25_000, "batch": 16},
            "processes": 8,
            "evaluation": "voc",
            "differs": [
                *DIFFERS,
                "length: 200 epochs of about 2,000 images there, the same 25,000 steps here",
            ],
        },
        "cityscapes": {
            "task": {"crop": 512, "size": 0.5, "scale": (0.5, 2.0)},
            "method": {"net": PAPER_NET, "zoom": (0.5, 2.0), "supervised": "ce"},
            "fit": {**FIT, "epochs": 200, "batch": 6},
            "evaluation": "cityscapes/whole",
            "differs": [
                *DIFFERS,
                "unsure: batch: its configuration says 6 and 6, for a number of processes that was not read; 6 in all",
                "unsure: size: not read in the release; half the images' resolution, as in ReCo's release",
            ],
        },
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
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
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(
            task, net, tau, trust, hard, decay, zoom, contrast, queries, negatives, temperature, supervised
        )
        decoder = self.student.decoder
        self.probability = VarianceHead(decoder.fused_channels, decoder.embedding_channels)  # the teacher needs none
        self.pace = pace

    def through(self, net: SegNet, image: Tensor) -> Forward:
        """The representation holds the means, then the variances."""
        map = net.fuse(net.encode(image)).map
        z = torch.cat([net.heads["projection"](map).float(), self.probability(map)], 1)
        return Forward(net.classify(map).logits, z)

    def weight_of_contrast(self, clock: Clock) -> float:
        """Falls from `weight` on over the training, see `rampdown`."""
        return self.weight * rampdown(clock.progress)

    def contrast(self, own: list[Forward], label: Tensor, target: PseudoLabels, draws: Draws | None = None) -> Tensor:
        """L_c of the labelled and the mixed images; draws instead of own ones."""
        trusted = (target.confidence >= self.trust) & (target.valid > 0)
        known = torch.cat([label, target.label.where(trusted, VOID)])
        belongs = members(shrink(known, own[0].z.shape[-2:]).flatten(), self.classes)
        z, p = (torch.cat([rows(part) for part in parts]) for parts in zip(*((o.z, o.logits.softmax(1)) for o in own)))
        centre = product(z.detach(), belongs)
        others = OtherClasses(z, belongs, likeness(centre, self.temperature, likelihoods))
        candidates, amounts = belongs & (p.detach().t() < self.hard), (*self.amounts, self.temperature, draws)
        return class_contrast(z, candidates, centre, others, belongs.any(1), *amounts, likelihoods, means)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        head = replace(recipe, nets=[self.probability], lr=self.pace * recipe.lr)
        return {"main": replace(recipe, nets=[self.student]), "probability": head}
