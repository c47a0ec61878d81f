"""Scoring a network on the validation set, by whatever the task's evaluation asks for."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..data.task import Task
from ..nets import evaluating
from . import ahead, distributed
from .device import pick_device
from .scores import AnyScores, tally_of


def evaluate(
    net: nn.Module,
    task: Task,
    how: Any = None,
    device: torch.device | str | None = None,
    precision: str = "float32",
) -> AnyScores:
    """Score a network on `task.val`.

    On a GPU items are decoded ahead. Several processes share them out, each item to one of them, and all get the
    scores of all; so all of them must call.

    Args:
        net: of images: (B, 3, H, W) in [0, 1] -> logits of the same size.
        how: the protocol, an `Evaluation` or another that a tally is known for; default the task's own.
        device: default: where the network is.
        precision: "float32", "bf16" or "fp16" for the forwards.

    Returns:
        Of an `Evaluation` `Scores`, see `scores.TALLIES`.
    """
    how = how or task.evaluation
    device = pick_device(device) if device is not None else next(net.parameters(), torch.empty(0)).device
    tally = tally_of(how)(task, how, device, precision)
    with evaluating(net):
        tally.add(net, ahead.samples(task.val, range(distributed.rank(), len(task.val), distributed.world()), device))
    return tally.scores()
