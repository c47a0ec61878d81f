"""DAW against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from consistency_adapters import START, weak_to_strong_batch
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods.consistency import daw as method_file
from s4kit.methods.consistency.daw import DAW


def daw(r: Recording, answers: list[Tensor], classes: int) -> DAW:
    alpha = r.hyper.get("alpha", 1.0)
    method = DAW(task_of(classes), net=lambda **_: Recorded([]), momentum=r.hyper["ema"], alpha=alpha)
    method.student.answers = answers  # not at birth: the averaged network is a copy
    return method


def masked(label: Tensor, ignore: Tensor) -> Tensor:
    return label.where(ignore != VOID, VOID)


@adapter("daw", "threshold", skip={"out_safe": "mean - 3 deviations, which the release only logs"})
def daw_threshold(r: Recording) -> dict[str, Any]:
    logits, method, init = r.tensor("logits"), daw(r, [], r.hyper["num_classes"]), r.hyper["init"]
    for state, name in ((method.mean, "mean"), (method.variance, "var")):
        state.copy_(torch.tensor([init[f"pos_{name}"], init[f"neg_{name}"]]))
    method.threshold.fill_(init["thr"])
    rows = []
    for z, target, ignore in zip(logits, r.label("target"), r.label("ignore")):
        with patch.object(method_file, "FEWEST", r.hyper["min_count"]):
            method.move_threshold(z, masked(target, ignore))
        rows.append((method.threshold.clone(), torch.stack([method.mean, method.variance.sqrt()], 1)))
    tau, groups = (torch.stack(column) for column in zip(*rows))
    return {"out_threshold": tau, "out_pos": groups[:, 0], "out_neg": groups[:, 1]}


@adapter("daw", "align")
def daw_align(r: Recording) -> dict[str, Any]:
    method, rows = daw(r, [], r.hyper["num_classes"]), []
    method.seen_x.fill_(r.hyper["init"])
    method.seen_u.fill_(r.hyper["init"])
    inputs = (*(r.tensor(f"logits_{k}") for k in "xu"), *(r.label(f"ignore_{k}") for k in "xu"))
    for z_x, z_u, ignore_x, ignore_u in zip(*inputs):
        method.compare_confidence(z_x, ignore_x, z_u, (ignore_u != VOID).float())
        rows.append((method.seen_x.clone(), method.seen_u.clone(), method.probabilities(z_u)))
    return dict(zip(("out_prob_x", "out_prob_u", "out_aligned"), map(torch.stack, zip(*rows))))


@adapter("daw", "step")
def daw_step(r: Recording) -> dict[str, Any]:
    keys = ("x", "u_w", "u_s1", "u_s2", "u_w_fp")
    z_x, z_w, z_1, z_2, z_fp = leaves = [r.tensor(f"logits_{k}", grad=True) for k in keys]
    answers = [r.tensor("logits_u_w_mix"), torch.cat([z_x, z_w, z_x.detach(), z_fp]), torch.cat([z_1, z_2])]
    r.inputs |= {f"in_img_u_s{k}": torch.zeros(len(z_1), 3, *z_1.shape[2:]).numpy() for k in "12"}
    batch, method = weak_to_strong_batch(r, ("1", "2")), daw(r, answers, z_x.shape[1])
    batch.x.label = masked(batch.x.label, r.label("label_ignore"))
    losses = method.losses(batch, START)
    losses.total.backward()
    value, target = {name: term for name, (term, _) in losses.items()}, losses.seen["target"]
    return {
        "out_threshold": method.threshold,
        "out_prob_x": method.seen_x,
        "out_prob_u": method.seen_u,
        "out_target1": target.label,
        "out_conf1": target.confidence,
        "out_loss": losses.total,
        "out_loss_x": value["x"],
        "out_loss_u_s1": value["s1"],
        "out_loss_u_s2": value["s2"],
        "out_loss_u_w_fp": value["fp"],
        **{f"out_grad_logits_{k}": grad_of(z) for k, z in zip(keys, leaves)},
    }
