"""PCR: a linear and a prototype classifier learn the same labels, so every pixel moves to a prototype of its class.

From the release, which evaluates alone: where its training is not known U2PL's is taken. How the teacher gets its
BN statistics is not known either.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...nets import copy_of, ema, make, warm
from ...nets.psp import without_psp
from ...views import Batch, Stream, ViewPlan, half_box, paste, weak
from ..base import Card, Clock, Losses, zero_of
from ..lengths import Length
from ..parts.banks import Queues
from ..parts.contrast import members
from ..parts.draws import by_coin
from ..parts.losses import Criterion, ce, criterion, labelled_terms, pixel_ce
from ..parts.prototypes import PrototypeSets
from ..parts.roles import Group, among, pictured, prototypes, tell
from ..parts.teachers import AveragedTeacher
from .u2pl import PAPER_NET

Places = tuple[Tensor, Tensor]  # rows and columns of pixels, (n,) long each
OHEM = "ohem(thresh=0.7, per_image=50000)"
DIFFERS = [
    "pad_label: 0 there, 255 (ignored) here: padding is not taught as background",
    "unsure: its training code is not released: the rate of the head, the division by the number of processes and the "
    "probability of mixing are those of U2PL, whose configuration its own extends",
    "unsure: whether the threshold or the percentage of its configuration chooses pseudo-labels; the threshold here",
]


def draw_grid(size: tuple[int, int], cells: int, device: torch.device) -> Places:
    """A pixel drawn from each of `cells` x `cells` equal cells; what is left over at the right and below is never seen.

    A side with fewer pixels than cells has as many cells as pixels.
    """
    along = []
    for side in size:
        number = min(cells, side)
        along.append((number, side // number))
    (rows, height), (columns, width) = along
    offset = torch.rand(2, rows, columns, device=device)
    row = torch.arange(rows, device=device)[:, None] * height + (offset[0] * height).long().clamp(max=height - 1)
    column = torch.arange(columns, device=device) * width + (offset[1] * width).long().clamp(max=width - 1)
    return row.flatten(), column.flatten()


def read(map: Tensor, places: Places, size: tuple[int, int], align_corners: bool) -> Tensor:
    """(B n, D) float32: what the map (B, D, h, w), enlarged bilinearly to `size`, holds at n pixels of each image."""

    def scaled(place: Tensor, side: int) -> Tensor:
        return 2 * place / max(side - 1, 1) - 1 if align_corners else (2 * place + 1) / side - 1

    grid = torch.stack([scaled(places[1], size[1]), scaled(places[0], size[0])], 1)[None, None]
    grid = grid.expand(len(map), -1, -1, -1).float()
    found = F.grid_sample(map.float(), grid, padding_mode="border", align_corners=align_corners)
    return found[:, :, 0].mT.flatten(0, 1)


class PCR(AveragedTeacher):
    """Semi-supervised semantic segmentation with prototype-based consistency regularization (Xu et al., NeurIPS 2022).

    Idea: labels spread from labelled to unlabelled pixels only if a class's features lie close together, and a linear
    classifier asks for nothing but the right side of a plane. A second classifier that knows each class by a few
    prototypes, taught the same labels, pulls every pixel to one of them. Prototypes are kept, not learned. What it adds
    to `mean_teacher`: the prototypes with their two terms, CutMix, a threshold.

    Equations; f the student, t the teacher, h the decoder's input features (before the classifier's convolutions):
        y, c = argmax, max of softmax(t(u)) in eval mode; in half of the steps image and labels get a box of the next
        kept: valid and c >= tau;   G: a pixel drawn from each cell of a grid x grid partition, the same for all images
        s_c(i) = max over the K prototypes of class c of cos(h(i), P_ck);   h enlarged to the image and read at G alone
        L = CE(f(x), y_x) + proto * mean over labelled i of G of CE(s(i) / T, y_x)
          + weight * (mean over kept of CE(f(mixed), y) + proto * mean over kept i of G of CE(s(i) / T, y))
        P_ck <- momentum P_ck + (1 - momentum) mean of h over the labelled or kept i of G with class c, nearest to P_ck
        t <- d t + (1 - d) f, BN statistics included,   d = min(1 - 1/(k+1), decay), k = steps since the warm-up
    In the warm-up the linear classifier learns from labels alone and t copies f; features of labelled pixels are put
    into one queue per class, and the prototypes begin as the K means of these. The gradient of s reaches the features,
    never a prototype, and passes the classifier's convolutions by. Features enter the prototypes as they are; lengths
    go within the cosine.

    Cost: features of 2 B grid^2 pixels (33 MB for 16 + 16 images), their cosines with C K prototypes, and `seeds` rows
    per class in float16 (5 MB).

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; an auxiliary head (`aux=True`) is trained with weight `aux`.
        tau: confidence from which a pseudo-label is kept.
        each: prototypes of a class, K. temperature: T. momentum: of the prototypes. grid: cells along a side.
        seeds: features per class from which the prototypes begin.
        warmup: share of the training, or passes, that is supervised only.
        decay: of the teacher.
        weight: of the unlabelled terms. proto: of the prototype terms.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Semi-supervised Semantic Segmentation with Prototype-based Consistency Regularization",
        venue="NeurIPS",
        year=2022,
        authors="Xu et al.",
        arxiv="2210.04388",
        code="https://github.com/HeimingX/semi_seg_proto",
        extends=("mean_teacher", "cutmix"),
        parity="golden",
        note="training reconstructed: the release evaluates alone",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513},
            "method": {"net": PAPER_NET.format(""), "supervised": OHEM},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 8,
            "evaluation": "voc/u2pl",
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 769},
            "method": {
                "net": PAPER_NET.format(", aux=True"), "supervised": OHEM, "each": 3, "tau": 0.65, "warmup": 1 / 200
            },
            "fit": {"epochs": 200, "batch": 16, "lr": 1e-2, "head": 1.0, "weight_decay": 5e-4},
            "processes": 8,
            "evaluation": "cityscapes/u2pl",
            "differs": DIFFERS,
        },
        # a short run forgets faster, and knows a rare class later: with a tenth of labels alone star is lost
        "scenes": {"method": {"decay": 0.98, "momentum": 0.95, "warmup": 0.2}},
        "camvid": {"method": {"warmup": 0.2}},
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.8,
        each: int = 4,
        temperature: float = 0.1,
        momentum: float = 0.99,
        grid: int = 32,
        seeds: int = 256,
        warmup: Length = 1 / 80,
        decay: float = 0.99,
        weight: float = 1.0,
        proto: float = 1.0,
        aux: float = 0.4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = without_psp(make(net, task), "pcr")
        self.teacher = copy_of(self.student)
        dim = self.student.decoder.fused_channels
        self.prototypes = PrototypeSets(task.num_classes, each, dim)
        self.seeds = Queues([seeds] * task.num_classes, dim, torch.float16)
        self.tau, self.temperature, self.momentum, self.grid = tau, temperature, momentum, grid
        self.warmup, self.decay, self.weight, self.proto, self.aux = warmup, decay, weight, proto, aux
        self.supervised = criterion(supervised)
        view = weak(pad="mean", centred=True, halves=True)
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view, masks=(half_box(),)))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        since, n, size = clock.since(self.warmup), len(x), x.label.shape[-2:]
        places = draw_grid(size, self.grid, x.label.device)
        seen = x.label[:, *places].flatten()  # labels of G
        if since < 0:
            losses, _, h = self.through(x.weak, x.label, places)
            self.seeds.write(h.detach(), members(seen, len(self.prototypes.mean)))
            return losses.add("x_proto", zero_of(h)).add("u", zero_of(h)).add("u_proto", zero_of(h))

        box = by_coin(u.masks[0])
        mixed, t_m, valid = (paste(box, t.roll(-1, 0), t) for t in (u.weak, self.teach(u), u.valid))
        target = self.pseudo_labels(t_m, replace(u, valid=valid), clock)
        losses, z, h = self.through(torch.cat([x.weak, mixed]), x.label, places)
        if clock.step == self.beginning(clock):  # there was no warm-up
            self.seeds.write(h[: len(seen)].detach(), members(seen, len(self.prototypes.mean)))

        kept = target.label.where(target.weight * target.valid > 0, VOID)[:, *places].flatten()
        pictured(size, x.weak, mixed)
        tell(lambda: self.roles(h, torch.cat([seen, kept]), places, size))
        s_x, s_u = self.near(h, torch.cat([seen, kept])).split([len(seen), len(kept)])
        losses.add("x_proto", ce(s_x, seen), self.proto)
        losses.add("u", pixel_ce(z[n:], target, over="kept"), self.weight)
        losses.add("u_proto", ce(s_u, kept), self.weight * self.proto)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z[n:])

    def through(self, image: Tensor, label: Tensor, places: Places) -> tuple[Losses, Tensor, Tensor]:
        """One forward of the student, of images of which the first have labels: their terms, all logits, and h at G."""
        size = label.shape[-2:]
        features = self.student.encode(image)
        map = self.student.fuse(features).map
        z = self.student.classify(map, size).logits
        losses = labelled_terms(self.supervised, z[: len(label)], label, self.student, features, self.aux)
        return losses, z, read(map, places, size, self.student.decoder.align_corners)

    def near(self, h: Tensor, known: Tensor) -> Tensor:
        """(N, K) logits of the prototype classifier on features (N, D); then moves the prototypes.

        Args: known (N,) long, 255 = not to be learned from.
        """
        score, match = self.prototypes.nearest(h)
        self.prototypes.average(h.detach(), known, match, self.momentum)
        return score / self.temperature

    def roles(self, h: Tensor, known: Tensor, places: Places, size: tuple[int, int]) -> dict[str, Group]:
        """Who takes part in the prototype terms: pixels of G; those of their class and of others are the prototypes."""
        cells, classes = places[0] * size[1] + places[1], len(self.prototypes.mean)
        image = torch.arange(len(known) // len(cells), device=cells.device)[:, None] * (size[0] * size[1])
        anchor = among(h, members(known, classes), (image + cells).flatten())
        return {"anchor": anchor, "prototype": prototypes(self.prototypes.mean)}

    def beginning(self, clock: Clock) -> int:
        """The step after which the prototypes begin."""
        return max(0, clock.steps_of(self.warmup) - 1)

    def after_step(self, clock: Clock) -> None:
        if clock.step == self.beginning(clock):
            every = torch.arange(self.seeds.largest, device=self.seeds.rows.device)
            held = torch.stack([self.seeds.take(k, every) for k in range(len(self.prototypes.mean))])
            self.prototypes.seed(held, self.seeds.count)
        ema(self.teacher, self.student, warm(self.decay, max(0, clock.since(self.warmup))))
