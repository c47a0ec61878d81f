"""S4MC: a pixel may trust its best neighbour, and pseudo-labels are kept by their margin.

As released: refinement decides which pixels are kept, never their labels; since E is near 1, p~ is close to
(1 - beta) p + beta n, and since the percentile is taken before it, another share than `share` is kept; BHW/n
multiplies a mean over the kept pixels; padding takes part; random scales are as often below as above 1.
"entropy" keeps almost nothing, as p~ is not normalised. Not as released: its loop does one step per epoch, a rest
of debugging; with its one image per GPU the box has no partner; percentages change per step; L_u is not scaled by
the ratio of its two loaders' lengths, which is 1 where the labelled list is repeated; U2PL's contrast, which its
configuration can add, is in `u2pl`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from math import exp
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...errors import S4Error, closest
from ...nets import Features, copy_of, ema, make, warm
from ...views import Batch, Stream, ViewPlan, Views, half_box, paste, weak
from ..base import Card, Clock, Losses, PseudoLabels, zero_of
from ..contrastive.u2pl import OHEM, PAPER_NET
from ..parts.draws import by_coin
from ..parts.losses import Criterion, ce, criterion, labelled_terms, upweighted_ce
from ..parts.precision import float32
from ..parts.processes import over_processes
from ..parts.quantile import percentiles
from ..parts.schedules import linear
from ..parts.teachers import JudgedTeacher

VOC_JOINT = (
    0.9981, 0.9860, 0.9556, 0.9888, 0.9862, 0.9895, 0.9928, 0.9900, 0.9940, 0.9724, 0.9815, 0.9922, 0.9921, 0.9904,
    0.9877, 0.9891, 0.9772, 0.9866, 0.9878, 0.9948, 0.9933,
)  # fmt: skip
CITYSCAPES_JOINT = (
    0.9964, 0.9862, 0.9612, 0.8320, 0.9734, 0.9764, 0.9915, 0.9967, 0.9878, 0.9840, 0.9906, 0.9906, 0.9848, 0.9843,
    0.9517, 0.9894, 0.9713, 0.9448, 0.9545,
)  # fmt: skip
DIFFERS = [
    "pad_label: 0 there, 255 (ignored) here: padding is not taught as background",
    "contrast: the one example configuration adds U2PL's, divided by its processes, there; none here",
]
FOUR = ((-1, 0), (1, 0), (0, -1), (0, 1))
EIGHT = (*FOUR, (-1, -1), (-1, 1), (1, -1), (1, 1))


@float32
def neighbours(p: Tensor, around: int, best: int) -> list[Tensor]:
    """Of each pixel's 4 or 8 neighbours the largest probability of each class, the second largest, ..., `best` maps
    like p (B, K, H, W). Outside the image it is 0."""
    height, width = p.shape[-2:]
    wide = F.pad(p, (1, 1, 1, 1))
    shifted = [wide[..., 1 + y : 1 + y + height, 1 + x : 1 + x + width] for y, x in (FOUR if around == 4 else EIGHT)]
    if best == 1:
        return [reduce(torch.maximum, shifted)]
    return list(torch.stack(shifted).topk(best, 0).values)


@float32
def refine(p: Tensor, joint: Tensor, beta: float, around: int = 4, best: int = 1) -> Tensor:
    """p~: the probability that a pixel or its neighbour is of the class, class by class; it does not add up to 1.

    Args:
        p: (B, K, H, W). joint: (K,), E. beta: how much a neighbour counts; 0 leaves p. around: 4 or 8 neighbours.
        best: how many of them count, one after the other.
    """
    refined = p
    for n in neighbours(p, around, best):
        both = torch.maximum(refined * n, refined * joint[:, None, None])
        refined = refined + beta * n - beta * both
    return refined


def margin(p: Tensor) -> Tensor:
    """(B, H, W) largest less second largest."""
    first, second = p.topk(2, 1).values.unbind(1)
    return first - second


CERTAINTY: dict[str, Callable[[Tensor], Tensor]] = {  # (B, K, H, W) to (B, H, W), larger = surer
    "margin": margin,
    "confidence": lambda p: p.amax(1),
    "entropy": lambda p: (p * (p + 1e-10).log()).sum(1),
}


class S4MC(JudgedTeacher):
    """Semi-supervised semantic segmentation via marginal contextual information (Kimhi et al., 2023, 2308.13900).

    Idea: labels of neighbouring pixels go together, so the probability of a class is that of "this pixel or its best
    neighbour shows it"; what is refined this way has larger margins between its two best classes in the interior of
    things, and by the margin pseudo-labels are kept, ever more of them. What it adds to `cutmix`, with hard labels
    and the schedule of percentiles of `u2pl`: the union with a neighbour, and the margin instead of the entropy.

    Equations; f the student, t the teacher, r = progress, N(i) the neighbours of pixel i, beta = exp(-1/2):
        y = argmax t(u) in eval mode on whole images; in half of the steps image and label get a box of the next image
        p = softmax t(mixed) in train mode, in one batch with x;   n_c(i) = max over j in N(i) of p_c(j)
        p~_c = p_c + beta n_c - beta max(p_c n_c, p_c E_c)
        g = the (100 - a) percentile of the margins of p, not of p~;   a = 100 - (100 - share)(1 - r)
        L_u = BHW/n * mean over the n kept pixels of CE(f(mixed), y),   kept: margin of p~ > g
        L = CE(f(x), y_x) + weight L_u;   t <- d t + (1 - d) f,   d = min(1 - 1/(k + 1), decay)
    E_c is the probability that a neighbour of a pixel of class c is of class c. The release has tables of it for VOC
    and Cityscapes, which the recipes give; elsewhere it is counted on the labelled images as they come.
    k counts from the end of a supervised warm-up, in which t copies f. Parameters alone are averaged; t fills its own
    BN buffers.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; an auxiliary head (`aux=True`) is trained with weight `aux`.
        warmup: share of the training that is supervised only.
        decay: of the teacher. share: percentage that is kept at the start (before refinement).
        beta: weight of the neighbour. around: 4 or 8. best: how many neighbours count.
        indicator: "margin", "confidence" or "entropy".
        joint: E, one number per class; None = counted.
        weight: of L_u. aux: of the auxiliary head's term.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `indicator`, or another number of entries in `joint` than of classes.
    """

    card = Card(
        family="consistency",
        title="Semi-Supervised Semantic Segmentation via Marginal Contextual Information",
        venue="arXiv",
        year=2023,
        authors="Kimhi et al.",
        arxiv="2308.13900",
        code="https://github.com/s4mcontext/s4mc",
        extends=("cutmix", "u2pl"),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513},
            "method": {"net": PAPER_NET.format(""), "joint": VOC_JOINT},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0},
            "evaluation": "voc/u2pl",
            "differs": [
                *DIFFERS,
                "unsure: batch: the yaml has 1 image on each of an unnamed number of GPUs; U2PL's 16 here, on which "
                "the release builds",
            ],
        },
        "cityscapes": {
            "task": {"crop": 769},
            "method": {
                "net": PAPER_NET.format(", aux=True"),
                "warmup": 0.005,
                "supervised": OHEM,
                "joint": CITYSCAPES_JOINT,
            },
            "fit": {"epochs": 200, "batch": 16, "lr": 1e-2, "head": 1.0, "weight_decay": 5e-4},
            "evaluation": "cityscapes/u2pl",
            "differs": [
                "unsure: task, network, fit: no configuration is released; U2PL's figures, on which the release builds",
                "pad_label: 0 there, 255 (ignored) here: padding is not taught as background",
            ],
        },
        "scenes": {"method": {"warmup": 0.4, "decay": 0.98}},  # as U2PL: percentiles keep most pixels from the start
        "camvid": {"method": {"warmup": 0.1}},
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        warmup: float = 1 / 80,
        decay: float = 0.99,
        share: float = 60.0,
        beta: float = exp(-0.5),
        around: int = 4,
        best: int = 1,
        indicator: str = "margin",
        joint: Sequence[float] | None = None,
        weight: float = 1.0,
        aux: float = 0.4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if indicator not in CERTAINTY:
            raise S4Error(f"There is no indicator {indicator!r}. {closest(indicator, list(CERTAINTY))}")
        if joint is not None and len(joint) != task.num_classes:
            raise S4Error(f"joint has {len(joint)} numbers for {task.num_classes} classes.")
        self.student, self.counted = make(net, task), joint is None
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it labels
        self.warmup, self.decay, self.share, self.beta, self.around = warmup, decay, share, beta, around
        self.best, self.certainty, self.weight, self.aux = best, CERTAINTY[indicator], weight, aux
        self.supervised = criterion(supervised)
        e = torch.ones(task.num_classes) if joint is None else torch.tensor(joint)
        self.register_buffer("pairs", torch.stack([e, torch.ones_like(e)]))  # neighbours of the same class, of any
        self.register_buffer("fresh", torch.zeros_like(self.pairs))  # those of this step, which count from the next on
        view = weak(pad="mean", centred=True, halves=True)
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view, masks=(half_box(),)))

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        """Evidence: the logits that say the label, and those that judge it; in training of two forwards."""
        logits, judge = evidence
        confidence, label = logits.softmax(1).max(1)
        p = judge.softmax(1)
        (g,) = percentiles(self.certainty(p), [100 - linear(self.share, 100, clock.progress)], view.valid > 0)
        sure = self.certainty(refine(p, self.joint, self.beta, self.around, self.best)) > g
        return PseudoLabels(label, confidence, sure.float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        self.count(x.label)
        if clock.since(self.warmup) < 0:
            e, z = self.through(x.weak)
            with torch.no_grad():
                self.teacher(x.weak)  # feeds its BN statistics
            return self.supervise(e, z, x.label).add("u", zero_of(z), self.weight)

        logits, _ = self.teach(u)
        box = by_coin(u.masks[0])
        mixed, logits = (paste(box, t.roll(-1, 0), t) for t in (u.weak, logits))
        both, n = torch.cat([x.weak, mixed]), len(x)
        e, z = self.through(both)
        with torch.no_grad():
            judge = self.teacher(both)[n:]
        u = replace(u, valid=torch.ones_like(u.valid))  # padding takes part, as released
        target = self.pseudo_labels((logits, judge), u, clock)
        losses = self.supervise(e, z[:n], x.label).add("u", upweighted_ce(z[n:], target), self.weight)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z[n:])

    def through(self, image: Tensor) -> tuple[Features, Tensor]:
        """The student's features, and its logits (B, K, H, W) at the size of the image."""
        features = self.student.encode(image)
        return features, self.student.decode(features, image.shape[-2:]).logits

    def supervise(self, e: Features, z_x: Tensor, label: Tensor) -> Losses:
        """The terms of labelled images by their features, logits (B, K, H, W) and labels (B, H, W)."""
        return labelled_terms(self.supervised, z_x, label, self.student, e, self.aux)

    @property
    def joint(self) -> Tensor:
        """E, (K,)."""
        return self.pairs[0] / self.pairs[1]

    @torch.no_grad()
    def count(self, label: Tensor) -> None:
        """Count which neighbours (left, right, above, below) of labelled pixels are of the same class."""
        if not self.counted:
            return
        for a, b in ((label[:, 1:], label[:, :-1]), (label[:, :, 1:], label[:, :, :-1])):
            known = (a != VOID) & (b != VOID)
            for one in (a, b):  # each of the two has the other as its neighbour
                place = one.where(known, 0).flatten()
                self.fresh[0].scatter_add_(0, place, (known & (a == b)).flatten().to(self.fresh.dtype))
                self.fresh[1].scatter_add_(0, place, known.flatten().to(self.fresh.dtype))

    def after_step(self, clock: Clock) -> None:
        self.pairs += over_processes(self.fresh)
        self.fresh.zero_()
        ema(self.teacher, self.student, warm(self.decay, max(0, clock.since(self.warmup))), buffers="none")
