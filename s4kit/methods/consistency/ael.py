"""AEL: classes that are learned badly are pasted, cut and sampled more often.

As released: a class that no label of the batch shows adds 0, so its q DECAYS; rare classes drift to low confidence
even if learned well. Pixels below tau stay in the divisor. Unlike the consistency of mixed images the one of
labelled images has no change of view: it only draws the student to the teacher. Random scales are as often below as
above 1, those of p from 0.1 to 2. The decoder is that of `u2pl`, which took over much of the code.

Not as released: v_k is chosen by the bank among the images v of the step, not among all, since the images are
loaded before the class is drawn; each image has its own box, there one per GPU. Padding has no label, there that of
class 0 (road, background), and is not valid in L_c. On VOC the release leaves out the classes of Cityscapes that it
does not paste, here the background. Its teacher starts as another network and is the student after one step; here
it is a copy. Its q and bank are neither in the checkpoint nor shared by the processes; here they are. It divides
every loss by the number of GPUs (8), although the gradients are averaged: see `published` in the recipes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.task import VOID
from ...errors import S4Error
from ...nets import copy_of, ema, make, warm
from ...views import Batch, Stream, ViewPlan, Views, half_area_box, paste, rasterise, weak
from ..base import Card, Clock, Losses, PseudoLabels
from ..contrastive.u2pl import OHEM, PAPER_NET
from ..parts.components import regions
from ..parts.draws import by_weight
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.processes import over_processes
from ..parts.teachers import AveragedTeacher

SCALES = (0.5, 2.0)
WEAK = weak(pad="mean", centred=True, halves=True)
AEL_NET = PAPER_NET.format(", aux=True")
DIVIDED = {"processes": 8, "divided": "all"}
DIFFERS = ["pad_label: 0 there, 255 (ignored) here: padding is not taught as road or background"]


@float32
def class_confidence(logits: Tensor, label: Tensor) -> Tensor:
    """(C,): mean probability of c over the pixels labelled c, of all processes; 0 for a class that is absent."""
    known, classes = label != VOID, logits.shape[1]
    index = label.where(known, 0)
    p = logits.softmax(1).gather(1, index[:, None])[:, 0]
    sums = torch.zeros(2, classes, device=logits.device)
    sums[0].scatter_add_(0, index.flatten(), (p * known).flatten())
    sums[1].scatter_add_(0, index.flatten(), known.float().flatten())
    total, number = over_processes(sums)
    return total / number.clamp(min=1)


def paste_probabilities(q: Tensor, targets: Tensor) -> Tensor:
    """(T,): softmax over the classes `targets` (T,) of sqrt(1 - q)."""
    return (1 - q[targets]).clamp(min=0).sqrt().softmax(0)


def cut_probabilities(q: Tensor) -> Tensor:
    """(C,): softmax over all classes of 1 - q."""
    return (1 - q).softmax(0)


def keep_rates(q: Tensor, gamma: float = 1.0) -> Tensor:
    """(C,): ((1 - q) / max(1 - q))^gamma; 1 for the worst class."""
    return ((1 - q) / (1 - q).amax().clamp(min=1e-12)) ** gamma


def seen_classes(label: Tensor, classes: int, share: float) -> Tensor:
    """(B, C) bool: classes that cover at least `share` of a (B, H, W) label map."""
    pixels = torch.zeros(len(label), classes, device=label.device)  # whole numbers are exact up to 16 million
    pixels.scatter_add_(1, label.flatten(1), torch.ones((), device=label.device).expand_as(label.flatten(1)))
    return pixels >= share * label[0].numel()


@float32
def object_mask(label: Tensor, which: Tensor, priority: Tensor, otherwise: Tensor, share: float) -> Tensor:
    """True = the image's own pixels: all but the bounding box of one connected region of a class in another image.

    Args:
        label: (B, H, W) long, the classes of the other images. which: (B,) long, the class.
        priority: (B, H * W + 1) by region number (see `components`): of the regions larger than `share` of the image
            the one with the highest is taken.
        otherwise: (B, H, W) bool, True = taken from the other image where no region is large enough.
    """
    height, width = label.shape[-2:]
    mask = label == which[:, None, None]
    found = regions(mask)
    area = torch.zeros_like(priority).scatter_add_(1, found.number, mask.flatten(1).to(priority.dtype))
    large = area > share * height * width
    large[:, 0] = False  # number 0 is the outside
    chosen = priority.masked_fill(~large, -torch.inf).argmax(1, keepdim=True)
    top, left, bottom, right = (getattr(found, side).gather(1, chosen) for side in ("top", "left", "bottom", "right"))
    box = torch.stack([top, left, bottom + 1 - top, right + 1 - left], 2)
    return ~torch.where(large.any(1)[:, None, None], rasterise(box, (height, width)), otherwise)


def draw_object_mask(label: Tensor, which: Tensor, otherwise: Tensor, share: float) -> Tensor:
    """`object_mask` (B, H, W) of a random region of labels (B, H, W)."""
    priority = torch.rand(len(label), label[0].numel() + 1, device=label.device)
    return object_mask(label, which, priority, otherwise, share)


def sampled(logits: Tensor, q: Tensor, uniform: Tensor, gamma2: float) -> Tensor:
    """(B, H, W) bool, the pixels that count: one that the STUDENT predicts as c does where draw c > 1 - rate of c.

    Args:
        logits: (B, C, H, W) of the student. q: (C,) confidences.
        uniform: (C, H, W) draws in [0, 1), shared by the batch.
    """
    predicted = logits.detach().argmax(1)
    draw = uniform.expand(len(logits), *uniform.shape).gather(1, predicted[:, None])[:, 0]
    return draw > 1 - keep_rates(q, gamma2)[predicted]


@float32
def balanced_ce(
    logits: Tensor, target: PseudoLabels, q: Tensor, uniform: Tensor, gamma: float, gamma2: float
) -> Tensor:
    """The consistency term: cross entropy, weighed by confidence^gamma over the pixels that the sampling keeps.

    Args:
        logits: (B, C, H, W) of the student. target: pixels of weight 0 have no loss but count in the divisor.
        q, uniform, gamma2: see `sampled`.
    """
    far, kept = ce_map(logits, target.label) * (target.weight > 0), sampled(logits, q, uniform, gamma2)
    return pixel_mean(far, target.confidence**gamma * kept, target.valid, over="weight")


class AEL(AveragedTeacher):
    """Adaptive equalization learning (Hu et al., NeurIPS 2021, arXiv 2110.05474).

    Idea: a running confidence per class says which classes are learned badly; these are pasted into labelled images,
    cut out of unlabelled ones, and their pixels are kept, more often than others. What it adds to `cutmix`, whose
    teacher and boxes it has: the confidences and their three uses, and weights by the teacher's confidence.

    Equations; q_c the confidence of c, t the teacher in train mode, p a labelled and v an unlabelled second batch:
        x: with probability 1/2 the pixels of p of some classes are pasted into image and label: `paste_number` draws
           with replacement from softmax over the target classes of sqrt(1 - q)
        k ~ softmax over all classes of 1 - q;   v_k one of the images v that the bank says to show k (any if none does)
        m = bounding box of a random region of class k in argmax t(v_k) larger than `area`; none: a box of half the area
        z_x = f(x), z_m = f(m ? v_k : u);   targets t(x) and m ? t(v_k) : t(u), c and y their max and argmax
        q <- momentum q + (1 - momentum) * mean probability of the class over x's pixels labelled with it
        r_c = ((1 - q_c) / max(1 - q))^gamma2;   w = c^gamma 1[draw > 1 - r of the class that f predicts]
        L_c(z) = sum of w 1[c >= tau] CE(z, y) / sum of w
        L = CE(z_x, y_x) + L_c(z_x) + L_c(z_m);   t <- d t + (1 - d) f, parameters only, d = min(1 - 1/(i + 1), decay)
    The bank has, for each unlabelled image, the classes that t last saw on at least `seen` of its crop.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; with `aux=True` the auxiliary head is trained as well.
        tau: confidence from which a pixel counts.
        decay: of the teacher. momentum: of q. aux: weight of the auxiliary head's loss.
        exclude: classes that are not pasted. paste_number: draws of classes.
        area, seen: shares of the image, see above.
        gamma, gamma2: exponents of the weight and of the rate.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: `exclude` leaves no class.
    """

    card = Card(
        family="consistency",
        title="Semi-Supervised Semantic Segmentation via Adaptive Equalization Learning",
        venue="NeurIPS",
        year=2021,
        authors="Hu et al.",
        arxiv="2110.05474",
        code="https://github.com/hzhupku/SemiSeg-AEL",
        extends=("cutmix",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", WEAK),
        p=Stream("labelled", replace(WEAK, scale=(0.1, 2.0))),
        u=Stream("unlabelled", WEAK, masks=(half_area_box(),)),
        v=Stream("unlabelled", WEAK),
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513, "scale": SCALES},
            "method": {
                **{"net": AEL_NET, "supervised": OHEM, "tau": 0.7},
                **{"exclude": (0,), "paste_number": 1, "area": 0.03, "seen": 0.03},
            },
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-2, "head": 10.0},
            **DIVIDED,
            "evaluation": "voc/ael",
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 769, "scale": SCALES},
            "method": {"net": AEL_NET, "exclude": (0, 1, 2, 8, 10), "supervised": OHEM},
            "fit": {"epochs": 200, "batch": 16, "lr": 1e-2, "head": 10.0},
            **DIVIDED,
            "evaluation": "cityscapes/ael",
            "differs": DIFFERS,
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.0,
        decay: float = 0.99,
        momentum: float = 0.999,
        aux: float = 0.4,
        exclude: Sequence[int] = (),
        paste_number: int = 3,
        area: float = 0.005,
        seen: float = 0.01,
        gamma: float = 2.0,
        gamma2: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        self.teacher = copy_of(self.student)
        self.teacher.train()
        self.tau, self.decay, self.momentum, self.aux = tau, decay, momentum, aux
        self.paste_number, self.area, self.seen = paste_number, area, seen
        self.gamma, self.gamma2, self.supervised = gamma, gamma2, criterion(supervised)
        targets = [c for c in range(self.classes) if c not in exclude]
        if not targets:
            raise S4Error(f"exclude={tuple(exclude)} leaves no class that may be pasted.")
        self.register_buffer("targets", torch.tensor(targets), persistent=False)
        self.register_buffer("q", torch.rand(self.classes))
        images = max(getattr(task, "unlabelled", ()) or (0,)) + 1
        self.register_buffer("bank", torch.zeros(self.classes, images, dtype=torch.uint8))

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        weight = confidence**self.gamma * (confidence >= self.tau)
        return PseudoLabels(label, confidence, weight, view.valid)

    def copy_paste(self, x: Views, p: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Image, label and valid map of x with the drawn classes of p."""
        drawn = paste_probabilities(self.q, self.targets).multinomial(self.paste_number, replacement=True)
        on = torch.rand(len(x), 1, 1, device=self.q.device) < 0.5
        taken = pasted_pixels(p.label, self.targets[drawn]) & on
        return paste(taken, p.weak, x.weak), paste(taken, p.label, x.label), paste(taken, p.valid, x.valid)

    def find(self, v: Views, number: int) -> tuple[Tensor, Tensor]:
        """(number,) classes, and the places in v of images that show them."""
        k = cut_probabilities(self.q).multinomial(number, replacement=True)
        shown = self.bank[k][:, v.index].float()
        weight = torch.where(shown.any(1, keepdim=True), shown, 1.0)
        return k, by_weight(weight)

    @torch.no_grad()
    def remember(self, index: Tensor, label: Tensor) -> None:
        """Note which classes the teacher sees now, (B, H, W), in the images (B,)."""
        there = seen_classes(label, self.classes, self.seen)
        shape, device = (self.bank.shape[1], self.classes), index.device
        touched = torch.zeros(shape[0], device=device).index_add_(0, index, torch.ones(len(index), device=device))
        found = torch.zeros(shape, device=device).index_add_(0, index, there.float())
        touched, found = over_processes(touched) > 0, over_processes(found) > 0
        self.bank.copy_(torch.where(touched, found.T.to(torch.uint8), self.bank))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, p, u, v = batch.x, batch.p, batch.u, batch.v
        image, label, valid = self.copy_paste(x, p)
        with torch.no_grad():
            t_x, t_u, t_v = (self.teacher(part) for part in (image, u.weak, v.weak))
        k, other = self.find(v, len(u))
        of_u, of_v = self.pseudo_labels(t_u, u, clock), self.pseudo_labels(t_v, v, clock)
        own = draw_object_mask(of_v.label[other], k, u.masks[0], self.area)
        mixed, target = paste(own, u.weak, v.weak[other]), paste(own, of_u, of_v[other])

        e, size = self.student.encode(image), image.shape[-2:]
        z_x, z_m = self.student.decode(e, size).logits, self.student(mixed)
        self.q.mul_(self.momentum).add_(class_confidence(z_x.detach(), label), alpha=1 - self.momentum)
        of_x = self.pseudo_labels(t_x, x, clock)
        of_x.valid = valid
        losses = Losses(x=self.supervised(z_x, label))
        for name, z, y in (("labelled", z_x, of_x), ("u", z_m, target)):
            uniform = torch.rand(self.classes, *size, device=z.device)
            losses.add(name, balanced_ce(z, y, self.q, uniform, self.gamma, self.gamma2))
        if self.student.aux is not None:
            losses.add("x_aux", self.supervised(self.student.auxiliary(e, size), label), self.aux)
        self.remember(torch.cat([u.index, v.index]), torch.cat([of_u.label, of_v.label]))
        trained = target.weight * sampled(z_m, self.q, uniform, self.gamma2)  # by the last draws, those of u
        return losses.see(weak=u.weak, mixed=mixed, target=replace(target, weight=trained), student=z_m)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step), buffers="none")


def pasted_pixels(label: Tensor, drawn: Tensor) -> Tensor:
    """(B, H, W) bool: pixels of a (B, H, W) label map that have one of the classes `drawn` (n,)."""
    return (label[..., None] == drawn).any(-1)
