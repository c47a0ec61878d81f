"""CCVC: two networks that must see different things and still agree; where they conflict there is most to learn.

Of the release: the paper speaks of confidence, the code compares the largest logit with 0.9, which nearly every
pixel passes; `measure="probability"` is the stricter reading. Its conflicts of the mixed view are those of the
unmixed image, although labels and padding are pasted: here the weights are pasted, too.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import S4Error
from ...nets import Decoded, Ensemble, Mapped, evaluating, make
from ...views import STRONG, Batch, Stream, ViewPlan, Views, paste, unimatch_box
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.precision import float32

NAMES = ("1 teaches 2", "2 teaches 1")
MEASURES = ("logit", "probability")


@float32
def likeness(a: Tensor, b: Tensor) -> Tensor:
    """1 + mean cosine of (B, D, h, w) maps along D, in [0, 2]: 2 for equal, 1 for orthogonal, 0 for opposite ones."""
    return 1 + F.cosine_similarity(a, b, dim=1, eps=1e-6).mean()


def discrepancy(a: Tensor, b: Tensor) -> Tensor:
    """`likeness` of features, in halves that each teach one of the two: what pushes two networks' features apart."""
    return (likeness(a.detach(), b) + likeness(a, b.detach())) / 2


class CCVC(Method):
    """Conflict-based cross-view consistency (Wang et al., CVPR 2023, arXiv 2303.01276).

    Idea: two networks that teach each other soon say the same, and then teach nothing. So their features are pushed
    apart, towards a cosine of -1, while their predictions must agree; and pixels on which they conflict though the
    teacher is confident weigh more, since only these carry news. What it adds to `cps` are the discrepancy loss, a
    mapping layer in one of the two (without it opposite features could not give equal predictions) and these weights.

    Equations; f_k the fused maps (behind the mapping in network 2), z_k the logits, sg stops the gradient:
        L_dis = 1/2 [(1 + mean cos(sg f_1, f_2)) + (1 + mean cos(f_1, sg f_2))], the mean of labelled and unlabelled
        teacher k: y_k = argmax z_k;   conflict: y_1 != y_2 and max z_k > tau;   w_k = `confident` there, 1 elsewhere
        L_con = mean over both directions of (sum over valid pixels of w_k CE(student, y_k)) / N, N the valid pixels
        L = supervised_weight * (CE(z_1, y) + CE(z_2, y)) / 2 + weight * L_con + apart * L_dis
    With `strong` (the better results) a mixed strong view joins: its labels are those of an eval-mode forward on the
    weak images, pasted; the weak view goes on supervising itself. L_con is then the mean of four terms, and the
    unlabelled part of L_dis the mean of the mixed and the weak view. The partner of image i is image B-1-i of the
    batch. Every other forward is in train mode; one SGD for both.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice, the second with a mapping layer.
        strong: with strong, mixed views or on weak views alone.
        tau: what the teacher must exceed for a conflict to count: a logit, or a probability in [0, 1].
        measure: "logit" (released) or "probability" of `tau`.
        confident: weight of a confident conflict; 1 = `cps` over valid pixels.
        supervised_weight, weight, apart: weights of the supervised, the consistency and the discrepancy term.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: unknown `measure`.
    """

    card = Card(
        family="cotraining",
        title="Conflict-Based Cross-View Consistency for Semi-Supervised Semantic Segmentation",
        venue="CVPR",
        year=2023,
        authors="Wang et al.",
        arxiv="2303.01276",
        code="https://github.com/xiaoyao3302/CCVC",
        extends=("cps",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512},
            "method": {"net": "resnet101c"},
            "fit": {"epochs": 40, "batch": 16, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
        },
        "cityscapes": {
            "task": {"crop": 712},
            "method": {
                "net": "resnet50c(output_stride=8, multi_grid=(4, 8, 16), aspp_rates=(12, 24, 36))",
                "tau": 0.0,
                "confident": 2.0,
                "supervised_weight": 1.0,
                "weight": 1.0,
            },
            "fit": {"epochs": 250, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes",
            "differs": [
                "evaluation: sliding window of 712 in the last 20 epochs and a centre crop before there, of 801 here"
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        strong: bool = True,
        tau: float = 0.9,
        measure: str = "logit",
        confident: float = 1.5,
        supervised_weight: float = 5.0,
        weight: float = 2.0,
        apart: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if measure not in MEASURES:
            raise S4Error(f"measure={measure!r}: choose one of {', '.join(MEASURES)}.")
        self.net1, self.net2 = make(net, task), make(net, task)
        self.net2.decoder = Mapped(self.net2.decoder)
        self.strong, self.tau, self.measure, self.confident = strong, tau, measure, confident
        self.supervised_weight, self.weight, self.apart = supervised_weight, weight, apart
        self.supervised = criterion(supervised)
        views = {"strong": (STRONG,), "masks": (unimatch_box(p=1.0),)} if strong else {}
        self.views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", **views))

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(self.net1, self.net2):
            return self.net1(view.weak), self.net2(view.weak)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        labels = [logits.argmax(1) for logits in evidence]
        found = {}
        for name, logits, label in zip(NAMES, evidence, labels):
            confidence = logits.softmax(1).amax(1)
            sure = (logits.amax(1) if self.measure == "logit" else confidence) > self.tau
            weight = 1 + (self.confident - 1) * ((labels[0] != labels[1]) & sure)
            found[name] = PseudoLabels(label, confidence, weight, view.valid)
        return found

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        pasted = None
        if self.strong:
            m, y = u.masks[0], self.pseudo_labels(self.teach(u), u, clock)
            mixed = paste(m, u.strong[0].flip(0), u.strong[0])
            pasted = {name: paste(m, y[name].map(lambda t: t.flip(0)), y[name]) for name in NAMES}
        of_x, of_u = self.both(x.weak), self.both(u.weak)
        target = self.pseudo_labels(tuple(d.logits.detach() for d in of_u), u, clock)
        l_con = self.consistency(of_u, target)
        l_dis_u = discrepancy(*(d.fused for d in of_u))
        if pasted:
            of_m = self.both(mixed)
            l_con = (self.consistency(of_m, pasted) + l_con) / 2
            l_dis_u = (discrepancy(*(d.fused for d in of_m)) + l_dis_u) / 2
        l_dis = (discrepancy(*(d.fused for d in of_x)) + l_dis_u) / 2
        losses = Losses(
            x1=(self.supervised(of_x[0].logits, x.label), self.supervised_weight / 2),
            x2=(self.supervised(of_x[1].logits, x.label), self.supervised_weight / 2),
            con=(l_con, self.weight),
            dis=(l_dis, self.apart),
        )
        seen, taught, of = (mixed, pasted, of_m) if pasted else (u.weak, target, of_u)
        losses.see(weak=u.weak, mixed=seen)
        for name, student in zip(NAMES, of[::-1]):
            losses.see(name, target=taught[name], student=student.logits)
        return losses

    def both(self, image: Tensor) -> tuple[Decoded, Decoded]:
        """Both networks on the same images, logits at their size."""
        size = image.shape[-2:]
        return tuple(net.decode(net.encode(image), size) for net in (self.net1, self.net2))

    def consistency(self, of: tuple[Decoded, Decoded], target: dict[str, PseudoLabels]) -> Tensor:
        """Mean over both directions; network 2 learns from 1 and the other way round."""
        return sum(pixel_ce(d.logits, target[name], over="valid") for name, d in zip(NAMES, of[::-1])) / 2

    def predictors(self) -> dict[str, nn.Module]:
        return {"mean": Ensemble(self.net1, self.net2), "net 1": self.net1, "net 2": self.net2}
