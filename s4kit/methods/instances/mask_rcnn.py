"""Mask R-CNN on the labelled images alone: the line that methods for single objects must beat."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from ...data.objects import MaskEvaluation
from ...data.task import OBJECTS
from ...nets import evaluating
from ...nets.detector import detector, targets_of
from ...nets.mask_branches import PlainMasks
from ...nets.objects import Objects
from ...views import Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.objects import painted, shown

# The kit's own figures: mask heads begin with random weights and need more steps than a decoder of classes.
SMALL = {
    "task": {"instances": True},
    "method": {"net": "efficientnet_lite0"},
    "fit": {"steps": 1200, "head": 2.0, "warmup": 100},
}
FLAT = "objects: masks that overlap are whole there, cut here: a pixel is of one object, of the later one of a file"
PAPER = {"net": "resnet50(freeze_bn='statistics')"}
DIFFERS = (
    "crop: none there (whole images, 1333 x 800), squares of 800 here",
    "evaluation: objects are scored on images of 1333 x 800 there, on images as stored here",
)


class MaskRCNN(Method):
    """Mask R-CNN (He et al., ICCV 2017) on labelled images.

    Idea: a network proposes boxes; for each box a head says of which class its object is and moves the box, another one
    says of every pixel inside whether it is the object's.

    Equation: L = L_proposed + L_placed + L_class + L_box + L_mask: whether an anchor is an object (binary cross
    entropy), how far its box is off (L1), of which class a region is (CE), how far its box is off (L1), and the binary
    cross entropy of the 28 x 28 pixels of a region's mask, of its own class alone, over regions that show an object.

    Nothing of the unlabelled images is used. What the network believes of them is shown: an object is kept from a score
    of `tau` on. An object of fewer pixels than the task's `least` is taught as background.

    Cost: a forward and its gradient; the sizes of a step depend on what is found, so the device is waited for.

    Args:
        task: the data, with objects; or anything with `num_classes`.
        net: network spec, see `nets.detector.detector`.
        tau: score from which an object would be kept; shown, never trained on.
    """

    card = Card(
        family="instances",
        title="Mask R-CNN",
        venue="ICCV",
        year=2017,
        authors="He et al.",
        arxiv="1703.06870",
        code="https://github.com/facebookresearch/maskrcnn-benchmark",
        parity="reference",
    )
    views = ViewPlan(x=Stream("labelled", maps=(OBJECTS,)))
    scored_by = MaskEvaluation
    kind = ("instances",)
    syncs = True
    recipes: ClassVar = {
        "scenes": SMALL,
        "coco": {
            "task": {"instances": True, "short": 800, "crop": 800, "scale": (1.0, 1.0)},
            "method": PAPER,
            "fit": {"steps": 90_000, "batch": 16, "lr": 0.02, "head": 1.0, "optimiser": "sgd", "weight_decay": 1e-4,
                    "warmup": 500},
            "processes": 8,
            "differs": [*DIFFERS, FLAT, "schedule: steps there, poly here"],
        },
        "cityscapes": {
            "task": {"instances": True, "short": 1024, "crop": 800, "scale": (0.78125, 1.0)},
            "method": PAPER,
            "fit": {"steps": 23_800, "batch": 8, "lr": 0.01, "head": 1.0, "optimiser": "sgd", "weight_decay": 1e-4,
                    "warmup": 500},
            "processes": 8,
            "source": "MMDetection's configuration for Cityscapes, 8 epochs of the list repeated 8 times",
            "differs": [
                "crop: none there (whole images, 2048 x 800 to 2048 x 1024), squares of 800 here",
                "schedule: steps there (at epoch 7 of 8), poly here",
            ],
        },
    }  # fmt: skip

    def __init__(self, task: Any, net: str = "efficientnet_lite0", tau: float = 0.5) -> None:
        super().__init__()
        self.student = detector(net, task.num_classes, PlainMasks)
        self.classes, self.tau, self.least = task.num_classes, tau, least_of(task)

    def teach(self, view: Views) -> list[Objects]:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, found: list[Objects], view: Views, clock: Clock) -> PseudoLabels:
        thresholds = view.weak.new_full((self.classes,), self.tau)
        return shown(found, thresholds, view)

    def probabilities(self, found: list[Objects]) -> Tensor:
        return painted(found, self.classes)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x = batch.x
        return taught(self.student, x.weak, x.maps[OBJECTS], self.least)


def least_of(task: Any) -> int:
    """Pixels of an object that a task counts."""
    return getattr(getattr(task, "evaluation", None), "least", 1)


def taught(net: nn.Module, image: Tensor, ids: Tensor, least: int) -> Losses:
    """A detector's terms on images (B, 3, H, W) and their maps of objects (B, H, W)."""
    terms = net(image, targets_of(ids, least))
    return Losses(**{f"x_{name}": value for name, value in terms.items()})
