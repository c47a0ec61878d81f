"""DSSN: two strong and two dropped views learn the label, and each pair is pulled together without negatives.

Simplified: the teacher forwards in eval mode throughout. In the release nothing sets its mode: it is in train mode
in the first epoch, in eval mode after the first evaluation, and a resumed run differs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import Features, copy_of, ema, evaluating, feature_dropout, make
from ...views import STRONG, Batch, Chain, Intensity, Stream, ViewPlan, Views, paste, unimatch_box
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.precision import float32


@float32
def class_wise(p: Tensor, high: float = 0.92, keep: float = 0.96) -> Tensor:
    """Which pixels are close to the surest pixel of a class in their image.

    Args:
        p: (B, C, H, W) probabilities.
        high: a class whose largest probability M in the image is not above it selects nothing.
        keep: of the others a pixel is selected where p > keep M.

    Returns:
        (B, H, W) float, the number of classes that select a pixel: 0 or 1, since keep * high > 1/2.
    """
    most = p.amax((2, 3), keepdim=True)
    threshold = torch.where(most > high, keep * most, most)
    return (p > threshold).sum(1).to(p.dtype)


@float32
def siamese(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of (B, C, H, W) logits that are standardised over the classes, pixel by pixel (mean 0,
    unbiased deviation 1): blind to their offset and scale. The gradient goes through both."""
    za, zb = ((z - z.mean(1, keepdim=True)) / z.std(1, keepdim=True).clamp(min=1e-12) for z in (a, b))
    return (za - zb).square().mean()


