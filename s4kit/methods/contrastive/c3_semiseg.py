"""C3-SemiSeg: labelled and unlabelled images are mixed, taken apart again and contrasted with each other.

Simplified: thresholds of several processes are averaged by the number of pixels, where the release gathers all;
labelled images are not rotated (by up to 10 degrees there); strong views have two operations of `Intensity`, whose
list lacks inversion, for two of RandAugment. From the release: it holds thresholds for 19 classes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import SegNet, copy_of, ema, evaluating, make, warm
from ...nets.psp import without_psp
from ...views import Batch, Chain, Intensity, Stream, Strong, ViewPlan, Views, half_box
from ..base import Card, Clock, Losses, Method, PseudoLabels, zero_of
from ..parts.contrast import nth, rows, shrink
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.processes import over_processes
from ..parts.roles import pictured, slots, tell
from ..parts.schedules import sigmoid_ramp
from ..parts.sparsity import spread

COLOURS = Chain(Strong(0.5, 0.5, 0.5, 0.25, jitter=1.0, grey=0.0, blur=0.0), Intensity(most=2, least=2))
NET = "resnet101(output_stride=8, aspp_rates=(12, 24, 36), freeze_bn=True)"


@float32
@torch.no_grad()
def class_quantiles(confidence: Tensor, label: Tensor, classes: int, share: float) -> tuple[Tensor, Tensor]:
    """(C,) for each class the int(n share)-th of its n confidences in falling order, any where n is 0; and n, (C,).

    Args:
        confidence, label: any shape; labels of C and more do not count.
    """
    confidence, label = confidence.flatten(), label.flatten().clamp(max=classes)
    falling = confidence.argsort(descending=True, stable=True)
    order = falling[label[falling].argsort(stable=True)]  # class by class, the surest first
    number = torch.zeros(classes + 1, dtype=torch.long, device=label.device).scatter_add_(0, label, label * 0 + 1)
    number = number[:classes]
    place = number.cumsum(0) - number + (number.double() * share).long()
    return confidence[order[place.clamp(max=len(order) - 1)]], number


@float32
def soft_ce(logits: Tensor, p: Tensor) -> Tensor:
    """(B, H, W) of (B, C, H, W) logits and probabilities: -1/C sum over classes of p log softmax."""
    return -(p * logits.log_softmax(1)).mean(1)


@float32
def slot_contrast(anchor: Tensor, key: Tensor, label: Tensor, real: Tensor, temperature: float) -> Tensor:
    """Mean over the real slots i of the mean over the other slots j of i's class of
    -log(e^(a_i k_j / T) / (e^(a_i k_j / T) + sum over the slots of other classes of e^(a_i k / T))), times T / 0.1.

    Args:
        anchor, key: (S, D) of unit length. label: (S,) long. real: (S,) bool, which slots are filled.
    """
    logits = anchor @ key.T / temperature
    same = label[:, None] == label
    positive = same & real & ~torch.eye(len(label), dtype=torch.bool, device=label.device)
    e = logits.exp()  # bounded: cosines over T
    others = (e * (~same & real)).sum(1, keepdim=True)
    far = (e + others).log() - logits
    each = (far * positive).sum(1) / positive.sum(1).clamp(min=1)
    return temperature / 0.1 * (each * real).sum() / real.sum().clamp(min=1)


class C3SemiSeg(Method):
    """Contrastive semi-supervised segmentation with cross-set learning and dynamic class-balancing (Zhou et al., ICCV
    2021).

    Idea: labelled and unlabelled features of a class should lie together, so anchors come from both sets and meet keys
    of both. CutMix crosses the sets, too, but predictions are taken apart again afterwards, so no label is ever mixed.
    And pseudo-labels are kept class by class, the surest 80 % of each. What it adds to `mean_teacher`: this mixing, the
    thresholds, the contrast.

    Equations; f the student, t the teacher, s strong colours, C classes:
        q = softmax(t(u)), y, c = argmax, max of q;   thr_k <- momentum thr_k + (1 - momentum) v_k, with v_k the
            int(0.8 n)-th of the n confidences of class k in falling order;   kept: valid and c >= thr_y
        images x and s(u) are paired at random, each pair with one box m of half the area: (m ? a : b, m ? b : a);
            logits and embedding are put back by the same exchange
        L_s = 1/C mean over kept of -sum over classes of q log softmax(f(s(u)))
        groups: (image, class k from 1 on) with more than `each` pixels, labelled k or kept with y = k; of them `each`
            are drawn, half where f is wrong and half where it is right, as far as there are
        L_c = `slot_contrast` of all of them: anchors f's embeddings, keys f's of x, t's of u, without gradient
        L = CE(f(x), y_x) + weight * ramp * L_s + contrast * ramp' * L_c;   ramps exp(-5 (1 - t)^2)
        t <- d t + (1 - d) f, BN statistics included,   d = min(1 - 1/(k+1), decay), k = steps since `start`
    Until `start` there are labels only; from `begin` on they are contrasted with themselves, the gradient going through
    anchors and keys. Class 0 is never contrasted. The embedding is two 1x1 convolutions on the encoder's last level.

    Cost: slots are `groups` times `each`, whatever the number of classes (groups beyond are left out, evenly), and
    some five tables of slots x slots (0.5 GB for 256 groups of 20).

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        share, momentum: of the thresholds, which start at 0.9.
        decay: of the teacher.
        weight, ramp: of L_s, and the share of the training over which it rises from `start` on.
        contrast: of L_c, which rises over a sixteenth of that from `begin` on.
        temperature: T. each: pixels of a group. groups: most groups at a time. dim: of the embedding.
        begin, start: shares of the training before the contrast of the labels, and before unlabelled images.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="C3-SemiSeg: Contrastive Semi-supervised Segmentation via Cross-set Learning and Dynamic Class-balancing",
        venue="ICCV",
        year=2021,
        authors="Zhou et al.",
        code="https://github.com/SIAAAAAA/C3-SemiSeg",
        extends=("mean_teacher", "cutmix"),
        parity="golden",
    )
    recipes: ClassVar = {
        "cityscapes": {
            "task": {"crop": 256, "size": 0.5, "scale": (1.0, 1.0)},
            "method": {"net": NET, "groups": 256, "supervised": "ce"},
            "fit": {
                "steps": 25_000,
                "batch": 16,
                "lr": 1.2e-5,
                "head": 10.0,
                "weight_decay": 5e-4,
                "optimiser": "adam",
            },
            "processes": 4,
            "evaluation": "cityscapes/whole",
            "differs": [
                "the network is DeepLabV2 there; DeepLabV3+ on the same backbone here",
                "crop: 256 x 512 there, 256 x 256 here",
                "length: 100 epochs of 4,000 images there, the same 25,000 steps here",
            ],
        },
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        share: float = 0.8,
        momentum: float = 0.9,
        decay: float = 0.99,
        weight: float = 50.0,
        ramp: float = 0.64,
        contrast: float = 0.1,
        temperature: float = 0.15,
        each: int = 20,
        groups: int = 64,
        dim: int = 256,
        begin: float = 0.01,
        start: float = 0.1,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = without_psp(make(net, task), "c3_semiseg"), task.num_classes
        width = self.student.backbone.channels[-1]
        self.student.heads["project"] = nn.Sequential(nn.Conv2d(width, dim, 1), nn.ReLU(), nn.Conv2d(dim, dim, 1))
        self.teacher = copy_of(self.student)
        self.register_buffer("thresholds", torch.full((self.classes,), 0.9))
        self.share, self.momentum, self.decay = share, momentum, decay
        self.weight, self.ramp, self.contrast, self.temperature = weight, ramp, contrast, temperature
        self.slots, self.begin, self.start, self.supervised = (groups, each), begin, start, criterion(supervised)
        box = (half_box(),)
        self.views = ViewPlan(x=Stream("labelled", masks=box), u=Stream("unlabelled", strong=(COLOURS,), masks=box))

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.teacher):
            return self.teacher(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        q = logits.softmax(1)
        confidence, label = q.max(1)
        return PseudoLabels(label, confidence, (confidence >= self.thresholds[label]).float(), view.valid, soft=q)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        if clock.since(self.start) < 0:
            z, e = self.through(self.student, x.weak)
            pictured(e.shape[-2:], x.weak)
            l_c = self.cross(e, e, x.label, z) if clock.since(self.begin) >= 0 else zero_of(e)
            losses = Losses(x=self.supervised(self.student.enlarge(z, x.label.shape[-2:]), x.label), u=zero_of(z))
            return losses.add("contrast", l_c, self.rise(clock))

        with evaluating(self.teacher):
            t_u, key_u = self.through(self.teacher, u.weak)
        logits = self.student.enlarge(t_u, u.label.shape[-2:])
        self.follow(*logits.softmax(1).max(1), u.valid)
        target = self.pseudo_labels(logits, u, clock)

        both, n = torch.cat([x.weak, u.strong[0]]), len(x)
        partner = self.draw_partners(len(both), both.device)
        first = torch.minimum(partner, torch.arange(len(both), device=both.device))
        own = ~torch.cat([x.masks[0], u.masks[0]])[first]  # a pair has one box
        mixed = exchange(both, own, partner)
        z, e = (exchange(t, shrink(own, t.shape[-2:]), partner) for t in self.through(self.student, mixed))
        z_x, z_u = self.student.enlarge(z, x.label.shape[-2:]).split([n, len(u)])

        l_u = pixel_mean(soft_ce(z_u, target.soft), target.weight, target.valid, over="kept")
        kept = target.label.where(target.weight * target.valid > 0, VOID)
        key = torch.cat([e[:n].detach(), key_u])
        pictured(e.shape[-2:], both)
        l_c = self.cross(e, key, torch.cat([x.label, kept]), z)
        ramp = sigmoid_ramp(clock.since(self.start) / clock.steps, self.ramp)
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight * ramp))
        losses.add("contrast", l_c, self.rise(clock))
        shown = soft_ce(z_u, target.soft) * target.weight * target.valid
        return losses.see(weak=u.weak, mixed=mixed[n:], target=target, loss=shown)

    def rise(self, clock: Clock) -> float:
        """The weight of L_c."""
        return self.contrast * sigmoid_ramp(max(0, clock.since(self.begin)) / clock.steps, self.ramp / 16)

    def through(self, net: SegNet, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at stride 4 and the embedding of the last level, of unit length."""
        features = net.encode(image)
        e = F.normalize(net.heads["project"](features.high).float(), dim=1)
        return net.decode(features).logits, e

    @staticmethod
    def draw_partners(number: int, device: torch.device) -> Tensor:
        """(number,) long: who is paired with whom; of an odd number one is alone."""
        order, half = torch.randperm(number, device=device), number // 2
        partner = order.clone()
        partner[order[:half]], partner[order[half : 2 * half]] = order[half : 2 * half], order[:half]
        partner[order[2 * half :]] = order[2 * half :]
        return partner

    @torch.no_grad()
    def follow(self, confidence: Tensor, label: Tensor, valid: Tensor) -> None:
        """Move the thresholds by the confidences of a batch, the average of all processes; a class that nobody
        predicts keeps its own."""
        value, number = class_quantiles(confidence, label.where(valid > 0, VOID), self.classes, self.share)
        total, pixels = over_processes(value * number), over_processes(number)
        moved = self.momentum * self.thresholds + (1 - self.momentum) * total / pixels.clamp(min=1)
        self.thresholds.copy_(torch.where(pixels > 0, moved, self.thresholds))

    def cross(self, e: Tensor, key: Tensor, label: Tensor, logits: Tensor, index: Tensor | None = None) -> Tensor:
        """L_c of embeddings and keys (B, D, h, w), labels (B, H, W) and the student's logits (B, K, ., .).

        Args: index (groups, each), pixels of all images, instead of drawn ones; -1 = of no group.
        """
        size = e.shape[-2:]
        y = shrink(label, size)
        wrong = self.student.enlarge(logits.detach(), size).argmax(1) != y
        if index is None:
            index = self.draw_groups(y.flatten(1), wrong.flatten(1))
        real = (index >= 0).flatten()
        flat = index.clamp(min=0).flatten()
        anchor, near, of = rows(e)[flat], rows(key)[flat], y.flatten()[flat]
        tell(lambda: slots(anchor, near, of.where(real, VOID), self.classes, flat))
        return slot_contrast(anchor, near, of, real, self.temperature)

    @torch.no_grad()
    def draw_groups(self, label: Tensor, wrong: Tensor) -> Tensor:
        """(groups, each) long: pixels, counted over all images (B, P); -1 in rows of no group."""
        most, each = self.slots
        batch, pixels = label.shape
        number = torch.zeros(batch, self.classes + 1, dtype=torch.long, device=label.device)
        number = number.scatter_add_(1, label.clamp(max=self.classes), torch.ones_like(label))[:, 1 : self.classes]
        which, real = (t[0] for t in spread((number > each).flatten()[None], most))
        image, k = which // (self.classes - 1), which % (self.classes - 1) + 1
        own, hard = label[image] == k[:, None], wrong[image]
        kinds, drawn = (own & hard, own & ~hard), torch.rand(most, pixels, device=label.device)
        count = [kind.sum(1, keepdim=True) for kind in kinds]
        of_hard = torch.minimum(count[0], (each - count[1]).clamp(min=each // 2))
        chosen = torch.zeros_like(own)
        for kind, wanted in zip(kinds, (of_hard, each - of_hard)):
            chosen |= kind & (torch.where(kind, drawn, 2.0).argsort(1).argsort(1) < wanted)
        index = nth(chosen, torch.arange(each, device=label.device).expand(most, -1)) + image[:, None] * pixels
        return torch.where(real[:, None], index, -1)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, max(0, clock.since(self.start))))

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}


def exchange(map: Tensor, own: Tensor, partner: Tensor) -> Tensor:
    """Each image of (B, C, h, w) where `own` (B, h, w), its partner elsewhere; done twice it is undone."""
    return torch.where(own[:, None], map, map[partner])
