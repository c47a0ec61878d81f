"""PC2Seg: a strong view must give the weak one's answer, and features that tell a pixel from those of other classes.

Partly a reconstruction: the paper publishes no code. Its abstract and figures say the two losses, the shared
network, the head on an internal level, and four ways to draw negatives; two re-implementations agree on other
images, Gumbel noise and T = 0.07. Unsure: which view holds the anchors (here the strong one, and negatives are of
the weak one), whether both do, the number of negatives (200 or 50), the depth of the head, the weights, the ramp.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets import evaluating, make
from ...nets.segnet import resize
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.contrast import NONE, members, rows, shrink
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.roles import Group, among, pictured, tell
from ..parts.schedules import sigmoid_ramp


@float32
def other_class(p: Tensor, anchor: Tensor, image: Tensor) -> Tensor:
    """(A, N) how probable it is that an anchor and a pixel are of two classes, 1 - p_i . p_j; 0 in the anchor's image.

    Args:
        p: (N, C) class probabilities of pixels. anchor: (A,) long, which of them. image: (N,) long, of which image.
    """
    apart = (1 - p[anchor] @ p.T).clamp(min=0)
    return apart.masked_fill(image[anchor][:, None] == image, 0.0)


@float32
def draw_negatives(weight: Tensor, number: int, uniform: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Pixels drawn for each anchor without replacement, with probabilities as the weights: Gumbel noise on their
    logarithms, the largest are taken.

    Args:
        weight: (A, N), not negative. number: to be drawn, M. uniform: (A, N) in (0, 1) instead of own draws.

    Returns:
        (A, M) long, and (A, M) bool: False where an anchor has no more pixels of a weight.
    """
    uniform = torch.rand_like(weight) if uniform is None else uniform
    noise = -(-uniform.clamp(1e-7, 1 - 1e-7).log()).log()
    score, index = (weight.log() + noise).topk(min(number, weight.shape[1]), dim=1)
    return index, score > -torch.inf


@float32
def pixel_contrast(anchor: Tensor, positive: Tensor, negative: Tensor, real: Tensor, temperature: float) -> Tensor:
    """(A,) -log of the positive's share among it and the real negatives; 0 where there are none.

    Args:
        anchor, positive: (A, D). negative: (A, M, D), all of unit length. real: (A, M) bool.
    """
    near = (anchor * positive).sum(1, keepdim=True)
    far = torch.einsum("ad,amd->am", anchor, negative)
    logits = torch.cat([near / temperature, (far / temperature).masked_fill(~real, NONE)], 1)
    return -logits.log_softmax(1)[:, 0]


