"""FOrec: the features that segment an image must also suffice to draw it, or at least the objects in it.

Read in the abstract: the task, that it helps on several hosts and data sets, that a modified task disentangles
objects from background and helps where images have objects (VOC), and that inner channels of g go with classes.
Chosen here: the host, L1, the widths of g, what the modified task is, `weight`, and that it starts after a short
time of plain drawing, when the pseudo-labels mean something. Void pixels of labelled images are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.task import VOID
from ...nets.reconstruct import Reconstruction
from ...views import Batch, Views, paste
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.losses import Criterion, ce, pixel_ce, pixel_mean
from .fixmatch import FixMatch


def objects_on_ground(image: Tensor, objects: Tensor, valid: Tensor) -> Tensor:
    """(B, 3, H, W) images where `objects` (B, H, W) is 1, elsewhere the mean colour of their valid pixels."""
    count = valid.sum((1, 2)).clamp(min=1)[:, None]
    ground = ((image * valid[:, None]).sum((2, 3)) / count)[:, :, None, None]
    return torch.where(objects[:, None] > 0, image, ground)


class FOrec(FixMatch):
    """Revisiting image reconstruction for semi-supervised semantic segmentation (Lin et al., 2023, arXiv 2303.09794).

    A reconstruction from the abstract: code and text of the paper were not at hand.

    Idea: plain autoencoding is a good auxiliary task beside modern semi-supervised training, since channels of the
    reconstruction decoder come to stand for things; drawing only the objects, on a blank ground, parts them from the
    background still better. What it adds to `fixmatch`, its host here: the decoder g on the coarsest features.

    Equations, those of `fixmatch` and, e the encoder, c the mean colour of an image:
        o = 1 where y_x (of x) or y_u with c_u >= tau (of u) is no background class;   1 everywhere without background
        target = o ? image : c;   image in {x, w(u)}, not normalised
        L_rec = 1/N sum over the pixels that are not padding of mean over channels |g(e(image)) - target|
        L = (CE(z_x, y_x) + L_u) / 2 + weight L_rec
    Labelled and unlabelled images both count. g reads the last features alone, the image is too easy to draw from
    shallow ones; it is not used at test time. The mask o has no gradient.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts.
        weight: of L_rec.
        background: classes that are not drawn; None = the whole image is (the plain task, as for street scenes).
        start: share of the training from which the background is left out.
        balanced: objects and ground have a mean each, so that small objects weigh as much.
        width: channels of g.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Revisiting Image Reconstruction for Semi-supervised Semantic Segmentation",
        venue="arXiv",
        year=2023,
        authors="Lin et al.",
        arxiv="2303.09794",
        extends=("fixmatch",),
        parity="reconstruction",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"width": 64, "background": (0,)}},  # the ground
        "camvid": {"method": {"width": 64}},
        "folder": {"method": {"width": 64}},
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "background": (0,)},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "evaluation": "voc",
            "differs": ["its host is UniMatch's FixMatch here; neither code nor set-up of the paper is known"],
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "tau": 0.0, "supervised": "ohem(thresh=0.7, per_image=100000)"},
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "evaluation": "cityscapes",
            "differs": ["its host is UniMatch's FixMatch here; neither code nor set-up of the paper is known"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        weight: float = 0.5,
        background: Sequence[int] | None = None,
        start: float = 0.0125,
        balanced: bool = False,
        width: int = 256,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, supervised)
        self.student.heads["reconstruction"] = Reconstruction(self.student.backbone.channels[-1], width)
        self.weight, self.start, self.balanced, self.plain = weight, start, balanced, background is None
        things = [c not in (background or ()) for c in range(self.student.classes)]
        self.register_buffer("things", torch.tensor(things), persistent=False)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        partner = self.pseudo_labels(self.teach(v), v, clock)
        e = self.student.encode(torch.cat([x.weak, u.weak]))
        z_x, z_w = self.student.decode(e, u.weak.shape[-2:]).split(len(x), len(u))
        own = self.pseudo_labels(z_w.logits.detach(), u, clock)
        m = u.masks[0]
        mixed, target = paste(m, v.strong[0], u.strong[0]), paste(m, partner, own)
        z_s = self.student(mixed)
        l_u = pixel_ce(z_s, target, over="valid")
        losses = Losses(x=(self.supervised(z_x.logits, x.label), 0.5), u=(l_u, 0.5))
        drawn = self.student.heads["reconstruction"](e.high, u.weak.shape[-2:])
        losses.add("reconstruction", self.drawing_loss(drawn, x, u, own, clock), self.weight)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_s)

    def drawing_loss(self, drawn: Tensor, x: Views, u: Views, own: PseudoLabels, clock: Clock) -> Tensor:
        """L_rec of drawings (B_x + B_u, 3, H, W)."""
        image, valid = torch.cat([x.weak, u.weak]), torch.cat([x.valid, u.valid])
        if self.plain or clock.since(self.start) < 0:
            return pixel_mean((drawn - image).abs().mean(1), valid, valid, over="valid")
        known = x.label != VOID
        of_x, of_u = self.things[x.label.where(known, 0)] & known, self.things[own.label] & (own.weight > 0)
        objects = torch.cat([of_x, of_u]).float()
        counts = torch.cat([x.valid * known, u.valid])
        off = (drawn - objects_on_ground(image, objects, valid)).abs().mean(1)
        if not self.balanced:
            return pixel_mean(off, counts, counts, over="valid")
        parts = [pixel_mean(off, torch.ones_like(off), counts * part, over="valid") for part in (objects, 1 - objects)]
        return sum(parts) / 2
