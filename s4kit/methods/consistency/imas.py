"""iMAS: how well student and teacher agree on an image decides how much, and how strongly, it is trained on.

From the release: its variable "hardness" is high for EASY images; class 0 has no share on Cityscapes either, where it
is road; padding is not masked; of its two operations one may be an inversion and blends leave 0.1 of the image, here
the operations are AugSeg's (0.05). Without a box its forward has one part less; here, as shapes are fixed, the weak
images come twice. The auxiliary head's BN sees all parts, its loss the labelled ones. Its scores are the best of all
epochs on the validation set, on Cityscapes in sliding windows of 769 that are cut at the border. The tables are of
output stride 8, every VOC log of 16; the Cityscapes table is ResNet-50's. The folders of its 744-label logs are
swapped, and the script lacks a module.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets import copy_of, ema, evaluating, make, warm
from ...views import Batch, Intensity, Stream, ViewPlan, Views, paste, rasterise, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.precision import float32

PAPER_NET = "resnet101c(multi_grid=(2, 4, 8))"  # of the released VOC logs
DENSE_NET = "{}(output_stride=8, multi_grid=(4, 8, 16), aspp_rates=(12, 24, 36){})"  # of the tables of results


@float32
def agreement(label: Tensor, reference: Tensor, classes: int, first: int) -> Tensor:
    """(B,) W: IoU of two label maps (B, H, W) per class, weighed by the class's share of the reference.

    Classes below `first` have no share; 0 where the reference shows no other.
    """
    one, other = (F.one_hot(t.flatten(1), classes).float() for t in (label, reference))
    both, of_one, of_other = (one * other).sum(1), one.sum(1), other.sum(1)
    iou = both / (of_one + of_other - both).clamp(min=1)
    share = of_other * (torch.arange(classes, device=label.device) >= first)
    return (iou * share).sum(1) / share.sum(1).clamp(min=1)


@float32
def scores(student: Tensor, teacher: Tensor, tau: float, first: int) -> Tensor:
    """(B,) s of logits (B, C, H, W), in [0, 1]; LARGER = EASIER."""
    (c_s, a_s), (c_t, a_t) = student.softmax(1).max(1), teacher.softmax(1).max(1)
    rho_s, rho_t = ((c >= tau).float().mean((1, 2)) for c in (c_s, c_t))
    classes = student.shape[1]
    return (rho_t * agreement(a_s, a_t, classes, first) + rho_s * agreement(a_t, a_s, classes, first)) / 2


def mirrored(s: Tensor) -> Tensor:
    """(B,) long: the partner of each image has the mirrored rank, the easiest that of the hardest."""
    order = s.argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, order.flip(0))


def window_mask(side: Tensor, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) bool, True = the image's own pixels: all but a window of `side` (a share of both sides, 0-dim.) around
    the centres (B,) rows and columns, cut to the image."""
    edges = []
    for centre, whole in ((rows, size[0]), (columns, size[1])):
        half = (whole * side).long() // 2
        edges.append(((centre - half).clamp(0, whole), (centre + half).clamp(0, whole)))
    (top, bottom), (left, right) = edges
    return ~rasterise(torch.stack([top, left, bottom - top, right - left], 1)[:, None], size)


