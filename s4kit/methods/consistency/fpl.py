"""FPL: where a pseudo-label is unsure, several classes are right together.

From the release: B / F is taken per process, as here; partners come from a second loader that has the same order on
several GPUs, see `cps`; its rate for VOC is 0.0025 times the number of GPUs (8). Its other host, AEL, weighs l by the
squared confidence of a mean teacher; the parts of that loss are tested, the host is not here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import S4Error, caution, closest
from ...views import Batch, Views, paste
from ..base import Card, Clock, Losses, PseudoLabels
from ..cotraining.cps import CPS, NAMES, SCALES
from ..parts.fuzzy import CLARITY, amount, clarity, set_loss, with_value_of
from ..parts.losses import Criterion, ce, pixel_ce, pixel_mean

PAPER_NET = "resnet101c(multi_grid=(2, 4, 8), aspp='cps')"


class FPL(CPS):
    """Fuzzy positive learning for semi-supervised semantic segmentation (Qiao et al., CVPR 2023, arXiv 2210.08519).

    Idea: where a teacher wavers between classes, any one label is wrong too often; so all likely classes are positive
    together, and the loss lifts the whole set above all other classes without ordering it inside. What it adds to
    `cps` with CutMix is the set in the place of the label, and a weight by how clear the set is.

    Equations; the two networks, mixed image s and pasted logits t_k as in `cps`; p = softmax t, p_1 >= p_2 >= ...:
        n = the smallest j in 1 .. most - 1 with p_1 + .. + p_(j+1) >= threshold, else `most`
        P = the n likeliest classes;   l(z; p) = log(1 + sum over P of e^-z * sum over the others of e^z)
        w: with m = (p_1 + .. + p_(n+1)) / (n + 1), q = p_(n+1): 1, (m - q)/m, (m - q)/(m + q) or
           log(1 + 50 (m - q)) / log(1 + 50 m)
        F = mean of w l(f1(s); p of t_2) + mean of w l(f2(s); p of t_1);   B = CE(f1(s), Y_2) + CE(f2(s), Y_1)
        L = CE(f1(x), y) + CE(f2(x), y) + weight F sg(B / F),   all means over all pixels, padded ones included
    With n = 1, l is the cross entropy. n is one LESS than it takes to reach the threshold: (0.6, 0.35, ..) has one
    positive at 0.9. The value of the last term is that of `cps`, its gradient's direction is that of F; sg stops the
    gradient of the ratio.

    Modes as in `cps`: every forward is in train mode, the labelling ones without gradient; network 1 is evaluated.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        threshold: cumulative probability. most: largest number of positives (at most the number of classes less one).
        clear: weight w, "none", "linear", "convex" or "concave".
        weight: of the unlabelled term (Cityscapes: 5).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `clear`.
    """

    card = Card(
        family="consistency",
        title="Fuzzy Positive Learning for Semi-supervised Semantic Segmentation",
        venue="CVPR",
        year=2023,
        authors="Qiao et al.",
        arxiv="2210.08519",
        code="https://github.com/qpc1611094/FPL",
        extends=("cps",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET},
            "fit": {"epochs": 40, "batch": 8, "lr": 2e-2, "head": 1.0, "decay_norms": False},
            "processes": 8,
            "divided": "all",
            "evaluation": "voc/cps",
            "differs": ["its second host, AEL, is not in the kit's version"],
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": SCALES},
            "method": {
                "net": PAPER_NET,
                "clear": "concave",
                "weight": 5.0,
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 140, "batch": 8, "lr": 2e-2, "head": 1.0, "decay_norms": False},
            "processes": 8,
            "divided": "all",
            "evaluation": "cityscapes/cps",
            "differs": ["its second host, AEL, is not in the kit's version"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        threshold: float = 0.9,
        most: int = 3,
        clear: str = "none",
        weight: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, cutmix=True, weight=weight, supervised=supervised)
        if clear not in CLARITY:
            raise S4Error(f"There is no weight {clear!r}. {closest(clear, list(CLARITY))}")
        if most >= task.num_classes > 1:
            few = task.num_classes - 1
            what = "which is plain cross entropy" if few == 1 else "for one class at least is none"
            caution(f"fpl: most={most} of {task.num_classes} classes: at most {few} can be positive, {what}.")
        self.threshold, self.most, self.clear = threshold, most, clear

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        """The likeliest class stands for the set, whose probabilities are in `soft`; the weight is w."""
        found = []
        for logits in evidence:
            p = logits.softmax(1)
            confidence, label = p.max(1)
            w = clarity(p, amount(p, self.threshold, self.most), self.clear)
            found.append(PseudoLabels(label, confidence, w, view.valid, soft=p))
        return dict(zip(NAMES, found))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v, m = batch.x, batch.u, batch.v, batch.u.masks[0]
        with torch.no_grad():  # in train mode, so these forwards count in the BN statistics
            of_u, of_v = ((self.net1(w.weak), self.net2(w.weak)) for w in (u, v))
        y_u, y_v = self.pseudo_labels(of_u, u, clock), self.pseudo_labels(of_v, v, clock)
        seen = paste(m, v.weak, u.weak)
        y1, y2 = (paste(m, y_v[name], y_u[name]) for name in NAMES)
        y1, y2 = (replace(y, valid=torch.ones_like(y.valid)) for y in (y1, y2))  # padding takes part, as released
        s1, s2 = self.net1(seen), self.net2(seen)
        z1, z2 = self.net1(x.weak), self.net2(x.weak)
        l1, l2 = self.fuzzy(s1, y2), self.fuzzy(s2, y1)
        f = sum(pixel_mean(loss, y.weight, y.valid, over="all") for loss, y in ((l1, y2), (l2, y1)))
        b = sum(pixel_ce(s, replace(y, weight=y.valid), over="all") for s, y in ((s1, y2), (s2, y1)))
        losses = Losses(x1=self.supervised(z1, x.label), x2=self.supervised(z2, x.label))
        losses.add("fpl", with_value_of(f, b), self.weight).see(weak=u.weak, mixed=seen)
        losses.see(NAMES[0], target=y1, loss=l2 * y1.weight)
        return losses.see(NAMES[1], target=y2, loss=l1 * y2.weight)

    def fuzzy(self, logits: Tensor, target: PseudoLabels) -> Tensor:
        """l, (B, H, W)."""
        return set_loss(logits, target.soft, amount(target.soft, self.threshold, self.most))
