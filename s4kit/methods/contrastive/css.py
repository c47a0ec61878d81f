"""CSS: the class head and the nearest prototype both label a pixel, and what they agree on is taught to both.

As released, not as printed: prototypes are means of the student's representation, of the teacher's in the paper. A
prototype that is not there yet has a cosine of 0 to everything: hence the warm-up of 20 epochs, which the paper
has, too, and the release leaves to the user.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.task import VOID
from ...errors import S4Error, closest
from ...nets import SegNet, evaluating
from ...views import Batch, Stream, Views, draw_zoom, half_box, paste, recolour, warp, weak
from ..base import Card, Clock, Losses, PseudoLabels
from ..consistency.classmix import COLOURS
from ..lengths import Length
from ..parts.contrast import Draws, OtherClasses, class_contrast, likeness, members, rows, shrink
from ..parts.losses import Criterion, ce, image_share, pixel_ce
from ..parts.prototypes import Prototypes, cosine_map
from ..parts.roles import pictured
from ..parts.schedules import rampdown
from .reco import Forward, ReCo

PAPER_NET = "resnet101"
FIT = {"steps": 80_000, "lr": 6.4e-3, "head": 1.0, "weight_decay": 5e-4, "nesterov": True}
FIT |= {"schedule": "poly_to_hundredth"}
LENGTHS = {"warmup": "20 labelled epochs", "fade": "200 labelled epochs"}
STRATEGIES = ("mix", "cross")
DIFFERS = [
    "schedule: poly down to 1e-4 there, poly_to_hundredth (to 6.4e-5) here",
    "pad_image: reflected there, black here",
    "its lists are its own, one for each seed",
    "unsure: low_channels, align_corners: not read in the release; 48 and True, as in ReCo's network",
]
Evidence = tuple[Tensor, Tensor]  # (B, K, H, W) each: logits, and cosines to the prototypes over T


class CSS(ReCo):
    """Space engage: collaborative space supervision for contrastive-based segmentation (Wang et al., ICCV 2023).

    Idea: in methods like `reco` the class head alone says what a pixel is, and the representation learns it. But the
    representation is a classifier, too, by its nearest prototype; so both label, and a label on which they disagree is
    none ("mix"); or each learns from the other ("cross"). How close a pixel is to its prototype, not what the class
    head says, tells which pixels the contrast has not learned yet. What it adds to `reco`: running prototypes, labels
    of both spaces, anchors by similarity. Its mixing is CutMix.

    Equations, with the late change of scale, the colours and W_i of `reco`; P_k the running prototype of class k, z the
    teacher's representation, r = progress of `fade`:
        q1, y1 = max of softmax(t(u));   q2, y2 = max of softmax(cos(z, P) / T), enlarged before the softmax
        "mix": y = y1, c = q1 where y1 = y2, elsewhere no label
        "cross": y2, q2 teach the class head; y1, q1 the contrast.   Before `warmup` y = y1, c = q1 everywhere
        W_i = number of pixels of mixed image i with c >= tau / number of its pixels with a label
        L_u = mean over the pixels with a label of W_i CE(f(mixed), y)
        per class k, over x and mixed at stride 4, among its pixels (labelled k, or y = k with c >= trust):
            anchors: Q draws of those with softmax(cos(f's z, P) / T)_k < hard, P as before this step
            P_k <- momentum P_k + (1 - momentum) mean of f's z, over all processes; the first time the mean
            positive: P_k;   negatives: M per anchor, of class j with probability softmax_j(cos(P_k, P_j) / T)
        L = CE(f(s(x)), y_x) + L_u + contrast * exp(-5 r^2) * L_c,   L_c of these as in `reco`
    W may exceed 1 where many sure pixels have no label. `fade` counts passes over the labelled list in the release, so
    that with few labels L_c is off for most of the training.

    Cost: that of `reco`, and C prototypes.

    Of `hard`: a share is at most 1 / (1 + (K - 1) e^(-2/T)), where the own cosine is 1 and all others are -1. With
    T = 0.5 that is below 0.8 for more than 14 classes, 0.73 for VOC's and 0.75 for Cityscapes': there every pixel with
    a label is a candidate, in the release as here.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau, trust, decay, zoom, queries, negatives: as in `reco`.
        hard: share of its prototype below which a pixel may be an anchor.
        contrast: weight of L_c at the start. temperature: T.
        strategy: "mix" or "cross". momentum: of the prototypes.
        warmup: share of the training, or passes, in which the class head alone labels.
        fade: share of the training, or passes, after which L_c is off.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: no such `strategy`.
    """

    card = Card(
        family="contrastive",
        title="Space Engage: Collaborative Space Supervision for Contrastive-based Semi-Supervised Semantic "
        "Segmentation",
        venue="ICCV",
        year=2023,
        authors="Wang et al.",
        arxiv="2307.09755",
        code="https://github.com/WangChangqi98/CSS",
        extends=("reco",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "scale": (0.5, 1.5)},
            "method": {"net": PAPER_NET, **LENGTHS},
            "fit": {**FIT, "batch": 32},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                *DIFFERS,
                "unsure: batch: 8 on each of 4 GPUs by the default of its script, 16 by its configuration's 2 GPUs "
                "and in the paper, which says 40,000 steps for VOC",
            ],
        },
        "cityscapes": {
            "task": {"crop": 769, "scale": (0.5, 2.0)},
            "method": {
                "net": PAPER_NET, "zoom": (0.5, 2.0), "supervised": "ohem(thresh=0.7, per_image=50000)", **LENGTHS
            },
            "fit": {**FIT, "batch": 16},
            "processes": 4,
            "evaluation": "cityscapes/whole",
            "differs": [*DIFFERS, "unsure: the paper says crops of 768, batch 8, a rate of 3.8e-3 and sliding windows"],
        },
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.97,
        trust: float = 0.7,
        hard: float = 0.8,
        decay: float = 0.99,
        zoom: tuple[float, float] = (0.5, 1.5),
        contrast: float = 1.0,
        queries: int = 256,
        negatives: int = 512,
        temperature: float = 0.5,
        strategy: str = "mix",
        momentum: float = 0.99,
        warmup: Length = 0.1,
        fade: Length = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(
            task, net, tau, trust, hard, decay, zoom, contrast, queries, negatives, temperature, supervised
        )
        if strategy not in STRATEGIES:
            raise S4Error(f"There is no strategy {strategy!r}. {closest(strategy, STRATEGIES)}")
        self.strategy, self.momentum, self.warmup, self.fade = strategy, momentum, warmup, fade
        self.prototypes = Prototypes(self.classes, self.student.decoder.embedding_channels)
        self.views["u"] = Stream("unlabelled", weak(scale=(1.0, 1.0)), masks=(half_box(),))

    def teach(self, view: Views) -> Evidence:
        with evaluating(self.teacher):
            return self.spaces(self.teacher, view)

    def spaces(self, net: SegNet, view: Views) -> Evidence:
        """What both spaces say of the weak view, at its size."""
        own = self.through(net, view.weak)
        return tuple(net.enlarge(map, view.label.shape[-2:]) for map in (own.logits, self.similarity(own.z)))

    def similarity(self, z: Tensor) -> Tensor:
        """(B, K, h, w): cosines of (B, D, h, w) to the prototypes, over T."""
        return cosine_map(z, self.prototypes.mean) / self.temperature

    def agreed(self, evidence: Evidence, clock: Clock) -> Tensor:
        """(B, H, W) float: where there is a label."""
        first, second = (z.argmax(1) for z in evidence)
        everywhere = self.strategy == "cross" or clock.since(self.warmup) < 0
        return torch.ones_like(first, dtype=torch.float32) if everywhere else (first == second).float()

    def pseudo_labels(self, evidence: Evidence, view: Views, clock: Clock) -> PseudoLabels | dict[str, PseudoLabels]:
        """With "cross" one for each space that learns."""
        agreed = self.agreed(evidence, clock)

        def of(z: Tensor) -> PseudoLabels:
            confidence, label = z.softmax(1).max(1)
            share = image_share((confidence >= self.tau) * view.valid, agreed * view.valid)
            return PseudoLabels(label, confidence, share * agreed, view.valid)

        logits, similarity = evidence
        if self.strategy == "mix":
            return of(logits)
        return {"class head": of(logits if clock.since(self.warmup) < 0 else similarity), "contrast": of(logits)}

    def probabilities(self, evidence: Evidence) -> Tensor | dict[str, Tensor]:
        logits, similarity = (z.softmax(1) for z in evidence)
        return logits if self.strategy == "mix" else {"class head": similarity, "contrast": logits}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        with torch.no_grad():
            t_u = self.spaces(self.teacher, u)
        theta = draw_zoom(u.weak, self.zoom)
        w, valid, *t_u = (warp(t, theta) for t in (u.weak, u.valid, *t_u))
        valid = (valid > 0.99).float()  # no pixel of which a part is padding
        w, valid, *t_m = (paste(u.masks[0], t.roll(-1, 0), t) for t in (w, valid, *t_u))
        found = self.pseudo_labels(t_m, replace(u, weak=w, valid=valid), clock)
        for_head, for_contrast = found.values() if self.strategy == "cross" else (found, found)
        labelled = valid * self.agreed(t_m, clock)
        mixed = recolour(w, COLOURS)

        own_x, own_u = self.through(self.student, x.strong[0]), self.through(self.student, mixed)
        z_x, z_u = (self.student.enlarge(own.logits, x.label.shape[-2:]) for own in (own_x, own_u))
        l_u = pixel_ce(z_u, replace(for_head, valid=labelled), over="valid")
        pictured(own_x.z.shape[-2:], x.strong[0], mixed)
        l_c = self.contrast([own_x, own_u], x.label, replace(for_contrast, valid=labelled))
        losses = Losses(x=self.supervised(z_x, x.label), u=l_u)
        losses.add("contrast", l_c, self.weight * rampdown(clock.step, clock.steps_of(self.fade)))
        return losses.see(weak=u.weak, mixed=mixed, target=for_head, student=z_u)

    def contrast(self, own: list[Forward], label: Tensor, target: PseudoLabels, draws: Draws | None = None) -> Tensor:
        """L_c of the labelled and the mixed images; moves the prototypes; draws instead of own ones."""
        trusted = (target.confidence >= self.trust) & (target.valid > 0)
        known = torch.cat([label, target.label.where(trusted, VOID)])
        belongs = members(shrink(known, own[0].z.shape[-2:]).flatten(), self.classes)
        z, s = (torch.cat([rows(t) for t in ts]) for ts in zip(*((o.z, self.close(o.z)) for o in own)))
        self.prototypes.average(z.detach(), belongs, self.momentum)
        centre = self.prototypes.mean.clone()
        others = OtherClasses(z, belongs, likeness(centre, self.temperature))
        candidates = belongs & (s.t() < self.hard)
        return class_contrast(z, candidates, centre, others, belongs.any(1), *self.amounts, self.temperature, draws)

    def close(self, z: Tensor) -> Tensor:
        """(B, K, h, w): the share of each prototype in what a pixel is like."""
        return self.similarity(z.detach()).softmax(1)
