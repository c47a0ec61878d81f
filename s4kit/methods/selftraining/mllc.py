"""MLLC: graphs over the pixels correct labels by alike features, features by alike labels, and teach the plain head.

From the release: the map that says which pixels are of one class has its axes mixed up; here it is as meant. The file
of its prototypes is missing, all three updates go to the first bank. The paper's contrastive loss is missing.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import evaluating, make
from ...nets.segnet import SegNet, resize
from ...views import Batch, Stream, Strong, ViewPlan, Views, paste, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..lengths import Length
from ..parts.contrast import shrink
from ..parts.graphs import class_graph, semantic_graph, settled_pixels, spread
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.masks import draw_class_mask
from ..parts.processes import over_processes
from ..parts.prototypes import Prototypes, cosine_map

COLOURS = Strong(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.25, grey=0.0, sigma=(0.15, 1.15))
NET = "resnet101(output_stride=8, aspp_rates=(12, 24, 36), freeze_bn='affine')"
SHARP = 10.0  # of the cosines with the prototypes


class Level(NamedTuple):
    """Logits (B, C, h, w) and features (B, D, h, w) behind a number of graph layers."""

    logits: Tensor
    features: Tensor


class GraphLayer(nn.Module):
    """One correction of logits and features; no gradient goes through the graphs.

    Args:
        classes, dim: channels of the logits and of the features. neighbours: of a pixel in the semantic graph.
        level: confidence from which a pixel is settled.
    """

    def __init__(self, classes: int, dim: int, neighbours: int, level: float) -> None:
        super().__init__()
        self.neighbours, self.level = neighbours, level
        self.labels = nn.Sequential(nn.Conv2d(classes, classes, 1), nn.Conv2d(classes, classes, 1))
        self.features = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1))

    def mixed(self, z: Tensor, f: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits with those of alike pixels, 80 % of them where a pixel is not settled, 20 % where it is; and where it
        is."""
        settled = settled_pixels(z, seen, self.level)
        new = torch.where(settled, 0.2, 0.8)[:, None]
        return new * spread(semantic_graph(f, self.neighbours), z) + (1 - new) * z, settled

    def forward(self, at: Level, seen: Tensor) -> Level:
        z, _ = self.mixed(at.logits, at.features, seen)
        f = spread(class_graph(z, at.logits), at.features)
        return Level(self.labels(z), self.features(f))


