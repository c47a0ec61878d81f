"""Mask R-CNN on the kit's backbones: torchvision's pyramid, proposals and boxes, and a mask branch of the method's own.

What depends on how many objects there are reads the device: a step with a detector waits for it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    maskrcnn_inference,
    paste_masks_in_image,
    project_masks_on_boxes,
)
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, masks_to_boxes
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from ..data.objects import split
from ..data.task import PER_CLASS
from ..errors import S4Error
from .backbones import build, kind_of
from .modes import set_training
from .objects import Objects
from .stages import Backbone

RATIOS = (0.5, 1.0, 2.0)  # height / width of anchors
ROI = 14  # side of the features of a region that the mask branch sees
Target = dict[str, Tensor]


@dataclass(frozen=True)
class Size:
    """How large a detector is beside its backbone.

    Attributes:
        width: channels of the pyramid. hidden: of the box head.
        anchor: side of a level's anchors in cells of its map.
        kept: proposals of an image, before suppression per level, and after.
        learnt: anchors and regions of an image that proposals and boxes learn from.
        most: objects found in an image.
        pooled: whether there is a level of anchors above the last stage. norm: group norms in the pyramid.
    """

    width: int = 256
    hidden: int = 1024
    anchor: float = 8.0
    kept: tuple[int, int] = (2000, 1000)
    learnt: tuple[int, int] = (256, 512)
    most: int = 100
    pooled: bool = True
    norm: bool = False


# By the decoder that goes with a backbone. The first is that of the paper, for photos of 800 pixels and more; the
# others are for the kit's small images, whose objects are a quarter as large.
SIZES = {
    256: Size(),
    64: Size(96, 256, 2.5, (400, 200), (128, 64), 30, pooled=False, norm=True),
    16: Size(16, 32, 2.5, (60, 30), (32, 16), 5, pooled=False, norm=True),
}


class Pyramid(nn.Module):
    """A backbone's stages as maps of one width, by level from fine to coarse."""

    def __init__(self, body: Backbone, size: Size) -> None:
        super().__init__()
        self.body = body
        above = LastLevelMaxPool() if size.pooled else None
        norm = (lambda channels: nn.GroupNorm(8, channels)) if size.norm else None
        self.fpn = FeaturePyramidNetwork(list(body.channels), size.width, above, norm_layer=norm)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict((str(k), level) for k, level in enumerate(self.body(image))))


class Heads(RoIHeads):
    """torchvision's box heads, and behind them a mask branch.

    Args:
        branch: (R, D, 14, 14) features of regions -> logits by name, (R, C, s, s) each, of which "final" counts; and
            `branch.loss(logits, target)`, its terms by name, of the logits (R, s, s) of each region's own class and
            `target(s)`, the true masks (R, s, s).
        levels: of the pyramid that regions are read from.

    Attributes:
        learnt: boxes (r, 4) of the regions of each image that the branch has learnt from in the last step.
    """

    def __init__(self, branch: nn.Module, levels: int, classes: int, size: Size) -> None:
        names = [str(k) for k in range(levels)]
        pool = MultiScaleRoIAlign(names, 7, 2)
        head, predictor = TwoMLPHead(size.width * 49, size.hidden), FastRCNNPredictor(size.hidden, classes)
        super().__init__(pool, head, predictor, 0.5, 0.5, size.learnt[1], 0.25, None, 0.05, 0.5, size.most)
        self.branch, self.regions = branch, MultiScaleRoIAlign(names, ROI, 2)

    def select_training_samples(self, proposals: Any, targets: Any) -> Any:
        """As torchvision's; what it chose stays in `sampled` until the mask branch has learnt from it."""
        self.sampled = super().select_training_samples(proposals, targets)
        return self.sampled

    def forward(self, features: Any, proposals: Any, shapes: Any, targets: Any = None) -> Any:
        found, losses = super().forward(features, proposals, shapes, targets)
        if targets is not None:
            return found, losses | self._learn(features, shapes, targets)
        z = self.branch(self.regions(features, [one["boxes"] for one in found], shapes))["final"]
        for one, masks in zip(found, maskrcnn_inference(z, [one["labels"] for one in found])):
            one["masks"] = masks
        return found, losses

    def _learn(self, features: Any, shapes: Any, targets: list[Target]) -> dict[str, Tensor]:
        """The branch's terms, over the sampled regions that show an object."""
        boxes, matched, labels, _ = self.sampled
        del self.sampled
        chosen = [label > 0 for label in labels]
        boxes, matched, labels = ([v[c] for v, c in zip(values, chosen)] for values in (boxes, matched, labels))
        label = torch.cat(labels)
        logits = self.branch(self.regions(features, boxes, shapes))
        own = {name: z[torch.arange(len(z), device=z.device), label] for name, z in logits.items()}

        def target(side: int) -> Tensor:
            each = zip(targets, boxes, matched)
            return torch.cat([project_masks_on_boxes(t["masks"], b, m, side) for t, b, m in each])

        self.learnt = boxes
        return self.branch.loss(own, target)


