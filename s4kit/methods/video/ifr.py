"""IFR: a frame's features, rebuilt from another frame's class prototypes, must still be classified right.

Deviation of the release from its paper: a prototype is the mean over a class's pixels in all images of the batch,
only the list of classes is the image's own (scope="image" is the paper's; with one image per GPU both agree).
Pseudo-labels are of the training mode, whatever their confidence: there is no threshold, and each of the six
forwards has the batch norms' statistics of its own frames. The release's second half, a light network that follows
a heavy one from key frame to key frame, is another subject and left out.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import S4Error, closest
from ...nets import evaluating, make
from ...nets.psp import without_psp
from ...nets.segnet import resize
from ...views import Batch, Distortion, SameBox, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import pixel_ce
from ..parts.precision import float32
from ..parts.prototypes import class_means
from ..parts.schedules import sigmoid_ramp

SCOPES = ("batch", "image")


class ClassMeans(NamedTuple):
    """`mean` (B, C, D), of each image's classes; `there` (B, C) bool, which ones it has."""

    mean: Tensor
    there: Tensor


@float32
def prototypes(features: Tensor, label: Tensor, classes: int, scope: str = "batch") -> ClassMeans:
    """The mean feature of each class that is in an image, with a gradient; 0 for others.

    Args:
        features: (B, D, h, w). label: (B, h, w) long.
        scope: whose pixels the mean is over: those of the whole "batch", as released, or of the "image".
    """
    mean, number = class_means(features, label, classes)
    there = number > 0
    if scope == "batch":
        total, pixels = (mean * number[..., None]).sum(0), number.sum(0)
        mean = (total / pixels.clamp(min=1)[:, None]).expand_as(mean)
    return ClassMeans(mean * there[..., None], there)


@float32
def rebuild(features: Tensor, of: ClassMeans, temperature: float) -> Tensor:
    """(B, D, h, w): every pixel as the sum of an image's prototypes, weighted by softmax(cosine / temperature)."""
    unit, own = F.normalize(features, dim=1), F.normalize(of.mean, dim=2)
    likeness = torch.einsum("bdhw,bcd->bchw", unit, own) / temperature
    share = likeness.masked_fill(~of.there[:, :, None, None], -torch.inf).softmax(1)
    return torch.einsum("bchw,bcd->bdhw", share, of.mean)