class PC2Seg(Method):
    """Pixel contrastive-consistent semi-supervised semantic segmentation (Zhong et al., ICCV 2021).

    Idea: consistency in label space makes features smooth, but may make them all alike; contrast in feature space keeps
    them apart. Both come from the same two views: a pixel's answer and its feature in the strong view follow those of
    the weak view. The trouble with contrast is that most pixels of a batch are of the anchor's own class, so negatives
    are drawn by the probability that they are not. What it adds to `pseudo_label`: no threshold, soft answers, the
    contrast.

    Equations; f the network, w and s views of the same crop, g the projection of the encoder's last level, unit length:
        p_w, p_s = softmax f(w(u)), softmax f(s(u)), p_w without gradient
        L_cons = mean over valid pixels of |p_s - p_w|^2, summed over classes
        of each image `anchors` pixels i of that level; for each of them N pixels j of OTHER images, drawn without
            replacement, by the weights 1 - p_w,i . p_w,j
        L_con = mean over i of -log(e^(g_s,i g_w,i / T) / (e^(g_s,i g_w,i / T) + sum over j of e^(g_s,i g_w,j / T)))
        L = CE(f(x), y_x) + ramp * (cons * L_cons + contrast * L_con);   g_w without gradient
    There is no teacher: the stop-gradient on the weak view takes its place. With features all alike L_con is
    log(1 + N). A batch of one image has no negatives, and no contrast.

    Cost: A B^2 h w weights (9 million for 8 images, 128 anchors each, of 33 x 33 cells), A B N negatives of 128.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        cons, contrast: weights of L_cons and L_con, which rise over `ramp`, a share of the training.
        anchors: of each image at most. negatives: N. temperature: T. dim: of the projection.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Pixel Contrastive-Consistent Semi-Supervised Semantic Segmentation",
        venue="ICCV",
        year=2021,
        authors="Zhong et al.",
        arxiv="2108.09025",
        extends=("pseudo_label",),
        parity="reconstruction",
    )
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,)))
    recipes: ClassVar = {}

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        cons: float = 1.0,
        contrast: float = 0.1,
        ramp: float = 0.1,
        anchors: int = 128,
        negatives: int = 200,
        temperature: float = 0.07,
        dim: int = 128,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.student.heads["project"] = nn.Conv2d(self.student.backbone.channels[-1], dim, 1)
        self.cons, self.weight, self.ramp = cons, contrast, ramp
        self.anchors, self.negatives, self.temperature = anchors, negatives, temperature
        self.supervised = criterion(supervised)

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        p = logits.softmax(1)
        confidence, label = p.max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid, soft=p)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        (z_x, z_w), (_, g_w) = self.through(x.weak, u.weak)
        (z_s,), (g_s,) = self.through(u.strong[0])
        target = self.pseudo_labels(z_w.detach(), u, clock)
        apart = (z_s.float().softmax(1) - target.soft).square().sum(1)
        l_cons = pixel_mean(apart, target.weight, target.valid, over="valid")
        pictured(g_s.shape[-2:], u.strong[0])
        l_con = self.contrast(g_s, g_w.detach(), target.soft, u.valid)
        ramp = sigmoid_ramp(clock.progress, self.ramp)
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_cons, ramp * self.cons))
        losses.add("contrast", l_con, ramp * self.weight)
        return losses.see(weak=u.weak, mixed=u.strong[0], target=target, loss=apart * target.valid)

    def through(self, *images: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """One forward of several batches: their logits at image size, and their projections of unit length."""
        features = self.student.encode(torch.cat(images))
        z = self.student.decode(features, images[0].shape[-2:]).logits
        g = F.normalize(self.student.heads["project"](features.high).float(), dim=1)
        sizes = [len(image) for image in images]
        return z.split(sizes), g.split(sizes)

    def contrast(self, own: Tensor, weak: Tensor, p: Tensor, valid: Tensor, uniform: Tensor | None = None) -> Tensor:
        """L_con.

        Args: own, weak (B, D, h, w) of both views; p (B, C, H, W); valid (B, H, W); uniform of `draw_negatives`.
        """
        size, batch = own.shape[-2:], len(own)
        cells = size[0] * size[1]
        p, known = rows(resize(p, size, False)), shrink(valid, size).flatten() > 0
        image = torch.arange(batch, device=p.device).repeat_interleave(cells)
        drawn = torch.rand(batch, cells, device=p.device).topk(min(self.anchors, cells), dim=1).indices
        anchor = (drawn + cells * torch.arange(batch, device=p.device)[:, None]).flatten()
        index, real = draw_negatives(other_class(p, anchor, image) * known, self.negatives, uniform)
        f, w = rows(own), rows(weak)
        each = pixel_contrast(f[anchor], w[anchor], w[index], real, self.temperature)
        used = (known[anchor] & real.any(1)).float()
        tell(lambda: self.roles(f, w, p, anchor, index, real & (used > 0)[:, None]))
        return (each * used).sum() / used.sum().clamp(min=1)

    @staticmethod
    def roles(f: Tensor, w: Tensor, p: Tensor, anchor: Tensor, index: Tensor, real: Tensor) -> dict[str, Group]:
        """Who takes part in L_con, by the class that the weak view says: the positive is the pixel in that view."""
        label, far = p.argmax(1), torch.zeros_like(p.T, dtype=torch.bool)
        far[label[anchor][:, None].expand_as(index)[real], index[real]] = True
        drawn = torch.zeros_like(label, dtype=torch.bool)
        drawn[anchor[real.any(1)]] = True
        own = members(label, len(far)) & drawn
        return {"anchor": among(f, own), "positive": among(w, own), "negative": among(w, far, own=label)}

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student}