class Detector(nn.Module):
    """(B, 3, H, W) in [0, 1] -> a list of `Objects`; with `targets` its loss terms by name.

    Batch norms keep their statistics: a batch of detectors is too small for them. The pyramid computes in the run's
    precision, all behind it in float32.

    Args:
        body: four stages at strides 4, 8, 16, 32, or as many as there are.
        branch: `(channels, classes) -> module`, the mask branch, see `Heads`.
    """

    def __init__(self, body: Backbone, classes: int, branch: Callable[[int, int], nn.Module], size: Size) -> None:
        super().__init__()
        self.pyramid, self.classes, levels = Pyramid(body, size), classes, len(body.channels)
        self.stride = 2 ** (levels + 1)
        self.register_buffer("mean", torch.tensor(body.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(body.std).view(1, -1, 1, 1), persistent=False)
        strides = [4 * 2**k for k in range(levels + size.pooled)]
        anchors = AnchorGenerator(tuple((size.anchor * s,) for s in strides), (RATIOS,) * len(strides))
        before, after = (dict.fromkeys(("training", "testing"), kept) for kept in size.kept)
        self.rpn = RegionProposalNetwork(
            anchors, RPNHead(size.width, len(RATIOS)), 0.7, 0.3, size.learnt[0], 0.5, before, after, 0.7
        )
        self.heads = Heads(branch(size.width, classes), levels, classes, size)

    def forward(self, image: Tensor, targets: list[Target] | None = None) -> Any:
        size = image.shape[-2:]
        below, right = (-side % self.stride for side in size)
        image = F.pad((image - self.mean) / self.std, (0, right, 0, below))
        features = self.pyramid(image)
        with torch.autocast(image.device.type, enabled=False):
            return self._read(image, {name: level.float() for name, level in features.items()}, tuple(size), targets)

    def _read(self, image: Tensor, features: dict[str, Tensor], size: tuple[int, int], targets: Any) -> Any:
        shapes = [size] * len(image)
        self.rpn.training = self.heads.training = targets is not None  # to torchvision: whether there are terms
        proposals, first = self.rpn(ImageList(image, shapes), features, targets)
        found, second = self.heads(features, proposals, shapes, targets)
        if targets is not None:
            return {name.removeprefix("loss_"): value for name, value in (first | second).items()}
        return [_objects(one, size) for one in found]

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters as "backbone" (pretrained) and "head" (new)."""
        backbone = list(self.pyramid.body.parameters())
        inside = {id(p) for p in backbone}
        return {"backbone": backbone, "head": [p for p in self.parameters() if id(p) not in inside]}

    def train(self, mode: bool = True) -> Detector:
        """Train or eval mode; the batch norms stay in eval mode."""
        return set_training(self, mode)


def _objects(found: Target, size: tuple[int, int]) -> Objects:
    masks = paste_masks_in_image(found["masks"], found["boxes"], size)[:, 0]
    return Objects(found["boxes"], found["labels"], found["scores"], masks)


def targets_of(ids: Tensor, least: int) -> list[Target]:
    """What a detector learns of maps of objects.

    Args:
        ids: (B, H, W), see `data.objects`. least: pixels of an object that counts.

    Returns:
        Of each image boxes (n, 4) left, top, right, bottom, labels (n,) and masks (n, H, W).
    """
    found = []
    for image in ids:
        numbers, masks = split(image, least)
        boxes = masks_to_boxes(masks) + masks.new_tensor([0, 0, 1, 1], dtype=torch.float32)
        found.append({"boxes": boxes, "labels": numbers // PER_CLASS, "masks": masks.to(torch.uint8)})
    return found


def detector(net: str, classes: int, branch: Callable[[int, int], nn.Module]) -> Detector:
    """A new detector.

    Args:
        net: name of a backbone, or one with options of it, "resnet50(weights='FILE')"; `freeze_bn` is "statistics", or
            True; norm='group' gives the pyramid group norms, 'none' none. Transformers have no stages for a pyramid.
        classes: the background among them. branch: see `Detector`.

    Raises:
        S4Error: an unknown backbone or option, or one that does not fit.
    """
    from . import parse

    name, given = parse(net)
    kind = kind_of(name)
    if kind.head != "deeplabv3plus":
        raise S4Error(f"A detector needs the stages of a convolutional network, such as resnet50, not of {name}.")
    size = SIZES[kind.decoder.get("decoder_channels", 256)]
    size = replace(size, norm=given.pop("norm", "group" if size.norm else "none") == "group")
    if unknown := given.keys() - kind.options:
        raise S4Error(f"The detector on {name} has no option {min(unknown)!r}: {', '.join(sorted(kind.options))}.")
    if given.setdefault("freeze_bn", "statistics") not in ("statistics", True):
        raise S4Error(f"freeze_bn={given['freeze_bn']!r}: of a detector 'statistics' or True, its batches are small.")
    if "levels" in kind.options:
        given.setdefault("levels", 4)
    if "levels" in kind.options or "multi_grid" in kind.options:
        given.setdefault("output_stride", 32)
    return Detector(build(name, **given), classes, branch, size)