class IFR(Method):
    """Semi-supervised video semantic segmentation with inter-frame feature reconstruction (Zhuang et al., CVPR 2022).

    Idea: two frames of a clip show the same things, so the features of one must be explained by those of the other. The
    class prototypes of one frame rebuild every pixel of the other; what comes out goes through the same classifier and
    must get the pixel's label, or its pseudo-label. No motion is estimated: a prototype has no place. What it adds to
    `pseudo_label`: the label is not taught to the network's own features, on which it would say nothing new, but to
    those of another frame.

    Equations; e the embedding before the classifier c, q and r two frames of a clip, s(r) with other colours:
        l = argmax c(e(r));   p_k = mean of e(r) where l = k
        e'(q)_i = sum over k of softmax_k( cos(e(q)_i, p_k) / T ) p_k;   R(q, r, y) = CE(c(e'(q)) / T_c, y)
        L = CE(c(e(x)), y) + ramp * ( labelled * (R(x, x', y) + strong * R(x, s(x'), y))
                                      + unlabelled * (R(u, u', z) + strong * R(u, s(u'), z)) ),   z = argmax c(e(u))
    Every CE is a mean over all pixels, void and padding as zeros. For s(r) the pixels are those of l, found in r.
    Nothing but the argmaxes is held fixed: the gradient reaches the rebuilt frame, the other one and the classifier.
    With T_c = 0.01 the weights of 0.01 and 0.001 are those of 1 and 0.1 beside a plain cross entropy.

    Cost: six forwards and their gradients a step.

    Args:
        task: the data, of clips; or anything with `num_classes`.
        net: network spec, see `nets.make`.
        temperature, logit_temperature: T and T_c.
        labelled, unlabelled, strong: weights.
        ramp: share of the training over which the terms of pairs rise.
        scope: whose pixels make a prototype, those of the "batch" or of the "image".

    Raises:
        S4Error: unknown `scope`, or a network with decoder='psp'.
    """

    card = Card(
        family="video",
        title="Semi-Supervised Video Semantic Segmentation with Inter-Frame Feature Reconstruction",
        venue="CVPR",
        year=2022,
        authors="Zhuang et al.",
        code="https://github.com/jfzhuang/IFR",
        extends=("pseudo_label",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled"),
        x_other=Stream("labelled", SameBox(), (Distortion(),), of="x", other=True),
        u=Stream("unlabelled"),
        u_other=Stream("unlabelled", SameBox(), (Distortion(),), of="u", other=True),
    )
    recipes: ClassVar = {
        "cityscapes": {
            "task": {"sequences": True, "size": 0.5, "crop": 360, "scale": (1.0, 1.0), "overlap": True},
            "method": {"net": "resnet101c(output_stride=8, decoder='pspnet')"},
            "fit": {"steps": 40_000, "batch": 4, "lr": 1e-3, "head": 10.0},
            "processes": 2,
            "evaluation": "cityscapes/whole",
            "differs": [
                "crop: 256 x 512 there, 360 x 360 here; there drawn anew, up to ten times, where a class has more than "
                "75 % of it",
                "schedule: poly 0.9 down to 1e-4 there, to 0 here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        temperature: float = 0.5,
        logit_temperature: float = 0.01,
        labelled: float = 0.01,
        unlabelled: float = 0.001,
        strong: float = 0.1,
        ramp: float = 0.1,
        scope: str = "batch",
    ) -> None:
        super().__init__()
        if scope not in SCOPES:
            raise S4Error(f"scope={scope!r}. {closest(scope, SCOPES)}")
        self.student = without_psp(make(net, task), "ifr")
        self.temperature, self.logit_temperature, self.scope = temperature, logit_temperature, scope
        self.labelled, self.unlabelled, self.strong, self.ramp = labelled, unlabelled, strong, ramp

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, ramp = batch.x, batch.u, sigmoid_ramp(clock.progress, self.ramp)
        e_x = self.embed(x.weak)
        losses = Losses(x=pixel_ce(self.classify(e_x, x.label.shape[-2:]), x.label, over="all"))
        for name, z, weight in zip(("pair", "strong pair"), self.rebuilt(e_x, batch.x_other), (1.0, self.strong)):
            losses.add(name, pixel_ce(z, x.label, over="all"), ramp * self.labelled * weight)

        e_u = self.embed(u.weak)
        target = self.pseudo_labels(self.classify(e_u, u.label.shape[-2:]).detach(), u, clock)
        losses.see(weak=u.weak, mixed=u.weak)
        for name, z, weight in zip(("u", "strong u"), self.rebuilt(e_u, batch.u_other), (1.0, self.strong)):
            losses.add(name, pixel_ce(z, target, over="all"), ramp * self.unlabelled * weight)
            losses.see("from a frame" if name == "u" else "from a strong frame", target=target, student=z)
        return losses

    def rebuilt(self, embedding: Tensor, other: Views) -> tuple[Tensor, Tensor]:
        """Logits (B, C, H, W), sharpened, of a frame rebuilt from another one and from that in other colours."""
        e = self.embed(other.weak)
        label, size = self.student.decoder.classifier(e).argmax(1), other.weak.shape[-2:]
        frames = e, self.embed(other.strong[0])
        means = (prototypes(frame, label, self.student.classes, self.scope) for frame in frames)
        made = (rebuild(embedding, of, self.temperature) for of in means)
        first, second = (self.classify(map, size) / self.logit_temperature for map in made)
        return first, second

    def embed(self, image: Tensor) -> Tensor:
        """(B, D, h, w), what the classifier sees."""
        return self.student.decode(self.student.encode(image)).embedding

    def classify(self, embedding: Tensor, size: Any) -> Tensor:
        """(B, C, H, W) float32 logits of an embedding."""
        logits = self.student.decoder.classifier(embedding).float()
        return resize(logits, size, self.student.decoder.align_corners)
