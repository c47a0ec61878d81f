"""DGCL: features in sparse regions of their class are drawn to a centre that is made of dense ones.

As released: class 0 is left out on Cityscapes, too, where it is road (`first=0` mends it). Not as released: t is
not copied anew through the first epoch after the warm-up; an empty memory has no density, that of the release a 0
too much.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import Features, SegNet, copy_of, ema, make, warm
from ...nets.layers import conv_block
from ...nets.psp import without_psp
from ...views import Batch, Stream, ViewPlan, Views, half_box, paste, weak
from ..base import Card, Clock, Losses, PseudoLabels, zero_of
from ..lengths import Length
from ..parts.banks import Queues
from ..parts.contrast import members, rows, shrink
from ..parts.draws import by_coin
from ..parts.losses import Criterion, ce, criterion, entropy, labelled_terms, upweighted_ce
from ..parts.quantile import percentiles
from ..parts.roles import Group, apart, pictured, prototypes, tell
from ..parts.schedules import linear
from ..parts.sparsity import Chosen, density, masked_contrast, spread
from ..parts.teachers import AveragedTeacher

PAPER_NET = "resnet101c(multi_grid=(2, 4, 8), aspp_kernel=3, dropout=0.1)"
CITYSCAPES_NET = (
    "resnet101c(output_stride=8, multi_grid=(4, 8, 16), aspp_rates=(12, 24, 36), aspp_kernel=3, dropout=0.1, aux=True)"
)
CONTRAST = {"contrast": 0.5, "bank": 10_000, "fresh": 1000, "least": 1000, "half": True}


class Forward(NamedTuple):
    """One forward of the student with its head, at stride 4."""

    logits: Tensor  # (B, K, h, w)
    f: Tensor  # (B, D, h, w), what the classifier's last layer reads; no gradient
    z: Tensor  # (B, D, h, w), its projection
    features: Features


class DGCL(AveragedTeacher):
    """Hunting sparsity: density-guided contrastive learning (Wang et al., CVPR 2023).

    Idea: within a class's cluster of features some lie close together and some far out; those far out are what the
    network has not learned yet. So the density around each feature, its cosines to its nearest neighbours in a memory
    of the class, says what becomes an anchor (sparse) and what makes up the centre (dense). What it adds to
    `mean_teacher`: the memory with the contrast, CutMix, percentiles of the entropy as in `u2pl`.

    Equations; f the student, t the teacher in train mode, r = progress since the warm-up, h the entropy of t(u):
        y = argmax t(u), kept: h < its percentile 100 - drop (1 - r);   in half of the steps u, y get a box of the next
        L_u = BHW/n * mean over the n kept pixels of CE(f(mixed), y)
        at stride 4, over x and clean u: labels of x; of u argmax t where h is at most its percentile
            100 - max(80 (1 - r), 10);   e = embedding of f, z = its projection
        density of a pixel of class c: mean over k = 8, 16, 32 of the mean of the k largest cosines of e to c's memory
        per class c present, from `first` on:
            anchors: z of the `low` pixels of least density
            centre: mean of z of the `high` pixels of most density, and of the `high` z of the memory that had most
            negatives: z of `negatives` pixels of other classes, the same for all anchors of c
        L_c = mean over classes, mean over anchors of -log(e^(cos+/T) / (e^(cos+/T) + sum of e^(cos-/T)))
        L = CE(f(x), y_x) + weight * L_u + contrast * L_c;   t <- d t + (1 - d) f,   d = min(1 - 1/(k+1), decay)
        then each memory gets up to `fresh` rows of e, z and the density they enter with (0 while it holds `least` rows
        or fewer); the oldest make room
    L_c is 0 until every memory is full, which the rarest class decides. Only anchors' z get a gradient: e is a constant
    of the density, centres and negatives are constants. f sees x, u and mixed as one batch. Parameters alone are
    averaged; t fills its own BN buffers.

    Cost: at most `most` pixels of a class are looked at, evenly spread, where the release takes all: one table of
    `most` x `bank` cosines at a time (0.16 GB), and the memory, C bank (2 D + 1) values (0.2 GB for 21 classes, 1.5 GB
    for 150, in float16).

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; an auxiliary head (`aux=True`) is trained with weight `aux`.
        warmup: share of the training, or passes, that is supervised only.
        decay: of the teacher. drop: percentage of u that is dropped at first.
        weight, contrast: of L_u and L_c.
        first: first class that is contrasted.
        low, high, negatives: numbers of anchors, of dense features of either kind, of negatives. temperature: T.
        scales: the numbers of neighbours.
        most: pixels of a class whose density is asked for. bank: rows of a memory. fresh: most new rows per step.
        least: rows from which on a memory judges what enters. half: keep the memory in float16.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Hunting Sparsity: Density-Guided Contrastive Learning for Semi-Supervised Semantic Segmentation",
        venue="CVPR",
        year=2023,
        authors="Wang et al.",
        code="https://github.com/Gavinwxy/DGCL",
        extends=("mean_teacher", "u2pl"),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513},
            "method": {"net": PAPER_NET, **CONTRAST},
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "divided": "contrast",
            "evaluation": "voc/u2pl",
        },
        "cityscapes": {
            "task": {"crop": 769},
            "method": {
                "net": CITYSCAPES_NET, "warmup": 10 / 200, "supervised": "ohem(thresh=0.7, per_image=50000)", **CONTRAST
            },
            "fit": {"epochs": 200, "batch": 16, "lr": 1e-2, "head": 1.0},
            "processes": 8,
            "divided": "contrast",
            "evaluation": "cityscapes/u2pl",
        },
        "scenes": {"method": {"warmup": 0.2, "decay": 0.98, "bank": 500, "least": 50}},  # a short run forgets faster
        "camvid": {"method": {"warmup": 0.1, "decay": 0.99}},
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        warmup: Length = 1 / 80,
        decay: float = 0.999,
        drop: float = 20.0,
        weight: float = 0.5,
        contrast: float = 0.5,
        first: int = 1,
        low: int = 200,
        high: int = 50,
        negatives: int = 512,
        temperature: float = 0.5,
        scales: tuple[int, ...] = (8, 16, 32),
        most: int = 4096,
        bank: int = 1000,
        fresh: int = 200,
        least: int = 100,
        half: bool = False,
        aux: float = 0.4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = without_psp(make(net, task), "dgcl"), task.num_classes
        dim = self.student.decoder.embedding_channels
        self.student.heads["projection"] = nn.Sequential(conv_block(dim, dim, 1), nn.Conv2d(dim, dim, 1))
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it only looks
        self.memory = Queues([bank] * self.classes, 2 * dim + 1, torch.float16 if half else torch.float32)
        self.warmup, self.decay, self.drop, self.weight, self.contrast = warmup, decay, drop, weight, contrast
        self.first, self.low, self.high, self.negatives = first, low, high, negatives
        self.temperature, self.scales, self.most, self.fresh, self.least = temperature, scales, most, fresh, least
        self.aux, self.supervised = aux, criterion(supervised)
        view = weak(pad="mean", centred=True, halves=True)
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view, masks=(half_box(),)))

    def progress(self, clock: Clock) -> float:
        """Share of what follows the warm-up that is done."""
        return max(0, clock.since(self.warmup)) / max(1, clock.steps - clock.steps_of(self.warmup))

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        h = entropy(logits)
        (tau,) = percentiles(h, [linear(100 - self.drop, 100, self.progress(clock))], view.valid > 0)
        return PseudoLabels(label, confidence, (h < tau).float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        n, both = len(x), torch.cat([x.weak, u.weak])
        with torch.no_grad():
            t = self.teacher.decode(self.teacher.encode(x.weak if clock.since(self.warmup) < 0 else both)).logits
        if clock.since(self.warmup) < 0:  # the teacher's forward has fed its BN statistics
            own = self.through(self.student, x.weak)
            zero = zero_of(own.z)
            return self.supervise(own, x.label).add("u", zero, self.weight).add("contrast", zero, self.contrast)

        target = self.pseudo_labels(self.student.enlarge(t[n:], u.label.shape[-2:]), u, clock)
        box = by_coin(u.masks[0])
        mixed, target = (paste(box, next, own) for next, own in (
            (u.weak.roll(-1, 0), u.weak), (target.map(lambda map: map.roll(-1, 0)), target)))  # fmt: skip
        own = self.through(self.student, torch.cat([both, mixed]))
        z_u = self.student.enlarge(own.logits[len(both) :], u.label.shape[-2:])
        l_u = upweighted_ce(z_u, target)

        label = torch.cat([shrink(x.label, t.shape[-2:]), self.sure(t[n:], u.valid, clock)]).flatten()
        pictured(t.shape[-2:], both)
        l_c = self.sparse(*(rows(map[: len(both)]) for map in (own.f, own.z)), label)
        losses = self.supervise(own, x.label).add("u", l_u, self.weight).add("contrast", l_c, self.contrast)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z_u)

    def through(self, net: SegNet, image: Tensor) -> Forward:
        """One forward of a network with its projection head, at the decoder's stride."""
        features = net.encode(image)
        found = net.decode(features)
        return Forward(found.logits, found.embedding.detach(), net.heads["projection"](found.embedding), features)

    def supervise(self, own: Forward, label: Tensor) -> Losses:
        """The terms of the first images of a forward, those that (B, H, W) labels are of."""
        z_x = self.student.enlarge(own.logits[: len(label)], label.shape[-2:])
        return labelled_terms(self.supervised, z_x, label, self.student, own.features, self.aux)

    def sure(self, logits: Tensor, valid: Tensor, clock: Clock) -> Tensor:
        """(B, h, w) labels of unlabelled pixels at stride 4, 255 where the teacher's entropy is high."""
        h, real = entropy(logits), shrink(valid, logits.shape[-2:]) > 0
        (tau,) = percentiles(h, [100 - max(linear(80, 0, self.progress(clock)), 10)], real)
        return logits.argmax(1).where(real & (h <= tau), VOID)

    def sparse(self, f: Tensor, z: Tensor, label: Tensor) -> Tensor:
        """L_c of features (N, D) and their labels (N,); then the memory takes what is new."""
        belongs = members(label, self.classes)
        pixels = spread(belongs, self.most)
        others = spread((label != VOID) & ~belongs, self.negatives)
        low, high = min(self.low, self.most), min(self.high, self.most)
        dense, anchors, real, centres, near = [], [], [], [], []
        every, constant = torch.arange(self.memory.largest, device=z.device), z.detach()
        with torch.no_grad():
            for k, (index, here) in enumerate(zip(*pixels)):
                e, stored, before = self.memory.take(k, every).tensor_split([f.shape[1], f.shape[1] + z.shape[1]], 1)
                d = density(f[index], e, self.memory.count[k], self.scales)
                least = d.masked_fill(~here, torch.inf).topk(low, largest=False).indices
                densest = d.masked_fill(~here, -torch.inf).topk(high).indices
                remembered = before[:, 0].topk(min(self.high, len(before))).indices
                several = torch.cat([constant[index[densest]].float() * here[densest, None], stored[remembered]])
                dense.append(torch.where(self.memory.count[k] > self.least, d, 0.0))
                anchors.append(index[least])
                real.append(here[least])
                near.append((index[densest], here[densest], stored[remembered]))
                centres.append(several.sum(0) / (here[densest].sum() + len(remembered)))
        real, present, full = torch.stack(real), pixels.real.any(1), (self.memory.count == self.memory.capacity).all()
        present = present & (torch.arange(self.classes, device=z.device) >= self.first)
        used = (present & full)[:, None]
        anchor = z.index_select(0, torch.cat(anchors)).unflatten(0, (self.classes, -1))
        negative = constant[others.index]
        terms = masked_contrast(anchor, real, torch.stack(centres), negative, others.real, self.temperature)
        tell(lambda: self.roles(constant, label, torch.stack(anchors), real, near, torch.stack(centres), others, used))
        self.remember(f, constant, pixels.index, pixels.real, torch.stack(dense))
        loss = torch.where(present, terms, 0.0).sum() / present.sum().clamp(min=1)
        return torch.where(full, loss, 0.0)

    @staticmethod
    def roles(
        z: Tensor,
        label: Tensor,
        anchors: Tensor,
        real: Tensor,
        near: list[tuple[Tensor, ...]],
        centres: Tensor,
        others: Chosen,
        used: Tensor,
    ) -> dict[str, Group]:
        """Who takes part in L_c: of the dense features those of the batch are pixels, those of the memory none."""
        densest, here, stored = (torch.stack(parts) for parts in zip(*near))
        positive = apart(z[densest], here & used, densest), apart(stored, used.expand(stored.shape[:2]))
        return {
            "anchor": apart(z[anchors], real & used, anchors),
            "positive": Group(*map(torch.cat, zip(*positive))),
            "negative": apart(z[others.index], others.real & used, others.index, label[others.index]),
            "prototype": prototypes(centres * used),
        }

    def remember(self, f: Tensor, z: Tensor, index: Tensor, real: Tensor, dense: Tensor) -> None:
        """Of the chosen pixels (K, n) up to `fresh` of each class go into the memory, evenly spread."""
        place, new = spread(real, self.fresh)
        index, d = index.gather(1, place).flatten(), dense.gather(1, place).flatten()
        offered = torch.eye(self.classes, dtype=torch.bool, device=f.device).repeat_interleave(self.fresh, 1)
        found = torch.cat([f[index].float(), z[index].float(), d[:, None]], 1)
        self.memory.write(found, offered & new.flatten())

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, max(0, clock.since(self.warmup))), buffers="none")
