"""CutMix-Seg: a mean teacher whose student must cope with boxes of other images.

From the release: every script of it, those of this paper included, has --aug_strong_colour, colour jitter and
greyscale on the student's images: what its second paper adds, here `colouraug`. In its DeepLabV3+, the recipe for
VOC, the backbone's BN keeps its statistics while scale and shift, the affine part, are trained
(`freeze_bn="statistics"`); its DeepLabV2, the papers' main network, freezes both (`freeze_bn=True`) and has no other
BN. Both networks are in train mode: the teacher labels with dropout, and in a DeepLabV3+ decoder by the statistics of
its batch. Here it labels in eval mode. The kit trains BN unless told otherwise.
The learning rate is constant there (recipes); its scales are the steps 0.5, 0.6, ..., 1.5, here those of the task.
The documentation of its box generator has "invert" the wrong way round: as run, and here, the box is 1 on a ground
of 0. Its DeepLabV2 returns inside the loop over the four dilated branches, so that only the first two are ever
summed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ...nets import copy_of, ema, make
from ...views import Batch, Stream, ViewPlan, Views, half_area_box, paste, weak
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.distances import distance as distance_of
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.teachers import AveragedTeacher

ADAM = {"optimiser": "adam", "head": 10.0, "weight_decay": 0.0, "schedule": "constant"}
HUNG = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
STRIDE_8 = "resnet101(output_stride=8, aspp_rates=(12, 24, 36), "
VOC_NET = STRIDE_8 + "freeze_bn='statistics', dropout=(0.5, 0, 0), dropout_kind='element', align_corners=False)"
CITYSCAPES_NET = STRIDE_8 + "freeze_bn=True)"
DEEPLABV2 = "the network is DeepLabV2 there, DeepLabV3+ on the same backbone with the same frozen batch norms here"
CENTRED = weak(pad="mean", centred=True)


class CutMix(AveragedTeacher):
    """Semi-supervised semantic segmentation needs strong, varied perturbations (French et al., BMVC 2020).

    Idea: consistency works for segmentation once the perturbation is strong and varied: paste a random box of one
    unlabelled image into another, and ask the student on the mixed image for the equally mixed teacher predictions.
    What it adds to `mean_teacher` is the box, the second unlabelled stream and a confidence that scales the whole term.

    Equations; u and v are two independent draws from all training images, m one box of half the area per image:
        mixed = m ? w(v) : w(u);   valid = m ? valid_v : valid_u;   t_m = m ? t(w(v)) : t(w(u)), logits
        q = softmax(t_m),   p = softmax(f(mixed)),   c = mean over the batch's pixels of 1[max q >= tau]
        L_u = 1/(B H W) sum over pixels of valid * c * sum_c (p_c - q_c)^2
        L = CE(f(w(x)), y_x) + weight * L_u;   after each step: t <- decay t + (1 - decay) f, BN statistics included
    The confidence is ONE number for the batch: unsure pixels still get a loss, only a smaller one. The divisor is all
    pixels: padding and doubt shrink the loss. No ramp-up: c is the ramp. The paper has no colour augmentation.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts in c.
        decay: of the teacher's average, constant from the first step.
        weight: factor of the consistency term.
        per_pixel: c is 1[max q >= tau] of each pixel instead of its mean over the batch: another method.
        distance: "squared" (the paper), "binary", "kl", "logits" or "logits_smooth_l1", see `parts.distances`.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Semi-supervised semantic segmentation needs strong, varied perturbations",
        venue="BMVC",
        year=2020,
        authors="French et al.",
        arxiv="1906.01916",
        code="https://github.com/Britefury/cutmix-semisup-seg",
        extends=("mean_teacher",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", CENTRED), u=Stream("all", CENTRED, masks=(half_area_box(),)), v=Stream("all", CENTRED)
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 321, "scale": HUNG},
            "method": {"net": VOC_NET},
            "fit": {"steps": 40_000, "batch": 10, "lr": 1e-6, **ADAM},
            "evaluation": "voc",
            "selection": "last",
            "processes": 1,
            "differs": [
                "views: colour jitter and greyscale by every script (--aug_strong_colour) there, none here: the paper "
                "has none, `colouraug` has them",
                "the paper's main network is DeepLabV2 (head at 3e-5); this is its DeepLabV3+ run (head at 1e-5)",
                "the paper's labelled images are the start of one permutation of its own, none of the published lists",
            ],
        },
        "cityscapes": {  # images at half resolution
            "task": {"crop": 256, "size": 0.5, "scale": (1.0, 1.0)},
            "method": {"net": CITYSCAPES_NET, "supervised": "ce"},
            "fit": {"steps": 40_000, "batch": 4, "lr": 3e-6, **ADAM},
            "evaluation": "cityscapes/whole",
            "selection": "last",
            "processes": 1,
            "differs": [
                "views: colour jitter and greyscale by every script (--aug_strong_colour) there, none here: the paper "
                "has none, `colouraug` has them",
                "crop: 256 x 512 there, 256 x 256 here",
                DEEPLABV2,
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.97,
        decay: float = 0.99,
        weight: float = 1.0,
        per_pixel: bool = False,
        distance: str = "squared",
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.tau, self.decay, self.weight, self.per_pixel = tau, decay, weight, per_pixel
        self.distance, self.supervised = distance_of(distance), criterion(supervised)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        q = logits.softmax(1)
        confidence, label = q.max(1)
        c = (confidence >= self.tau).float()
        return PseudoLabels(label, confidence, c if self.per_pixel else c.mean().expand_as(c), view.valid, soft=q)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        m = u.masks[0]
        mixed = replace(u, weak=paste(m, v.weak, u.weak), valid=paste(m, v.valid, u.valid))
        t_m = paste(m, self.teach(v), self.teach(u))
        target = self.pseudo_labels(t_m, mixed, clock)
        z_x, z_m = self.student(x.weak), self.student(mixed.weak)
        apart = self.distance(z_m, t_m)
        l_u = pixel_mean(apart, target.weight, target.valid, over="all")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=mixed.weak, target=target, loss=apart * target.weight * target.valid)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, self.decay, buffers="average")