def draw_window_mask(label: Tensor, low: float, high: float) -> Tensor:
    """`window_mask` for (B, H, W) labels: one side for the batch, centres that are never in the first sixteenth."""
    size, n, device = tuple(label.shape[-2:]), len(label), label.device
    side = low + (high - low) * torch.rand((), device=device)
    rows, columns = (torch.randint(whole // 16, whole, (n,), device=device) for whole in size)
    return window_mask(side, rows, columns, size)


def draw_trigger(s: Tensor) -> Tensor:
    """0-dimensional bool, True with the probability mean(s)."""
    return torch.rand((), device=s.device) < s.mean()


class IMAS(Method):
    """Instance-specific and model-adaptive supervision (Zhao et al., CVPR 2023, arXiv 2211.11335).

    Idea: where student and teacher agree on an image, surely and class by class, it is easy for the model as it is now.
    This one number weighs the image's loss, sets how strong its strong view is, and pairs easy with hard images in
    CutMix. What it adds to `augseg`, whose teacher and colours it has: the number and its three uses.

    Equations; a_s, a_t the argmax of f and of the teacher t on w(u), both in eval mode, c and y those of t:
        rho = share of the image's pixels with a confidence >= tau, of f and of t
        W(a|r) = sum over classes but the background of IoU_k(a, r) n_k(r) / sum of n_k(r),  n_k(r) = pixels of r
        s = (rho_t W(a_s|a_t) + rho_s W(a_t|a_s)) / 2                       LARGER = EASIER; the hardness is 1 - s
        x_s = s s(u) + (1 - s) w(u)
        with probability mean(s): x_c, y_c, c_c = w(u), y, c with a box from the image of the mirrored rank of s
        z_x, _, z_c, z_s = f(x, w(u), x_c, x_s) in one train-mode forward; the second serves the BN statistics alone
        L_s, L_c = mean over the images of s_i / (H W) sum over pixels with confidence >= tau of CE(z, y)
        L = CE(z_x, y_x) + weight (L_s + L_c) / 2,   + weight L_s where no box was drawn;   t <- d t + (1 - d) f
    d as in `augseg`, BN statistics included. In L_c the s is that of the image that receives the box. Boxes go into the
    WEAK images: no image has both colours and a box. The middle one of an odd number of images is its own partner.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; with `aux=True` the auxiliary head is trained as well.
        tau: confidence from which a pixel counts.
        decay: of the teacher. weight: of the unlabelled term. aux: of the auxiliary head's.
        low, high: sides of the box, as a share of the image's.
        background: class 0 has no share in W.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Instance-specific and Model-adaptive Supervision for Semi-supervised Semantic Segmentation",
        venue="CVPR",
        year=2023,
        authors="Zhao et al.",
        arxiv="2211.11335",
        code="https://github.com/ZhenZHAO/iMAS",
        extends=("augseg",),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 513},
            "method": {"net": PAPER_NET},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                "unsure: weight: four of its ResNet-101 logs have 1, three of them with the background counted, not 3",
                "unsure: tau: five of its logs have 0.75 to 0.85, not 0.95",
            ],
        },
        "voc/cps": {
            "method": {"net": DENSE_NET.format("resnet101c", "")},
            "differs": [
                "unsure: output_stride: 8 in the table, whose configuration is not released (the dilations here are "
                "those of Cityscapes), 16 in every log"
            ],
        },
        "cityscapes": {
            "task": {"crop": 769},
            "method": {
                "net": DENSE_NET.format("resnet50c", ", aux=True"),
                "tau": 0.7,
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 240, "batch": 16, "lr": 1e-2, "head": 1.0, "weight_decay": 5e-4},
            "processes": 8,
            "evaluation": "cityscapes/imas",
            "differs": [
                "of its other released file, with output stride 16 and 25,000 hard pixels kept of an image, nothing is "
                "published"
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        decay: float = 0.996,
        weight: float = 3.0,
        aux: float = 0.4,
        low: float = 0.1,
        high: float = 0.9,
        background: bool = True,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.tau, self.decay, self.weight, self.aux, self.range = tau, decay, weight, aux, (low, high)
        self.background, self.supervised = background, criterion(supervised)
        view = weak(pad="mean")
        colours = (Intensity(most=2, least=2),)
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view, strong=colours))

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits of the teacher and of the student."""
        with evaluating(self.teacher, self.student):
            return self.teacher(view.weak), self.student(view.weak)

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> Tensor:
        return evidence[0].softmax(1)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        t_u, f_u = evidence
        confidence, label = t_u.softmax(1).max(1)
        s = scores(f_u, t_u, self.tau, int(self.background))
        return PseudoLabels(label, confidence, self.weigh(confidence, s), view.valid)

    def weigh(self, confidence: Tensor, s: Tensor) -> Tensor:
        """(B, H, W): the image's score where the pixel is sure."""
        return s[:, None, None] * (confidence >= self.tau)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, size = batch.x, batch.u, batch.u.weak.shape[-2:]
        t_u, f_u = self.teach(u)
        s = scores(f_u, t_u, self.tau, int(self.background))
        target = self.pseudo_labels((t_u, f_u), replace(u, valid=torch.ones_like(u.valid)), clock)  # padding counts
        strong = torch.lerp(u.weak, u.strong[0], s[:, None, None, None])

        on, partner = draw_trigger(s), mirrored(s)
        own = draw_window_mask(target.label, *self.range) | ~on
        cut, of_cut = paste(own, u.weak, u.weak[partner]), paste(own, target, target[partner])
        of_cut.weight = self.weigh(of_cut.confidence, s)

        e = self.student.encode(torch.cat([x.weak, u.weak, cut, strong]))
        both = self.student.decode(e, size).split(len(x), len(u), len(u), len(u))
        z_x, z_c, z_s = (both[k].logits for k in (0, 2, 3))
        l_s, l_c = pixel_ce(z_s, target, over="all"), pixel_ce(z_c, of_cut, over="all")
        share = 1 / (1 + on.float())
        losses = Losses(
            x=self.supervised(z_x, x.label), s=(l_s * share, self.weight), cut=(l_c * on * share, self.weight)
        )
        if self.student.aux is not None:
            z_a = self.student.auxiliary(e)[: len(x)]  # its BN sees the whole batch
            z_a = self.student.enlarge(z_a, size)
            losses.add("x_aux", self.supervised(z_a, x.label), self.aux)
        losses.see(weak=u.weak, mixed=strong, target=target, student=z_s)
        return losses.see("cut", mixed=cut, target=of_cut, student=z_c)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, self.decay_at(clock), buffers="average")

    def decay_at(self, clock: Clock) -> float:
        """In [0, 1]: 0 in the first epoch, in which the teacher is the student; then warmed up by the step."""
        return warm(self.decay, clock.step) if clock.epoch else 0.0

    def predictors(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher, "student": self.student}
