"""Three-Stage: kept labels train a second branch, whose errors the main one never has to repeat.

From the release: three of 14 operations, each with probability 1/2; here one to three colour operations, and each
affine change with the probability that it has there. Its second branch has one more class, which nothing uses.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import Features, copy_of, ema, evaluating, make
from ...nets.layers import fresh
from ...nets.segnet import resize
from ...views import Batch, Intensity, Stream, ViewPlan, Views, cut_out, draw_affine, warp, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.rounds import believed, hard, kept_of

TEACHER, KEPT = "teacher teaches main branch", "kept labels teach second branch"
NET = "resnet101(output_stride=8, aspp_rates=(12, 24, 36), freeze_bn=True)"
DIFFERS = [
    "the network is DeepLabV2 there, pretrained on COCO for VOC, DeepLabV3+ with ImageNet weights here",
    "the extra branch has a last stage of the backbone of half width there, a decoder of its own here",
]
LENGTH = (
    "of its length: {0} epochs of 1000 steps in stage 1 and 60 in stages 2, 3 there, {1} steps here; a batch has one "
    "labelled image"
)

TURNS = (1 / 3, 2 / 3, 5 / 6)  # of a stage, from which the teacher remembers longer


class ThreeStage(Method):
    """A three-stage self-training framework (Ke et al., IEEE TIP 2022, arXiv 2012.00827).

    Idea: labels that a weak network has made are full of its errors; taught to the next one they become its errors. So
    they teach a second branch only: that shapes the features which both share, while the main branch learns from human
    labels and from a mean teacher. The third stage does it again with better labels and a smaller second branch. What
    it adds to `mean_teacher`: the second branch; to self-training as `st` has it: that kept labels predict nothing.

    Equations; s the student with main branch z and second branch r, t its mean teacher, A a random affine change that
    moves labels with the pixels (255 where nothing comes from), m the kept labels of the stage before:
        target = argmax t(w(.)) of all images, moved by A for the unlabelled ones
        L_sup = CE(z(w(x)), y);   L_mt = CE(z, target) over all images;   L_pm = CE(r, m) over all images, moved too
        L = supervised_weight L_sup + weight (L_mt + L_pm) / 2,    each CE a mean over its own labelled pixels
        after each step: t <- a t + (1 - a) s, all state;  a = `decays`, the next from 1/3, 2/3 and 5/6 of the stage on
    The student sees x weakly and A(s(u)) with three grey squares; u is drawn from all training images, whose human
    labels are not used there. No threshold, no ramp. Stages, each from the ImageNet weights: labels alone; with a
    second branch that has a decoder of its own; with one that has a classifier alone. The first stage labels all images
    with its network, the second with its teacher.

    Cost: three trainings; in the last two a forward of the teacher and one of the student with both branches.

    Args:
        task: the data.
        net: network spec, see `nets.make`.
        start: length of the first stage, per step of another; or passes, see `lengths`.
        many: unlabelled images per labelled one.
        weight: of the two unlabelled terms' mean. supervised_weight: of L_sup.
        decays: of the teacher: the later in a stage, the longer it remembers.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="A Three-Stage Self-Training Framework for Semi-Supervised Semantic Segmentation",
        venue="IEEE TIP",
        year=2022,
        authors="Ke et al.",
        arxiv="2012.00827",
        code="https://github.com/RK621/ThreeStageSelftraining_SemanticSegmentation",
        extends=("mean_teacher", "st"),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decays": (0.95, 0.97, 0.98, 0.98)}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 321, "scale": tuple(k / 10 for k in range(5, 16))},
            "method": {"net": NET, "start": 1 / 6, "many": 9},
            "fit": {
                "steps": 130000,
                "batch": 1,
                "optimiser": "adam",
                "lr": 3e-6,
                "head": 10.0,
                "weight_decay": 0.0,
                "schedule": "constant",
            },
            "processes": 1,
            "evaluation": "voc",
            "differs": [
                *DIFFERS,
                LENGTH.format(10, 130000),
                "scale: (0.5, 1.5) there, one of eleven: (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5) here, "
                "as its code draws",
            ],
        },
        "cityscapes": {
            "task": {"crop": 512, "scale": (1.0, 1.0), "size": 0.5},
            "method": {"net": NET, "start": 1 / 3, "many": 4, "supervised_weight": 0.5},
            "fit": {
                "steps": 140000,
                "batch": 1,
                "optimiser": "adam",
                "lr": 3e-6,
                "head": 10.0,
                "weight_decay": 0.0,
                "schedule": "constant",
            },
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "differs": [*DIFFERS, LENGTH.format(20, 140000), "crop: (256, 512) there, 512 here: crops are square"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        start: Length = 0.5,
        many: int = 1,
        weight: float = 0.5,
        supervised_weight: float = 1.0,
        decays: tuple[float, float, float, float] = (0.99, 0.995, 0.9975, 0.999),
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        self.student.heads["decoder"] = fresh(self.student.decoder)
        self.student.heads["classifier"] = self.student.decoder.branch()
        self.teacher = copy_of(self.student)
        self.start, self.many, self.weight, self.supervised_weight = start, many, weight, supervised_weight
        self.decays, self.supervised = decays, criterion(supervised)
        view = weak(pad="mean", centred=True)
        x = Stream("labelled", view, maps=("label",))
        squares = (cut_out(share=32 / 321),) * 3
        self.views = ViewPlan(
            x=x, u=Stream("all", view, strong=(Intensity(),), masks=squares, batch=float(many), maps=("label",))
        )

    def stages(self) -> list[Stage]:
        net, view = self.student, self.views["x"].weak
        main, again = (net.backbone, net.decoder), (self.student, self.teacher)
        alone = ViewPlan(x=Stream("labelled", view, batch=1.0 + self.many))
        return [
            Stage("labels alone", self.start, self.labels_alone, alone, train=main),
            Stage(
                "second decoder",
                losses=self.with_decoder,
                train=(*main, net.heads["decoder"]),
                prepare=lambda sweep: self.label(sweep, self.student),
                restart=again,
            ),
            Stage(
                "second classifier",
                train=(*main, net.heads["classifier"]),
                prepare=lambda sweep: self.label(sweep, self.teacher),
                restart=again,
            ),
        ]

    def label(self, sweep: Any, net: nn.Module) -> None:
        """A network labels all training images, those with human labels as well."""
        for row, view in sweep.over("all"):
            sweep.keep("label", row, sweep.scores(net, view).argmax(1)[0])

    # ---- the rule ----

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(self.teacher):
            return self.teacher(view.weak), kept_of(view)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        confidence, label = evidence[0].softmax(1).max(1)
        of_teacher = PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)
        return {TEACHER: of_teacher, KEPT: believed(evidence[1], view)}

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {TEACHER: evidence[0].softmax(1), KEPT: hard(evidence[1], self.classes)}

    # ---- training ----

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from human labels."""
        return Losses(x=self.supervised(self.student(batch.x.weak), batch.x.label))

    def with_decoder(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the second stage: pseudo-labels reach the decoder "decoder"."""
        return self.losses(batch, clock, "decoder")

    def losses(self, batch: Batch, clock: Clock, second: str = "classifier") -> Losses:
        x, u, n = batch.x, batch.u, len(batch.x)
        theta = draw_affine(u.weak)
        squares = torch.stack(u.masks).any(0)
        seen = warp(u.strong[0], theta).where(~squares[:, None], 0.5)
        of_x = self.pseudo_labels(self.teach(x), x, clock)
        of_u = {
            name: y.map(lambda t: moved(t, theta)) for name, y in self.pseudo_labels(self.teach(u), u, clock).items()
        }
        target, kept = (of_x[name].zip_with(lambda a, b: torch.cat([a, b]), of_u[name]) for name in (TEACHER, KEPT))
        features, size = self.student.encode(torch.cat([x.weak, seen])), x.weak.shape[-2:]
        z, r = self.student.decode(features, size), self.branch(second, features, size)
        losses = self.terms(z.logits, r, x.label, target, kept).see(weak=u.weak, mixed=seen)
        losses.see(TEACHER, target=of_u[TEACHER], student=z.logits[n:])
        return losses.see(KEPT, target=of_u[KEPT], student=r[n:])

    def branch(self, name: str, features: Features, size: Any) -> Tensor:
        """Logits of the second branch."""
        if name == "classifier":
            return self.student.branch(name, self.student.fuse(features).map, size)
        decoder = self.student.heads[name]
        return resize(decoder.classify(decoder.fuse(features).map)[0].float(), size, decoder.align_corners)

    def terms(self, z: Tensor, r: Tensor, label: Tensor, target: PseudoLabels, kept: PseudoLabels) -> Losses:
        """The losses of a batch whose first images are labelled."""
        losses = Losses(x=(self.supervised(z[: len(label)], label), self.supervised_weight))
        losses.add("teacher", pixel_ce(z, target, over="kept"), self.weight / 2)
        return losses.add("kept", pixel_ce(r, kept, over="kept"), self.weight / 2)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, self.decays[sum(clock.progress >= t for t in TURNS)], buffers="average")

    def predictors(self) -> dict[str, nn.Module]:
        return {"teacher": self.teacher, "student": self.student}


def moved(values: Tensor, theta: Tensor) -> Tensor:
    """Maps (B, H, W) of any kind under an affine change, to the nearest pixel; 0 where nothing comes from."""
    return warp(values.float(), theta, nearest=True).to(values.dtype)
