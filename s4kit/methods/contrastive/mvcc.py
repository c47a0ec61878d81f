"""MVCC: how alike the pixels of an image are to each other must be the same in every view of it.

A reconstruction: nothing but the abstract was found. It says: self-correlation matrices, matched across views, no
positives and negatives, an augmentation that keeps the correspondence of pixels. Unsure is all the rest: the
teacher, the threshold, the squared difference, that pixels are of one image, where the features are taken, M, the
weight and its ramp; they stay options.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nets import copy_of, ema, make, warm
from ...views import STRONG, Batch, Stream, ViewPlan, paste, unimatch_box
from ..base import Card, Clock, Losses
from ..parts.contrast import shrink
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.precision import float32
from ..parts.schedules import sigmoid_ramp
from ..parts.teachers import AveragedTeacher

NAMES = ("first view", "second view")


@float32
def self_correlation(features: Tensor) -> Tensor:
    """(B, M, M) cosines of (B, D, M) features with each other."""
    unit = F.normalize(features, dim=1)
    return unit.mT @ unit


@float32
def disagreement(features: Tensor, other: Tensor, valid: Tensor) -> Tensor:
    """Mean over both orders, and over pairs of valid pixels, of the squared difference of two self-correlations, the
    second of which gets no gradient.

    Args:
        features, other: (B, D, M), the same pixels in two views. valid: (B, M), 1 or 0.
    """
    one, two = self_correlation(features), self_correlation(other)
    pairs = valid[:, :, None] * valid[:, None]
    both = (one - two.detach()).square() + (two - one.detach()).square()
    return (both * pairs).sum() / (2 * pairs.sum()).clamp(min=1)


class MVCC(AveragedTeacher):
    """Multi-view correlation consistency for semi-supervised semantic segmentation (Hou et al., 2022).

    Idea: consistency compares a pixel with itself in another view, contrast with pixels that are called alike or not.
    Here all pixels of an image are compared with each other, and it is these relations that the views must agree on:
    nothing has to be called positive or negative. Views share their geometry, the box and the image pasted, so that
    they show the same point in the same place. What it adds to `mean_teacher`: two such views, the relations.

    Equations; f the student, t the teacher, e_k the decoder's embedding of view k at M pixels, the same in both:
        y, c = argmax, max of softmax(t(u)) in eval mode;   image and labels get a box of another image, m
        view k: s_k(u) and s_k(v), one box for both;   L_pl = mean over k, valid pixels of 1[c >= tau] CE(f(view k), y)
        C_k = cosines of e_k with e_k, (M, M), image by image
        L_corr = mean over k, pairs of (C_k - sg C_l)^2, l the other view, sg without gradient
        L = CE(f(x), y_x) + L_pl + corr * ramp * L_corr;   t <- d t + (1 - d) f,   d = min(1 - 1/(k+1), decay)
    Relations, not coordinates: turning all features of one view by one rotation changes nothing. Features have unit
    length, or they would agree by shrinking; without the stop-gradient and the labels, by being all alike.

    Cost: 2 B M^2 cosines (67 MB for 8 images and 1024 pixels) and what the gradient keeps of them.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel is taught.
        corr: weight of L_corr, which rises over `ramp`, a share of the training.
        pixels: M, of each image at most; drawn anew in every step.
        decay: of the teacher.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Multi-View Correlation Consistency for Semi-Supervised Semantic Segmentation",
        venue="arXiv",
        year=2022,
        authors="Hou et al.",
        arxiv="2208.08437",
        extends=("mean_teacher", "fixmatch"),
        parity="reconstruction",
    )
    views = ViewPlan(
        x=Stream("labelled"),
        u=Stream("unlabelled", strong=(STRONG, STRONG), masks=(unimatch_box(),)),
        v=Stream("unlabelled", strong=(STRONG, STRONG)),
    )
    recipes: ClassVar = {"scenes": {"method": {"decay": 0.98}}}  # a short run forgets faster

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        corr: float = 1.0,
        ramp: float = 0.1,
        pixels: int = 1024,
        decay: float = 0.99,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.tau, self.corr, self.ramp, self.pixels, self.decay = tau, corr, ramp, pixels, decay
        self.supervised = criterion(supervised)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        own, partner = (self.pseudo_labels(self.teach(part), part, clock) for part in (u, v))
        m = u.masks[0]
        target = paste(m, partner, own)
        mixed = [paste(m, s_v, s_u) for s_v, s_u in zip(v.strong, u.strong)]
        z_x, first, second = self.student.joint(x.weak, *mixed)
        l_pl = [pixel_ce(seen.logits, target, over="valid") for seen in (first, second)]
        l_corr = self.relate(first.embedding, second.embedding, target.valid)
        losses = Losses(x=self.supervised(z_x.logits, x.label), u=sum(l_pl) / 2)
        losses.add("corr", l_corr, self.corr * sigmoid_ramp(clock.progress, self.ramp)).see(weak=u.weak)
        for name, image, seen in zip(NAMES, mixed, (first, second)):
            losses.see(name, mixed=image, target=target, student=seen.logits)
        return losses

    def relate(self, one: Tensor, two: Tensor, valid: Tensor) -> Tensor:
        """L_corr of two embeddings (B, D, h, w) at pixels drawn anew."""
        cells = one[0, 0].numel()
        index = torch.rand(cells, device=one.device).topk(min(self.pixels, cells)).indices
        known = (shrink(valid, one.shape[-2:]) > 0).float()
        return disagreement(*(t.flatten(2)[:, :, index] for t in (one, two)), known.flatten(1)[:, index])

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step))