class MLLC(Method):
    """Multi-level label correction by distilling proximate patterns (Xiao et al., IEEE TMM 2024, arXiv 2404.02065).

    Idea: a wrong label often stands among pixels that look alike and are labelled right. A graph over alike features
    corrects labels, a graph over alike labels corrects features; two such layers make better labels, which teach the
    plain head of the same network, the only one that is needed afterwards. What it adds to `pseudo_label` with strong
    views: the correction; nothing is left out by a threshold.

    Equations; z_0, f_0 logits and features of the plain head on a grid, a layer makes z_{k+1}, f_{k+1} of z_k, f_k:
        A: cosines of features, negative ones 0, the largest neighbours + 1 of each row; A + A^T; D^-1/2 A D^-1/2
        z' = w A z + (1 - w) z,   w = 0.2 where settled, else 0.8;    z_{k+1} = two 1x1 convolutions of z'
        B: cosines of softmax z' between pixels with equal argmax z, balanced likewise
        f_{k+1} = convolution, ReLU, convolution of B f
        settled: max softmax z >= level, or >= level u_c / max u,  u_c the pixels so far that z_0 was sure are of c
        x: L_x = sum over k = 0, 1, 2 of CE(z_k(x), y)
        u: y, p = argmax, max of softmax z_2(w(u)), no gradient;   v = share of pixels with p >= sure
           L_u = v sum over k of the mean over all pixels of CE(z_k(s(u)), y)
        from `late` on: L_p = sum over k, x and u of CE(10 cos(f_k, prototypes of k), label on the grid)
        L = L_x + weight L_u + prototypes L_p
    The prototypes are running means of their class's features, one bank for each level. The labels come from the
    network's own graphs; its average is used for nothing in the release, and left out here.

    Cost: two graphs over all pairs of cells in either layer: of 33 x 33 cells little, the memory grows with the fourth
    power of the side.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        neighbours, level: see `GraphLayer`. layers: of them.
        cells: the grid has so many pixels of the decoder's maps along a side of its cells.
        sure: confidence of the pixels whose share weighs L_u.
        weight, prototypes: of L_u and L_p. late: share of the training before L_p; or passes, see `lengths`.
        mix: half of the classes of the next image of the batch are pasted over u (ClassMix).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="Multi-Level Label Correction by Distilling Proximate Patterns for Semi-supervised Semantic Segmentation",
        venue="IEEE TMM",
        year=2024,
        authors="Xiao et al.",
        arxiv="2404.02065",
        code="https://github.com/1181110317/MLLC",
        extends=("pseudo_label", "classmix"),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", weak(pad="mean")), u=Stream("unlabelled", weak(pad="mean"), strong=(COLOURS,))
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": tuple(k / 10 for k in range(5, 17))},
            "method": {"net": NET, "cells": 2},
            "fit": {"steps": 160000, "batch": 10, "lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4},
            "processes": 1,
            "selection": "last",
            "evaluation": "voc",
            "differs": [
                "the network is DeepLabV2 there, pretrained on COCO, DeepLabV3+ with ImageNet weights here",
                "scale: (0.5, 1.6) there, one of twelve: (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6) "
                "here, as its code draws",
            ],
        },
        "cityscapes": {
            "task": {"crop": 256, "scale": (1.0, 1.0), "size": 0.5},
            "method": {"net": NET, "cells": 2, "mix": True, "supervised": "ce"},
            "fit": {"steps": 16000, "batch": 2, "lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4},
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "differs": [
                "the network is DeepLabV2 there, pretrained on COCO, DeepLabV3+ with ImageNet weights here",
                "crop: (256, 512) there, 256 here: crops are square",
                "unsure: length: 16000 steps stand beside a warm-up of 100000 in its file, which may be a slip",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        layers: int = 2,
        neighbours: int = 20,
        level: float = 0.95,
        cells: int = 2,
        sure: float = 0.968,
        weight: float = 1.0,
        prototypes: float = 0.1,
        late: Length = 1 / 80,
        mix: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        dim = self.student.decoder.embedding_channels
        self.graphs = nn.ModuleList(GraphLayer(self.classes, dim, neighbours, level) for _ in range(layers))
        self.banks = nn.ModuleList(Prototypes(self.classes, dim) for _ in range(layers + 1))
        self.register_buffer("seen", torch.zeros(self.classes))  # sure pixels of each class so far
        self.level, self.cells, self.sure, self.mix = level, cells, sure, mix
        self.weight, self.prototypes, self.late, self.supervised = weight, prototypes, late, criterion(supervised)

    def levels(self, image: Tensor) -> list[Level]:
        """The plain head and what the graphs make of it, all on the grid; first the plain head's own logits."""
        net, found = self.student, self.student.decode(self.student.encode(image))
        f = F.avg_pool2d(found.embedding, self.cells, ceil_mode=True) if self.cells > 1 else found.embedding
        at = [Level(found.logits, f)]
        level = Level(net.decoder.classifier(f).float(), f.float())
        for layer in self.graphs:
            level = layer(level, self.seen)
            at.append(level)
        return at

    def teach(self, view: Views) -> Tensor:
        """Logits behind the last graph layer, at the image's size."""
        with evaluating(self.student, self.graphs):
            return full(self.levels(view.weak)[-1].logits, view.weak, self.student)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        share = (confidence >= self.sure).float().mean()
        return PseudoLabels(label, confidence, share.expand_as(confidence), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        with torch.no_grad():  # in train mode
            said = full(self.levels(u.weak)[-1].logits, u.weak, self.student)
        target, mixed = self.pseudo_labels(said, u, clock), u.strong[0]
        if self.mix:
            own = draw_class_mask(target.label, self.classes)
            mixed, target = (paste(own, t, t.roll(-1, 0)) if isinstance(t, Tensor) else
                             paste(own, t, t.map(lambda m: m.roll(-1, 0))) for t in (mixed, target))  # fmt: skip
        on_x, on_u = self.levels(x.weak), self.levels(mixed)
        l_x = sum(self.supervised(full(level.logits, x.weak, self.student), x.label) for level in on_x)
        z_u = [full(level.logits, mixed, self.student) for level in on_u]
        l_u = sum(pixel_ce(z, target, over="all") for z in z_u)
        losses = Losses(x=l_x, u=(l_u, self.weight))
        l_p = self.near_prototypes(on_x, x.label) + self.near_prototypes(on_u, target.label)
        losses.add("prototypes", l_p, self.prototypes if clock.since(self.late) >= 0 else 0.0)
        self.learn(on_x, on_u, x.label, target.label)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_u[0])

    def near_prototypes(self, levels: list[Level], label: Tensor) -> Tensor:
        """Each feature is to be nearest to the prototype of its class; those of classes without one are left out."""
        total = 0.0
        for level, bank in zip(levels, self.banks):
            cells = shrink(label, level.features.shape[-2:])
            there = bank.moves[cells.clamp(max=self.classes - 1)] > 0
            total = total + ce(SHARP * cosine_map(level.features, bank.mean), cells.where(there, VOID))
        return total

    @torch.no_grad()
    def learn(self, on_x: list[Level], on_u: list[Level], label: Tensor, target: Tensor) -> None:
        """Move the prototypes, and count what the plain head is sure of."""
        for own, other, bank in zip(on_x, on_u, self.banks):
            f = torch.cat([own.features, other.features]).detach()
            cells = [shrink(y, of.features.shape[-2:]) for y, of in ((label, own), (target, other))]
            bank.learn(f, torch.cat(cells), 0.99)
        confidence, found = torch.cat([on_x[0].logits, on_u[0].logits]).softmax(1).max(1)
        counts = torch.zeros_like(self.seen).scatter_add_(
            0, found.flatten(), (confidence >= self.level).flatten().float()
        )
        self.seen += over_processes(counts)


def full(logits: Tensor, image: Tensor, net: SegNet) -> Tensor:
    """Logits (B, C, h, w) at an image's size: (B, C, H, W), float32."""
    return resize(logits.float(), image.shape[-2:], net.decoder.align_corners)
