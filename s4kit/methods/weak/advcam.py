"""AdvCAM: an image climbs in favour of each of its tags, and wherever its classifier looks on the way is the object.

From the release: its walk stops at edges that a network (IRN) learns from sure parts of the maps, sharpened with a
CRF, here colours stand for them; where textures have as many edges as objects, PAMR finds more. Its segmentation is
trained elsewhere. A factor of 2 that all its maps get falls out. There the momentum of the classifier is its weight
decay, by a slip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...errors import S4Error, closest
from ...nets import Tagger, evaluating, frozen, grad_cam, make
from ...nets.segnet import resize
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts import pamr
from ..parts.climbing import Climb, Rung, climbing
from ..parts.losses import Criterion, ce, criterion
from ..parts.precision import float32
from ..parts.present import allowed, located, tag_loss
from ..parts.random_walk import colour_edges, random_walk
from ..parts.rounds import KEPT, believed, hard, kept_of
from ..parts.schedules import poly

LOOK = "first look"
STRIDE = 4  # of the maps on which the walk goes
POWER = 1.5  # of the maps before the walk
ROUNDS = 10  # of PAMR
SPREADS = ("walk", "pamr")
LITE = "efficientnet_lite0(output_stride=8, freeze_bn=True, norm='group')"


def steps_at(scale: float, steps: int) -> int:
    """Steps of an image at a scale: a small one makes about half of them."""
    return steps if scale >= 1 else steps // 2 if steps > 10 else min(steps, 5)


@float32
def gathered(sums: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Maps (n, h_s, w_s) of several scales, added at one size; the largest value of each is 1, unless it is empty."""
    maps = sum(F.interpolate(m[None], size, mode="bilinear", align_corners=False)[0] for m in sums)
    return maps / (maps.amax((1, 2), keepdim=True) + 1e-5)


