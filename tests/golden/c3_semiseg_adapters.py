"""C3-SemiSeg against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import Recording, adapter, grad_of, task_of

from s4kit.data.task import VOID
from s4kit.methods.contrastive.c3_semiseg import C3SemiSeg, soft_ce
from s4kit.methods.parts.losses import pixel_mean
from s4kit.methods.parts.schedules import sigmoid_ramp


@adapter("c3_semiseg", "class_threshold")
def c3_class_threshold(r: Recording) -> dict[str, Any]:
    """With the release's option gamma at 0, as in its configuration."""
    h, classes = r.hyper, r.expected["out_threshold"].shape[1]
    method = C3SemiSeg(task_of(classes), net="tiny", share=h["end_percent"], momentum=h["ema"])
    method.thresholds.fill_(h["init"])
    found = []
    for confidence, label in zip(r.tensor("conf"), r.tensor("pred")):
        method.follow(confidence, label, torch.ones_like(confidence))
        found.append(method.thresholds.clone())
    return {"out_threshold": torch.stack(found), "out_mask": (confidence >= method.thresholds[label])[:, None]}


@adapter("c3_semiseg", "consistency")
def c3_consistency(r: Recording) -> dict[str, Any]:
    z, kept = r.tensor("logits", grad=True), r.tensor("mask")[:, 0]
    loss = pixel_mean(soft_ce(z, r.tensor("teacher_prob")), kept, torch.ones_like(kept), over="kept")
    loss.backward()
    steps = [-50 + 50 * i for i in range(len(r.expected["out_ramp"]))]
    ramp = np.array([sigmoid_ramp(max(0, i), 1000) for i in steps])
    return {"out_loss": loss, "out_grad_logits": grad_of(z), "out_ramp": ramp}


@adapter("c3_semiseg", "contrast_loss")
def c3_contrast_loss(r: Recording) -> dict[str, Any]:
    h, z = r.hyper, r.tensor("feat", grad=True)
    assert h["base_temperature"] == 0.1
    method = C3SemiSeg(task_of(h["num_classes"]), net="tiny", temperature=h["temperature"], each=h["n_view"])
    label = r.label("label").where(r.tensor("mask")[:, 0] == 1, VOID)
    index = r.tensor("pixel_idx") + r.tensor("group_image")[:, None] * label[0].numel()
    assert torch.equal(label.flatten()[index], r.tensor("group_class")[:, None].expand_as(index))
    says = F.one_hot(r.tensor("prediction"), h["num_classes"]).permute(0, 3, 1, 2).float()
    e, key = (F.normalize(t, dim=1) for t in (z, r.tensor("feat_teacher")))
    loss = method.cross(e, key, label, says, index)
    loss.backward()
    return {"out_loss": loss, "out_grad_feat": grad_of(z)}
