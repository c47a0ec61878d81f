"""RankMatch: UniMatch, and every pixel must order a few representative pixels in the same way in all views.

As released: padding takes part in L_c and nothing is masked by confidence; features are raw, not normalised, with
temperature 1. The paper also speaks of a plain agreement of likings; the release has the ranks alone, and so has
this class. Maps with fewer than M positions have them all as agents. The partner is an independent draw, see
`fixmatch`.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nets import Features, evaluating, feature_dropout
from ...views import Batch, paste
from ..base import Card, Clock, Losses
from ..parts.losses import Criterion, ce, pixel_ce
from ..parts.precision import float32
from ..parts.ranking import agents, likings, ranking_kl
from .unimatch import UniMatch


class RankMatch(UniMatch):
    """RankMatch: exploring the better consistency regularization (Mai et al., CVPR 2024).

    Idea: the views of a pixel should agree not only on its class but on how it relates to other pixels, which concerns
    unsure pixels, too. A few representative pixels ("agents") stand for the others, and what must agree is not how much
    a pixel likes each agent but in which order it likes them. What it adds to `unimatch` is the term L_c.

    Equations; L_x, L_1, L_2, L_fp as in `unimatch`; F the ASPP's map at the output stride, k = 1, 2 the strong views:
        F_w^k = shrunk(m_k ? enlarged F(w(v)) : enlarged F(w(u))), no gradient;   F_s^k = F(mixed_k)
        agents a_1 .. a_M of F_w^k: from a random pixel on, always the pixel least like (|cosine|) those chosen
        p_w(i, n) = softmax over n of F_w(i) . F_w(a_n);   p_s likewise of F_s at the same positions
        T = the R agents that p_w(i) likes best;   g = p restricted to T, for both
        r(pi) = product over j of g_pi(j) / (sum over l >= j of g_pi(l)), for each of the R! orderings pi of T
        L_c = mean over images, pixels and orderings of r_w (log r_w - log r_s)
        L = (L_x + L_1 / 4 + L_2 / 4 + L_fp / 2) / 2 + weight (L_c1 + L_c2) / 2
    Gradients reach the student's pixels and its agents. The mean over R! = 24 orderings makes L_c small by itself.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel counts in L_1, L_2, L_fp; 0 = all pixels (Cityscapes).
        drop: probability that a feature channel is dropped.
        agents: M. ranks: R; the orderings grow as R!.
        weight: of L_c.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="RankMatch: Exploring the Better Consistency Regularization for Semi-supervised Semantic Segmentation",
        venue="CVPR",
        year=2024,
        authors="Mai et al.",
        code="https://github.com/mai556/RankMatch",
        extends=("unimatch",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c", "tau": 0.95},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "tau": 0.0, "supervised": "ohem(thresh=0.7, per_image=100000)"},
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes",
        },
        "coco": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c", "tau": 0.95},
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
        drop: float = 0.5,
        agents: int = 64,
        ranks: int = 4,
        weight: float = 0.1,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, drop, supervised)
        self.agents, self.ranks, self.weight = agents, ranks, weight

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v, n = batch.x, batch.u, batch.v, len(batch.x)
        with evaluating(self.student):
            z_v, f_v = self.through(self.student.encode(v.weak), v.weak.shape[-2:])
        partner = self.pseudo_labels(z_v, v, clock)
        e = self.student.encode(torch.cat([x.weak, u.weak])).ends
        z, f = self.through(Features.cat([e, feature_dropout(e, self.drop)]), u.weak.shape[-2:])
        z_x, z_w, _, z_fp = z.split([n, len(u), n, len(u)])
        f_w = f[n : n + len(u)].detach()
        own = self.pseudo_labels(z_w.detach(), u, clock)
        mixed = [paste(m, s_v, s_u) for m, s_v, s_u in zip(u.masks, v.strong, u.strong)]
        target = [paste(m, partner, own) for m in u.masks]
        z, f = self.through(self.student.encode(torch.cat(mixed)), u.weak.shape[-2:])
        (z_1, z_2), f_s = z.chunk(2), f.chunk(2)
        l_1, l_2 = (pixel_ce(z, t, over="valid") for z, t in zip((z_1, z_2), target))
        l_fp = pixel_ce(z_fp, own, over="valid")
        c_1, c_2 = (self.rank_term(self.pasted(m, f_v, f_w), s) for m, s in zip(u.masks, f_s))
        losses = Losses(x=(self.supervised(z_x, x.label), 0.5), s1=(l_1, 0.125), s2=(l_2, 0.125), fp=(l_fp, 0.25))
        losses.add("c1", c_1, self.weight / 2).add("c2", c_2, self.weight / 2)
        losses.see(weak=u.weak, mixed=mixed[0], target=target[0], student=z_1)
        losses.see("second view", mixed=mixed[1], target=target[1], student=z_2)
        return losses.see("dropped features", mixed=u.weak, target=own, student=z_fp)

    def through(self, features: Features, size: torch.Size) -> tuple[Tensor, Tensor]:
        """Logits at image size, and F: the ASPP's map (B, D, h, w)."""
        fused = self.student.fuse(features)
        return self.student.classify(fused.map, size).logits, fused.context

    @torch.no_grad()
    def pasted(self, mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
        """F_w: features of two images (B, D, h, w), pasted at image size."""
        return paste_enlarged(mask, inside, outside, self.student.decoder.align_corners)

    def rank_term(self, weak: Tensor, strong: Tensor) -> Tensor:
        """L_c of one strong view, from two maps (B, D, h, w)."""
        weak, strong = (f.flatten(2).transpose(1, 2) for f in (weak, strong))
        chosen = agents(weak, min(self.agents, weak.shape[1]), self.first(weak))
        return ranking_kl(likings(weak, chosen), likings(strong, chosen), self.ranks)

    def first(self, features: Tensor) -> Tensor:
        """(B,) the random pixel from which the agents are chosen."""
        return torch.randint(features.shape[1], (len(features),), device=features.device)


@float32
def paste_enlarged(mask: Tensor, inside: Tensor, outside: Tensor, align_corners: bool) -> Tensor:
    """Maps (B, D, h, w) enlarged to the size of a mask (B, H, W), pasted and shrunk again, all bilinearly.

    Only what the shrinking reads of the enlarged maps is made, two rows and two columns for each place.
    """
    (up_y, y, weight_y), (up_x, x, weight_x) = (
        _taps(small, large, align_corners, mask.device) for small, large in zip(inside.shape[-2:], mask.shape[-2:])
    )
    read = (up_y.mT @ f @ up_x for f in (inside, outside))  # (B, D, 2 h, 2 w)
    read = paste(mask[:, y][:, :, x], *read) * weight_y[:, None] * weight_x
    return read.unflatten(3, (2, -1)).sum(3).unflatten(2, (2, -1)).sum(2)


def _taps(small: int, large: int, align_corners: bool, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of one side: the two places (2 small,) that shrinking from `large` to `small` reads for each of its own, their
    weights (2 small,), and the weights (small, 2 small) by which enlarging makes what is there."""
    up, down = (
        F.interpolate(torch.eye(n, device=device)[None], size=to, mode="linear", align_corners=align_corners)[0]
        for n, to in ((small, large), (large, small))
    )
    weight, place = down.topk(2, 0)
    return up[:, place.flatten()], place.flatten(), weight.flatten()
