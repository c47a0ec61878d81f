"""CAC: two overlapping crops; what both show shall have the same features in either context.

From the release: negatives are chosen by the anchor's label; what goes into the bank may be padding, or seen by one
crop only; its epoch is 1157 steps whatever the split; its bank is not in the checkpoint, here it is. The stabilising
maximum is over 8000 vectors there, over all here. It counts positions per GPU (6400 on two for VOC, 16,200 on four
for Cityscapes: all there are), here they are of the whole batch; where it has fewer than `samples` the bank reaches
further back. Its dropout is active in all of this: each crop has a mask of its own, and so has what compares their
confidences. Cityscapes is scored on whole images, as there. Its blur is 5 x 5 pixels wide, here a Gaussian of 1.1
pixels.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...nets import evaluating, make
from ...nets.psp import without_psp
from ...nets.segnet import resize
from ...views import Batch, Geometry, Stream, Strong, ViewPlan, Views, align, overlapping, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, zero_of
from ..parts.banks import Queues
from ..parts.contrast import rows
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.processes import number_of_processes

JITTER = Strong(0.4, 0.4, 0.4, 0.1, jitter=1.0, grey=0.0, blur=0.0)
COLOURS = Strong(0.4, 0.4, 0.4, 0.1, jitter=0.8, grey=0.2, blur=0.5, sigma=(1.1, 1.1))
PAPER_NET = "resnet50(multi_grid=(2, 4, 8), dropout=(0.5, 0.5, 0, 0.1), dropout_kind='element')"
DIFFERS = [
    "ResNet-50; of the paper's ResNet-101 runs the bank holds three steps (keep=3)",
    "scored images are padded by reflection to multiples of 8 there, not here",
]
FIT = {"steps": 80 * 1157, "batch": 8, "head": 10.0, "weight_decay": 1e-4}


def draw_positions(number: int, wanted: int, device: torch.device) -> Tensor:
    """(n,) long: `wanted` of `number` positions without replacement, all of them where there are fewer, in random
    order."""
    return torch.randperm(number, device=device)[:wanted]


@float32
def pull(anchor: Tensor, positive: Tensor, label: Tensor, bank: Tensor, bank_label: Tensor, heat: float) -> Tensor:
    """-log of the positive's share among itself and the bank's vectors of other classes, anchor by anchor.

    The sum over the bank is taken in parts of one image, with its gradient in closed form, so that no table of all
    anchors and all vectors is kept for the backward pass.

    Args:
        anchor: (B, D, h, w) of unit length; the only one that gets a gradient. positive: like it.
        label: (B, h, w), the anchors' classes. bank: (M, D). bank_label: (M,), -1 = no vector.
        heat: temperature T.

    Returns:
        (B, h, w) loss.
    """
    near = (anchor * positive.detach()).sum(1) / heat
    summed, top = [], []
    for own, y, s in zip(anchor.flatten(2).mT, label.flatten(1), near.detach().flatten(1)):
        with torch.no_grad():
            score = own @ bank.T / heat
            other = (bank_label != y[:, None]) & (bank_label >= 0)
            most = torch.maximum(torch.where(other, score, -torch.inf).amax(1), s)
            share = torch.where(other, (score - most[:, None]).exp(), 0.0)
            slope = share @ bank / heat
        summed.append(share.sum(1) + ((own - own.detach()) * slope).sum(1))  # the sum, and its gradient
        top.append(most)
    far, most = torch.stack(summed).view_as(near), torch.stack(top).view_as(near)
    own = (near - most).exp()
    return -(own / (own + far + 1e-8) + 1e-8).log()


class CAC(Method):
    """Semi-supervised semantic segmentation with directional context-aware consistency (Lai et al., CVPR 2021).

    Idea: cut two overlapping crops from an image; the pixels that both show have different surroundings and should yet
    have the same features. The less sure of the two is pulled to the surer one and away from pixels of other classes.
    What it adds to `pseudo_label`: context as the perturbation, and a consistency of features instead of labels, which
    only choose the negatives.

    Equations; s_1, s_2 two crops of u with colours and flip of their own, e the features before the last 1x1
    convolution, halved by averaging (stride 8), P a projection, sg = no gradient, T the temperature:
        f_k = e(s_k);   g_k = P(f_k) / |P(f_k)|;   c_k, y_k = max, argmax of softmax(classifier(f_k)), sg
        bank <- (g_k, y_k) at `samples` random positions of each crop, the last `keep` steps, this one included, sg
        l_1 = -log( e^(g_1 sg(g_2) / T) / (e^(g_1 sg(g_2) / T) + sum over bank b with y_b != y_1 of e^(g_1 b / T)) )
        m_1 = 1[both crops show the place] 1[c_2 > tau] 1[c_1 < c_2];   L_1 = sum m_1 l_1 / sum m_1;   L_2 in mirror
        L = CE(f(w(x)), y_x) + weight * (L_1 + L_2), the second term from `start` of the training on
    The classifier learns from labels alone. With equal crops nothing is selected: c_1 < c_2 is strict.

    The crops' offset is a multiple of 8, so that the cells of both maps fall on each other; crops of other sizes than
    multiples of 8 are aligned to the nearest cell.

    The explorer's pseudo-labels are those of one image by itself, kept above tau. A pair of crops is trained on where
    the OTHER crop is above tau and surer: that is the loss shown under "crop u" and "crop v".

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence that the positive must exceed.
        weight: of L_1 + L_2.
        temperature: T.
        samples: positions of each crop that enter the bank in a step, from all processes together.
        keep: steps that the bank holds.
        start: share of the training without the second term.
        dim: of the projection.
        scale: random resize of the unlabelled images; None = the task's.
        jitter: labelled images get other colours, too (the paper's Cityscapes).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Semi-supervised Semantic Segmentation with Directional Context-aware Consistency",
        venue="CVPR",
        year=2021,
        authors="Lai et al.",
        arxiv="2106.14133",
        code="https://github.com/dvlab-research/Context-Aware-Consistency",
        extends=("pseudo_label",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 320, "scale": (0.4, 1.6)},  # 0.5 to 2 times 400, of longer sides of 500
            "method": {"net": PAPER_NET, "samples": 12_800, "scale": (0.64, 1.6)},
            "fit": {"lr": 1e-3, **FIT},
            "processes": 2,
            "evaluation": "voc",
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 720},
            "method": {"net": PAPER_NET, "samples": 64_800, "keep": 1, "scale": (0.8, 2.0), "jitter": True},
            "fit": {"lr": 1e-2, **FIT},
            "processes": 4,
            "evaluation": "cityscapes/whole",
            "differs": DIFFERS,
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.75,
        weight: float = 0.1,
        temperature: float = 0.1,
        samples: int = 400,
        keep: int = 2,
        start: float = 5 / 80,
        dim: int = 128,
        scale: tuple[float, float] | None = None,
        jitter: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = without_psp(make(net, task), "cac")
        width = self.student.decoder.embedding_channels
        self.student.heads["project"] = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, dim, 1))
        self.tau, self.weight, self.temperature, self.samples = tau, weight, temperature, samples
        self.start, self.supervised = start, criterion(supervised)
        self.bank = Queues([2 * samples * keep], dim + 1)  # the label stands behind the vector
        first = Geometry(scale=tuple(scale) if scale else None, pad="mean")
        self.views = ViewPlan(
            x=Stream("labelled", weak(pad="mean"), strong=(JITTER,) if jitter else ()),
            u=Stream("unlabelled", weak=first, strong=(COLOURS,)),
            v=Stream("unlabelled", weak=overlapping(pad="mean"), strong=(COLOURS,), of="u"),
        )

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence > self.tau).float(), view.valid)

    def features(self, image: Tensor) -> Tensor:
        """(B, F, h, w) at half the decoder's size, stride 8."""
        return F.avg_pool2d(self.student.decode(self.student.encode(image)).embedding, 2)

    def remember(self, crops: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Put some of each crop's vectors (B, D, h, w) and labels (B, h, w) into the bank; returns all it holds."""
        for g, y in crops:
            rest = torch.cat([rows(g.detach().float()), y.flatten()[:, None].float()], 1)
            chosen = rest[draw_positions(len(rest), -(-self.samples // number_of_processes()), g.device)]
            self.bank.write(chosen, torch.ones(1, len(chosen), dtype=torch.bool, device=g.device))
        index = torch.arange(len(self.bank.rows) - 1, device=self.bank.rows.device)
        held = self.bank.take(0, index)
        return held[:, :-1], torch.where(index < self.bank.count, held[:, -1], -1.0)

    def contrast(self, features: list[Tensor], views: tuple[Views, Views]) -> list[tuple[Tensor, Tensor]]:
        """(l_k, m_k), each (B, h, w), of the features of both crops."""
        g = [F.normalize(self.student.heads["project"](f).float(), dim=1) for f in features]
        with torch.no_grad():
            c, y = zip(*(self.student.decoder.classifier(f).float().softmax(1).max(1) for f in features))
            real = [F.interpolate(w.valid[:, None], c[0].shape[-2:], mode="area")[:, 0] >= 1 for w in views]
        bank, bank_label = self.remember(list(zip(g, y)))
        terms = []
        for one, two in ((0, 1), (1, 0)):
            positive, inside = align(g[two], views[two], views[one])
            surer, shown = (align(t, views[two], views[one])[0] for t in (c[two], real[two]))
            l_k = pull(g[one], positive, y[one], bank, bank_label, self.temperature)
            terms.append((l_k, (inside & shown & real[one] & (surer > self.tau) & (c[one] < surer)).float()))
        return terms

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        image = x.strong[0] if x.strong else x.weak
        losses = Losses(x=self.supervised(self.student(image), x.label))
        if clock.since(self.start) < 0:
            zero = zero_of(*self.student.heads["project"].parameters())
            return losses.add("u", zero, self.weight).add("v", zero, self.weight)
        terms = self.contrast([self.features(crop.strong[0]) for crop in (u, v)], (u, v))
        for name, view, (l_k, m_k) in zip(("u", "v"), (u, v), terms):
            losses.add(name, pixel_mean(l_k, m_k, torch.ones_like(m_k), over="weight"), self.weight)
            shown = resize((l_k * m_k).detach()[:, None], view.weak.shape[-2:], align_corners=False)[:, 0]
            losses.see(f"crop {name}", weak=view.weak, mixed=view.strong[0], loss=shown)
        return losses
