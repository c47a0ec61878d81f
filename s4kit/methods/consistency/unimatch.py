"""UniMatch: FixMatch with a second strong view and a stream of perturbed features.

From the release: the dropped copies of the labelled features go through the decoder as well and are thrown away, but
they count in its BN statistics; kept here. Its dropout module is made inside the forward, hence always active. Its
box partner is in effect the same image, see `fixmatch`; here v is an independent draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...nets import Features, feature_dropout
from ...views import STRONG, Batch, Stream, ViewPlan, paste, unimatch_box
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.losses import Criterion, ce, pixel_ce
from .fixmatch import FixMatch


class UniMatch(FixMatch):
    """Revisiting weak-to-strong consistency (Yang et al., CVPR 2023, arXiv 2208.09910).

    Idea: images are not the only thing that can be perturbed, and one strong view is not enough. What it adds to
    `fixmatch` is (a) a second strong view of the same crop with its own colours and its own box, and (b) a stream in
    which the weak image's features, not its pixels, are perturbed, by channel dropout.

    Equations, those of `fixmatch` with k = 1, 2:
        y_v, c_v = argmax, max of softmax(f(w(v))) in eval mode without gradient
        z_x, z_w, z_fp = decode([e, drop(e)]), e = encode(x, w(u));   y_u, c_u = argmax, max of softmax(z_w), detached
        z_1, z_2 = f(m_1 ? s_1(v) : s_1(u), m_2 ? s_2(v) : s_2(u));   y_k, c_k, valid_k = m_k ? those of v : those of u
        L_k  = 1/N sum over valid pixels of 1[c_k >= tau] CE(z_k, y_k)
        L_fp = 1/N sum over valid pixels of 1[c_u >= tau] CE(z_fp, y_u)          no box in this stream
        L = (CE(z_x, y_x) + L_1 / 4 + L_2 / 4 + L_fp / 2) / 2
    The weights of the unlabelled terms add up to those of `fixmatch`, so its learning rate is kept.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts; 0 = all pixels (Cityscapes).
        drop: probability that a feature channel is dropped.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation",
        venue="CVPR",
        year=2023,
        authors="Yang et al.",
        arxiv="2208.09910",
        code="https://github.com/LiheYoung/UniMatch",
        extends=("fixmatch",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled"),
        u=Stream("unlabelled", strong=(STRONG, STRONG), masks=(unimatch_box(), unimatch_box())),
        v=Stream("unlabelled", strong=(STRONG, STRONG)),
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "tau": 0.95},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "tau": 0.0, "supervised": "ohem(thresh=0.7, per_image=100000)"},
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes",
        },
        "voc/u2pl": {"task": {"crop": 513}, "processes": 2},  # the published runs on these lists
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
        drop: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, supervised)
        self.drop = drop

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        partner = self.pseudo_labels(self.teach(v), v, clock)
        e = self.student.encode(torch.cat([x.weak, u.weak])).ends
        both = self.student.decode(Features.cat([e, feature_dropout(e, self.drop)]), u.weak.shape[-2:])
        of_x, of_w, _, of_fp = both.split(len(x), len(u), len(x), len(u))
        z_x, z_w, z_fp = of_x.logits, of_w.logits, of_fp.logits
        own = self.pseudo_labels(z_w.detach(), u, clock)
        mixed = [paste(m, s_v, s_u) for m, s_v, s_u in zip(u.masks, v.strong, u.strong)]
        target = [paste(m, partner, own) for m in u.masks]
        z_1, z_2 = (part.logits for part in self.student.joint(*mixed))
        l_1, l_2 = (pixel_ce(z, t, over="valid") for z, t in zip((z_1, z_2), target))
        l_fp = pixel_ce(z_fp, own, over="valid")
        losses = Losses(x=(self.supervised(z_x, x.label), 0.5), s1=(l_1, 0.125), s2=(l_2, 0.125), fp=(l_fp, 0.25))
        losses.see(weak=u.weak, mixed=mixed[0], target=target[0], student=z_1)
        losses.see("second view", mixed=mixed[1], target=target[1], student=z_2)
        losses.see("dropped features", mixed=u.weak, target=own, student=z_fp)
        return self.further(losses, (z_1, z_2), target)

    def further(self, losses: Losses, logits: Sequence[Tensor], target: Sequence[PseudoLabels]) -> Losses:
        """What heirs add, of both strong views."""
        return losses
