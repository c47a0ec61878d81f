"""CPSR: UniMatch in which unsure pixels teach as well, by the classes that they are not confused with.

From the release: its test takes the softmax of the probabilities, that is e^p in the place of p, which for numbers up
to 1 never passes e / (e + 1) = 0.73: the search always ends at c = K - 1, and the terms are softplus(z(K) - z(1)) and
-log(1 - s(K)). All its results were made so; `intended=False` does the same, and is what the recipes have. The
default is the test on p itself, which the paper seems to mean: this is inferred. Its argument for an average of the
sure share does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ...errors import caution
from ...views import Views
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.losses import Criterion, ce
from ..parts.precision import float32
from .unimatch import UniMatch


class Reshaped(NamedTuple):
    """Per image (B,): `ckr` and `tps`, both 0 where every pixel is sure, and `cut`, the rank c of the last class taken
    out."""

    ckr: Tensor
    tps: Tensor
    cut: Tensor


@float32
def last_removed(ordered: Tensor, sure: float, intended: bool) -> Tensor:
    """(B,) c: the first of 2 .. K - 1 at which all pixels are sure without the ranks 2 .. c, else K - 1.

    Args:
        ordered: (B, K, H, W) probabilities, falling.
        intended: compare p_1 / (p_1 + p_(c+1) + .. + p_K) with `sure`; else, as released, the same of e^p.
    """
    q, classes = ordered if intended else ordered.exp(), ordered.shape[1]
    tail = q.flip(1).cumsum(1).flip(1)  # place r (from 0): the sum from rank r + 1 on
    share = q[:, :1] / (q[:, :1] + tail[:, 2:])  # of c = 2 .. K - 1
    enough = (share >= sure).flatten(2).all(2)
    ends = torch.ones(len(q), 1, dtype=torch.bool, device=q.device)  # if not before, the search ends at K - 1
    return torch.cat([enough[:, :-1], ends], 1).int().argmax(1) + min(2, classes - 1)


@float32
def reshape(logits: Tensor, p: Tensor, valid: Tensor, sure: float, intended: bool) -> Reshaped:
    """Both terms of every image.

    Args:
        logits: (B, K, H, W) of the strong view. p: (B, K, H, W) probabilities of the weak one, constants.
        valid: (B, H, W) in [0, 1].
    """
    ordered, order = p.detach().sort(1, descending=True)
    z, s = logits.gather(1, order), logits.softmax(1).gather(1, order)
    cut = last_removed(ordered, sure, intended)
    rank = torch.arange(1, p.shape[1] + 1, device=p.device)
    tail = (rank > cut[:, None])[:, :, None, None]
    first = (rank == 1)[None, :, None, None]
    far = z.masked_fill(~(tail | first), -torch.inf).logsumexp(1) - z[:, 0]
    ckr = (far * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    tps = -((1 - s + 1e-10).log() * tail).sum(1).mean((1, 2))
    unsure = (ordered[:, 0] < sure).flatten(1).any(1)
    return Reshaped(ckr * unsure, tps * unsure, cut)


class CPSR(UniMatch):
    """Class probability space regularization (Yin et al., CVIU 2024).

    Idea: an unsure pixel wavers between two or three classes, but it may be sure of what it is not. What it adds to
    `unimatch`, for each of the two strong views: CKR takes the confusing classes out until the pixels are sure and
    trains on the classes that are left; TPS pushes the probabilities of the least likely classes down.

    Equations, those of `unimatch`, and for the strong view k = 1, 2 with p = softmax of the detached weak logits,
    pasted with the box; (r) is the class of rank r in the pixel's p:
        an image all of whose pixels have max p >= sure adds nothing; for any other
        c = first of 2, .., K - 1 at which max of p over the ranks {1, c + 1, .., K}, made to add up to 1, is >= sure in
            ALL pixels, else K - 1
        CKR = mean over valid pixels of -log( e^z(1) / (e^z(1) + sum over r > c of e^z(r)) )
        TPS = mean over all pixels of sum over r > c of -log(1 - s(r) + 1e-10),   s = softmax z
        L = L of unimatch + sum over k of (ckr mean CKR + tps mean TPS) / 2,   means over all images of the batch
    c is one number per image. Sure pixels of an image with an unsure one count in both terms, padding counts in TPS.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts in the terms of `unimatch`; 0 = all pixels (Cityscapes).
        sure: probability from which a pixel is sure. ckr, tps: weights.
        intended: the test on p itself instead of the softmax of p.
        drop: probability that a feature channel is dropped.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Class Probability Space Regularization for Semi-supervised Semantic Segmentation",
        venue="CVIU",
        year=2024,
        authors="Yin et al.",
        code="https://github.com/PixelSegTech/CPSR",
        extends=("unimatch",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet50c", "tau": 0.95, "intended": False},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                "unsure: a comment of the released yaml has 4 images per GPU, on four GPUs",
            ],
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {
                "net": "resnet50c",
                "tau": 0.0,
                "intended": False,
                "supervised": "ohem(thresh=0.7, per_image=100000)",
            },
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes",
        },
        "coco": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c", "tau": 0.95, "intended": False},
            "fit": {"epochs": 30, "batch": 8, "lr": 4e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "coco",
            "differs": ["backbone: xception65 there, resnet101 here"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        sure: float = 0.95,
        ckr: float = 0.05,
        tps: float = 0.005,
        intended: bool = True,
        drop: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, drop, supervised)
        if task.num_classes < 3:
            caution(f"cpsr: with {task.num_classes} classes there is none between the first and the last to leave out.")
        self.sure, self.ckr, self.tps, self.intended = sure, ckr, tps, intended

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        p = logits.softmax(1)
        confidence, label = p.max(1)
        return PseudoLabels(label, confidence, (confidence >= self.tau).float(), view.valid, soft=p)

    def further(self, losses: Losses, logits: Sequence[Tensor], target: Sequence[PseudoLabels]) -> Losses:
        """CKR and TPS of both strong views."""
        for k, z, t in zip("12", logits, target):
            new = reshape(z, t.soft, t.valid, self.sure, self.intended)
            losses.add(f"ckr{k}", new.ckr.mean(), self.ckr / 2).add(f"tps{k}", new.tps.mean(), self.tps / 2)
        return losses
