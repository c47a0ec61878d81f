"""The training loop and the score, written out: lists shuffled for ever, AdamW with a poly rate, a confusion matrix."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from .methods import METHODS, Plain, average
from .views import labelled_sample, unlabelled_sample


def train(name: str, task: Any, nets: Sequence[nn.Module], fit: dict[str, Any], seed: int, **options: Any) -> nn.Module:
    """Train a method and return the network that is scored.

    Args:
        name: one of `METHODS`.
        task: whose images, lists, crop and scale are used.
        nets: as many fresh networks as the method has; trained in place.
        fit: "steps", "batch" (of each stream), "lr" of the backbone, "head" (its multiple for the rest),
            "weight_decay", "warmup" (steps); AdamW, poly.
        options: of the loss, such as tau=0.98; decay is the teacher's.
    """
    method, decay = METHODS[name], options.pop("decay", 0.99)
    device = next(nets[0].parameters()).device
    random.seed(seed)
    torch.manual_seed(seed)
    teacher = copy.deepcopy(nets[0]).requires_grad_(False).eval() if method.teacher else None
    optimisers = [optimiser(net, fit) for net in nets]
    batches = streams(method, task, fit["batch"])
    for step in range(fit["steps"]):
        for one in optimisers:
            for group in one.param_groups:
                group["lr"] = group["initial_lr"] * rate(step, fit["steps"], fit["warmup"])
            one.zero_grad()
        for net in nets:
            net.train()
        given = [{key: value.to(device) for key, value in next(batch).items()} for batch in batches]
        method.loss(*nets, *([teacher] if teacher else []), *given, **options).backward()
        for one in optimisers:
            one.step()
        if teacher:
            average(teacher, nets[0], decay)
    return teacher or nets[0]


def optimiser(net: nn.Module, fit: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW with one rate for the pretrained backbone and `head` times that for all that is new."""
    backbone = list(net.backbone.parameters())
    new = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
    groups = [
        {"params": backbone, "lr": fit["lr"], "initial_lr": fit["lr"]},
        {"params": new, "lr": fit["lr"] * fit["head"], "initial_lr": fit["lr"] * fit["head"]},
    ]
    return torch.optim.AdamW(groups, weight_decay=fit["weight_decay"])


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: a linear warm-up, then (1 - step / steps) ** 0.9."""
    return (step + 1) / warmup if step < warmup else (1 - step / steps) ** 0.9


def streams(method: Plain, task: Any, batch: int) -> list[Iterator[dict[str, Tensor]]]:
    """The labelled batches and, where the method has a box, two independent kinds of unlabelled ones, without end."""

    def labelled(row: int) -> dict[str, Tensor]:
        return labelled_sample(task.train.read(row), task.crop, task.scale)

    def unlabelled(row: int) -> dict[str, Tensor]:
        sample = task.train.read(row, label=False)
        return unlabelled_sample(sample, task.crop, task.scale, method.strong_views, method.box)

    rows = sorted({*task.labelled, *task.unlabelled}) if method.every else task.unlabelled
    plan = [(labelled, task.labelled)] + [(unlabelled, rows)] * (2 if method.box else 0)
    return [_batches(make, shuffled(rows), batch) for make, rows in plan]


def shuffled(rows: Sequence[int]) -> Iterator[int]:
    """The rows of a list in a new order, again and again."""
    while True:
        yield from random.sample(rows, len(rows))


def _batches(make: Any, rows: Iterator[int], batch: int) -> Iterator[dict[str, Tensor]]:
    while True:
        yield default_collate([make(next(rows)) for _ in range(batch)])


def miou(net: nn.Module, task: Any) -> float:
    """Mean over the classes of intersection over union, in [0, 1], over all pixels of val that are not void.

    Whole images at their stored size, one by one; a class that neither truth nor prediction has does not count.
    """
    confusion, device = np.zeros((task.num_classes, task.num_classes)), next(net.parameters()).device
    net.eval()
    with torch.no_grad():
        for row in range(len(task.val)):
            sample = task.val.read(row)
            prediction = net(sample.image[None].to(device) / 255)[0].argmax(0).cpu().numpy()
            label = sample.label.numpy()
            np.add.at(confusion, (label[label != 255], prediction[label != 255]), 1)
    both = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - both
    return float((both[union > 0] / union[union > 0]).mean())
