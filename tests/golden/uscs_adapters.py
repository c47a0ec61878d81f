"""USCS against recordings of its official code."""

from __future__ import annotations

import random
from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of

from s4kit.methods.consistency.uscs import NAMES, USCS, checkerboard, merged
from s4kit.nets import Features
from s4kit.views import Batch


@adapter("uscs", "checkerboard")
def uscs_checkerboard(r: Recording) -> dict[str, Any]:
    a, b = r.tensor("f0"), r.tensor("f1")
    return {"out_mask": checkerboard(a).float().expand_as(a), "out_merged": merged(Features((a,)), Features((b,))).low}


@adapter("uscs", "uncertainty_loss")
def uscs_uncertainty_loss(r: Recording) -> dict[str, Any]:
    """The method's own step with recorded logits, in the case of two different inputs and with empty boxes."""
    z_0, z_1 = r.tensor("z0"), r.tensor("z1")
    q_0, q_1 = r.tensor("q0", grad=True), r.tensor("q1", grad=True)
    method = USCS(task_of(z_0.shape[1]), net="tiny", different=1.1, plateau=r.hyper["a"])
    pairs = [(q_0, q_1), (z_0, z_1)]
    method.same, method.pair = lambda image: (z_0, z_1), lambda a, b: pairs.pop(0)
    random.seed(0)
    empty = torch.zeros(z_0[:, 0].shape, dtype=torch.bool)
    image = torch.zeros(len(z_0), 3, *z_0.shape[2:])
    x = views(torch.cat([image, image]), torch.cat([~empty, ~empty]))
    losses = method.losses(Batch(x=x, u=views(image, ~empty, masks=[empty, empty])), START)
    losses["u"][0].backward()
    found = [losses.seen[f"{name}/target"] for name in NAMES]
    return {
        "out_loss": losses["u"][0],
        **{f"out_y{k}": pl.label for k, pl in enumerate(found)},
        **{f"out_w{k}": pl.weight for k, pl in enumerate(found)},
        "out_grad_q0": grad_of(q_0),
        "out_grad_q1": grad_of(q_1),
    }
