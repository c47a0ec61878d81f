"""Noisy Boundaries: a pseudo mask errs at its rim: learn coarse beside fine, most where the network sees an edge.

Deviation of the release from its paper: its configurations average the cross entropy before they multiply it by w,
whose mean is 3, so that the loss is three times the plain one and the boundary has no weight at all; that is
order="official".
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.objects import MaskEvaluation, run_lengths
from ...data.task import OBJECTS, PER_CLASS
from ...errors import S4Error, closest
from ...nets import evaluating
from ...nets.detector import Detector, detector, targets_of
from ...nets.mask_branches import PlainMasks, TolerantMasks
from ...nets.objects import Objects
from ...views import Batch, Stream, Strong, ViewPlan, Views, cut_out
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..parts.objects import kept_objects, painted, shown
from ..parts.rounds import KEPT, NOW, hard, kept_of
from .mask_rcnn import DIFFERS, FLAT, PAPER, SMALL, least_of, taught

GRID = np.linspace(0.1, 1.0, 91)  # of thresholds
EMPHASIS = 3.0  # mean of the boundary-preserving map over a region
ORDERS = ("paper", "official")
COLOURS = Strong(0.3, 0.3, 0.0, 0.0, jitter=0.5, grey=0.0, blur=0.25)
VIEWS = (
    "views: in 7 of 8 images one of blur, sharpening, noise, inversion, brightness and contrast, then CutOut of 1 to 5 "
    "holes there; brightness, contrast and blur, then three squares of a tenth of the side here"
)
STACKED = "pseudo objects: a mask for each there, also where they overlap; here a pixel is of the surest one alone"
UNSURE = "unsure: recipe: with which weights the second stage begins; here with those of ImageNet"


def boundary_map(z: Tensor) -> Tensor:
    """(R, s, s) weights of a region's pixels, 3 on average: how much the network's own mask changes there.

    w = 3 e / mean(e), e = |K * sigmoid(z)|, K the 3x3 Laplacian with 8 in its middle and zeros around the region.

    Args:
        z: (R, s, s) logits; no gradient reaches them.
    """
    kernel = z.new_full((1, 1, 3, 3), -1.0)
    kernel[..., 1, 1] = 8.0
    e = F.conv2d(z.detach().sigmoid()[:, None], kernel, padding=1)[:, 0].abs()
    return EMPHASIS * e / e.mean((1, 2), keepdim=True).clamp(min=1e-12)


def mask_terms(z: Tensor, target: Tensor, order: str = "paper") -> Tensor:
    """(R, s, s), what each pixel adds to the mask loss: its binary cross entropy times `boundary_map`.

    Args:
        z: (R, s, s) logits of each region's own class. target: (R, s, s) in [0, 1].
        order: "official": the cross entropy is averaged over all pixels first, so that the map changes nothing but the
            factor, as the release's configurations have it.
    """
    entropy = F.binary_cross_entropy_with_logits(z, target, reduction="none")
    if order == "official":
        entropy = (entropy.sum() / max(1, entropy.numel())).expand_as(entropy)
    return boundary_map(z) * entropy


def class_thresholds(scores: np.ndarray, labels: np.ndarray, images: int, wanted: np.ndarray) -> np.ndarray:
    """(C,) per class the score above which an unlabelled image has as many objects as a labelled one, or nearly so: the
    first of the thresholds 0.10, 0.11, ... 1.00 that comes nearest.

    Args:
        scores, labels: (n,) of all that was found. images: in how many images. wanted: (C,) objects per labelled image.
    """
    found = [np.sort(scores[labels == c].astype(np.float64)) for c in range(len(wanted))]
    above = np.stack([len(own) - np.searchsorted(own, GRID, side="right") for own in found])
    return GRID[np.abs(above / images - np.asarray(wanted)[:, None]).argmin(1)]


class NoisyBoundaries(Method):
    """Noisy Boundaries: Lemon or Lemonade for Semi-supervised Instance Segmentation? (Wang et al., CVPR 2022).

    Idea: a detector of the labelled images says what is in the others. Its masks are good inside and wrong at the
    boundary, where most is to be learnt. So the second network's mask head has a coarse branch, which an error of a few
    pixels hardly reaches, beside a fine one; and its loss looks at the boundary that the network itself predicts, not
    at the pseudo mask's. To the self-training of `st` it adds objects, thresholds by class, and this head and loss.

    Equations; f the first network, g the second, d the objects that f finds in an unlabelled image, c a class:
        t_c = argmin over t in {0.10, ... 1.00} of | #{d of c with score > t} / unlabelled - #{true c} / labelled |
        y_u = { d of c with score > t_c },  its masks where f's probability is above `mask_at`
        s = sigmoid(z), e = |K * s| (Laplacian), w = 3 e / mean over the region of e, held fixed
        M(z, y) = mean over regions and pixels of w * BCE(z, y)
        L_1 = MaskRCNN(f(x), y_x);   L_2 = boxes(g(s(x) + s(u)), y_x + y_u) + mask_weight * (M(z, y) + M(z_14, y_14))
    A pixel is of one object, true or pseudo: where masks overlap it is that of the surest d, or of the later true one.
    A step of the second stage has two labelled images for each unlabelled one, as the release's lists have them; true
    and pseudo objects count alike.

    Cost: half of the steps train f as `mask_rcnn` does; then one pass over the unlabelled images, and g with 1.5 times
    the images of a step. Both networks are in memory. The device is waited for, see `mask_rcnn`.

    Args:
        task: the data, with objects; or anything with `num_classes`.
        net: network spec of both, see `nets.detector.detector`.
        mask_weight: of both mask terms.
        mask_at: mask probability from which a pixel is of a pseudo object.
        anew: the second network begins with the weights of its backbone; else with those of the first one, all but the
            mask head.
        order: "paper" or "official".

    Raises:
        S4Error: unknown `order`.
    """

    card = Card(
        family="instances",
        title="Noisy Boundaries: Lemon or Lemonade for Semi-supervised Instance Segmentation?",
        venue="CVPR",
        year=2022,
        authors="Wang et al.",
        arxiv="2203.13427",
        code="https://github.com/zhenyuw16/noisyboundaries",
        extends=("mask_rcnn", "st"),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", strong=(COLOURS,), masks=(cut_out(0.1),) * 3, maps=(OBJECTS,)),
        u=Stream("unlabelled", strong=(COLOURS,), masks=(cut_out(0.1),) * 3, batch=0.5, maps=(OBJECTS,)),
    )
    scored_by = MaskEvaluation
    kind = ("instances",)
    syncs = True
    recipes: ClassVar = {
        "scenes": SMALL | {"method": {"net": "efficientnet_lite0", "anew": False}},
        "coco": {
            "task": {"instances": True, "short": 800, "crop": 800, "scale": (0.5, 1.5)},
            "method": PAPER,
            "fit": {"steps": 180_000, "batch": 32, "lr": 0.02, "head": 1.0, "optimiser": "sgd", "weight_decay": 1e-4,
                    "warmup": 500},
            "differs": [
                *DIFFERS, FLAT, STACKED, VIEWS, UNSURE,
                "schedule: steps there (at 60000 and 80000 of 90000), poly over each stage here",
                "length: 90000 steps of the second stage there, 180000 of both here, shared equally",
                "lists: 32 of one list there, two labelled images for each unlabelled one, 32 labelled and 16 "
                "unlabelled here",
            ],
        },
        "cityscapes": {
            "task": {"instances": True, "short": 1024, "crop": 800, "scale": (0.78125, 1.0)},
            "method": {**PAPER, "mask_weight": 3.0, "mask_at": 0.42},
            "fit": {"steps": 42_800, "batch": 8, "lr": 0.01, "head": 1.0, "optimiser": "sgd", "weight_decay": 1e-4,
                    "warmup": 500},
            "processes": 8,
            "differs": [
                "crop: none there (whole images, 2048 x 800 to 2048 x 1024), squares of 800 here",
                STACKED, VIEWS, UNSURE,
                "schedule: steps there (at epoch 7 of 8), poly over each stage here",
                "length: 8 epochs of a list of which the labelled images are repeated 8 times and all 3 times there, "
                "with 595 of 2975 labelled 21400 steps; 42800 of both stages here, shared equally",
                "lists: 8 of one list there, two labelled images for each unlabelled one, 8 labelled and 4 unlabelled "
                "here",
            ],
        },
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        mask_weight: float = 1.0,
        mask_at: float = 0.44,
        anew: bool = True,
        order: str = "paper",
    ) -> None:
        super().__init__()
        if order not in ORDERS:
            raise S4Error(f"order={order!r}. {closest(order, ORDERS)}")
        self.classes, self.least, self.mask_at, self.anew = task.num_classes, least_of(task), mask_at, anew
        self.teacher = detector(net, self.classes, PlainMasks)
        branch = partial(TolerantMasks, term=partial(mask_terms, order=order), weight=mask_weight)
        self.student = detector(net, self.classes, branch)
        self.register_buffer("thresholds", torch.full((self.classes,), 0.5))
        self.register_buffer("second", torch.zeros((), dtype=torch.bool))  # whether the second stage has begun

    def stages(self) -> list[Stage]:
        alone = ViewPlan(x=Stream("labelled", maps=(OBJECTS,)))
        return [
            Stage("labelled", losses=self.labels_alone, views=alone, train=(self.teacher,)),
            Stage("all", prepare=self.label_all, train=(self.student,)),
        ]

    @property
    def learning(self) -> Detector:
        """The network of the stage."""
        return self.student if self.second else self.teacher

    def predictors(self) -> dict[str, Detector]:
        return {"student": self.learning}

    # ---- between the stages ----

    def label_all(self, sweep: Any) -> None:
        """The first network's objects in the unlabelled images, those that are sure enough for their class."""
        true = self.thresholds.new_zeros(self.classes)
        for _, view in sweep.over("labelled", maps=(OBJECTS,)):
            for target in targets_of(view.maps[OBJECTS], self.least):
                true += target["labels"].bincount(minlength=self.classes)
        wanted = sweep.sum(true).cpu().numpy() / len(sweep.task.labelled)
        mine = {row: _coded(self._found(self.teacher, view)[0], self.mask_at) for row, view in sweep.over("unlabelled")}
        said = sweep.gather({row: (scores, labels) for row, (scores, labels, _) in mine.items()})
        scores, labels = (np.concatenate([one[k] for one in said.values()]) for k in (0, 1))
        above = class_thresholds(scores, labels, len(said), wanted)
        self.thresholds.copy_(torch.from_numpy(above))
        for row, found in mine.items():
            sweep.keep(OBJECTS, row, torch.from_numpy(_map_of(*found, above)))
        if not self.anew:
            shared = {k: v for k, v in self.teacher.state_dict().items() if not k.startswith("heads.branch.")}
            self.student.load_state_dict(shared, strict=False)
        self.second.fill_(True)

    # ---- the rule ----

    def teach(self, view: Views) -> tuple[list[Objects], Tensor]:
        """What the network of this stage finds now, and the objects that were kept, void where there are none."""
        return self._found(self.learning, view), kept_of(view, OBJECTS)

    def pseudo_labels(
        self, evidence: tuple[list[Objects], Tensor], view: Views, clock: Clock
    ) -> dict[str, PseudoLabels]:
        found, ids = evidence
        return {NOW: shown(found, self.thresholds, view), KEPT: kept_objects(ids, view)}

    def probabilities(self, evidence: tuple[list[Objects], Tensor]) -> dict[str, Tensor]:
        found, ids = evidence
        label = torch.where(ids >= PER_CLASS, ids // PER_CLASS, 0)
        return {NOW: painted(found, self.classes), KEPT: hard(label, self.classes)}

    def _found(self, net: Detector, view: Views) -> list[Objects]:
        with evaluating(net):
            return net(view.weak)

    # ---- training ----

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the teacher learns from human objects."""
        return taught(self.teacher, batch.x.weak, batch.x.maps[OBJECTS], self.least)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        images, ids = torch.cat([changed(x), changed(u)]), torch.cat([x.maps[OBJECTS], u.maps[OBJECTS]])
        losses = taught(self.student, images, ids, self.least)
        losses.see(weak=u.weak, mixed=images[len(x) :])
        return losses.see(
            KEPT, target=kept_objects(u.maps[OBJECTS], u), loss=self.where_learnt(len(x), images.shape[-2:])
        )

    def where_learnt(self, first: int, size: Any) -> Tensor:
        """(B, H, W), what the pixels of the last step's regions add to the mask term, where the regions lie, of the
        images from `first` on."""
        heads = self.student.heads
        terms = heads.branch.last.split([len(boxes) for boxes in heads.learnt])
        return torch.stack([laid(t, b, size) for t, b in zip(terms[first:], heads.learnt[first:])])


def changed(view: Views) -> Tensor:
    """(B, 3, H, W), the strong view with its holes, black."""
    holes = torch.stack(view.masks).any(0)
    return view.strong[0].where(~holes[:, None], 0.0)


def laid(maps: Tensor, boxes: Tensor, size: Any) -> Tensor:
    """(H, W), the sum of maps (R, s, s), each stretched over its box (R, 4)."""
    found = maps.new_zeros(tuple(size))
    for map, (left, top, right, bottom) in zip(maps, boxes.round().long().tolist()):
        part = found[top:bottom, left:right]
        if part.numel():
            part += F.interpolate(map[None, None], part.shape, mode="bilinear")[0, 0]
    return found


Coded = tuple[np.ndarray, np.ndarray, list[Any]]


def _coded(found: Objects, inside: float) -> Coded:
    """Scores, labels and masks of an image's objects, the masks as run lengths: all images' are held at once."""
    masks = np.asfortranarray((found.masks > inside).permute(1, 2, 0).to(torch.uint8).cpu().numpy())
    coded = run_lengths("Masks are held").encode(masks)
    return found.scores.float().cpu().numpy(), found.labels.cpu().numpy(), [*coded, masks.shape[:2]]


def _map_of(scores: np.ndarray, labels: np.ndarray, coded: list[Any], above: np.ndarray) -> np.ndarray:
    """(H, W) int32 ids of the objects above their class's threshold, the surest on top."""
    *masks, size = coded
    ids = np.zeros(size, np.int32)
    for k in np.flatnonzero(scores > above[labels])[::-1]:
        ids[run_lengths("Masks are held").decode(masks[k]) > 0] = PER_CLASS * int(labels[k]) + int(k) + 1
    return ids