class AdvCAM(Method):
    """Anti-adversarially manipulated attributions for weakly and semi-supervised semantic segmentation (Lee et al.,
    CVPR 2021, arXiv 2103.08896). WEAK LABELS: it is told which classes are in each unlabelled image.

    Idea: a classifier looks at the one part of an object that suffices, so its maps are no masks. An attack that RAISES
    the score of a class makes other parts of the object count as well; so climb, step by step, and add the maps up. A
    term holds what is found already where it is, or that part alone would grow. The maps, carried up to the edges
    of the image, are masks, kept once and for all. What it adds to `label_noise`: where the masks come from.

    Equations; F the features and z = W F the maps of a classifier for K tags, x an image and its mirror image, c a tag:
        classifier:  BCE(mean over places of z, t)
        A(x) = sum over the pair of relu(sum_k w_k F_k);   w_k = sum over places of dS/dF_k / number of positive ones,
               S = sum over places of relu z_c
        J(x) = y_c - sum over k other than c of y_k - lambda sum over M |A(x) - A(x_0)|;   y = mean over places of relu
               z, M = where A(x) > tau max A(x), and A(x_0) held;  in A the gradient is that of F alone
        x <- x + xi grad J / max |grad J|, within the range of x;   A_c = sum over steps and scales of A, divided by its
               largest value; at scales below 1 half of the steps
        "walk":  e = 1 - exp(-colour difference to the left and above / `sharpness`) on maps of stride 4
               T_ij = (1 - largest e on the way from i to j)^power, nearer than `radius`; columns sum to 1
               A <- (A^1.5 (1 - e)) T^(2^`doublings`), divided by the largest value of all tags
        "pamr":  A <- PAMR of A on the image, as in `slrnet`, each divided by its largest value
        label: the tag with the largest A, the background where all are below `activation`
        L = CE of the human labels of x and of these labels of u, one mean over all pixels
    Stages: the classifier, on all images; the student.

    Cost: once, for each tag of each unlabelled image, two images forward and backward at each step of each scale (the
    tags of an image go together); the walk has a matrix of (H W / 16)^2, squared 8 times.

    Args:
        task: the data.
        net: network spec, see `nets.make`. classifier: whose backbone the classifier has; None = like it.
        steps, size, hold, found: T, xi (in normalised colours), lambda, tau.
        scales: at which images climb.
        spread: how maps are carried up to the edges, "walk" or "pamr".
        sharpness, radius, power, doublings: of the walk. dilations: of PAMR.
        activation: of a map, below which a pixel is background.
        sides: factors of the random resize of the classifier's images; they should show all of them.
        background: whether class 0 is what is left: always there, and not asked for.
        start: length of the classifier's stage, per step of the other; or passes, see `lengths`.
        rate: learning rate of the classifier, as a multiple.
        supervised: criterion of human labels and kept ones, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: unknown `spread`.
    """

    card = Card(
        family="weak",
        title="Anti-Adversarially Manipulated Attributions for Weakly and Semi-Supervised Semantic Segmentation",
        venue="CVPR",
        year=2021,
        authors="Lee et al.",
        arxiv="2103.08896",
        code="https://github.com/jbeomlee93/AdvCAM",
        extends=("one_weird_trick",),
        parity="golden",
        note="weak labels: tags of all images; edges of colours instead of a network's",
    )
    specs = ("net", "classifier")
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", maps=("label",)))
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512},
            "method": {
                "net": "resnet101", "classifier": "resnet50", "start": "5 epochs", "rate": 40.0, "sides": (0.64, 1.28),
            },
            "fit": {"steps": 30_000, "batch": 16, "lr": 2.5e-3, "head": 10.0},
            "evaluation": "voc",
            "selection": "last",
            "differs": [
                "head: CAM classifier (then IRN, then a segmentation network outside the repository) there, a "
                "classifier and DeepLabV3+ here",
                "backbone: resnet50 there, resnet101 here: of the segmentation; the classifier has the same",
                "length: 5 epochs of the classifier there, 30000 steps here, those of the segmentation and of as many "
                "epochs of the classifier",
                "edges of a network that learns them, and a CRF there, edges of colours here",
                "unsure: lr, schedule, batch: of the segmentation; the classifier's rate is 0.1",
                "optimiser: sgd without momentum for the classifier there, with 0.9 here",
            ],
        },
        "scenes": {
            "method": {
                "classifier": LITE, "steps": 8, "scales": (1.0,), "spread": "pamr", "dilations": (1, 2, 4),
                "activation": 0.6,
            },
        },
        **{name: {"method": {"background": False}} for name in ("cityscapes", "camvid", "ade20k")},
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        classifier: str | None = None,
        steps: int = 27,
        size: float = 0.08,
        hold: float = 7.0,
        found: float = 0.5,
        scales: Sequence[float] = (1.0, 0.5, 1.5, 2.0),
        spread: str = "walk",
        sharpness: float = 0.2,
        radius: int = 5,
        power: float = 10.0,
        doublings: int = 8,
        dilations: Sequence[int] = (1, 2, 4, 8, 12, 24),
        activation: float = 0.25,
        sides: tuple[float, float] = (0.5, 1.0),
        background: bool = True,
        start: Length = 1.0,
        rate: float = 1.0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if spread not in SPREADS:
            raise S4Error(f"spread={spread!r}. {closest(spread, SPREADS)}")
        self.student, self.classes = make(net, task), task.num_classes
        self.classifier = Tagger(make(classifier or net, task), self.classes - background, bias=False)
        self.how, self.scales, self.sides = Climb(steps, size, hold, found), tuple(scales), tuple(sides)
        self.spread, self.dilations = spread, tuple(dilations)
        self.sharpness, self.walk = sharpness, {"radius": radius, "power": power, "doublings": doublings}
        self.activation, self.background, self.skipped = activation, background, int(background)
        self.start, self.rate, self.supervised = start, rate, criterion(supervised)

    def stages(self) -> list[Stage]:
        plan = ViewPlan(c=Stream("all", weak(scale=self.sides), reveal="tags"))
        fall = poly(0.9)
        faster = None if self.rate == 1 else lambda clock: self.rate * fall(clock)
        return [
            Stage("classifier", self.start, self.tags, plan, train=(self.classifier,), schedule=faster),
            Stage("student", train=(self.student,), prepare=self.label),
        ]

    def tags(self, batch: Batch, clock: Clock) -> Losses:
        """The term of the first stage: the classifier learns the tags of all images."""
        return Losses(tags=tag_loss(self.classifier(batch.c.weak), batch.c.tags[:, self.skipped :]))

    # ---- seeds ----

    def label(self, sweep: Any) -> None:
        """Keep the labels of `seeds` of all unlabelled images."""
        for row, view in sweep.over("unlabelled", reveal="tags"):
            sweep.keep("label", row, self.seeds(view))

    def seeds(self, view: Views) -> Tensor:
        """(H, W) labels of one whole image."""
        tags = self.told(view)[0].nonzero()[:, 0]
        maps = torch.zeros(self.classes - self.skipped, *view.weak.shape[-2:], device=tags.device)
        if len(tags):
            carry = self.walked if self.spread == "walk" else self.smoothed
            maps[tags] = carry(self.climbed(view, tags), view)
        return located(maps[None], self.activation, self.background)[0]

    def told(self, view: Views) -> Tensor:
        """(B, K or K - 1) bool: tags of a view, without the background."""
        return allowed(view, self.classes, self.background)[:, self.skipped :]

    def climbed(self, view: Views, tags: Tensor) -> list[Tensor]:
        """Maps (n, h_s, w_s) of one image's tags, added up over the steps, at each scale."""
        return [sum(step.map for step in self.rungs(view, tags, scale)) for scale in self.scales]

    def rungs(self, view: Views, tags: Tensor, scale: float = 1.0) -> list[Rung]:
        """The steps of one image at a scale."""
        size = [max(1, round(side * scale)) for side in view.weak.shape[-2:]]
        image = view.weak if scale == 1 else F.interpolate(view.weak, size, mode="bicubic", align_corners=False)
        net, how = self.classifier, self.how._replace(steps=steps_at(scale, self.how.steps))
        pair = net.normalise(torch.cat([image, image.flip(-1)]))
        with evaluating(net), frozen(net):
            return list(climbing(net.features, net.last.weight.flatten(1).float(), tags, pair, how))

    def walked(self, sums: Sequence[Tensor], view: Views) -> Tensor:
        """(n, H, W): maps of one image's tags at several scales, after a walk; the largest value of all is 1."""
        size = view.weak.shape[-2:]
        maps = gathered(sums, tuple(-(-side // STRIDE) for side in size))
        edge = colour_edges(resize(view.weak, maps.shape[-2:], align_corners=False)[0], self.sharpness)
        spread = resize(random_walk(maps**POWER, edge, **self.walk)[None], size, align_corners=False)[0]
        return spread / spread.amax().clamp(min=1e-8)

    def smoothed(self, sums: Sequence[Tensor], view: Views) -> Tensor:
        """(n, H, W): the same by PAMR; the largest value of each is 1."""
        maps = gathered(sums, view.weak.shape[-2:])
        return gathered([pamr.refined(view.weak, maps[None], ROUNDS, self.dilations)[0]], view.weak.shape[-2:])

    # ---- the rule ----

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        """Where the classifier looks for each tag, (B, K or K - 1, H, W) in [0, 1], before any climbing; and the labels
        that were kept, 255 where there are none."""
        with evaluating(self.classifier):
            features = self.classifier.encode(view.weak)
        maps = grad_cam(features, self.classifier.last.weight.flatten(1), self.told(view).float())
        return resize(maps, view.weak.shape[-2:], align_corners=False), kept_of(view)

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        maps, kept = evidence
        behind = [torch.full_like(maps[:, :1], self.activation)] if self.background else []
        whole = torch.cat([*behind, maps], 1) + 1e-8
        return {LOOK: whole / whole.sum(1, keepdim=True), KEPT: hard(kept, self.classes)}

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        """What the classifier's first look says, of which nothing is trained, and the kept labels."""
        maps, kept = evidence
        first = believed(located(maps, self.activation, self.background), view)
        first.confidence = maps.amax(1) * first.weight
        return {LOOK: first, KEPT: believed(kept, view)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        z_x, z_u = (part.logits for part in self.student.joint(x.weak, u.weak))
        target = believed(kept_of(u), u)
        own = target.label.where(target.weight * target.valid > 0, VOID)
        known = (x.label != VOID).sum()
        share = known / (known + (own != VOID).sum()).clamp(min=1)
        losses = Losses(x=share * self.supervised(z_x, x.label), u=(1 - share) * self.supervised(z_u, own))
        return losses.see(weak=u.weak, mixed=u.weak).see(KEPT, target=target, student=z_u)
