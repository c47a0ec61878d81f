"""USRN: classes split into subclasses of equal size teach the unbalanced classes, where they are the surer ones."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...errors import S4Error
from ...nets import Features, SegNet, evaluating, make
from ...views import Batch, Stream, Strong, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.balanced import costs, equal_clusters
from ..parts.cells import enlarged
from ..parts.losses import Criterion, ce, ce_map, criterion, entropy

CLASSES, SUBCLASSES = "classes", "subclasses"
STRONG = Strong(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, sigma=(1.1, 1.1))


class Judged(NamedTuple):
    """What the weak view says of each pixel (B, h, w): label, confidence and whether it is kept, of the subclasses and
    of the classes."""

    sub: Tensor
    sub_confidence: Tensor
    sub_kept: Tensor
    label: Tensor
    confidence: Tensor
    kept: Tensor


def split_of(pixels: Tensor, total: int) -> list[int]:
    """How many subclasses each class has: in proportion to its pixels (C,), at least one, `total` of them or so."""
    share = pixels.double() / pixels.sum().clamp(min=1)
    return [max(1, round(float(s) * total)) for s in share]


class USRN(Method):
    """Unbiased subclass regularisation network (Guan et al., CVPR 2022, arXiv 2203.10026).

    Idea: pseudo-labels of unbalanced classes favour the frequent ones. Split each class, by the look of its pixels, in
    so many subclasses of equal size as its share asks for, and the task of telling subclasses apart is balanced: a
    second branch learns it, and overrules the first one's pseudo-labels wherever it is the surer. What it adds to
    `fixmatch` on colours alone: the subclasses, the second branch, and the gate by entropy.

    Equations; c and s the softmax of the class and the subclass branch on the weak view, h their entropies as shares of
    the largest possible, parent(.) the class of a subclass, N all pixels at stride 8:
        y_s = argmax s, kept where s > tau
        gate = 1[class = parent(y_s)], all ones where h(s) > h(c);   q = c gate;   y = argmax q, kept where q > tau
        L_us = 1/N sum over kept pixels of CE(s(strong), y_s);    L_u = 1/N sum over kept pixels of CE(c(strong), y)
        L = CE(c(x), label) + sub CE(s(x), subclass) + weight (sub L_us + L_u)
    q is not normalised again: a class that the gate leaves must be above tau by itself. The branches share the first
    level of the backbone alone. On unlabelled images the decoders' features are averaged over 2 x 2 cells, and padding
    takes part, as released. Stages: labels alone; its features, read off whole labelled images, cluster each class into
    equal parts; both branches from the ImageNet weights.

    The clusters: k-means with an optimal transport of equal shares, on a sample of the pixels of each image; the others
    go to the centre that is nearest at the price which balances the sample. The release has a k-means with a penalty
    on sizes over all pixels. How its tables of subclasses were made is not in it; here the numbers follow the shares.

    Cost: two branches, each with a labelled, a weak and a strong forward; one pass over the labelled images.

    Args:
        task: the data; the shares of the classes are counted on its labelled images.
        net: network spec, see `nets.make`.
        split: number of subclasses of each class; None = by the shares, `total` of them or so.
        total: None = eight for each class (VOC 177, Cityscapes 124 in the release), at most 250.
        tau: confidence from which a pixel is kept.
        sub, weight: of the subclass terms, of the unlabelled ones.
        start: length of the first stage, per step of the second; or passes, see `lengths`.
        sample: pixels of a class that an image gives to the clustering.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: a split that does not fit the classes, or of more than 255 subclasses.
    """

    card = Card(
        family="selftraining",
        title="Unbiased Subclass Regularization for Semi-Supervised Semantic Segmentation",
        venue="CVPR",
        year=2022,
        authors="Guan et al.",
        arxiv="2203.10026",
        code="https://github.com/Dayan-Guan/USRN",
        extends=("fixmatch",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", weak(pad="mean"), maps=("subclass",)),
        u=Stream("unlabelled", weak(pad="mean"), strong=(STRONG,)),
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 320, "scale": (0.4, 1.6)},
            "method": {"net": "resnet50", "total": 177, "start": 0.2},
            "fit": {"epochs": 96, "batch": 8, "lr": 1e-3, "head": 10.0},
            "processes": 2,
            "evaluation": "voc/psmt",
            "differs": [
                "length: 80 epochs there, of the joined list, 96 here: with the stage of labels alone, whose length is "
                "another configuration's there",
                "scale: (0.5, 2) there, of 400 pixels, (0.4, 1.6) here: factors are of the image's own longer side",
                "unlabelled images are resized by at least 0.8 there, by the same factors here",
                "unsure: evaluation: padded to multiples of 8 there, enlarged to them here",
            ],
        },
        "cityscapes": {
            "task": {"crop": 720},
            "method": {"net": "resnet50", "total": 124, "start": 0.2},
            "fit": {"epochs": 576, "batch": 4, "lr": 2e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "cityscapes/whole",
            "differs": [
                "length: 480 epochs there, of the joined list, 576 here: with the stage of labels alone, whose length "
                "is another configuration's there",
                "labelled images have colour jitter there, none here",
                "unlabelled images are resized by at least 0.8 there, by the same factors here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        split: tuple[int, ...] | None = None,
        total: int | None = None,
        tau: float = 0.75,
        sub: float = 1.0,
        weight: float = 1.0,
        start: Length = 0.5,
        sample: int = 32,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.classes = task.num_classes
        pixels = getattr(task, "class_pixels", None) if split is None else None
        equal = torch.ones(self.classes) if pixels is None else pixels
        self.split = list(split or split_of(equal, min(total or 8 * self.classes, 250 - self.classes)))
        if len(self.split) != self.classes or min(self.split) < 1 or sum(self.split) > VOID:
            raise S4Error(f"usrn: split={self.split}: one number from 1 on per class, {VOID} in all at most.")
        self.student, self.subclass = make(net, task), make(net, task, classes=sum(self.split))
        self.subclass.backbone.stages[0] = nn.Identity()  # the first level is the student's
        self.tau, self.sub, self.weight, self.start, self.sample = tau, sub, weight, start, sample
        self.supervised = criterion(supervised)
        parents = torch.arange(self.classes).repeat_interleave(torch.tensor(self.split))
        self.register_buffer("parent", parents, persistent=False)

    def stages(self) -> list[Stage]:
        alone = ViewPlan(x=Stream("labelled", self.views["x"].weak))
        again = (self.student, self.subclass)
        return [
            Stage("labels alone", self.start, self.labels_alone, alone, train=(self.student,)),
            Stage("subclasses", prepare=self.cluster, restart=again),
        ]

    # ---- between the stages ----

    def cluster(self, sweep: Any) -> None:
        """Split each class into clusters of equal size, and keep the subclass of each labelled pixel."""
        found = {}
        for row, view in sweep.over("labelled"):
            f, label = self.described(view)
            found[row] = {c: self.some(f[:, label == c]) for c in label.unique().tolist() if c != VOID}
        found, generator = sweep.gather(found), torch.Generator().manual_seed(0)
        centres = []
        for c, k in enumerate(self.split):
            points = [of[c] for of in found.values() if c in of]
            centres.append(equal_clusters(torch.cat(points).float(), k, generator) if points else None)
        for row, view in sweep.over("labelled"):
            f, label = self.described(view)
            names = torch.full_like(label, VOID)
            for c in (c for c in label.unique().tolist() if c != VOID):
                at, price = (t.to(f) for t in centres[c])
                names[label == c] = (costs(f[:, label == c].mT, at) + price).argmin(1) + sum(self.split[:c])
            size = view.label.shape[-2:]
            shown = F.interpolate(names[None, None].float(), size, mode="nearest")[0, 0].long()
            own = self.parent[shown.clamp(max=len(self.parent) - 1)] == view.label[0]
            sweep.keep("subclass", row, shown.where(own & (shown != VOID), VOID))

    def described(self, view: Views) -> tuple[Tensor, Tensor]:
        """Decoder features (D, h, w) of a whole image at half their resolution, and the labels of the cells."""
        with evaluating(self.student):
            f = self.student.decode(self.student.encode(view.weak)).embedding.float()
        f = F.interpolate(f, scale_factor=0.5, mode="bilinear", align_corners=False)[0]
        label = F.interpolate(view.label[:, None].float(), f.shape[-2:], mode="nearest")[0, 0].long()
        return f, label

    def some(self, f: Tensor) -> Tensor:
        """At most `sample` of the columns of (D, n), as rows in half precision on the CPU."""
        return f[:, torch.randperm(f.shape[1], device=f.device)[: self.sample]].mT.half().cpu()

    # ---- the rule ----

    def judged(self, c: Tensor, s: Tensor) -> Judged:
        """The pseudo-labels of both branches from their logits (B, C, h, w) and (B, S, h, w) on the weak view."""
        p_c, p_s = c.softmax(1), s.softmax(1)
        sub_confidence, sub = p_s.max(1)
        surer = entropy(s) / math.log(max(2, s.shape[1])) <= entropy(c) / math.log(max(2, c.shape[1]))
        gate = F.one_hot(self.parent[sub], self.classes).movedim(-1, 1).bool() | ~surer[:, None]
        confidence, label = (p_c * gate).max(1)
        return Judged(sub, sub_confidence, sub_confidence > self.tau, label, confidence, confidence > self.tau)

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Logits of both branches as the unlabelled terms have them, each pixel those of its cell."""
        with evaluating(self.student, self.subclass):
            return tuple(F.interpolate(z, view.weak.shape[-2:]) for z in self.pooled(view.weak))

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        """At the image's size; the subclasses under the names of their classes."""
        y = self.judged(*evidence)
        found = {
            CLASSES: (y.label, y.confidence, y.kept),
            SUBCLASSES: (self.parent[y.sub], y.sub_confidence, y.sub_kept),
        }
        size = view.weak.shape[-2:]
        return {
            name: PseudoLabels(
                enlarged(label, size), enlarged(confidence, size), enlarged(kept.float(), size), view.valid
            )
            for name, (label, confidence, kept) in found.items()
        }

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        c, s = (logits.softmax(1) for logits in evidence)
        of_subclasses = torch.zeros_like(c).index_add_(1, self.parent, s)
        return {CLASSES: c, SUBCLASSES: of_subclasses}

    # ---- training ----

    def both(self, image: Tensor) -> tuple[Features, Features]:
        """Features of both branches, whose first level is one."""
        features = self.student.encode(image)
        return features, self.subclass.encode(image, start=Features(features.levels[:1], features.extra))

    def pooled(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both branches from features averaged over 2 x 2 cells."""
        nets = (self.student, self.subclass)
        return tuple(classified(net, features) for net, features in zip(nets, self.both(image)))

    def costly(self, y: Judged, c: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """(B, h, w) what each pixel of the strong view costs, by its classes' logits c and its subclasses' logits s."""
        return y.kept * ce_map(c, y.label), y.sub_kept * ce_map(s, y.sub)

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from human labels."""
        return Losses(x=self.supervised(self.student(batch.x.weak), batch.x.label))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, size = batch.x, batch.u, batch.u.weak.shape[-2:]
        z, s = (
            net.decode(f, x.label.shape[-2:]).logits for net, f in zip((self.student, self.subclass), self.both(x.weak))
        )
        subclass = x.maps["subclass"].where(x.label != VOID, VOID)
        losses = Losses(x=self.supervised(z, x.label), x_sub=(self.supervised(s, subclass), self.sub))
        with torch.no_grad():  # in train mode, as released
            said = self.pooled(u.weak)
        strong = self.pooled(u.strong[0])
        on_class, on_sub = self.costly(self.judged(*said), *strong)
        losses.add("u_sub", on_sub.mean(), self.weight * self.sub).add("u", on_class.mean(), self.weight)
        target = self.pseudo_labels(said, u, clock)
        losses.see(weak=u.weak, mixed=u.strong[0])
        losses.see(CLASSES, target=target[CLASSES], loss=enlarged(on_class, size))
        return losses.see(SUBCLASSES, target=target[SUBCLASSES], loss=enlarged(on_sub, size))


def classified(net: SegNet, features: Features) -> Tensor:
    """Logits (B, C, h / 2, w / 2) from a decoder's last map, averaged over 2 x 2 cells before the classifier."""
    embedding = net.decode(features).embedding
    return net.decoder.classifier(F.avg_pool2d(embedding, 2)).float()
