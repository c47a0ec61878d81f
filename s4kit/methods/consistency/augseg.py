"""AugSeg: a mean teacher and two augmentations: ever different colours, and labelled pixels for unsure images.

As released: padding of unlabelled images is not masked, its pseudo-labels count; a negative tau (Cityscapes) means
every pixel; Cityscapes is scored in sliding windows of 800, the last ones cut. Not as released: the area of the
boxes is drawn for each image, not for the batch; the colour operations run on floats and are not rounded to grey
levels between each other (see `views.intensity`). The scores in its README are the best of all epochs on the
validation set, of the teacher but for one, which is the student's; with few labels the end of the training is lower
by up to six points.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.task import VOID
from ...nets import copy_of, ema, make, warm
from ...views import Batch, Intensity, Stream, ViewPlan, Views, beta_box, paste, weak
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, entropy, pixel_ce
from ..parts.teachers import AveragedTeacher


def confidence_of_images(logits: Tensor) -> Tensor:
    """(B,) rho: mean over an image's pixels of max p (1 - H(p) / log K); 1 for one-hot, 0 for even predictions."""
    certain = 1 - entropy(logits) / math.log(logits.shape[1])
    return (logits.softmax(1).amax(1) * certain).mean((1, 2))


def inject(
    image: Tensor,
    target: PseudoLabels,
    labelled: Tensor,
    truth: PseudoLabels,
    wanted: Tensor,
    order: Tensor,
    small: Tensor,
    large: Tensor,
) -> tuple[Tensor, PseudoLabels]:
    """CutMix in two steps: labelled boxes into a copy of the unlabelled images, boxes of the copy into the images.

    Args:
        image, target: (B, 3, H, W), (B, H, W), unlabelled. labelled, truth: (A, 3, H, W), (A, H, W).
        wanted: (B,) bool, which images of the copy get a labelled box. order: (B,) long, a permutation, for both steps.
        small, large: (B, H, W) bool, the boxes of the first and of the second step.
    """
    cut, partner = small & wanted[:, None, None], order % len(labelled)
    copy, of_copy = paste(cut, labelled[partner], image), paste(cut, truth[partner], target)
    return paste(large, copy[order], image), paste(large, of_copy[order], target)


class AugSeg(AveragedTeacher):
    """Augmentation matters: a simple-yet-effective approach (Zhao et al., CVPR 2023, arXiv 2212.04976).

    Idea: a plain mean teacher needs no more than better augmentation. Its colours: a random NUMBER of operations whose
    strengths are drawn from a continuum. Its mixing: boxes of LABELLED images get into unlabelled ones, the likelier
    the less sure the teacher is of the image. What it adds to `mean_teacher` with `strong`: these two, and the
    threshold.

    Equations; q = softmax t(w(u)), c and y its max and argmax, s(u) the intensity view, pi a permutation:
        rho_i = mean over the pixels of image i of c (1 - H(q) / log K)
        A, on a copy:      where a uniform number is above rho_i, the box a_i of copy i is filled from the labelled
                           image pi(i): pixels, label (void included), confidence 1
        B, on the batch:   the box b_i of image i is filled from copy pi(i): pixels, label, confidence
        z_x, z_u = f(x, mixed) in one train-mode forward
        L_u = 1/(B H W) sum over the pixels with c >= tau and a label of CE(z_u, y)
        L = CE(z_x, y_x) + weight L_u;   t <- d t + (1 - d) f, BN statistics included
        d = 0 during the first epoch (t is f), then min(1 - 1/(i + 1), decay)
    Labelled pixels reach image i only where the boxes b_i and a_pi(i) meet: the author calls that a brake on labelled
    data, which are oversampled anyway. The base of B is the batch as it was, not the copy. The divisor is all pixels.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts; 0 = all pixels (Cityscapes).
        decay: of the teacher. weight: of L_u.
        extra_weak: the student also sees w(u), for its BN statistics alone (the released set-up for 92 labels).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Augmentation Matters: A Simple-yet-Effective Approach to Semi-supervised Semantic Segmentation",
        venue="CVPR",
        year=2023,
        authors="Zhao et al.",
        arxiv="2212.04976",
        code="https://github.com/ZhenZHAO/AugSeg",
        extends=("mean_teacher", "cutmix"),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c(multi_grid=(2, 4, 8))"},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 2,
            "evaluation": "voc",
            "differs": ["best minus last reaches 6 points with 92 labels (71.1 at epoch 23, 65.1 at the end)"],
        },
        "cityscapes": {
            "task": {"crop": 800},
            "method": {
                "net": "resnet101c(multi_grid=(2, 4, 8))",
                "tau": 0.0,
                "decay": 0.996,
                "supervised": "ohem(thresh=0.7, per_image=25000)",
            },
            "fit": {"epochs": 240, "batch": 16, "lr": 1e-2, "head": 1.0, "weight_decay": 5e-4},
            "processes": 4,
            "evaluation": "cityscapes/augseg",
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        decay: float = 0.999,
        weight: float = 1.0,
        extra_weak: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.tau, self.decay, self.weight, self.extra_weak = tau, decay, weight, extra_weak
        self.supervised = criterion(supervised)
        view, boxes = weak(pad="mean"), (beta_box(8, 2), beta_box(4, 4))
        self.views = ViewPlan(
            x=Stream("labelled", view), u=Stream("unlabelled", view, strong=(Intensity(),), masks=boxes)
        )

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        mixed, target = self.mixed(x, u, clock)
        z_x, z_u, *_ = self.student.joint(x.weak, mixed, *([u.weak] if self.extra_weak else []))
        l_u = pixel_ce(z_u.logits, target, over="all")
        losses = Losses(x=self.supervised(z_x.logits, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_u.logits)

    def mixed(self, x: Views, u: Views, clock: Clock) -> tuple[Tensor, PseudoLabels]:
        """What the student sees of u, and is taught: labels, then A and B."""
        t_u = self.teach(u)
        target = self.pseudo_labels(t_u, replace(u, valid=torch.ones_like(u.valid)), clock)  # padding counts
        wanted = torch.rand(len(u), device=t_u.device) > confidence_of_images(t_u)
        order = torch.randperm(len(u), device=t_u.device)
        return inject(u.strong[0], target, x.weak, known(x.label), wanted, order, *u.masks)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, self.decay_at(clock), buffers="average")

    def decay_at(self, clock: Clock) -> float:
        """In [0, 1]: 0 in the first epoch, in which the teacher is the student; then warmed up by the step."""
        return warm(self.decay, clock.step) if clock.epoch else 0.0


def known(label: Tensor) -> PseudoLabels:
    """Human labels (B, H, W) as pseudo-labels of confidence 1; void pixels are not valid."""
    sure = torch.ones(label.shape, device=label.device)
    return PseudoLabels(label.where(label != VOID, 0), sure, sure, (label != VOID).float())
