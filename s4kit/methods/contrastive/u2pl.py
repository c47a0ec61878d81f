"""U2PL: pixels too uncertain to be labelled are still certain not to be most classes.

Three bugs of the release, found by running it; this class does what the paper says. The parity tests get the
release's numbers of (2) and (3) by putting its part in the place of ours; (1) is recorded by itself.
(1) Its one-hot function scatters along the wrong axis: the first image of a batch gets the labels of all, the
others none, so that only two images per GPU ever enter L_c. (2) Anchors and centres are stored for all classes but
read by position among the classes present, queues by class: when class 1 is absent, the negatives of class 2 meet
the anchors of class 1. (3) Negatives must carry the label c that they are negatives of, which no labelled pixel
can, and of the others only those where t's two forwards differ.

As released, not as printed: L_u is up-weighted by BHW/n on top of a mean; padding takes part in it; unlabelled
anchors are the a(r) percent, not all reliable pixels. Not as released: percentages change per step, not per epoch;
t is not copied anew through the first epoch; a step adds at most `fresh` rows to a queue, evenly spread, as the
repaired rule offers ten thousand; padding is no label, where the release calls it class 0, so that a third of the
labelled pixels of VOC are padding taught as background. Random scales are as often below as above 1, as released.
The paper weighs the contrast 0.1. The release's configurations say 1, of which its code leaves 1/4 on VOC and 1/8
on Cityscapes: that term is divided by its 4 or 8 processes, whose gradients are averaged besides. The recipes have
what the release does, the default is the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...data.task import VOID
from ...errors import caution
from ...nets import Features, ProjectionHead, SegNet, copy_of, ema, make, warm
from ...nets.psp import without_psp
from ...views import Batch, Stream, ViewPlan, Views, half_box, paste, weak
from ..base import Card, Clock, Losses, PseudoLabels, zero_of
from ..parts.banks import Queues
from ..parts.contrast import Draws, class_contrast, members, ranks, rows, shrink
from ..parts.draws import by_coin
from ..parts.losses import Criterion, ce, criterion, entropy, labelled_terms, upweighted_ce
from ..parts.prototypes import centres
from ..parts.quantile import percentiles
from ..parts.roles import pictured
from ..parts.schedules import linear
from ..parts.teachers import JudgedTeacher

PAPER_NET = (
    "resnet101c(output_stride=8, multi_grid=(4, 8, 16), aspp_rates=(12, 24, 36), aspp_kernel=3, low_channels=256, "
    "dropout=0.1{})"
)
OHEM = "ohem(thresh=0.7, per_image=50000)"
SOURCE = "official code, Haochen-Wang409/U2PL: experiments/*/*/ours/config.yaml"
DIFFERS = [
    "three bugs of the released contrast are mended (see the class); the published numbers have them",
    "pad_label: 0 there, 255 (ignored) here: padding is not taught as background",
]
CONTRAST = {"contrast": 1.0, "bank": (50_000, 30_000), "fresh": 4000, "half": True}


class Forward(NamedTuple):
    """One forward of a network with its head."""

    logits: Tensor  # (B, K, h, w), stride 4
    z: Tensor  # (B, D, h, w), the representation
    features: Features


def unlikely(belongs: Tensor, place: Tensor, sure: Tensor, labelled: Tensor, low: int, high: int) -> Tensor:
    """(K, N) bool: of which classes a pixel is a negative (equations 10 to 12 of the paper).

    A labelled pixel: of the wrong classes that the teacher likes best (place < low). An unlabelled one: of the classes
    at low <= place < high, neither those between which the teacher wavers nor the absurd ones; with so few classes that
    none is left, of the last one.

    Args:
        belongs: (K, N) bool, the (pseudo-)label. place: (K, N), of each class in the teacher's order, 0 = likeliest.
        sure: (N,) bool: label known, or entropy high. labelled: (N,) bool.
    """
    wrong = ~belongs & (place < low)
    unliked = (place >= min(low, len(belongs) - 1)) & (place < high)
    return sure & torch.where(labelled, wrong, unliked)


class U2PL(JudgedTeacher):
    """Semi-supervised semantic segmentation using unreliable pseudo-labels (Wang et al., CVPR 2022).

    Idea: a pixel on which the teacher wavers between two classes is no label, but surely it is none of the others; so
    it becomes a negative of these in a pixel contrast. What is reliable is told by percentiles of the entropy, which
    tighten over the training. What it adds to `mean_teacher`: percentiles, CutMix, a representation head, the contrast.

    Equations, f the student, t the teacher, r = progress, h the entropy of t on the mixed images, n the kept pixels:
        y = argmax t(u) in eval mode on whole images; in half of the steps image and label get a box of the next image
        L_u = BHW/n * mean over kept of CE(f(u), y),   kept: h < its percentile 100 - (100 - drop)(1 - r)
        per class c, all maps at stride 4, a(r) = alpha (1 - r) percent:
            anchors    f's features where the label is c, t's p(c) > threshold and (labelled or h among the a(r) lowest)
            centre     mean of t's features over the same pixels, whatever p(c)
            negatives  queue of t's features: `unlikely` to be c and (labelled or h among the a(r) highest)
        L_c = mean over classes present, mean over anchors of -log(e^(cos+/T) / (e^(cos+/T) + sum of e^(cos-/T)))
        L = CE(f(x), y_x) + L_u + contrast * L_c;   t <- d t + (1 - d) f,   d = min(1 - 1/(k+1), decay)
    k counts from the end of a supervised warm-up, in which t copies f. L_c never vanishes: at cosines of 1 and -1 it is
    log(1 + M e^(-2/T)), 0.65 for T = 0.5 and M = 50 negatives.

    Modes: t labels in eval mode; then f and t see labelled and mixed images as one batch in train mode, and the entropy
    is of that second forward. Parameters alone are averaged; t fills its own BN buffers by these forwards.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; an auxiliary head (`aux=True`) is trained with weight `aux`.
        warmup: share of the stage that is supervised only.
        decay: of the teacher. drop: first percentile of L_u. alpha: first percentage of the contrast.
        contrast: weight of L_c; 0 leaves the head and the queues out. threshold: least p(c) of an anchor.
        low, high: places of a negative class, see `unlikely`; a `low` that leaves none is lowered. temperature: T.
        queries, negatives: anchors per class, negatives per anchor. bank: rows of queue 0 and of each other queue.
        fresh: most new rows per queue and step. half: keep the queues in float16.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Semi-Supervised Semantic Segmentation Using Unreliable Pseudo-Labels",
        venue="CVPR",
        year=2022,
        authors="Wang et al.",
        arxiv="2203.03884",
        code="https://github.com/Haochen-Wang409/U2PL",
        extends=("mean_teacher", "cutmix"),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513},
            "method": {"net": PAPER_NET.format(""), **CONTRAST},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "divided": "contrast",
            "evaluation": "voc/u2pl",
            "source": SOURCE,
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 769},
            "method": {"net": PAPER_NET.format(", aux=True"), "warmup": 0.0, "supervised": OHEM, **CONTRAST},
            "fit": {"epochs": 200, "batch": 16, "lr": 1e-2, "head": 1.0, "weight_decay": 5e-4},
            "processes": 8,
            "divided": "contrast",
            "evaluation": "cityscapes/u2pl",
            "source": SOURCE,
            "differs": DIFFERS,
        },
        "scenes": {"method": {"warmup": 0.4, "decay": 0.98}},  # its percentiles keep most pixels from the first step on
        "camvid": {"method": {"warmup": 0.1}},
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        warmup: float = 1 / 80,
        decay: float = 0.99,
        drop: float = 80.0,
        alpha: float = 20.0,
        contrast: float = 0.1,
        threshold: float = 0.3,
        low: int = 3,
        high: int = 20,
        queries: int = 256,
        negatives: int = 50,
        temperature: float = 0.5,
        bank: tuple[int, int] = (2000, 2000),
        fresh: int = 500,
        half: bool = False,
        aux: float = 0.4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = without_psp(make(net, task), "u2pl"), task.num_classes
        if contrast and low >= self.classes:
            caution(
                f"u2pl: low={low} leaves an unlabelled pixel nothing to be a negative of among {self.classes} classes; "
                f"low={self.classes - 1} is used."
            )
        if contrast:
            decoder = self.student.decoder
            dim = decoder.embedding_channels  # 256 in the paper's net; light nets have light heads
            self.student.heads["projection"] = ProjectionHead(decoder.fused_channels, dim, dim)
            capacity = [bank[0]] + [bank[1]] * (self.classes - 1)
            self.queues = Queues(capacity, dim, torch.float16 if half else torch.float32, fresh)
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it labels
        self.warmup, self.decay, self.drop, self.alpha, self.aux = warmup, decay, drop, alpha, aux
        self.weight, self.threshold, self.low, self.high = contrast, threshold, low, high
        self.amounts, self.supervised = (queries, negatives, temperature), criterion(supervised)
        view = weak(pad="mean", centred=True, halves=True)
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view, masks=(half_box(),)))

    def judge(self, logits: Tensor) -> Tensor:
        return entropy(logits)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        """Evidence: the logits that say the label, and the entropy that judges it; in training of two forwards."""
        logits, h = evidence
        confidence, label = logits.softmax(1).max(1)
        (tau,) = percentiles(h, [linear(self.drop, 100, clock.progress)], view.valid > 0)
        return PseudoLabels(label, confidence, (h < tau).float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        if clock.since(self.warmup) < 0:
            own = self.answer(x.weak, x.label, len(x))
            with torch.no_grad():
                self.through(self.teacher, x.weak)  # feeds its BN statistics
            zero = zero_of(own.z)
            return self.supervise(own, x.label).add("u", zero).add("contrast", zero, self.weight)

        logits = self.said(u)
        box = by_coin(u.masks[0])
        mixed, logits = (paste(box, t.roll(-1, 0), t) for t in (u.weak, logits))
        both, n = torch.cat([x.weak, mixed]), len(x)
        own = self.answer(both, torch.cat([x.label, logits.argmax(1)]), n)
        with torch.no_grad():
            other = self.through(self.teacher, both)
        h = entropy(self.student.enlarge(other.logits[n:], u.label.shape[-2:]))
        u = replace(u, valid=torch.ones_like(u.valid))  # padding takes part, as released
        target = self.pseudo_labels((logits, h), u, clock)

        z_u = self.student.enlarge(own.logits[n:], u.label.shape[-2:])
        l_u, l_c = upweighted_ce(z_u, target), zero_of(own.z)
        if self.weight:
            low, high = self.reliability(x.label, h, u.valid > 0, clock, own.z.shape[-2:])
            label = shrink(torch.cat([x.label, target.label]), own.z.shape[-2:])
            pictured(own.z.shape[-2:], both)
            l_c = self.contrast(own, other, label, low, high, n)
        losses = self.supervise(own, x.label).add("u", l_u).add("contrast", l_c, self.weight)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_u)

    def answer(self, image: Tensor, label: Tensor, n: int) -> Forward:
        """The student's, of images of which the first n are labelled; for heads that remember what is taught, `label`
        (B, H, W) is that."""
        return self.through(self.student, image)

    def through(self, net: SegNet, image: Tensor) -> Forward:
        """One forward of a network with its head; the fused map stands for the representation where nothing is
        contrasted."""
        features = net.encode(image)
        map = net.fuse(features).map
        return Forward(net.classify(map).logits, net.heads["projection"](map) if self.weight else map, features)

    def supervise(self, own: Forward, label: Tensor) -> Losses:
        """The terms of the first images of a forward, those that (B, H, W) labels are of."""
        z_x = self.student.enlarge(own.logits[: len(label)], label.shape[-2:])
        return labelled_terms(self.supervised, z_x, label, self.student, own.features, self.aux)

    def reliability(
        self, label: Tensor, h: Tensor, valid: Tensor, clock: Clock, size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Which pixels of cat(x, u) are reliable, which unreliable: (B, h, w) bool each; labelled ones are both."""
        a = linear(self.alpha, 0, clock.progress)
        lowest, highest = percentiles(h, [a, 100 - a], valid)
        low, high = (torch.cat([label != VOID, valid & part]) for part in (h <= lowest, h >= highest))
        return shrink(low, size), shrink(high, size)

    def contrast(
        self, own: Forward, other: Forward, label: Tensor, low: Tensor, high: Tensor, n: int, draws: Draws | None = None
    ) -> Tensor:
        """L_c of cat(x, u), of which the first n images are x; writes the queues, then draws from them.

        Args: own, other of student and teacher; label, low, high (B, h, w); draws instead of own ones.
        """
        is_x = torch.arange(label.numel(), device=label.device) < n * label[0].numel()
        belongs, low, high = members(label.flatten(), self.classes), low.flatten(), high.flatten()
        core, p, of_teacher = belongs & low, rows(other.logits.softmax(1)), rows(other.z)
        self.queues.write(of_teacher, unlikely(belongs, ranks(p), high, is_x, self.low, self.high))
        candidates, centre = core & (p.t() > self.threshold), centres(of_teacher, core)
        return class_contrast(rows(own.z), candidates, centre, self.queues, core.any(1), *self.amounts, draws)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, max(0, clock.since(self.warmup))), buffers="none")
