"""RC2L: labels are regions, masks with a class, and student and teacher must agree region by region.

A reconstruction: the paper's code is not published. Known are the four losses, the network, the stop-gradient.
Unsure: every constant (T, the weights, tau, the decay, the number of queries), the merging of masks, which regions
are negatives of features, CutMix (none here). And on purpose otherwise: the pixel decoder is DeepLabV3+'s, whose
classifier is taken out; losses are of the last transformer layer alone, masks are compared at stride 4; and
pairs are matched greedily, the cheapest first, not by the least sum, which would have to ask the device.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import Masked, MaskHead, Regions, copy_of, ema, evaluating, make, regions_of, warm
from ...nets.segnet import resize
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels, zero_of
from ..lengths import Length
from ..parts.contrast import members, shrink
from ..parts.precision import float32
from ..parts.regions import class_loss, costs, dice, mask_loss, masked_nce, match
from ..parts.roles import Group, pictured, slots, tell

PAPER_HEAD = {"queries": 100, "dim": 256, "layers": 6}
MASKFORMER = {"optimiser": "adamw", "lr": 1e-5, "head": 10.0, "weight_decay": 1e-4, "clip": 0.01}
UNSURE = ["unsure: crop, batch, length, lr, weight_decay, clip: the paper's are not known; MaskFormer's or the field's"]


class Targets(NamedTuple):
    """Regions to be found: `classes` (B, T) long, `masks` (B, T, P) of 0 and 1, `there` (B, T) bool, `features`
    (B, T, D) of unit length."""

    classes: Tensor
    masks: Tensor
    there: Tensor
    features: Tensor


@float32
def pooled(map: Tensor, masks: Tensor) -> Tensor:
    """(B, T, D) of unit length: means of a map (B, D, h, w) weighted by masks (B, T, P)."""
    total = masks @ map.flatten(2).mT
    return F.normalize(total / masks.sum(2, keepdim=True).clamp(min=1e-6), dim=2)


def merged(masks: Tensor, classes: Tensor, count: int) -> Tensor:
    """(B, K, P): the union, the largest value, of the masks (B, N, P) of each class; 0 without any. classes (B, N)."""
    belongs = F.one_hot(classes, count + 1)[..., :count].bool()
    return torch.stack([(masks * belongs[:, :, k, None]).amax(1) for k in range(count)], 1)


class RC2L(Method):
    """Region-level contrastive and consistency learning for semi-supervised semantic segmentation (Zhang et al., IJCAI
    2022).

    Idea: pixels are many and unsure, regions few and whole. A network that answers with masks and a class for each, as
    MaskFormer does, can be supervised region by region: a student's mask must be more like its own region of the
    teacher than like the others, its feature more than those of other classes, its class the same, and all masks of a
    class together the same. What it adds to `mean_teacher`: such a network, and these four terms for the pixels' one.

    Equations; f, t student and teacher, N queries with mask m, class logits c and feature r = mean of the pixel map
    over the mask, of unit length; i runs over the teacher's regions: queries whose class is an object's, with a
    probability of `tau` at least, m_i = mask above 1/2; s(i) the student's query matched to i:
        x: one region for each class in the image; L_x = CE(c, class, or no object with weight 0.1)
            + 20 focal(m_s(i), m_i) + 1 - dice(m_s(i), m_i)
        masks    -log(e^(d_ii / T) / sum over j of the image of e^(d_ij / T)),   d_ij = dice(m_s(i), m_j)
        features -log(e^(r_s(i) r_i / T) / (the same + sum of e^(r_s(i) r_j / T) over j of other classes)), batch-wide
        classes  CE as in L_x, of images with a region
        semantic 1 - dice of the union of the student's masks of a class and the teacher's
        L = L_x + a_1 masks + a_2 features + a_3 classes + a_4 semantic;   t <- d t + (1 - d) f
    The matching looks at -probability + 20 focal + 1 - dice, without gradient. Student and teacher see the same pixels,
    so masks can be compared. Evaluated is sum over queries of softmax(c) sigmoid(m).

    Cost: B N P mask values at stride 4 (26 million for 16 crops of 512 and 100 queries), B N^2 costs.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; its classifier is taken out.
        queries: N; at least as many as classes.
        dim, layers: of the queries' transformer.
        tau: probability from which a query of the teacher is a region.
        temperature: T. weights: a_1 to a_4.
        warmup: share of the training, or passes, with labels alone.
        decay: of the teacher.
        clip: largest norm of the gradient where the set-up names none: without one a step of SGD can throw the masks,
            products of two features, so far that they never come back.
    """

    card = Card(
        family="contrastive",
        title="Region-level Contrastive and Consistency Learning for Semi-Supervised Semantic Segmentation",
        venue="IJCAI",
        year=2022,
        authors="Zhang et al.",
        arxiv="2204.13314",
        extends=("mean_teacher",),
        parity="reconstruction",
    )
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,)))
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512},
            "method": {"net": "resnet101c", **PAPER_HEAD},
            "fit": {"epochs": 80, "batch": 16, **MASKFORMER},
            "evaluation": "voc",
            "source": "reconstruction: rates and network of MaskFormer's own code (facebookresearch/MaskFormer)",
            "differs": UNSURE,
        },
        "cityscapes": {
            "task": {"crop": 768},
            "method": {"net": "resnet101c", **PAPER_HEAD},
            "fit": {"epochs": 240, "batch": 16, **MASKFORMER},
            "evaluation": "cityscapes",
            "source": "reconstruction: rates and network of MaskFormer's own code (facebookresearch/MaskFormer)",
            "differs": UNSURE,
        },
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        queries: int = 100,
        dim: int = 64,
        layers: int = 3,
        tau: float = 0.5,
        temperature: float = 0.1,
        weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0),
        warmup: Length = 0.1,
        decay: float = 0.99,
        clip: float = 1.0,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        decoder = self.student.decoder
        norm = "group" if any(isinstance(m, nn.GroupNorm) for m in decoder.modules()) else "batch"
        number = max(queries, self.classes)
        head = MaskHead(decoder.fused_channels, self.classes, number, dim, layers, norm=norm)
        for name in decoder.classifies:
            setattr(decoder, name, nn.Identity())
        self.student.heads["masks"] = head
        self.teacher = copy_of(self.student)
        self.tau, self.temperature, self.weights = tau, temperature, weights
        self.warmup, self.decay, self.clip = warmup, decay, clip

    def teach(self, view: Views) -> Tensor:
        """The logarithm of the probabilities that the queries add up to."""
        with evaluating(self.teacher):
            return Masked(self.teacher)(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        """What the regions say pixel by pixel, for looking at: trained on are the regions themselves."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        own = regions_of(self.student, x.weak)
        losses = Losses(x=self.supervise(own, x.label))
        names = ("masks", "features", "classes", "semantic")
        if clock.since(self.warmup) < 0:
            for name, weight in zip(names, self.weights):
                losses.add(name, zero_of(own.masks), weight)
            return losses
        target = self.pseudo_labels(self.teach(u), u, clock)
        with evaluating(self.teacher):
            goal = self.regions(regions_of(self.teacher, u.weak))
        found = regions_of(self.student, u.strong[0])
        pictured(found.masks.shape[-2:], u.strong[0])
        *terms, each = self.agree(found, goal)
        for name, term, weight in zip(names, terms, self.weights):
            losses.add(name, term, weight)
        shown = resize(each.unflatten(1, found.masks.shape[-2:])[:, None], u.weak.shape[-2:], False)[:, 0]
        return losses.see(weak=u.weak, mixed=u.strong[0], target=target, loss=shown)

    def supervise(self, own: Regions, label: Tensor) -> Tensor:
        """L_x; images without a known pixel do not count."""
        y = shrink(label, own.masks.shape[-2:])
        masks = torch.stack([members(image.flatten(), self.classes) for image in y]).float()
        wanted = torch.arange(self.classes, device=y.device).expand(len(y), -1)
        there = masks.any(2)
        m, s = self.matched(own, wanted, masks, there)
        return class_loss(own.classes, wanted, s, there, there.any(1)) + mask_loss(m, masks, there)

    @staticmethod
    def matched(own: Regions, wanted: Tensor, masks: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Mask logits (B, T, P) of the queries matched to the targets, and which these are, (B, T)."""
        flat = own.masks.flatten(2)
        s = match(costs(own.classes, flat, wanted, masks), there)
        return flat.gather(1, s[:, :, None].expand(-1, -1, flat.shape[2])), s

    @torch.no_grad()
    def regions(self, found: Regions) -> Targets:
        """The teacher's regions."""
        sure, classes = found.classes.softmax(2).max(2)
        masks = (found.masks.flatten(2) > 0).float()
        there = (classes < self.classes) & (sure >= self.tau) & masks.any(2)
        return Targets(classes, masks, there, pooled(found.map, masks))

    def agree(self, found: Regions, goal: Targets) -> tuple[Tensor, ...]:
        """The four terms, and (B, P) what every pixel adds to the last one."""
        m, s = self.matched(found, goal.classes.clamp(max=self.classes), goal.masks, goal.there)
        p = m.sigmoid()
        others = torch.ones(s.shape[1], s.shape[1], dtype=torch.bool, device=s.device)
        masks = masked_nce(dice(p, goal.masks) / self.temperature, others, goal.there)
        r, wanted, there = pooled(found.map, p).flatten(0, 1), goal.classes.flatten(), goal.there.flatten()
        alike = r @ goal.features.flatten(0, 1).mT / self.temperature
        features = masked_nce(alike, wanted[:, None] != wanted, there)
        tell(lambda: self.roles(r, goal, p))
        classes = class_loss(found.classes, goal.classes, s, goal.there, goal.there.any(1))
        semantic, each = self.together(found, goal)
        return masks, features, classes, semantic, each

    def roles(self, r: Tensor, goal: Targets, p: Tensor) -> dict[str, Group]:
        """Who takes part in the second term: regions, each marked where the student's mask is surest inside."""
        batch, _, cells = p.shape
        pixel = ((p * goal.masks).argmax(2) + cells * torch.arange(batch, device=p.device)[:, None]).flatten()
        label = goal.classes.where(goal.there, VOID).flatten()
        return slots(r, goal.features.flatten(0, 1), label, self.classes, pixel)

    def together(self, found: Regions, goal: Targets) -> tuple[Tensor, Tensor]:
        """The fourth term, and what every pixel adds to it."""
        mine = merged(found.masks.flatten(2).sigmoid(), found.classes.argmax(2), self.classes)
        theirs = merged(goal.masks, goal.classes.where(goal.there, self.classes), self.classes)
        present = theirs.any(2)
        size = (mine.sum(2) + theirs.sum(2)).clamp(min=1e-6)
        apart = (mine + theirs - 2 * mine * theirs) / size[:, :, None] * present[:, :, None]
        return apart.sum() / present.sum().clamp(min=1), apart.sum(1)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        return {"main": replace(recipe, nets=[self.student], clip=recipe.clip or self.clip)}

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step))

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": Masked(self.student), "teacher": Masked(self.teacher)}
