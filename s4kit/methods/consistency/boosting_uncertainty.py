"""Boosting uncertainty: unlabelled images are learnt with features whose statistics have been made uncertain.

Read in the abstract: the gap, that uncertainty is raised on unlabelled data and "appropriately" so, that there are
two strategies and a tiny, pluggable booster that stands its hyper-parameters being varied, VOC and Cityscapes.
Chosen here: the host; that the booster shakes the statistics of channels, as is done against shifts of domain (Li
et al., ICLR 2022); where it sits; as strategies, that labelled images and labels stay unboosted, and the entropy
term, off by default; all figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...nets import SegNet, draw_statistics
from ...views import Batch, paste
from ..base import Card, Clock, Losses, PseudoLabels
from ..cotraining.cps import CPS, NAMES, PAPER_NET, SCALES
from ..parts.losses import Criterion, ce, entropy, pixel_ce, pixel_mean

HOST = "its host is CPS with CutMix here; neither code nor set-up of the paper is known"


class BoostingUncertainty(CPS):
    """Semi-supervised semantic segmentation via boosting uncertainty on unlabeled data (Zhang et al., 2023, arXiv
    2311.18758).

    A reconstruction from the abstract: there is no code, and the text of the paper was not at hand.

    Idea: labelled and unlabelled images, drawn from one set, are still told apart by a network that has learnt the few
    labelled ones by heart; making it less certain on the unlabelled ones, within measure, narrows that gap. What it
    adds to `cps` with CutMix, its host here, is a booster without parameters in the unlabelled student's encoder.

    Equations; networks f1, f2, the mixed image s and labels Y_1, Y_2 as in `cps`; n_m, n_s ~ N(0, 1) per image and
    channel, drawn anew for every level; r = strength with probability `chance` per image and level, else 0:
        F' = F + r n_s S_s / sd (F - mu) + r n_m S_m   behind each stage, whose result the next stage reads
             mu, sd: mean and deviation of a channel over an image;   S_m, S_s: deviations of mu and sd over the batch
        s_k = decode(e_k'(s)),  e_k' the encoder of f_k with F' for F
        L_cps = CE(s_1, Y_2) + CE(s_2, Y_1)
        H_k = mean entropy of softmax s_k over the pixels with max softmax of their teacher's logits < tau
        L = CE(f1(x), y) + CE(f2(x), y) + weight L_cps - beta (H_1 + H_2)
    Y_k comes from unchanged features, and so does everything of labelled images: uncertainty is raised for unlabelled
    ones alone. Evaluation knows no booster. S_m and S_s carry no gradient, and are 0 where the batch is one image. With
    `strength` or `chance` 0 and `beta` 0 it is `cps`, bit for bit.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; convolutional; built twice.
        strength: r, in deviations of the batch's statistics.
        chance: probability that an image is boosted behind a stage.
        beta: weight of the entropy (0 = off; up to 0.05).
        tau: confidence below which a pixel's entropy is raised.
        weight: of L_cps (Cityscapes: 5).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Semi-Supervised Semantic Segmentation via Boosting Uncertainty on Unlabeled Data",
        venue="arXiv",
        year=2023,
        authors="Zhang et al.",
        arxiv="2311.18758",
        extends=("cps",),
        parity="reconstruction",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET},
            "fit": {"epochs": 34, "batch": 8, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 4,
            "divided": "all",
            "epochs": {"1_16": 32, "1_8": 34, "1_4": 40, "1_2": 60},
            "evaluation": "voc/cps",
            "differs": [HOST],
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": SCALES},
            "method": {"net": PAPER_NET, "weight": 5.0, "supervised": "ohem(thresh=0.7, per_image=50000)"},
            "fit": {"epochs": 137, "batch": 8, "lr": 2e-2, "head": 1.0, "decay_norms": False},
            "processes": 8,
            "divided": "all",
            "epochs": {"1_16": 128, "1_8": 137, "1_4": 160, "1_2": 240},
            "evaluation": "cityscapes/cps",
            "differs": [HOST],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        strength: float = 1.0,
        chance: float = 0.5,
        beta: float = 0.0,
        tau: float = 0.9,
        weight: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, cutmix=True, weight=weight, supervised=supervised)
        self.strength, self.chance, self.beta, self.tau = strength, chance, beta, tau

    def boosted(self, net: SegNet, image: Tensor) -> Tensor:
        """Logits at image size of a forward with uncertain features."""
        features = net.encode(image, after=lambda level: draw_statistics(level, self.strength, self.chance))
        return net.decode(features, image.shape[-2:]).logits

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v, m = batch.x, batch.u, batch.v, batch.u.masks[0]
        with torch.no_grad():  # in train mode, so these forwards count in the BN statistics
            of_u, of_v = ((self.net1(w.weak), self.net2(w.weak)) for w in (u, v))
        y_u, y_v = self.pseudo_labels(of_u, u, clock), self.pseudo_labels(of_v, v, clock)
        seen = paste(m, v.weak, u.weak)
        y1, y2 = (paste(m, y_v[name], y_u[name]) for name in NAMES)
        y1, y2 = (replace(y, valid=torch.ones_like(y.valid)) for y in (y1, y2))  # padding takes part, as in the host
        s1, s2 = self.boosted(self.net1, seen), self.boosted(self.net2, seen)
        z1, z2 = self.net1(x.weak), self.net2(x.weak)
        l_cps = pixel_ce(s1, y2, over="all") + pixel_ce(s2, y1, over="all")
        losses = Losses(x1=self.supervised(z1, x.label), x2=self.supervised(z2, x.label), cps=(l_cps, self.weight))
        if self.beta:
            losses.add("entropy", self.doubt(s1, y2) + self.doubt(s2, y1), -self.beta)
        losses.see(weak=u.weak, mixed=seen)
        return losses.see(NAMES[0], target=y1, student=s2).see(NAMES[1], target=y2, student=s1)

    def doubt(self, logits: Tensor, target: PseudoLabels) -> Tensor:
        """H_k: mean entropy in nats of the pixels whose label is not confident."""
        unsure = (target.confidence < self.tau).float()
        return pixel_mean(entropy(logits), unsure, target.valid, over="kept")
