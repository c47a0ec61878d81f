"""CAFS: UniMatch with a threshold for each class and more labelled images of weak classes, both measured beforehand.

From the release: it never sees 10 to 25 % of the unlabelled images, as an index beyond the list falls back on the
first part of one fixed shuffle; here the draw is even. Its epochs are over the longer labelled list; the kit's are
over the unlabelled one. Best epochs are picked on the validation set, tau_c and n_c never see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, PseudoLabels, Stage
from ..parts import calibration
from ..parts.losses import Criterion, ce
from .unimatch import UniMatch

EVERY = 5  # one labelled image in five is held out
SETTLED = 0.8  # share of the scout's training after which it is measured

# The statistics that the authors ship for ResNet-101 and VOC's 2646 labels (1/4): known from these labels, so for no
# other list.
# fmt: off
VOC_TAU = (0.85, 0.92, 0.95, 0.85, 0.95, 0.87, 0.85, 0.85, 0.85, 0.95, 0.85,
           0.85, 0.85, 0.85, 0.95, 0.95, 0.95, 0.95, 0.94, 0.85, 0.92)
VOC_IOU = (0.916, 0.728, 0.751, 0.876, 0.815, 0.821, 0.857, 0.775, 0.920, 0.372, 0.811,
           0.236, 0.887, 0.826, 0.731, 0.797, 0.378, 0.808, 0.459, 0.823, 0.621)
# fmt: on


class CAFS(UniMatch):
    """Class adaptive framework (Ju et al., IEEE Access 2024, called CASS there; arXiv 2303.11606).

    Idea: some labelled images serve first as a validation set, on which a scout, trained on the others, shows how far
    each class can be trusted and how well it is learned. What it adds to `unimatch`: a threshold for each class, lower
    where confidence is trustworthy, and labelled images of weak classes that come more often.

    Stage "calibrate": the scout g learns the labelled images that are not held out; in its last fifth, when the rate is
    small, every held-out image that is drawn is predicted in eval mode, unscaled, and counted:
        acc_c(t) = share of right ones among the pixels predicted as c with confidence >= t
        tau_c = smallest t in {lowest, lowest + 0.01, .., tau} with acc_c(t) >= target, else tau
        n_c = ceil(repeat * (mu - IoU_c)) where positive, mu the mean IoU over the foreground classes, else 0
    Stage "train", all of it frozen: an image is 1 + sum of n_c over its foreground classes times in the labelled list;
        L as in `unimatch` with 1[c >= tau_y] for 1[c >= tau], y the label of the pixel
    All thresholds are above 1/2, so this is the released test "some class has p_c >= tau_c". With `thresholds` and
    `class_iou` given there is no scout and no first stage; the recipe for 2646 labels has those that the authors ship.

    RECONSTRUCTED: the script that made these figures is unpublished. The formula of n_c and the range of tau_c are
    theirs; the rule for tau_c, its target and the hold-out (each fifth labelled image) are the kit's reading. Held-out
    images are trained on in the second stage, as by the authors. A class that no held-out pixel shows or gets has no
    IoU: it is not repeated and does not count in mu.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice where there is a scout.
        tau: highest threshold. lowest: lowest one. target: accuracy that is asked of the pixels above a threshold.
        repeat: lambda of n_c; 0 = an even list.
        thresholds: (C,) tau_c, or None to measure them. class_iou: (C,) the same for IoU_c; both or none.
        calibrate: share of all steps for the first stage.
        background: class 0 is the background: not repeated, not in mu.
        drop: probability that a feature channel is dropped.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Class-Wise Adaptive Strategy for Semi Supervised Semantic Segmentation",
        venue="IEEE Access",
        year=2024,
        authors="Ju et al.",
        arxiv="2303.11606",
        code="https://github.com/anonymous1253/CAFS",
        extends=("unimatch",),
        parity="golden",
        note="the measuring of thresholds is reconstructed",
    )
    recipes: ClassVar = {
        "camvid": {"method": {"background": False}},
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c"},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                "length: 80 epochs over its enlarged labelled list there, over the unlabelled list here: longer there",
                "thresholds: figures of the classes are published for 1/4 of the labels (2646) alone, which has "
                "them here; for other lists the scout measures them here in a quarter of the steps",
            ],
        },
        "voc/cps/2646": {"method": {"thresholds": VOC_TAU, "class_iou": VOC_IOU}},
        "cityscapes": {
            "task": {"crop": 801},
            "method": {
                "net": "resnet101c",
                "background": False,
                "supervised": "ohem(thresh=0.7, per_image=100000)",
            },
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "evaluation": "cityscapes",
            "differs": [
                "the release has no set-up for Cityscapes: UniMatch's",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        lowest: float = 0.85,
        target: float = 0.95,
        repeat: float = 10.0,
        thresholds: Sequence[float] | None = None,
        class_iou: Sequence[float] | None = None,
        calibrate: float = 0.25,
        background: bool = True,
        drop: float = 0.5,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, drop, supervised)
        classes = task.num_classes
        calibration.check(thresholds, class_iou, classes)
        self.scout = make(net, task) if thresholds is None else None
        self.target, self.repeat, self.calibrate, self.background = target, repeat, calibrate, background
        held = tuple(getattr(task, "labelled", ()))[::EVERY]
        levels = torch.linspace(lowest, tau, max(2, round((tau - lowest) / 0.01) + 1))
        self.register_buffer("held", torch.tensor(held, dtype=torch.long), persistent=False)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("kept", torch.zeros(2, classes, len(levels), dtype=torch.long))  # right, all
        self.register_buffer("regions", torch.zeros(3, classes, dtype=torch.long))  # both, predicted, true
        self.register_buffer("given_tau", None if thresholds is None else torch.tensor(tuple(thresholds)))
        self.register_buffer("given_iou", None if class_iou is None else torch.tensor(tuple(class_iou)))

    @property
    def taus(self) -> Tensor:
        """(C,) thresholds, given or measured; all the highest while nothing is measured."""
        return calibration.lowest_level(*self.kept, self.levels, self.target) if self.scout else self.given_tau

    @property
    def class_iou(self) -> Tensor:
        """(C,) IoU of the scout on held-out images, or as given; NaN where a class is unknown."""
        if self.scout is None:
            return self.given_iou
        both, predicted, true = self.regions.float()
        return both / (predicted + true - both)

    def stages(self) -> list[Stage]:
        train = Stage("train", 1 - self.calibrate if self.scout else 1.0, train=(self.student,))
        if self.scout is None:
            return [train]
        views = ViewPlan(x=Stream("labelled"), held=Stream("labelled", weak=weak(scale=(1.0, 1.0), flip=0.0)))
        return [Stage("calibrate", self.calibrate, self.scout_losses, views, (self.scout,)), train]

    def scout_losses(self, batch: Batch, clock: Clock) -> Losses:
        """Stage "calibrate": train the scout without the held-out images, at last count how it does on them."""
        x, held = batch.x, batch.held
        hidden = torch.isin(x.index, self.held)[:, None, None]
        losses = Losses(x=self.supervised(self.scout(x.weak), x.label.masked_fill(hidden, VOID)))
        if clock.since(SETTLED) >= 0:
            with evaluating(self.scout):
                p = self.scout(held.weak).softmax(1)
            other = ~torch.isin(held.index, self.held)[:, None, None]
            kept, regions = calibration.count(p, held.label.masked_fill(other, VOID), self.levels)
            self.kept += kept
            self.regions += regions
        return losses

    def sampling(self, task: Any) -> dict[str, Tensor]:
        if self.repeat == 0:
            return {}
        n = calibration.repeats(self.class_iou, self.repeat, int(self.background)).cpu()
        if not n.any():
            return {}
        shown = (task.train.read(row).label.flatten().long() for row in task.labelled)
        there = torch.stack([torch.bincount(y, minlength=VOID + 1)[: len(n)] > 0 for y in shown])
        return {"labelled": 1 + (there.long() * n).sum(1)}

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence >= self.taus[label]).float(), view.valid)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student} | ({"scout": self.scout} if self.scout else {})
