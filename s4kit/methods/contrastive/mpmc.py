"""MPMC: a classifier of patches says which classes are around a pixel, and so which pseudo-labels to doubt.

From the release: `share` starts at 0.00001 there, at which nothing is ever doubted, and the code that would raise it
per class fails; so it is fixed here. It also drops the most doubtful of the patches said NOT to hold a class. Patches
of 38 pixels are averaged for o_x there, of 39 here, and those of void alone teach nothing here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import Features, PatchHead, evaluating, feature_dropout
from ...views import Batch, Views, paste
from ..base import Card, Clock, Losses, PseudoLabels, zero_of
from ..consistency.unimatch import UniMatch
from ..lengths import Length
from ..parts.losses import Criterion, ce, pixel_ce
from ..parts.patches import doubtful, inside, occupancy, patch_bce, present

Evidence = tuple[Tensor, Tensor]  # logits of the pixels (B, C, H, W), of the patches (B, C, h, w)
DIFFERS = [
    "unsure: batch: 1 and 1 for each of 4 processes was read; 4 in all here",
    "its share of doubtful patches is adapted there, by code that fails after the first epoch; fixed here",
]


class MPMC(UniMatch):
    """Beyond pixels, a multi-scale patch-based multi-label classifier (Howlader et al., ECCV 2024).

    Idea: a wrong pseudo-label is often absurd where it stands, a horse among cars. Whether a class is anywhere in a
    patch is an easier question than which class a pixel has, so a light classifier on early features learns to answer
    it; where a pseudo-label puts a class into a patch and this classifier protests most, its pixels are not taught.
    What it adds to `unimatch`: the classifier with its own losses, and this cleaning.

    Equations; f and its views as in `unimatch`, r the patch head on the encoder's first level, patches of 39 x 39
    pixels around every fourth one:
        Y_x in {0, 1}: the patch has a pixel of the class;   o_x: share of the patch that is of it
        L_r = BCE(r(x), Y_x), weighted by softmax over classes of o_x
        for each of the three streams, k = 1, 2 (mixed) and fp:
            Y_k of the pseudo-labels with c >= tau;   R_k: per class, of the n patches with Y_k = 1 the
                ceil(n share) - 1 in which BCE(r(weak), 1) is the largest, weak the unrecoloured image with the same box
            P_k = mean over patches and classes of BCE(r(stream k), Y_k), 0 where R_k
            L_k as in `unimatch`, without the pixels of class c in a patch of which R_k doubts c
        L = (L_x + L_r + L_1 / 4 + L_2 / 4 + L_fp / 2 + patch * (P_1 + P_2 + P_fp)) / 3.3
    In the warm-up L = (L_x + L_r) / 2. Patch losses reach the first level and what is below it, never the decoder. r
    judges in eval mode. With `share` near 0 nothing is doubted and the pixels are taught as in `unimatch`.

    Cost: r is ten convolutions at stride 4, of 768 channels at first with a ResNet: twice as much as the decoder.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts; 0 = all pixels (Cityscapes).
        share: of the patches said to hold a class, those to doubt.
        patch: weight of the P_k.
        drop: probability that a feature channel is dropped.
        warmup: share of the training, or passes, with labels alone.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Beyond Pixels: Semi-Supervised Semantic Segmentation with a Multi-scale Patch-based Multi-Label "
        "Classifier",
        venue="ECCV",
        year=2024,
        authors="Howlader et al.",
        arxiv="2407.04036",
        code="https://github.com/cvlab-stonybrook/Beyond-Pixels",
        extends=("unimatch",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "tau": 0.95},
            "fit": {"epochs": 320, "batch": 4, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "voc",
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "tau": 0.0, "supervised": "ohem(thresh=0.7, per_image=200000)"},
            "fit": {"epochs": 240, "batch": 4, "lr": 5e-3, "head": 1.0},
            "processes": 4,
            "evaluation": "cityscapes",
            "differs": DIFFERS,
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        share: float = 0.02,
        patch: float = 0.1,
        drop: float = 0.5,
        warmup: Length = "1 epoch",
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, drop, supervised)
        self.classes = task.num_classes
        norm = "group" if any(isinstance(m, nn.GroupNorm) for m in self.student.decoder.modules()) else "batch"
        self.student.heads["patches"] = PatchHead(self.student.backbone.channels[0], self.classes, norm)
        self.share, self.patch, self.warmup = share, patch, warmup

    def teach(self, view: Views) -> Evidence:
        with evaluating(self.student):
            features = self.student.encode(view.weak)
            logits = self.student.decode(features, view.weak.shape[-2:]).logits
            return logits, self.student.heads["patches"](features.low)

    def pseudo_labels(self, evidence: Evidence, view: Views, clock: Clock) -> PseudoLabels:
        sure = super().pseudo_labels(evidence[0], view, clock)
        _, doubted = self.doubts(sure, evidence[1])
        at_fault = inside(doubted, sure.label.shape[-2:]).gather(1, sure.label[:, None])[:, 0]
        return replace(sure, weight=sure.weight * ~at_fault)

    def doubts(self, target: PseudoLabels, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Y and R of pseudo-labels whose weights say what is sure, and the logits (B, C, h, w) that judge them."""
        multi = present(target.label.where(target.weight * target.valid > 0, VOID), self.classes)
        flat = [t.permute(0, 2, 3, 1).flatten(0, 2) for t in (patches, multi)]
        doubted = doubtful(*flat, self.share).view(len(multi), *multi.shape[-2:], -1)
        return multi, doubted.permute(0, 3, 1, 2)

    def probabilities(self, evidence: Evidence) -> Tensor:
        return evidence[0].softmax(1)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        if clock.since(self.warmup) < 0:
            e = self.student.encode(x.weak)
            z, l_r = self.student.decode(e, x.label.shape[-2:]).logits, self.recognise(e, x.label)
            losses = Losses(x=(self.supervised(z, x.label), 0.5), x_patch=(l_r, 0.5))
            return losses.add("s1", zero_of(z)).add("s2", zero_of(z)).add("fp", zero_of(z)).add("patch", zero_of(z))

        z_v, _ = self.teach(v)
        e = self.student.encode(torch.cat([x.weak, u.weak]))
        dropped = feature_dropout(e, self.drop)
        both = self.student.decode(Features.cat([e, dropped]), u.weak.shape[-2:])
        of_x, of_w, _, of_fp = both.split(len(x), len(u), len(x), len(u))
        z_x, z_w, z_fp = of_x.logits, of_w.logits, of_fp.logits
        mixed = [paste(m, s_v, s_u) for m, s_v, s_u in zip(u.masks, v.strong, u.strong)]
        e_m = self.student.encode(torch.cat(mixed))
        z_1, z_2 = (part.logits for part in self.student.decode(e_m, u.weak.shape[-2:]).split(len(u), len(u)))

        weak = [replace(u, weak=paste(m, v.weak, u.weak), valid=paste(m, v.valid, u.valid)) for m in u.masks]
        says = [paste(m, z_v, z_w.detach()) for m in u.masks]
        streams = zip([*weak, u], [*says, z_w.detach()], [*e_m.split(len(u), len(u)), dropped.split(len(x), len(u))[1]])
        target, l_p = zip(*(self.clean(view, z, own, clock) for view, z, own in streams))
        first, second, own = target
        l_1, l_2, l_fp = (pixel_ce(z, t, over="valid") for z, t in zip((z_1, z_2, z_fp), target))
        l_r = self.recognise(e.split(len(x), len(u))[0], x.label)
        losses = Losses(x=(self.supervised(z_x, x.label), 1 / 3.3), x_patch=(l_r, 1 / 3.3))
        losses.add("s1", l_1, 0.25 / 3.3).add("s2", l_2, 0.25 / 3.3).add("fp", l_fp, 0.5 / 3.3)
        losses.add("patch", sum(l_p), self.patch / 3.3)
        losses.see(weak=u.weak, mixed=mixed[0], target=first, student=z_1)
        losses.see("second view", mixed=mixed[1], target=second, student=z_2)
        return losses.see("dropped features", mixed=u.weak, target=own, student=z_fp)

    def recognise(self, features: Features, label: Tensor) -> Tensor:
        """L_r."""
        logits = self.student.heads["patches"](features.low)
        return patch_bce(logits, present(label, self.classes), occupancy(label, self.classes))

    def clean(self, weak: Views, logits: Tensor, own: Features, clock: Clock) -> tuple[PseudoLabels, Tensor]:
        """The cleaned pseudo-labels of a stream, and P of its features."""
        with evaluating(self.student):
            judge = self.student.heads["patches"](self.student.encode(weak.weak).low)
        target = self.pseudo_labels((logits, judge), weak, clock)
        sure = replace(target, weight=(target.confidence >= self.tau).float())
        multi, doubted = self.doubts(sure, judge)
        bce = F.binary_cross_entropy_with_logits(self.student.heads["patches"](own.low), multi, reduction="none")
        return target, bce.masked_fill(doubted, 0.0).mean()
