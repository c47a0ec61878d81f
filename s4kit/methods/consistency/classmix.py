"""ClassMix: half of the classes of one image, cut out along their edges, on another image.

From the release: padding is trained on, here it is not; its teacher labels in train mode, moves its own BN statistics
and is thrown away at the end: the student is evaluated. Here, as in the kit's `mean_teacher`, the teacher labels in
eval mode, its BN statistics are averaged like its weights, and it is evaluated. Its network is a DeepLabV2,
pretrained on COCO, whose BN goes by the statistics of the batch: frozen are scale and shift alone
(`freeze_bn="affine"`). It flips no image (`flip=0` in both recipes). Jitter and blur are decided once per batch, as
here; its order of the four operations is kornia's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor

from ...errors import S4Error, closest
from ...nets import copy_of, ema, make, warm
from ...views import Batch, Stream, Strong, ViewPlan, Views, paste, recolour, weak
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.distances import squared
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_mean
from ..parts.masks import draw_class_mask
from ..parts.schedules import sigmoid_ramp
from ..parts.teachers import AveragedTeacher

COLOURS = Strong(0.25, 0.25, 0.25, 0.25, jitter=0.8, grey=0.0, blur=0.5, sigma=(0.15, 1.15))
FIT = {"steps": 40_000, "lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4}
COCO_DEEPLABV2 = (
    "the network is DeepLabV2 there, pretrained on COCO; DeepLabV3+ on the same backbone with ImageNet weights here"
)
NET = "resnet101(output_stride=8, aspp_rates=(12, 24, 36), freeze_bn='affine')"
SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)

# what a pixel counts, from (B, H, W) sure = 1[c >= tau] and the clock
WEIGHTING = {
    "share": lambda sure, clock: sure.mean(),
    "pixel": lambda sure, clock: sure,
    "ramp": lambda sure, clock: sure.new_full((), sigmoid_ramp(clock.progress, 0.25)),
    "none": lambda sure, clock: sure.new_ones(()),
}


class ClassMix(AveragedTeacher):
    """Segmentation-based data augmentation for semi-supervised learning (Olsson et al., WACV 2021).

    Idea: a mask for mixing need not be a box; the teacher's own prediction cuts objects out along their edges, so that
    the mixed image looks more like a real one. What it adds to `cutmix` is that mask; what it changes there are hard
    labels with cross entropy, and colours that come after the mixing.

    Equations; n = next image of the batch, C_i the classes that the teacher predicts on image i:
        t_u = t(w(u)) without gradient;   m_i = pixels of floor(|C_i| / 2) classes drawn from C_i
        mixed = m ? w(u) : w(u_n);   t_m = m ? t_u : t_u_n;   valid likewise
        q = softmax(t_m),   y, c = argmax, max of q;   r = mean over the batch's pixels of 1[c >= tau]
        L_u = 1/(B H W) sum over pixels of valid * r * CE(f(colour(mixed)), y)
        L = CE(f(w(x)), y_x) + weight * L_u
        after each step i (0-based): t <- a t + (1 - a) f,   a = min(1 - 1/(i + 1), decay)
    Each class of a prediction is pasted whole or not at all; with one class in the image nothing is pasted. As in
    `cutmix`, r is one number for the batch. Half of an odd number of classes is rounded down.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts in r.
        decay: of the teacher's average.
        weight: factor of L_u.
        weighting: of its pixels: "share", r as above; "pixel", 1[c >= tau]; "ramp", exp(-5 (1 - t)^2) over the first
            quarter of the training; "none", 1. The last three are the paper's ablations.
        soft: squared error to q, mean over classes too, instead of the cross entropy with y (ablation).
        colour: jitter and blur on the mixed images (off on VOC).
        flip: probability of mirroring an image.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `weighting`.
    """

    card = Card(
        family="consistency",
        title="ClassMix: Segmentation-Based Data Augmentation for Semi-Supervised Learning",
        venue="WACV",
        year=2021,
        authors="Olsson et al.",
        arxiv="2007.07936",
        code="https://github.com/WilhelmT/ClassMix",
        extends=("cutmix",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": SCALES},
            "method": {"net": NET, "colour": False, "flip": 0.0},
            "fit": {**FIT, "batch": 10},
            "evaluation": "voc",
            "selection": "last",
            "processes": 1,
            "differs": [
                COCO_DEEPLABV2,
                "its lists are its own, none of the published ones",
                "evaluation: whole images padded to 505 with the mean colour there, without padding here",
            ],
        },
        "cityscapes": {
            "task": {"crop": 512, "size": 0.5, "scale": (1.0, 1.0)},
            "method": {"net": NET, "flip": 0.0, "supervised": "ce"},
            "fit": {**FIT, "batch": 2},
            "evaluation": "cityscapes/whole",
            "processes": 1,
            "differs": [COCO_DEEPLABV2, "crop: 512 x 1024 (whole images) there, 512 x 512 here"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.968,
        decay: float = 0.99,
        weight: float = 1.0,
        weighting: str = "share",
        soft: bool = False,
        colour: bool = True,
        flip: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if weighting not in WEIGHTING:
            raise S4Error(f"There is no weighting {weighting!r}. {closest(weighting, list(WEIGHTING))}")
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.tau, self.decay, self.weight, self.weighting = tau, decay, weight, weighting
        self.soft, self.colour, self.supervised = soft, colour, criterion(supervised)
        view = weak(flip=flip, pad="mean")
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view))

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        q = logits.softmax(1)
        confidence, label = q.max(1)
        weight = WEIGHTING[self.weighting]((confidence >= self.tau).float(), clock).expand_as(confidence)
        return PseudoLabels(label, confidence, weight, view.valid, soft=q)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        t_u = self.teach(u)
        m = draw_class_mask(t_u.argmax(1), t_u.shape[1])
        w, valid, t_m = (paste(m, own, own.roll(-1, 0)) for own in (u.weak, u.valid, t_u))
        target = self.pseudo_labels(t_m, replace(u, weak=w, valid=valid), clock)
        mixed = recolour(w, COLOURS, together=True) if self.colour else w
        z_x, z_m = self.student(x.weak), self.student(mixed)
        far = squared(z_m, t_m) / z_m.shape[1] if self.soft else ce_map(z_m, target.label)
        l_u = pixel_mean(far, target.weight, target.valid, over="all")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=mixed, target=target, loss=far * target.weight * target.valid)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step), buffers="average")
