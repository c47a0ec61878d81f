"""FixMatch: the weak view teaches the strong view what the network is sure of.

From the release: its loader zips the unlabelled list with itself, and the two samplers give the same order, so the
box comes from another crop of the same image. Here v is an independent draw, which its author reports to be as good.
v is labelled in eval mode and u in train mode, as released; he calls the former "not a necessity".
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ...nets import evaluating, make
from ...views import STRONG, Batch, Stream, ViewPlan, Views, paste, unimatch_box
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_ce


class FixMatch(Method):
    """FixMatch (Sohn et al., NeurIPS 2020), made for segmentation by UniMatch's authors (arXiv 2208.09910).

    Idea: the network's own hard label on a weak view of an unlabelled image, where it is confident, supervises its
    prediction on a strong view of the same crop, into which a box of another image is pasted. What it adds to
    `pseudo_label` is the strong, mixed view on the student's side.

    Equations; u and v are two unlabelled batches, m a box per image, N the valid (not padded) pixels:
        y_v, c_v = argmax, max of softmax(f(w(v))) in eval mode without gradient
        z_x, z_w = f(x, w(u)) in one train-mode forward;   y_u, c_u = argmax, max of softmax(z_w), detached
        z_s = f(m ? s(v) : s(u));   y, c, valid = m ? those of v : those of u
        L_u = 1/N sum over valid pixels of 1[c >= tau] CE(z_s, y)
        L = (CE(z_x, y_x) + L_u) / 2
    The divisor is all valid pixels, not the confident ones: L_u starts near zero and rises as pixels pass the
    threshold. The weak images share the labelled images' forward on purpose: they give the BN clean statistics.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts; 0 = all pixels (Cityscapes).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
        venue="NeurIPS",
        year=2020,
        authors="Sohn et al.",
        arxiv="2001.07685",
        code="https://github.com/LiheYoung/UniMatch",
        extends=("pseudo_label",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled"),
        u=Stream("unlabelled", strong=(STRONG,), masks=(unimatch_box(),)),
        v=Stream("unlabelled", strong=(STRONG,)),
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "tau": 0.95},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                "unsure: no numbers of it with a ResNet in the code's tables, but logs: three for each classic list",
            ],
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "tau": 0.0, "supervised": "ohem(thresh=0.7, per_image=100000)"},
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes",
        },
        "coco": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c", "tau": 0.95},
            "fit": {"epochs": 30, "batch": 8, "lr": 4e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "coco",
            "differs": [
                "backbone: xception65 there, resnet101 here: its numbers are not for this one",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.tau, self.supervised = tau, criterion(supervised)

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence >= self.tau).float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        partner = self.pseudo_labels(self.teach(v), v, clock)
        z_x, z_w = self.student.joint(x.weak, u.weak)
        own = self.pseudo_labels(z_w.logits.detach(), u, clock)
        m = u.masks[0]
        mixed, target = paste(m, v.strong[0], u.strong[0]), paste(m, partner, own)
        z_s = self.student(mixed)
        l_u = pixel_ce(z_s, target, over="valid")
        losses = Losses(x=(self.supervised(z_x.logits, x.label), 0.5), u=(l_u, 0.5))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_s)
