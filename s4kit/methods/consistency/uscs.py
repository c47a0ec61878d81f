"""USCS: one network takes two images at once and answers twice; each answer teaches the other.

From the release: the recipe's network is its own, with dropout of single values (`dropout_kind="element"`), not of
channels, behind the ASPP and in each head, and a momentum of 0.01 in the backbone's BN. Its images are resized to a
shorter side of 200 to 800 pixels, whatever theirs is (`short=400`). Its comment has the probabilities of the two
cases the wrong way round; this is what it does. Its scores are the best epoch of the best head on crops of 320
pixels, hence not comparable; here the mean of the two logits is evaluated on whole images. The parameters are 51 % of
two networks' (the abstract swaps its figures).
Deviations: a box per image where it has one for the batch, with its centre not in the first eighth of the sides;
the case is drawn per process; an image of one entropy has the weight 1, where it divides by 0.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import Features, SegNet, evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, beta_box, paste
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.precision import float32

NAMES = ("0 teaches 1", "1 teaches 0")
Pair = tuple[Tensor, Tensor]
NET = (
    "resnet50c(stem_width=32, bn_momentum=0.01, multi_grid=(2, 4, 8), decoder_convs=1, dropout=0.5, "
    "dropout_kind='element')"
)


def checkerboard(like: Tensor) -> Tensor:
    """(h, w) bool for maps (..., h, w): True where row + column is odd."""
    rows, columns = (torch.arange(side, device=like.device) for side in like.shape[-2:])
    return (rows[:, None] + columns) % 2 == 1


def merged(first: Features, second: Features) -> Features:
    """Features of two images on a checkerboard: those of the first on its odd cells, of the second on the others."""
    pairs = zip(first.levels, second.levels)
    return Features(tuple(torch.where(checkerboard(a), a, b) for a, b in pairs))


@float32
def sureness(logits: Tensor, plateau: float) -> Tensor:
    """(B, H, W) weights in [0, 1]: 1 for the surer pixels of an image, falling to 0 at its most uncertain one.

    The entropy is stretched to [0, 1] over each image, v is 1 less it; the weight is v / plateau, at most 1.
    """
    p = logits.softmax(1)
    h = -(p * (p + 1e-8).log()).sum(1)
    low, high = h.amin((1, 2), keepdim=True), h.amax((1, 2), keepdim=True)
    v = 1 - (h - low) / torch.where(high > low, high - low, 1.0)
    return torch.where(v >= plateau, 1.0, v / max(plateau, 1e-8))


class Mean(nn.Module):
    """The mean of both logits of a network that sees one image: what is evaluated."""

    def __init__(self, net: SegNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return sum(both(self.net, self.net.encode(image).ends, image.shape[-2:])) / 2


def both(net: SegNet, features: Features, size: torch.Size) -> Pair:
    """The logits of the two heads."""
    fused = net.fuse(features).map
    return net.classify(fused, size).logits, net.branch("second", fused, size)


class USCS(Method):
    """Uncertainty-guided self cross supervision (Zhang et al., ACCV 2022, arXiv 2203.05118).

    Idea: cross supervision needs two different predictions, not two networks: one network with two heads gets the
    features of two images, mixed on a checkerboard, and each head answers for one of them. Such heads are weaker than
    networks, so their labels are weighted by the entropy. What it adds to `cps`: half of the parameters less, and the
    weights.

    Equations; k = 0, 1 and l the other one; e the encoder, C the checkerboard (at both levels that the decoder reads):
        f(a, b) = heads 0 and 1 of C e(a) + (1 - C) e(b);   f(a) = f(a, a): features unmixed, both heads see all
        z_0, z_1 = f(u), in train mode without gradient
        with probability `different`:  u_k = u mixed by a box and a permutation of its own, z'_l = z_l mixed likewise;
                                       q_0, q_1 = f(u_0, u_1);   o_0, o_1 = f(x, x')
        else:                          one box and permutation for all;  q = f(u_0);  o = f(x), x' = x
        Y_k = argmax z'_k;   w_k = min(v_k / plateau, 1), v_k = 1 - entropy of z'_k stretched to [0, 1] over the image
        L_u = sum(w_1 CE(q_0, Y_1)) / sum(w_1) + sum(w_0 CE(q_1, Y_0)) / sum(w_0)
        L = CE(o_0, y) + CE(o_1, y') + weight L_u
    x' are further labelled images: the stream x has two per step for each of u. Padding counts, as released; no
    threshold, no ramp. Both heads are added, not averaged.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; the paper's heads have one 3x3 convolution (`decoder_convs=1`).
        different: probability of two different inputs.
        plateau: of the weights, in (0, 1].
        weight: of L_u.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Semi-Supervised Semantic Segmentation with Uncertainty-guided Self Cross Supervision",
        venue="ACCV",
        year=2022,
        authors="Zhang et al.",
        arxiv="2203.05118",
        code="https://github.com/meitounao110/USCS-pytorch",
        extends=("cps",),
        parity="golden",
    )
    views = ViewPlan(x=Stream("labelled", batch=2.0), u=Stream("unlabelled", masks=(beta_box(2, 2), beta_box(2, 2))))
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 320, "scale": (0.5, 2.0), "short": 400},
            "method": {"net": NET},
            "fit": {"epochs": 52, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 2,
            "epochs": {"1_16": 48, "1_8": 52, "1_4": 60, "1_2": 90},
            "evaluation": "voc",
            "differs": [
                "evaluation: centre crops of 320, of images resized to that shorter side, the best of three outputs "
                "there; whole images, the mean of both heads here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        different: float = 0.6,
        plateau: float = 0.5,
        weight: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.student.heads["second"] = self.student.decoder.branch()
        self.different, self.plateau, self.weight = different, plateau, weight
        self.supervised = criterion(supervised)

    def pair(self, a: Tensor, b: Tensor) -> Pair:
        """Logits of two batches of images, looked at together."""
        e_a, e_b = self.student.encode(torch.cat([a, b])).ends.split(len(a), len(b))
        return both(self.student, merged(e_a, e_b), a.shape[-2:])

    def same(self, image: Tensor) -> Pair:
        """Logits of both heads for one batch of images."""
        return both(self.student, self.student.encode(image).ends, image.shape[-2:])

    def teach(self, view: Views) -> Pair:
        with evaluating(self.student):
            return self.same(view.weak)

    def pseudo_labels(self, evidence: Pair, view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found = []
        for logits in evidence:
            confidence, label = logits.softmax(1).max(1)
            found.append(PseudoLabels(label, confidence, sureness(logits, self.plateau), view.valid))
        return dict(zip(NAMES, found))

    def probabilities(self, evidence: Pair) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        with torch.no_grad():  # in train mode, so this forward counts in the BN statistics
            z_0, z_1 = self.same(u.weak)
        orders = [torch.randperm(len(u), device=u.weak.device) for _ in u.masks]
        (m_0, p_0), (m_1, p_1) = zip(u.masks, orders)
        half = len(x) // 2
        if random.random() < self.different:
            u_0, u_1 = paste(m_0, u.weak[p_0], u.weak), paste(m_1, u.weak[p_1], u.weak)
            z_1, z_0 = paste(m_0, z_1[p_0], z_1), paste(m_1, z_0[p_1], z_0)
            q_0, q_1 = self.pair(u_0, u_1)
            o_0, o_1 = self.pair(x.weak[:half], x.weak[half:])
            y_0, y_1 = x.label[:half], x.label[half:]
        else:
            u_0 = u_1 = paste(m_0, u.weak[p_0], u.weak)
            z_0, z_1 = (paste(m_0, z[p_0], z) for z in (z_0, z_1))
            q_0, q_1 = self.same(u_0)
            o_0, o_1 = self.same(x.weak[:half])
            y_0 = y_1 = x.label[:half]
        everywhere = replace(u, valid=torch.ones_like(u.valid))  # padding counts
        of_0, of_1 = self.pseudo_labels((z_0, z_1), everywhere, clock).values()
        l_u = pixel_ce(q_0, of_1, over="weight") + pixel_ce(q_1, of_0, over="weight")
        losses = Losses(x0=self.supervised(o_0, y_0), x1=self.supervised(o_1, y_1), u=(l_u, self.weight))
        losses.see(weak=u.weak, mixed=u_0).see(NAMES[1], target=of_1, student=q_0)
        return losses.see(NAMES[0], mixed=u_1, target=of_0, student=q_1)

    def predictors(self) -> dict[str, nn.Module]:
        return {"mean": Mean(self.student), "head 0": self.student}