class DSSN(Method):
    """Dual-level siamese structure network (Tian et al., ACM MM 2023, arXiv 2307.13938).

    Idea: pseudo-labels supervise four views of an image, two strong ones and two whose feature channels are dropped;
    and the two of a kind are pulled together pixel by pixel, a contrast with positives alone. A pixel is selected if it
    is nearly as sure as the surest pixel of its class in the image. What it adds to `unimatch` are the mean teacher,
    the second dropped view, the siamese term and the class-wise selection.

    Equations; T the teacher, u and v two unlabelled batches, m_k a box per image, N the valid pixels:
        z_x, z_w, z_p, z_q = decode([e, drop(e), drop'(e)]), e = encode(x, w(u));   z_1, z_2 = f(s_1), f(s_2), pasted
        labels: of z_1, z_2 argmax of T(w(v)) where m_k, of T(w(u)) elsewhere; of z_p, z_q argmax z_w, detached
        selected (VOC): class_wise(softmax);   (Cityscapes): confidence >= tau = 0, everything
        L_k = 1/N sum over valid, selected pixels of CE
        L_c = siamese(z_1, z_2) + siamese(z_p, z_q)
        L = (L_x + (L_1 + L_2 + L_p + L_q) / 4 + 0.01 L_c) / 2
        T <- keep T + (1 - keep) f, every entry of the state, BN statistics too
    A mixed image is one image to `class_wise`. In the warm stage (the first step on VOC, the first five epochs on
    Cityscapes) L_1 and L_2 are off and keep is 0: the teacher is the student.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: None: `class_wise`; otherwise the confidence from which a pixel counts.
        high, keep_share: of `class_wise`.
        decay: the teacher's.
        warm: epochs of the warm stage; 0 = the first step alone.
        drop: probability that a feature channel is dropped.
        weight, apart: weights of each of the four terms and of L_c, before L is halved.
        intensity: change the strong views by one to three operations of `Intensity` besides (VOC).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="cotraining",
        title="Improving Semi-Supervised Semantic Segmentation with Dual-Level Siamese Structure Network",
        venue="ACM MM",
        year=2023,
        authors="Tian et al.",
        arxiv="2307.13938",
        code="https://github.com/kunzhan/DSSN",
        extends=("unimatch",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c"},
            "fit": {"epochs": 100, "batch": 8, "lr": 2e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {
                "net": "resnet101c",
                "tau": 0.0,
                "warm": 5,
                "intensity": False,
                "supervised": "ohem(thresh=0.7, per_image=100000)",
            },
            "fit": {"epochs": 240, "batch": 4, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes",
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float | None = None,
        high: float = 0.92,
        keep_share: float = 0.96,
        decay: float = 0.996,
        warm: int = 0,
        drop: float = 0.5,
        weight: float = 0.25,
        apart: float = 0.01,
        intensity: bool = True,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.tau, self.high, self.keep_share, self.decay, self.warm = tau, high, keep_share, decay, warm
        self.drop, self.weight, self.apart, self.supervised = drop, weight, apart, criterion(supervised)
        colours = Chain(STRONG, Intensity()) if intensity else STRONG
        boxes = (unimatch_box(), unimatch_box())
        self.views = ViewPlan(
            x=Stream("labelled"),
            u=Stream("unlabelled", strong=(colours, colours), masks=boxes),
            v=Stream("unlabelled", strong=(colours, colours)),
        )

    def warming(self, clock: Clock) -> bool:
        """Whether the labels alone teach: in the first `warm` epochs, and in the very first step."""
        return clock.step == 0 or clock.epoch < self.warm

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(self.teacher, self.student):
            return self.teacher(view.weak), self.student(view.weak)

    def select(self, logits: Tensor, view: Views) -> PseudoLabels:
        """The likeliest class of each pixel of (B, K, H, W) logits; weight 1 where it is sure: from `tau` on, or by
        class."""
        p = logits.softmax(1)
        confidence, label = p.max(1)
        chosen = class_wise(p, self.high, self.keep_share) if self.tau is None else (confidence >= self.tau).float()
        return PseudoLabels(label, confidence, chosen, view.valid)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        return {name: self.select(z, view) for name, z in zip(("strong views", "dropped features"), evidence)}

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: z.softmax(1) for name, z in zip(("strong views", "dropped features"), evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        with evaluating(self.teacher):
            t_u, t_v = self.teacher(u.weak), self.teacher(v.weak)
        mixed = [paste(m, s_v, s_u) for m, s_v, s_u in zip(u.masks, v.strong, u.strong)]
        target = [self.select(paste(m, t_v, t_u), replace(u, valid=paste(m, v.valid, u.valid))) for m in u.masks]
        e = self.student.encode(torch.cat([x.weak, u.weak])).ends
        copies = Features.cat([e, feature_dropout(e, self.drop), feature_dropout(e, self.drop)])
        parts = self.student.decode(copies, u.weak.shape[-2:]).split(*[len(x), len(u)] * 3)
        z_x, z_w, _, z_p, _, z_q = (part.logits for part in parts)
        own = self.select(z_w.detach(), u)
        z_1, z_2 = (part.logits for part in self.student.joint(*mixed))
        l_1, l_2 = (pixel_ce(z, y, over="valid") for z, y in zip((z_1, z_2), target))
        l_p, l_q = (pixel_ce(z, own, over="valid") for z in (z_p, z_q))
        weight = self.weight / 2
        strong = 0.0 if self.warming(clock) else weight
        losses = Losses(x=(self.supervised(z_x, x.label), 0.5), s1=(l_1, strong), s2=(l_2, strong))
        losses.add("fp", l_p, weight).add("fq", l_q, weight)
        losses.add("siamese_image", siamese(z_1, z_2), self.apart / 2)
        losses.add("siamese_feature", siamese(z_p, z_q), self.apart / 2)
        losses.see("strong views", weak=u.weak, mixed=mixed[0], target=target[0], student=z_1)
        losses.see("second strong view", weak=u.weak, mixed=mixed[1], target=target[1], student=z_2)
        return losses.see("dropped features", weak=u.weak, mixed=u.weak, target=own, student=z_p)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, 0.0 if self.warming(clock) else self.decay)

    def predictors(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher, "student": self.student}
