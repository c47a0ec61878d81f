"""Colour augmentation: jitter what the student sees, and even weak perturbations start to teach.

From the release: "shift" is a second crop of the image with flip and scale of its own there; here it is the same
crop, moved, and what comes in from outside counts as padding. Its trial step of "vat" is 1e-6 long, which works
because jitter already parts the two predictions; here it is 1 % of the radius. Radii are measured in [0, 1] here, on
normalised images there. What is cut out, padded, or comes in with a shift is zero after normalisation. Padding is
there before the jitter, which may tint it a little; here the jitter leaves it alone. As in `cutmix`, the backbone's
batch norms keep their statistics, in DeepLabV2 the affine part too, and the teacher there labels in train mode, with
the dropout of DeepLabV3+.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...errors import S4Error, closest
from ...nets import copy_of, ema, evaluating, make
from ...views import (
    Batch,
    Stream,
    Strong,
    ViewPlan,
    Views,
    any_area_box,
    draw_shift,
    half_area_box,
    paste,
    warp,
    weak,
)
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.adversary import adversarial_noise
from ..parts.distances import kl
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.teachers import AveragedTeacher
from .cutmix import ADAM, CITYSCAPES_NET, DEEPLABV2, HUNG, VOC_NET

JITTER = Strong(0.4, 0.4, 0.4, 0.1, jitter=0.8, grey=0.2, blur=0.0)
PERTURBATIONS = ("cutmix", "cutout", "shift", "blend", "vat")
MASKS = {"cutmix": (half_area_box(),), "cutout": (any_area_box(),)}
CENTRED = weak(pad="mean", centred=True, padded_last=True)


def draw_blend(views: Views, alpha: float) -> Tensor:
    """(B, 1, 1, 1) shares of the second image, Beta(alpha, alpha): mostly near 0 or 1 for a small alpha."""
    shares = [random.betavariate(alpha, alpha) for _ in range(len(views))]
    return torch.tensor(shares).to(views.weak.device, non_blocking=True).view(-1, 1, 1, 1)


def contrast_of(image: Tensor) -> Tensor:
    """(B, 1, 1, 1) half the norm of the differences over two pixels, down and across: 0 for a constant image."""
    down, across = image[:, :, 2:] - image[:, :, :-2], image[:, :, :, 2:] - image[:, :, :, :-2]
    return 0.5 * (down.square().sum((1, 2, 3)) + across.square().sum((1, 2, 3))).sqrt().view(-1, 1, 1, 1)


class ColourAug(AveragedTeacher):
    """Colour augmentation for improved semi-supervised semantic segmentation (French and Mackiewicz, VISAPP 2022).

    Idea: a network can agree with itself under flips and shifts by sorting pixels by their colour, and so learn nothing
    of objects; colours that are jittered on the student's side alone close this way out. What it adds to `cutmix`: the
    jitter, and a choice of perturbations that work with it.

    Equations; s the jitter (never on labelled images, never for the teacher), u and v two draws from all images,
    t_u = t(w(u)), q_u = softmax(t_u), B the batch, and c = mean over the batch's pixels of 1[max q >= tau]:
        "cutmix"  seen = m ? s(v) : s(u);            q = m ? q_v : q_u;               valid likewise
        "cutout"  seen = m ? s(u) : mean colour;     q = q_u;                         valid_u, 0 outside the box m
        "shift"   seen = A s(u), A a shift by up to `reach` pixels and a flip;        q = A q_u;   valid = A valid_u
        "blend"   seen = (1 - l) s(u) + l s(v), l ~ Beta(alpha, alpha) (ICT);         q, valid likewise
        "vat"     seen = s(u) + r, |r| = radius, r along the gradient of KL(q_u || softmax(t(s(u) + r)));   q = q_u
        L_u = 1/(B H W) sum over pixels of valid * c * sum_c (softmax(f(seen)) - q)^2;   with "vat" KL(q || p) instead
        L = CE(f(w(x)), y_x) + weight * L_u;   after each step: t <- decay t + (1 - decay) f, BN statistics included
    Colours come before the mixing, so that both parts of a mixed image have their own. Probabilities are blended and
    shifted, not logits; in the c of a blend the two confidences are blended, max q_u and max q_v. The box of "cutmix"
    has half of the area, that of "cutout" a share drawn from U(0, 1), and it is what is KEPT. The radius of "vat" is
    half the norm of the image's differences over two pixels: a flat image is left alone.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        perturbation: "cutmix", "cutout", "shift", "blend" or "vat".
        colour: the student's jitter; without it this is the plain perturbation, "cutmix" that method.
        tau: confidence from which a pixel counts in c.
        decay: of the teacher's average, constant from the first step.
        weight: factor of L_u; None = 1, and 0.1 for "vat".
        reach: of "shift", in pixels.
        alpha: of "blend".
        radius: of "vat", a factor of the adaptive one.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `perturbation`.
    """

    card = Card(
        family="consistency",
        title="Colour augmentation for improved semi-supervised semantic segmentation",
        venue="VISAPP",
        year=2022,
        authors="French and Mackiewicz",
        arxiv="2110.04487",
        code="https://github.com/Britefury/cutmix-semisup-seg",
        extends=("cutmix",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": HUNG},
            "method": {"net": VOC_NET},
            "fit": {"steps": 40_000, "batch": 10, "lr": 1e-6, **ADAM},
            "evaluation": "voc",
            "selection": "last",
            "processes": 1,
            "differs": [
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
            "differs": ["crop: 256 x 512 there, 256 x 256 here", DEEPLABV2],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        perturbation: str = "cutmix",
        colour: bool = True,
        tau: float = 0.97,
        decay: float = 0.99,
        weight: float | None = None,
        reach: int = 16,
        alpha: float = 0.1,
        radius: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if perturbation not in PERTURBATIONS:
            words = closest(perturbation, list(PERTURBATIONS))
            raise S4Error(f"colouraug has no perturbation {perturbation!r}. {words}")
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.perturbation, self.tau, self.decay, self.supervised = perturbation, tau, decay, criterion(supervised)
        self.weight = weight if weight is not None else 0.1 if perturbation == "vat" else 1.0
        self.reach, self.alpha, self.radius = reach, alpha, radius
        strong = (JITTER,) if colour else ()
        plan = {"x": Stream("labelled", CENTRED), "u": Stream("all", CENTRED, strong, MASKS.get(perturbation, ()))}
        if perturbation in ("cutmix", "blend"):
            plan["v"] = Stream("all", CENTRED, strong)
        self.views = ViewPlan(**plan)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        return self.believed(logits.softmax(1), view.valid)

    def believed(self, q: Tensor, valid: Tensor, confidence: Tensor | None = None) -> PseudoLabels:
        """The rule on probabilities: those of a shifted view sum to less than 1 at its border."""
        largest, label = q.max(1)
        confidence = largest if confidence is None else confidence
        c = (confidence >= self.tau).float()
        return PseudoLabels(label, confidence, c.mean().expand_as(c), valid, soft=q)

    def noise(self, seen: Tensor, t_u: Tensor) -> Tensor:
        """What takes the teacher's answer to the student's image (B, 3, H, W) farthest from that to its own."""
        r = self.radius * contrast_of(seen)
        with evaluating(self.teacher):
            return adversarial_noise(self.teacher, seen, torch.randn_like(seen), 0.01 * r, r, reference=t_u)

    def perturbed(self, batch: Batch) -> tuple[Tensor, PseudoLabels]:
        """What the student sees, and what it shall answer."""
        u, v = batch.u, batch.get("v")
        t_u, mean = self.teach(u), self.student.mean
        q_u, s_u = t_u.softmax(1), (u.strong or [u.weak])[0]
        if self.perturbation == "vat":
            return s_u + self.noise(s_u, t_u), self.believed(q_u, u.valid)
        if self.perturbation == "shift":
            theta = draw_shift(s_u, self.reach)
            return warp(s_u - mean, theta) + mean, self.believed(warp(q_u, theta), warp(u.valid, theta))
        if self.perturbation == "cutout":
            m = u.masks[0]
            return paste(m, s_u, mean.expand_as(s_u)), self.believed(q_u, u.valid * m)
        t_v, s_v = self.teach(v), (v.strong or [v.weak])[0]
        if self.perturbation == "blend":
            share = draw_blend(u, self.alpha)
            q_v, seen = t_v.softmax(1), torch.lerp(s_u, s_v, share)
            confidence, valid = (
                torch.lerp(a, b, share[:, 0]) for a, b in ((q_u.amax(1), q_v.amax(1)), (u.valid, v.valid))
            )
            return seen, self.believed(torch.lerp(q_u, q_v, share), valid, confidence)
        m = u.masks[0]
        valid = paste(m, v.valid, u.valid)
        return paste(m, s_v, s_u), self.pseudo_labels(paste(m, t_v, t_u), replace(u, valid=valid), None)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x = batch.x
        seen, target = self.perturbed(batch)
        z_x, z = self.student(x.weak), self.student(seen)
        if self.perturbation == "vat":
            far = kl(z, target.soft.clamp(min=1e-30).log())
        else:
            far = (z.softmax(1) - target.soft).square().sum(1)
        l_u = pixel_mean(far, target.weight, target.valid, over="all")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=batch.u.weak, mixed=seen, target=target, loss=far * target.weight * target.valid)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, self.decay, buffers="average")
