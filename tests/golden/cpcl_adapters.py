"""CPCL against a recording of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of

from s4kit.methods.cotraining.cpcl import CPCL, disagreement
from s4kit.views import Batch


@adapter("cpcl", "losses")
def losses(r: Recording) -> dict[str, Any]:
    h = r.hyper
    leaves = {f"{part}_{k}": r.tensor(f"logit_{part}_{k}", grad=True) for k in "12" for part in ("sup", "mix")}
    nets = iter(
        Recorded([r.tensor(f"logit_u0_{k}"), r.tensor(f"logit_u1_{k}"), leaves[f"mix_{k}"], leaves[f"sup_{k}"]])
        for k in "12"
    )
    method = CPCL(task_of(h["classes"]), net=lambda **_: next(nets), weight=h["unsup_weight"])
    label, m = r.label("label"), r.tensor("mask")[:, 0] == 1
    blank = torch.zeros(len(m), 3, *m.shape[1:])
    x = views(torch.zeros(len(label), 3, *label.shape[1:]), torch.ones(label.shape), label)
    u, v = (views(blank, torch.ones(m.shape), masks=[m]) for _ in range(2))
    found = method.losses(Batch(x=x, u=u, v=v), START)
    found.total.backward()
    assert method.net1.modes == method.net2.modes == [1, 1, 1, 1], "every forward is in train mode"
    mixed = [torch.where(m[:, None], r.tensor(f"logit_u1_{k}"), r.tensor(f"logit_u0_{k}")) for k in "12"]
    (c_1, p_1), (c_2, p_2) = (logits.softmax(1).max(1) for logits in mixed)
    inter, union = (found.seen[f"{name}/target"] for name in ("conservative", "progressive"))
    return {
        "out_class_disagreement": disagreement(p_1, p_2, h["classes"]),
        "out_pseudo_intersection": torch.where(inter.weight > 0, inter.label, r.ignore),
        "out_pseudo_union": union.label,
        "out_confidence_1": c_1,
        "out_confidence_2": c_2,
        "out_loss_inter": found["intersection"][0],
        "out_loss_union": found["union"][0],
        "out_loss_sup": found["x1"][0] + found["x2"][0],
        "out_loss": found.total,
        **{f"out_grad_{name}": grad_of(leaf) for name, leaf in leaves.items()},
    }
