"""ReCo: a pixel is contrasted where it is hard, and with the classes that it is easily taken for.

From the release: images and teacher are warped bilinearly here, with the label read off afterwards; there labels by
nearest neighbour through 8-bit images. What a smaller image leaves free is reflected there, black here, and ignored
in both. Images are flipped before the teacher here, after the mixing there. A pixel whose cross entropy is exactly 0
does not count in the mean of L_u there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...data.task import VOID
from ...nets import ProjectionHead, SegNet, copy_of, ema, make, warm
from ...nets.psp import without_psp
from ...views import Batch, Stream, ViewPlan, Views, draw_zoom, paste, recolour, warp, weak
from ..base import Card, Clock, Losses, PseudoLabels
from ..consistency.classmix import COLOURS
from ..parts.contrast import Draws, OtherClasses, class_contrast, likeness, members, rows, shrink
from ..parts.losses import Criterion, ce, criterion, image_share, pixel_ce
from ..parts.masks import draw_class_mask
from ..parts.prototypes import centres
from ..parts.roles import pictured
from ..parts.teachers import AveragedTeacher

PAPER_NET = "resnet101(decoder_convs=1)"
FIT = {"steps": 40_000, "lr": 2.5e-3, "head": 1.0, "weight_decay": 5e-4, "nesterov": True}
DIFFERS = [
    "schedule: poly by the epoch of 200 steps there, poly by the step here",
    "pad_image: reflected there, black here",
    "its lists are its own, chosen to hold all classes evenly, none of the published ones",
]


class Forward(NamedTuple):
    """One forward of the student with its head, at stride 4."""

    logits: Tensor  # (B, K, h, w)
    z: Tensor  # (B, D, h, w), the representation


class ReCo(AveragedTeacher):
    """Bootstrapping semantic segmentation with regional contrast (Liu et al., ICLR 2022).

    Idea: of a thousand pixels of a class most are easy, and most classes are never confused with it. So anchors of a
    pixel contrast are drawn where the student is unsure of the class, and negatives are drawn from other classes the
    more often the closer their mean feature is. It lives in the batch, without a memory. What it adds to `classmix`:
    the representation head with the contrast, the share per image, a late change of scale.

    Equations; f the student, t the teacher, s the colours (on labelled images too), n = next image of the batch:
        zoom: each image of w(u), t(w(u)) and valid resized by U(zoom) and cut anew;   m: half of the classes, ClassMix
        mixed = s(m ? zoom w(u) : its n);   q = softmax(m ? zoom t(w(u)) : its n),   y, c = argmax, max of q
        W_i = share of the valid pixels of mixed image i with c >= tau
        L_u = mean over all valid pixels of W_i CE(f(mixed), y): no pixel is dropped, images are weighed
        per class k, over x and mixed at stride 4, z = head of f, among the pixels labelled k, or y = k and c >= trust:
            centre p_k = mean of z;   anchors: Q draws of those with softmax(f)_k < hard
            negatives: M per anchor, of class j with probability softmax_j(cos(p_k, p_j) / T), then uniform in j
        L_c = mean over classes present, mean over anchors of -log(e^(cos(z, p_k)/T) / (the same + sum of e^(cos-/T)))
        L = CE(f(s(x)), y_x) + L_u + contrast * L_c;   t <- d t + (1 - d) f,   d = min(1 - 1/(i+1), decay)
    Only the drawn anchors get a gradient: centres and negatives are constants. A class without hard pixels adds
    nothing, but counts in the mean; with one class present L_c is 0.

    Modes: t labels in train mode and fills its own BN buffers by that; parameters alone are averaged. x and mixed are
    two batches to the student's batch norms.

    Cost: features of all pixels at stride 4 (N D floats, 0.13 GB for 20 crops of 321), and Q M D floats of negatives at
    a time (0.13 GB), whatever the number of classes.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence of the pixels that W counts.
        trust: confidence from which an unlabelled pixel belongs to a class of the contrast.
        hard: probability of its class below which a pixel may be an anchor.
        decay: of the teacher.
        zoom: factors of the late change of scale.
        contrast: weight of L_c. queries, negatives: Q and M. temperature: T.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Bootstrapping Semantic Segmentation with Regional Contrast",
        venue="ICLR",
        year=2022,
        authors="Liu et al.",
        arxiv="2104.04465",
        code="https://github.com/lorenmt/reco",
        extends=("classmix",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": (0.5, 1.5)},
            "method": {"net": PAPER_NET},
            "fit": {**FIT, "batch": 10},
            "processes": 1,
            "evaluation": "voc",
            "differs": [*DIFFERS, "evaluation: whole images padded to 513 there, scored without padding here"],
        },
        "cityscapes": {
            "task": {"crop": 512, "size": 0.5, "scale": (1.0, 1.0)},
            "method": {"net": PAPER_NET, "zoom": (1.0, 1.0), "supervised": "ce"},
            "fit": {**FIT, "batch": 2},
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "differs": DIFFERS[:1] + DIFFERS[2:],
        },
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.97,
        trust: float = 0.7,
        hard: float = 0.97,
        decay: float = 0.99,
        zoom: tuple[float, float] = (0.5, 1.5),
        contrast: float = 1.0,
        queries: int = 256,
        negatives: int = 512,
        temperature: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = without_psp(make(net, task), "reco"), task.num_classes
        decoder = self.student.decoder
        dim = decoder.embedding_channels  # 256 in the paper's net; light nets have light heads
        self.student.heads["projection"] = ProjectionHead(decoder.fused_channels, dim, dim, convs=1, dropout=0.0)
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it only looks
        self.tau, self.trust, self.hard, self.decay, self.zoom = tau, trust, hard, decay, zoom
        self.weight, self.supervised = contrast, criterion(supervised)
        self.amounts, self.temperature = (queries, negatives), temperature
        self.views = ViewPlan(x=Stream("labelled", strong=(COLOURS,)), u=Stream("unlabelled", weak(scale=(1.0, 1.0))))

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        share = image_share((confidence >= self.tau) * view.valid, view.valid)
        return PseudoLabels(label, confidence, share, view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        with torch.no_grad():
            t_u = self.teacher(u.weak)
        theta = draw_zoom(u.weak, self.zoom)
        w, t_u, valid = (warp(t, theta) for t in (u.weak, t_u, u.valid))
        valid = (valid > 0.99).float()  # no pixel of which a part is padding
        m = draw_class_mask(t_u.argmax(1).where(valid > 0, VOID), self.classes)
        w, t_m, valid = (paste(m, t, t.roll(-1, 0)) for t in (w, t_u, valid))
        target = self.pseudo_labels(t_m, replace(u, weak=w, valid=valid), clock)
        mixed = recolour(w, COLOURS)

        own_x, own_u = self.through(self.student, x.strong[0]), self.through(self.student, mixed)
        z_x, z_u = (self.student.enlarge(own.logits, x.label.shape[-2:]) for own in (own_x, own_u))
        pictured(own_x.z.shape[-2:], x.strong[0], mixed)
        l_c = self.contrast([own_x, own_u], x.label, target)
        losses = Losses(x=self.supervised(z_x, x.label), u=pixel_ce(z_u, target, over="valid"))
        losses.add("contrast", l_c, self.weight_of_contrast(clock))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_u)

    def through(self, net: SegNet, image: Tensor) -> Forward:
        """One forward of a network with its projection head, at the decoder's stride."""
        map = net.fuse(net.encode(image)).map
        return Forward(net.classify(map).logits, net.heads["projection"](map))

    def weight_of_contrast(self, clock: Clock) -> float:
        """Of the contrast among the terms; the same in every step."""
        return self.weight

    def contrast(self, own: list[Forward], label: Tensor, target: PseudoLabels, draws: Draws | None = None) -> Tensor:
        """L_c of the labelled and the mixed images; draws instead of own ones."""
        trusted = (target.confidence >= self.trust) & (target.valid > 0)
        known = torch.cat([label, target.label.where(trusted, VOID)])
        belongs = members(shrink(known, own[0].z.shape[-2:]).flatten(), self.classes)
        z, p = (torch.cat([rows(part) for part in parts]) for parts in zip(*((o.z, o.logits.softmax(1)) for o in own)))
        centre = centres(z.detach(), belongs)
        others = OtherClasses(z, belongs, likeness(centre, self.temperature))
        candidates = belongs & (p.detach().t() < self.hard)
        return class_contrast(z, candidates, centre, others, belongs.any(1), *self.amounts, self.temperature, draws)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step), buffers="none")
