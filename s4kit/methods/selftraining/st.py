"""ST and ST++: train again from the start on labels of one's own, strongly augmented, the stable images first.

From the release: one list holds all images, those with labels repeated until they are as many as the others, so that
a batch is half and half on average; here it always is. Its supervised stage repeats labelled lists of less than 200
images.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import Evaluation
from ...nets import copy_of, ema, make
from ...views import STRONG, Batch, Stream, ViewPlan, paste, unimatch_box
from ..base import Card, Clock, Losses, Stage
from ..lengths import Length
from ..parts.losses import ce, union_ce
from ..parts.reliability import stability
from ..parts.rounds import KEPT, Rounds, believed

NET = "resnet50(output_stride=8, aspp_rates=(12, 24, 36), dropout=(0.5, 0, 0.1))"
DIFFERS = [
    "batch: 16 there, drawn from one list in which the labelled images are repeated, 8 here: eight of either list",
    "dropout_kind: channel, then element there, channel here",
    "each stage hands on its best network on val there, its last one here: val has no part in the training",
]
LENGTH = (
    "length: {0} epochs there, of the joined list in each stage, {1} here: half as many of the reliable images, then "
    "{0} of all"
)


class ST(Rounds):
    """Make self-training work better for semi-supervised segmentation (Yang et al., CVPR 2022, arXiv 2106.05095).

    Idea: a network labels the unlabelled images once, offline, and a new one learns from these labels; that becomes
    strong as soon as the new one sees the images strongly augmented (ST). Labels are better where the network was of
    one mind while it learned: such images come first, and the better network that they make labels the rest (ST++).
    What it adds to `supervised`: rounds. Compared with `fixmatch`: labels of whole images from several scales, made
    once and all believed, instead of new ones in every step that must pass a threshold.

    Equations; T the network of a stage at its end, M_k those after k/K of the supervised stage, M_K = T:
        label(u)       = argmax over classes of the sum over scales r and mirrorings of softmax T(r u)
        reliability(u) = mean over k < K of mIoU(argmax M_k(u), argmax M_K(u)),  over the classes that either has
        s(u) = strong colours, and with probability 1/2 a box of noise that has no label
        L = mean over the pixels of w(x) and s(u) with a label of CE(f(.), label)
    Stages, each from the ImageNet weights: labels alone; the more reliable half of the images, labelled by the first
    network; all images, the others labelled by the second one. ST: labels alone; all images. No threshold, no weight.

    Cost: three (ST: two) trainings, and two passes over the unlabelled images with a forward for each scale and
    mirroring. The labels are files of the run, one per image.

    Args:
        task: the data.
        net: network spec, see `nets.make`.
        selective: the reliable images first (ST++); False is ST.
        start: length of the supervised stage, per step of the pass over all images; or passes, see `lengths`.
        first: length of the stage on the reliable images, likewise.
        checkpoints: K, of which the last is the end of the supervised stage.
        scales: at which an image is labelled, mirrored as well.
    """

    card = Card(
        family="selftraining",
        title="ST++: Make Self-training Work Better for Semi-supervised Semantic Segmentation",
        venue="CVPR",
        year=2022,
        authors="Yang et al.",
        arxiv="2106.05095",
        code="https://github.com/LiheYoung/ST-PlusPlus",
        extends=("supervised",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled"),
        u=Stream("unlabelled", strong=(STRONG,), masks=(unimatch_box(anew=True),), maps=("label",)),
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": (0.4, 1.6)},
            "method": {"net": NET, "start": "40 labelled epochs"},
            "fit": {"epochs": 120, "before": "40 labelled epochs", "batch": 8, "lr": 1e-3, "head": 10.0},
            "evaluation": "voc",
            "differs": [
                *DIFFERS,
                LENGTH.format(80, 120),
                "scale: (0.5, 2) there, of 400 pixels, (0.4, 1.6) here: factors are of the image's own longer side, of "
                "500 pixels in VOC",
                "unsure: length: labelled lists of less than 200 images are doubled there in the first stage",
            ],
        },
        "voc/classic/92": {
            "method": {"start": "80 labelled epochs"},
            "fit": {"before": "80 labelled epochs"},
        },
        "voc/classic/183": {
            "method": {"start": "80 labelled epochs"},
            "fit": {"before": "80 labelled epochs"},
        },
        "cityscapes": {
            "task": {"crop": 721},
            "method": {"net": NET, "start": "120 labelled epochs"},
            "fit": {"epochs": 360, "before": "120 labelled epochs", "batch": 8, "lr": 4e-3, "head": 10.0},
            "evaluation": "cityscapes/whole",
            "differs": [*DIFFERS, LENGTH.format(240, 360)],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        selective: bool = True,
        start: Length = 1.0,
        first: Length = 0.5,
        checkpoints: int = 3,
        scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0),
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.early = nn.ModuleList(copy_of(self.student) for _ in range(checkpoints - 1 if selective else 0))
        self.classes, self.rows = task.num_classes, tuple(getattr(task, "unlabelled", ()))
        self.selective, self.start, self.first = selective, start, first
        self.how = Evaluation(scales=tuple(scales), flip=True, corners=True, floor=True)
        self.register_buffer("chosen", torch.ones(len(self.rows), dtype=torch.long))

    def stages(self) -> list[Stage]:
        alone, again = ViewPlan(x=Stream("labelled", batch=2.0)), (self.student,)
        supervised = Stage("supervised", self.start, self.labels_alone, alone)
        if not self.selective:
            return [supervised, Stage("all", prepare=self.label, restart=again)]
        reliable = Stage("reliable", self.first, prepare=self.select, restart=again)
        return [supervised, reliable, Stage("all", prepare=self.label_others, restart=again)]

    def sampling(self, task: Any) -> dict[str, Tensor]:
        return {"unlabelled": self.chosen}

    # ---- between the stages ----

    def select(self, sweep: Any) -> None:
        """The more reliable half of the images is labelled and trained on."""
        found = {}
        for row, view in sweep.over("unlabelled"):
            last, *earlier = (sweep.scores(net, view).argmax(1) for net in (self.student, *self.early))
            found[row] = float(stability(earlier, last, self.classes))
        found = sweep.gather(found)
        order = sorted(found, key=lambda row: -found[row])
        reliable = set(order[: max(1, len(order) // 2)])
        self.chosen.copy_(torch.tensor([row in reliable for row in self.rows]))
        self.label(sweep, reliable)

    def label_others(self, sweep: Any) -> None:
        """The other half is labelled by the network of the first half, which keeps the labels that it has."""
        self.label(sweep, [row for row, chosen in zip(self.rows, self.chosen.tolist()) if not chosen])
        self.chosen.fill_(1)

    def label(self, sweep: Any, rows: Any = None) -> None:
        """Hard labels of whole images, by all scales."""
        for row, view in sweep.over("unlabelled", rows):
            sweep.keep("label", row, sweep.scores(self.student, view, self.how).argmax(1)[0])

    # ---- training ----

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from human labels."""
        return Losses(x=ce(self.student(batch.x.weak), batch.x.label))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, box = batch.x, batch.u, batch.u.masks[0]
        seen = paste(box, torch.rand_like(u.weak), u.strong[0])
        target = believed(u.maps["label"], u)
        target = replace(target, weight=target.weight * ~box)
        z_x, z_u = self.student.joint(x.weak, seen)
        l_x, l_u = union_ce(z_x.logits, x.label, z_u.logits, target)
        return Losses(x=l_x, u=l_u).see(weak=u.weak, mixed=seen).see(KEPT, target=target, student=z_u.logits)

    def after_step(self, clock: Clock) -> None:
        if clock.stage == 0:
            for k, net in enumerate(self.early, 1):
                if clock.step + 1 == max(1, k * clock.steps // (len(self.early) + 1)):
                    ema(net, self.student, 0.0, buffers="copy")
