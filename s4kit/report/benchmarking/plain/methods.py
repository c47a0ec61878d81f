"""The losses of five methods, one function each, from the papers' equations.

x is the labelled batch: "image" (B, 3, S, S) and "label" (B, S, S). u and v are two unlabelled ones, drawn
independently: "image", "ignored", "strong1", "box1", ..., see `views.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....nets import Features
from .views import half_area_box, three_boxes, unimatch_box

Batch = dict[str, Tensor]


def supervised(net: nn.Module, x: Batch) -> Tensor:
    """Cross entropy on the labelled images, mean over all pixels that are not void."""
    return F.cross_entropy(net(x["image"]), x["label"], ignore_index=255)


def fixmatch(net: nn.Module, x: Batch, u: Batch, v: Batch, tau: float = 0.95) -> Tensor:
    """The network's sure labels of the weak view teach the strong view, which has a box of another image in it."""
    net.eval()
    with torch.no_grad():
        confidence_v, label_v = net(v["image"]).softmax(1).max(1)
    net.train()
    logits_x, logits_w = net(torch.cat([x["image"], u["image"]])).split([len(x["image"]), len(u["image"])])
    confidence_u, label_u = logits_w.detach().softmax(1).max(1)

    box = u["box1"]
    logits_s = net(torch.where(box[:, None], v["strong1"], u["strong1"]))
    label = torch.where(box, label_v, label_u)
    confidence = torch.where(box, confidence_v, confidence_u)
    ignored = torch.where(box, v["ignored"], u["ignored"])
    loss_s = F.cross_entropy(logits_s, label, reduction="none")
    loss_s = loss_s[(confidence >= tau) & ~ignored].sum() / (~ignored).sum()
    return (F.cross_entropy(logits_x, x["label"], ignore_index=255) + loss_s) / 2


def unimatch(net: nn.Module, x: Batch, u: Batch, v: Batch, tau: float = 0.95, drop: float = 0.5) -> Tensor:
    """FixMatch with two strong views, and a third stream whose features lose half of their channels."""
    net.eval()
    with torch.no_grad():
        confidence_v, label_v = net(v["image"]).softmax(1).max(1)
    net.train()
    levels = net.encode(torch.cat([x["image"], u["image"]])).levels
    both = [torch.cat([f, F.dropout2d(f, drop)]) for f in (levels[0], levels[-1])]
    clean, dropped = net.decode(Features(tuple(both)), u["image"].shape[-2:]).logits.chunk(2)
    logits_x, logits_w = clean.split([len(x["image"]), len(u["image"])])
    logits_fp = dropped[len(x["image"]) :]
    confidence_u, label_u = logits_w.detach().softmax(1).max(1)

    boxes = u["box1"], u["box2"]
    strong = [torch.where(box[:, None], v[f"strong{k}"], u[f"strong{k}"]) for k, box in enumerate(boxes, 1)]
    loss_s = 0.0
    for box, logits_s in zip(boxes, net(torch.cat(strong)).chunk(2)):
        label = torch.where(box, label_v, label_u)
        confidence = torch.where(box, confidence_v, confidence_u)
        ignored = torch.where(box, v["ignored"], u["ignored"])
        loss = F.cross_entropy(logits_s, label, reduction="none")
        loss_s = loss_s + loss[(confidence >= tau) & ~ignored].sum() / (~ignored).sum()
    loss_fp = F.cross_entropy(logits_fp, label_u, reduction="none")
    loss_fp = loss_fp[(confidence_u >= tau) & ~u["ignored"]].sum() / (~u["ignored"]).sum()
    loss_x = F.cross_entropy(logits_x, x["label"], ignore_index=255)
    return (loss_x + 0.25 * loss_s + 0.5 * loss_fp) / 2


def cutmix(student: nn.Module, teacher: nn.Module, x: Batch, u: Batch, v: Batch, tau: float = 0.97) -> Tensor:
    """The student on a mixed image repeats the equally mixed probabilities of its averaged self."""
    box = u["box1"]
    with torch.no_grad():
        target = torch.where(box[:, None], teacher(v["image"]), teacher(u["image"])).softmax(1)
    loss_x = F.cross_entropy(student(x["image"]), x["label"], ignore_index=255)
    p = student(torch.where(box[:, None], v["image"], u["image"])).softmax(1)
    valid = 1 - torch.where(box, v["ignored"], u["ignored"]).float()
    confidence = (target.max(1).values >= tau).float().mean()
    return loss_x + (((p - target) ** 2).sum(1) * valid * confidence).mean()


def average(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """The teacher of `cutmix` after a step: all that floats, weights and batch norm statistics."""
    with torch.no_grad():
        for name, value in teacher.state_dict().items():
            if value.is_floating_point():
                value.copy_(decay * value + (1 - decay) * student.state_dict()[name])


def cps(net1: nn.Module, net2: nn.Module, x: Batch, u: Batch, v: Batch, weight: float = 1.0) -> Tensor:
    """Two networks learn each other's labels of the unmixed images on the mixed one."""
    box = u["box1"]
    with torch.no_grad():  # in train mode
        label1, label2 = (
            torch.where(box[:, None], of_v, of_u).argmax(1)
            for of_u, of_v in ((net(u["image"]), net(v["image"])) for net in (net1, net2))
        )
    mixed = torch.where(box[:, None], v["image"], u["image"])
    loss_cps = F.cross_entropy(net1(mixed), label2) + F.cross_entropy(net2(mixed), label1)
    loss_x = sum(F.cross_entropy(net(x["image"]), x["label"], ignore_index=255) for net in (net1, net2))
    return loss_x + weight * loss_cps


class Plain(NamedTuple):
    """A method: its loss, how many networks are trained, and what its unlabelled samples consist of.

    Attributes:
        every: the unlabelled batches are drawn from all training images, the labelled ones included.
        teacher: whether there is an averaged network, which is then the second argument of the loss and is scored.
    """

    loss: Callable[..., Tensor]
    nets: int = 1
    strong_views: int = 0
    box: Callable[[int], Tensor] | None = None
    every: bool = False
    teacher: bool = False


METHODS = {
    "supervised": Plain(supervised),
    "fixmatch": Plain(fixmatch, strong_views=1, box=unimatch_box),
    "unimatch": Plain(unimatch, strong_views=2, box=unimatch_box),
    "cutmix": Plain(cutmix, box=half_area_box, every=True, teacher=True),
    "cps": Plain(cps, nets=2, box=three_boxes),
}
