"""What a network for rooms learns from true or pseudo objects, and its objects as pseudo-labels of points."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import OBJECTS, PER_CLASS, VOID
from ...nets.rooms import Groups, Proposed, Read, RoomUNet
from ...views import PointStream, Upright
from ..base import Losses
from .losses import pixel_ce
from .precision import float32

WEIGHTS = {"class": 1.0, "offset": 1.0, "direction": 0.3, "kind": 0.3, "quality": 0.3}
HALF = 0.5  # share of a group's points that says of which object it is; and that may be void
QUALITY = (0.25, 0.75)  # IoU with an object, at which a group's quality is 0 and 1
BETWEEN = 10**6  # more than any id of an object


SCANNED = {  # scanned rooms, where no set-up is public: the base network's own
    "task": {"labelled": 0.1},
    "method": {"net": "voxel(width=16, cell=0.05, depth=4, reach=0.05)"},
    "fit": {"steps": 60_000, "batch": 4, "lr": 1e-3, "head": 1.0, "optimiser": "adam", "weight_decay": 1e-4},
    "source": "no set-up is public: that of PointGroup stands in, its base network (dvlab-research/PointGroup)",
}
DIFFERS = (
    "backbone: a sparse residual U-Net of 2 cm cells there, a dense U-Net of 5 cm cells here",
    "inputs: colours there, normals here",
    "views: elastic distortion there, none here",
    "grouping: points within 3 cm, before and behind the shift, there, cells of 5 cm that touch behind it here",
    "evaluation: objects are scored on all points of a room there, on those that are drawn here",
)


def room_stream(source: str, *maps: str) -> PointStream:
    """One moved copy of each room, with these maps."""
    return PointStream(source, copies=1, rigid=Upright(), maps=maps, cube=False)


LABELLED = room_stream("labelled", OBJECTS)


def least_points(task: Any) -> int:
    """Points of an object that a task of rooms counts."""
    return task.evaluation.least


def objects_of(ids: Tensor, least: int = 1) -> Groups:
    """The objects of rooms as groups of their points.

    Args:
        ids: (B, N) long, see `data.objects`. least: points of an object that counts.
    """
    room = torch.arange(len(ids), device=ids.device)[:, None]
    names, at, count = torch.where(ids >= PER_CLASS, room * BETWEEN + ids, -1).unique(
        return_inverse=True, return_counts=True
    )
    real = (names >= 0) & (count >= least)
    return Groups((real.cumsum(0) * real)[at], int(real.sum()))


def ways_to_middle(points: Tensor, objects: Groups) -> Tensor:
    """(B, 3, N) from each point of an object to the mean of its points; 0 elsewhere."""
    places, at = points[..., :3].flatten(0, 1).float(), objects.ids.flatten()
    total = places.new_zeros(objects.count + 1, 3).index_add(0, at, places)
    middle = total / at.bincount(minlength=objects.count + 1).clamp(min=1)[:, None]
    ways = (middle[at] - places) * (at > 0)[:, None]
    return ways.unflatten(0, points.shape[:2]).mT


class Truth(NamedTuple):
    """What groups are: (n,) long kind, 0 = no object, else 1 + the place of its class among the things; (n,) float
    quality in [0, 1]; and (n,) float, 0 where most of a group is void, of which nothing is known."""

    kind: Tensor
    quality: Tensor
    known: Tensor


def truth_of(groups: Groups, ids: Tensor, things: Tensor) -> Truth:
    """A group is of the object that has most of its known points, if it has half of them; its quality grows with its
    largest IoU with an object, void points left out.

    Args:
        groups: of the points of rooms. ids: (B, N) long, see `data.objects`. things: (T,) classes, rising.
    """
    room = torch.arange(len(ids), device=ids.device)[:, None]
    key = torch.where(ids >= PER_CLASS, room * BETWEEN + ids, torch.where(ids == VOID, -2, -1))
    names, at = key.unique(return_inverse=True)
    pairs = groups.ids.flatten() * len(names) + at.flatten()
    table = pairs.bincount(minlength=(groups.count + 1) * len(names)).view(groups.count + 1, len(names)).float()
    of_object = F.pad(names >= 0, (0, 1), value=True)  # one more without a point, so that there is always one
    names, table = F.pad(names, (0, 1), value=PER_CLASS), F.pad(table, (0, 1))
    void = table[1:, names == -2].sum(1)
    shared, sizes = table[1:, of_object], table[:, of_object].sum(0)
    every = table[1:].sum(1)
    known = every - void
    iou = shared / (known[:, None] + sizes - shared).clamp(min=1)
    most, which = shared.max(1)
    kind = 1 + torch.searchsorted(things, names[of_object][which] % BETWEEN // PER_CLASS)
    low, high = QUALITY
    return Truth(
        kind.where(most >= HALF * known.clamp(min=1), 0),
        ((iou.amax(1) - low) / (high - low)).clamp(0, 1),
        (void < HALF * every).float(),
    )


@float32
def room_terms(
    net: RoomUNet, read: Read, points: Tensor, label: Tensor, ids: Tensor, least: int, prefix: str, weight: float = 1.0
) -> Losses:
    """The terms of rooms (B, N, 6), each a mean over what is known; `WEIGHTS` has their weights.

        class      cross entropy of the points' classes
        offset     |o - o*|_1, o* the way to the mean of the object's points, over points of objects
        direction  1 - cos(o, o*), over the same
        kind       cross entropy of the kind of each group, of those that the network makes now and of the true objects
        quality    binary cross entropy of their quality

    Args:
        read: what the network says of the points. label: (B, N) long, 255 = unknown. ids: (B, N) long, see
            `data.objects`; unknown where the label is. least: points of an object that counts.
        prefix: of the terms' names. weight: of all of them.
    """
    ids = ids.masked_fill(label == VOID, VOID)
    objects = objects_of(ids)
    inside, ways = (objects.ids > 0).float(), ways_to_middle(points, objects)
    apart = (read.offset - ways).abs().sum(1)
    turned = 1 - F.cosine_similarity(read.offset, ways, dim=1, eps=1e-6)
    terms = {
        "class": pixel_ce(read.logits, label, over="valid"),
        "offset": (apart * inside).sum() / inside.sum().clamp(min=1),
        "direction": (turned * inside).sum() / inside.sum().clamp(min=1),
    }
    proposed = net.groups(points, read.logits.argmax(1), read.offset)
    both = (proposed, objects_of(ids, least))
    judged = [net.judged(read.features, points, groups) for groups in both]
    truths = [truth_of(groups, ids, net.things) for groups in both]
    kind, quality = (torch.cat(said) for said in zip(*judged))
    truth = Truth(*(torch.cat(parts) for parts in zip(*truths)))
    number = truth.known.sum().clamp(min=1)
    terms["kind"] = (F.cross_entropy(kind, truth.kind, reduction="none") * truth.known).sum() / number
    doubts = F.binary_cross_entropy_with_logits(quality, truth.quality, reduction="none")
    terms["quality"] = (doubts * truth.known).sum() / number
    return Losses(**{f"{prefix}_{name}": (value, weight * WEIGHTS[name]) for name, value in terms.items()})


def object_map(found: list[Proposed]) -> Tensor:
    """(B, N) long ids, see `data.objects`, of what was found in rooms; 0 = none."""
    return torch.stack([F.pad(PER_CLASS * one.labels + numbers(one), (1, 0))[one.ids] for one in found])


def numbers(found: Proposed) -> Tensor:
    """(n,) 1..n."""
    return torch.arange(1, len(found.labels) + 1, device=found.ids.device)
