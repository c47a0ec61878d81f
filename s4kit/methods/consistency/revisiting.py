"""Revisiting consistency: a clean teacher, a student who sees the image recoloured and bent, one-way gradients.

From the release: its control points lie at 3/4 and 5/4 of the sides, partly outside of the image, though the
quadrants' centres were meant; here they are these. Padding of unlabelled images, the images' mean colour, is not
masked there, nor here. The evaluated network is the student, also beside a mean teacher.
Deviations: labelled and unlabelled terms are differentiated together; there is one weight decay.
The paper's other three arrangements, all worse, are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import S4Error, closest
from ...nets import bn_untouched, copy_of, ema, evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, half_area_box, paste, weak
from ...views.hsv import change_colours, draw_colours
from ...views.spline import bend, spline_grid
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.distances import distance as distance_of
from ..parts.losses import Criterion, ce, criterion, pixel_mean

PERTURBATIONS = ("phtps", "cutmix")
QUADRANTS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))  # (x, y)


def draw_bend(image: Tensor, spread: float) -> Tensor:
    """(B, 4, 2) displacements of the control points, normal with a standard deviation of `spread` image sides."""
    return spread * torch.randn(len(image), 4, 2, device=image.device)


def exchange(x: Tensor, mask: Tensor) -> Tensor:
    """Images 2k and 2k + 1 of (B, ...) exchange what is inside mask k of (B // 2, H, W); an odd last one stays."""
    pairs = 2 * len(mask)
    swapped = x[:pairs].unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return torch.cat([paste(mask.repeat_interleave(2, 0), swapped, x[:pairs]), x[pairs:]])


class Revisiting(Method):
    """Revisiting consistency for semi-supervised semantic segmentation (Grubisic et al., Sensors 2023; arXiv
    2106.07075).

    Idea: of the four ways to arrange a consistency term one is right: perturb only what the student sees, leave the
    teacher's image clean, and let no gradient into the teacher's side. With random colours and a random bend of the
    plane (PhTPS) as the perturbation it beats CutMix, even where the teacher is the student itself. What it adds to
    `mean_teacher`: this perturbation, and batch statistics that only clean images write.

    Equations; t the EMA teacher in eval mode (or f itself in train mode), phi colours, tau a thin-plate spline:
        q = softmax(tau(t(u))), p = softmax(f(tau(phi(u)))): LOGITS are bent, not probabilities
        m = tau(1) >= 1 - 1e-6: pixels that come from within the image
        L_u = 1/sum(m) sum of m KL(q || p);   no threshold
        L = CE(f(x), y_x) + weight L_u;   t <- decay t + (1 - decay) f, statistics included
    tau moves the centres of the four quadrants by N(0, spread^2) image sides; phi changes value, saturation and hue
    without a bound and permutes the colour channels, see `views.hsv`. The forward of the bent images is in train mode
    but leaves the running statistics of the batch norms alone.
    With perturbation="cutmix" neighbours in the batch exchange a box of half the area; "cutmix", distance="squared",
    tau=0.97, weight=1 is what the paper calls MT-CutMix*.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; the paper has SwiftNet on ResNet-18, and DeepLabV2.
        mean_teacher: t is an average of f; False: f itself, the paper's "simple".
        perturbation: "phtps" or "cutmix".
        spread: of the displacements, in image sides.
        distance: "kl" (the paper) or another one of `parts.distances`.
        tau: only pixels whose target is at least as confident count, in a mean over all; 0 = all (the paper).
        weight: of L_u. decay: of the teacher.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `perturbation` or `distance`.
    """

    card = Card(
        family="consistency",
        title="Revisiting Consistency for Semi-Supervised Semantic Segmentation",
        venue="Sensors",
        year=2023,
        authors="Grubisic et al.",
        arxiv="2106.07075",
        code="https://github.com/Ivan1248/semisup-seg-efficient",
        extends=("mean_teacher",),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "cityscapes": {  # images at half resolution
            "task": {"crop": 448, "size": 0.5, "scale": (0.67, 1.5)},
            "method": {"net": "resnet18", "supervised": "ce"},
            "fit": {
                "steps": 74_400,
                "batch": 8,
                "optimiser": "adam",
                "betas": (0.9, 0.99),
                "lr": 1e-4,
                "head": 4.0,
                "weight_decay": 1e-4,
                "schedule": "quarter_cosine",
            },
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "selection": "last",
            "differs": [
                "the network is SwiftNet there, DeepLabV3+ on the same ResNet-18 here",
                "weight_decay: 2.5e-5 for pretrained weights there, 1e-4 for all here",
                "scales are drawn log-uniformly there, uniformly here",
                "unsure: that the end of the training is reported, not the best evaluation",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        mean_teacher: bool = True,
        perturbation: str = "phtps",
        spread: float = 0.1,
        distance: str = "kl",
        tau: float = 0.0,
        weight: float = 0.5,
        decay: float = 0.99,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if perturbation not in PERTURBATIONS:
            words = closest(perturbation, list(PERTURBATIONS))
            raise S4Error(f"revisiting has no perturbation {perturbation!r}. {words}")
        self.student = make(net, task)
        self.teacher = copy_of(self.student) if mean_teacher else None
        self.perturbation, self.spread, self.tau = perturbation, spread, tau
        self.distance, self.weight, self.decay = distance_of(distance), weight, decay
        self.supervised = criterion(supervised)
        self.register_buffer("points", torch.tensor(QUADRANTS), persistent=False)
        view, boxes = weak(pad="mean"), (half_area_box(),) if perturbation == "cutmix" else ()
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("all", view, masks=boxes))

    def teach(self, view: Views) -> Tensor:
        teacher = self.teacher or self.student
        with evaluating(teacher):
            return teacher(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        q = logits.softmax(1)
        confidence, label = q.max(1)
        return PseudoLabels(label, confidence, (confidence >= self.tau).float(), view.valid, soft=q)

    def perturbed(self, u: Views, t_u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the student sees (B, 3, H, W), the teacher's logits for it, and which pixels count (B, H, W)."""
        every = torch.ones_like(u.valid)
        if self.perturbation == "cutmix":
            m = u.masks[0][: len(u) // 2]
            return exchange(u.weak, m), exchange(t_u, m), every
        coloured = change_colours(u.weak, draw_colours(u.weak))
        grid = spline_grid(self.points, draw_bend(u.weak, self.spread), u.weak.shape[-2:])
        return bend(coloured, grid), bend(t_u, grid), (bend(every, grid) >= 1 - 1e-6).float()

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        if self.teacher is None:
            with torch.no_grad():  # in train mode: clean images write the batch statistics
                t_u = self.student(u.weak)
        else:
            t_u = self.teach(u)
        seen, t, m = self.perturbed(u, t_u)
        target = self.pseudo_labels(t, replace(u, valid=m), clock)
        z_x = self.student(x.weak)
        with bn_untouched(self.student):
            z = self.student(seen)
        far = self.distance(z, t)
        l_u = pixel_mean(far, target.weight, target.valid, over="valid")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=seen, target=target, loss=far * target.weight * target.valid)

    def after_step(self, clock: Clock) -> None:
        if self.teacher is not None:
            ema(self.teacher, self.student, self.decay, buffers="average")

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student} | ({} if self.teacher is None else {"teacher": self.teacher})
