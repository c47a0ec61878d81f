"""Supervised training on the labelled images alone: the line that every semi-supervised method must beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.objects import has_objects
from ...data.points.clouds import PartEvaluation, RoomEvaluation, has_points, has_rooms
from ...data.task import OBJECTS
from ...nets import evaluating, make
from ...nets.rooms import Proposed, room_net
from ...nets.voxel import voxel
from ...views import Batch, PointStream, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..instances.mask_rcnn import MaskRCNN
from ..parts.losses import Criterion, ce, criterion
from ..parts.nested import Nested, per_shape_ce
from ..parts.proposals import DIFFERS, LABELLED, SCANNED, least_points, object_map, room_terms

SOURCE = "official code of UniMatch, LiheYoung/UniMatch: supervised.py, configs, README (twice the batch)"
LENGTH = (
    "length: {} epochs over the labelled list there, as here for a published list; {} over the unlabelled one here for "
    "another: as many steps as the semi-supervised methods have"
)


class Supervised(Method):
    """DeepLabV3+ on labelled images, weak views (Chen et al., ECCV 2018).

    Equation: L = mean over non-void pixels of CE(f(w(x)), y). Nothing of the unlabelled images is used; what the
    network believes of them is shown all the same, thresholded as FixMatch would, so that the explorer can set it
    beside the others.

    Compare at equal steps, not equal epochs: an epoch of the labelled list is short.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: confidence from which a pixel would be kept; shown, never trained on.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Of points it is `SupervisedPoints`, of rooms `SupervisedRooms`, both below; of single objects `mask_rcnn`.
    """

    card = Card(
        family="baselines",
        title="Encoder-Decoder with Atrous Separable Convolution for Semantic Image Segmentation",
        venue="ECCV",
        year=2018,
        authors="Chen et al.",
        arxiv="1802.02611",
        code="https://github.com/LiheYoung/UniMatch",
        parity="golden",
    )
    views = ViewPlan(x=Stream("labelled"))
    # A published list is trained on as published: so many epochs of the labelled images. Without one, as long as the
    # semi-supervised methods: half their batches, twice their epochs of the unlabelled images.
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": "resnet101c"},
            "fit": {"epochs": 160, "batch": 16, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "labelled_epochs": 80,
            "evaluation": "voc",
            "source": SOURCE,
            "differs": [LENGTH.format(80, 160)],
        },
        "partnet": {  # of the version for points
            "task": {"category": "Chair", "labelled": 0.02},
            "method": {"net": "voxel(width=32, grid=64, depth=4)"},
            "fit": {"steps": 80_000, "batch": 8, "lr": 0.1, "head": 1.0, "schedule": "tenths"},
            "processes": 1,
            "source": "as shape3d's, isunchy/semi_supervised_3d_segmentation, without its terms",
            "differs": ["backbone: octree U-Net of depth 6 there, U-Net on a dense grid of 64^3 cells here"],
        },
        "scannet": SCANNED | {"differs": list(DIFFERS)},  # these two of the version for rooms
        "s3dis": SCANNED | {"differs": list(DIFFERS)},
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "supervised": "ohem(thresh=0.7, per_image=50000)"},
            "fit": {"epochs": 480, "batch": 16, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "labelled_epochs": 240,
            "evaluation": "cityscapes",
            "source": SOURCE,
            "differs": [
                LENGTH.format(240, 480),
                "unsure: ohem: each GPU keeps 200000 pixels, also of four images",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.tau, self.supervised = tau, criterion(supervised)

    @classmethod
    def of(cls, task: Any) -> type[Method]:
        if cls is not Supervised:
            return cls
        if has_rooms(task):
            return SupervisedRooms
        return SupervisedPoints if has_points(task) else MaskRCNN if has_objects(task) else cls

    @classmethod
    def kind_of(cls, arguments: Mapping[str, Any]) -> type[Method]:
        return MaskRCNN if cls is Supervised and arguments.get("instances") else cls

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence >= self.tau).float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x = batch.x
        z_x = self.student(x.weak)
        return Losses(x=self.supervised(z_x, x.label))


class SupervisedPoints(Supervised):
    """The same for points: a voxel U-Net on moved copies of the labelled items, whose parts it learns at each level.

    Equation: L = sum over levels l of the mean over labelled items of the mean over their points of CE(f_l(w(x)), y_l);
    the term of shape3d, whose other terms are what the unlabelled items add.

    Args:
        task: the data, of points. net: network spec, see `nets.voxel.voxel`.
        tau: see `Supervised`.
    """

    views = ViewPlan(x=PointStream("labelled", copies=1))
    scored_by = PartEvaluation

    def __init__(self, task: Any, net: str = "voxel", tau: float = 0.95) -> None:
        Method.__init__(self)
        self.student, self.nested, self.tau = voxel(net, task), Nested(task), tau

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, losses = batch.x, Losses()
        labels = self.nested.labels(x.label)
        for level, z_x in self.student.levels(x.weak).items():
            losses.add(f"x_{level}", per_shape_ce(z_x, labels[level], x.valid))
        return losses


class SupervisedRooms(Supervised):
    """The same for rooms of points, whose single objects are the task: a voxel U-Net that says of each point its class
    and the way to the middle of its object, and judges the groups in which points meet, in the manner of PointGroup
    (Jiang et al., CVPR 2020).

    Equation: L = class + offset + 0.3 direction + 0.3 kind + 0.3 quality, see `parts.proposals.room_terms`; the terms
    of twist, which has them of unlabelled rooms as well.

    Cost: a forward and its gradient; groups are counted, so the device is waited for.

    Args:
        task: the data, of rooms. net: network spec, see `nets.rooms.room_net`.
        tau: see `Supervised`.
    """

    views = ViewPlan(x=LABELLED)
    scored_by = RoomEvaluation
    syncs = True

    def __init__(self, task: Any, net: str = "voxel", tau: float = 0.95) -> None:
        Method.__init__(self)
        self.student, self.least, self.tau = room_net(net, task), least_points(task), tau

    def teach(self, view: Views) -> list[Proposed]:
        with evaluating(self.student):
            return self.student.find(view.weak)

    def pseudo_labels(self, found: list[Proposed], view: Views, clock: Clock) -> PseudoLabels:
        logits = torch.stack([one.logits for one in found])
        return replace(super().pseudo_labels(logits, view, clock), ids=object_map(found))

    def probabilities(self, found: list[Proposed]) -> Tensor:
        return torch.stack([one.logits.softmax(0) for one in found])

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x = batch.x
        return room_terms(self.student, self.student.read(x.weak), x.weak, x.label, x.maps[OBJECTS], self.least, "x")
