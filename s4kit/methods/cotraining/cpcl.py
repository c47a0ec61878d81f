"""CPCL: a conservative network learns where both agree, a progressive one from all that either says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...views import Batch, Views, paste
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.losses import Criterion, ce, pixel_ce
from ..parts.precision import float32
from .cps import CPS, PAPER_NET, SCALES, START

NAMES = ("conservative", "progressive")
CITY = (0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843, 1.1116, 0.9037,
        1.0865, 1.0955, 1.0865, 1.1529, 1.0507)  # fmt: skip


@float32
def disagreement(label_1: Tensor, label_2: Tensor, classes: int) -> Tensor:
    """How often two label maps differ on a class, as a share of all such disagreement.

    Args:
        label_1, label_2: (B, H, W) long in [0, `classes`).

    Returns:
        w (C,), non-negative: with M the confusion matrix of the two maps plus one count on its diagonal, the share of
        column c and the share of row c that lie off the diagonal, added, divided by (the sum over c) + 1e-6.
    """
    cell = (label_1 * classes + label_2).flatten()
    counts = torch.eye(classes, device=cell.device).flatten()
    matrix = counts.scatter_add(0, cell, torch.ones_like(cell, dtype=counts.dtype)).view(classes, classes)
    agreed = matrix.diagonal()
    w = (matrix.sum(0) - agreed) / matrix.sum(0) + (matrix.sum(1) - agreed) / matrix.sum(1)
    return w / (w.sum() + 1e-6)


class CPCL(CPS):
    """Conservative-progressive collaborative learning (Fan et al., IEEE TIP 2023, arXiv 2211.16701).

    Idea: two networks that teach each other should not both believe everything. The conservative one is trained where
    both agree (the intersection), the progressive one on every pixel (the union), where a disagreement goes to the
    network whose class is the more disputed one: rare and hard classes win. What it adds to `cps` are these two labels
    in place of the other's, and confidences as weights.

    Equations; p_k and c_k are argmax and max softmax of network k on u and v, pasted by the mask m, N all pixels:
        w = disagreement(p_1, p_2), one value a class, of this batch alone
        intersection: p where p_1 = p_2, nothing elsewhere;   weight (c_1 + c_2) / 2
        union: p where p_1 = p_2, else p_1 if w[p_1] > w[p_2], otherwise p_2;   weight (c_1 + c_2) / 2 where both agree,
               else the confidence of the one that was chosen
        L_int = 1/N sum c CE(f_1(s), intersection);   L_uni = 1/N sum c CE(f_2(s), union)
        L = CE(f_1(x), y) + CE(f_2(x), y) + weight * (L_int + L_uni)
    The divisor is all pixels, so L_int falls by itself while the networks disagree. Labels and weights pass no
    gradient. Every forward is in train mode, the labelling ones too. Two SGD optimisers, one backward. Network 1, the
    conservative one, is evaluated.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        weight: of L_int + L_uni; 1 on VOC, 5 on Cityscapes.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="cotraining",
        title="Conservative-Progressive Collaborative Learning for Semi-supervised Semantic Segmentation",
        venue="IEEE TIP",
        year=2023,
        authors="Fan et al.",
        arxiv="2211.16701",
        code="https://github.com/leofansq/CPCL",
        extends=("cps",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET},
            "fit": {"epochs": 34, "batch": 8, "lr": 5e-3, "head": 1.0, "decay_norms": False},
            "processes": 1,
            "evaluation": "voc/cps",
            "differs": [START, "unsure: selection: which epoch is reported is not said"],
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": SCALES},
            "method": {
                "net": PAPER_NET,
                "weight": 5.0,
                "supervised": f"ohem(thresh=0.7, per_image=50000, class_weight={CITY})",
            },
            "fit": {"epochs": 137, "batch": 16, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 1,
            "evaluation": "cityscapes/cps",
            "differs": [START, "unsure: selection: which epoch is reported is not said"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        weight: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, cutmix=True, weight=weight, supervised=supervised)
        self.classes = task.num_classes

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        (c_1, p_1), (c_2, p_2) = (logits.softmax(1).max(1) for logits in evidence)
        w = disagreement(p_1, p_2, self.classes)
        both, first = p_1 == p_2, w[p_1] > w[p_2]
        mean = (c_1 + c_2) / 2
        confidence = torch.where(both, mean, torch.where(first, c_1, c_2))
        label = torch.where(first, p_1, p_2)  # where both agree that is the same
        return {
            "conservative": PseudoLabels(p_1, mean, mean * both, view.valid),
            "progressive": PseudoLabels(label, confidence, confidence, view.valid),
        }

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v, m = batch.x, batch.u, batch.v, batch.u.masks[0]
        with torch.no_grad():  # in train mode, so these forwards count in the BN statistics
            of_u, of_v = ((self.net1(w.weak), self.net2(w.weak)) for w in (u, v))
        mixed = replace(u, valid=torch.ones_like(u.valid))  # padding takes part, as released
        target = self.pseudo_labels(tuple(paste(m, b, a) for a, b in zip(of_u, of_v)), mixed, clock)
        seen = paste(m, v.weak, u.weak)
        s_1, s_2 = self.net1(seen), self.net2(seen)
        z_1, z_2 = self.net1(x.weak), self.net2(x.weak)
        losses = Losses(
            x1=self.supervised(z_1, x.label),
            x2=self.supervised(z_2, x.label),
            intersection=(pixel_ce(s_1, target["conservative"], over="all"), self.weight),
            union=(pixel_ce(s_2, target["progressive"], over="all"), self.weight),
        )
        losses.see(weak=u.weak, mixed=seen)
        for name, student in zip(NAMES, (s_1, s_2)):
            losses.see(name, target=target[name], student=student)
        return losses

    def predictors(self) -> dict[str, nn.Module]:
        return {"conservative": self.net1, "progressive": self.net2}
