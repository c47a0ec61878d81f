"""IPixMatch: FixMatch whose student must also compare pixels with each other as its teacher does."""

from __future__ import annotations

from typing import Any, ClassVar

from ...errors import S4Error, closest
from ...views import Batch, paste
from ..base import Card, Clock, Losses
from ..parts.interpixel import RELATIONS
from ..parts.losses import Criterion, ce, pixel_ce
from .fixmatch import FixMatch


class IPixMatch(FixMatch):
    """IPixMatch: boost semi-supervised semantic segmentation with inter-pixel relation (Wu et al., 2024, 2404.18891).

    RECONSTRUCTION. No code was published and only the abstract and a summary were at hand. Sure: beside the host's hard
    labels the SOFT predictions of teacher and student are matched along the spatial dimension, over confident regions,
    by a KL divergence or a correlation, without extra modules, on most teacher-student hosts. The formulas below, T,
    the weight and the host are this kit's choice; they follow two published losses of the same two kinds.

    Idea: a hard label per pixel says nothing of context; how a class's score is spread over the image does. What it
    adds to `fixmatch` is L_ip.

    Equations, those of `fixmatch`; z the teacher's pasted logits (no gradient), z_s the student's on the mixed image,
    M the valid pixels with c >= sure, k a class:
        kl            P_k(i) = exp(z_k(i) / T) / sum over j in M of exp(z_k(j) / T),   Q likewise of z_s
                      L_ip = T^2 / K sum over k and i in M of P_k(i) log(P_k(i) / Q_k(i))
        correlation   L_ip = 1 / K sum over k of 1 - Pearson over M of (softmax(z)_k, softmax(z_s)_k)
        both: mean over the images with at least two pixels in M
        L = (CE(z_x, y_x) + L_u) / 2 + weight L_ip
    A softmax over a whole map is nearly uniform, hence weak; over the confident pixels alone, or with a smaller T, it
    is not. With a weight of 1 the term kept the network of `scenes` below the threshold, so that little was ever
    labelled; with 0.1 it did not.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts in L_u. sure: the same for L_ip.
        relation: "kl" or "correlation". temperature: T. weight: of L_ip; 0 is `fixmatch`.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `relation`.
    """

    card = Card(
        family="consistency",
        title="IPixMatch: Boost Semi-supervised Semantic Segmentation with Inter-Pixel Relation",
        venue="arXiv",
        year=2024,
        authors="Wu et al.",
        arxiv="2404.18891",
        extends=("fixmatch",),
        parity="reconstruction",
    )
    recipes: ClassVar = {  # those of the host
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "tau": 0.95},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "evaluation": "voc",
            "differs": [
                "its host is UniMatch's FixMatch here; the paper's hosts are not known",
            ],
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "tau": 0.0, "supervised": "ohem(thresh=0.7, per_image=100000)"},
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "evaluation": "cityscapes",
            "differs": [
                "its host is UniMatch's FixMatch here; the paper's hosts are not known",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        sure: float = 0.95,
        relation: str = "kl",
        temperature: float = 1.0,
        weight: float = 0.1,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, supervised)
        if relation not in RELATIONS:
            raise S4Error(f"There is no relation {relation!r}. {closest(relation, list(RELATIONS))}")
        self.sure, self.relation, self.temperature, self.weight = sure, RELATIONS[relation], temperature, weight

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        z_v = self.teach(v)
        partner = self.pseudo_labels(z_v, v, clock)
        z_x, z_w = (part.logits for part in self.student.joint(x.weak, u.weak))
        own = self.pseudo_labels(z_w.detach(), u, clock)
        m = u.masks[0]
        mixed, target, z = paste(m, v.strong[0], u.strong[0]), paste(m, partner, own), paste(m, z_v, z_w.detach())
        z_s = self.student(mixed)
        l_u = pixel_ce(z_s, target, over="valid")
        l_ip = self.relation(z_s, z, (target.confidence >= self.sure) & (target.valid > 0), self.temperature)
        losses = Losses(x=(self.supervised(z_x, x.label), 0.5), u=(l_u, 0.5), ip=(l_ip, self.weight))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_s)
