"""ELN against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from harness import Recording, adapter, grad_of, task_of

from s4kit.data.task import VOID
from s4kit.methods.parts.localise import held_back, pair_contrast, wrongness_loss
from s4kit.methods.parts.losses import ce, pixel_ce
from s4kit.methods.selftraining.eln import ELN
from s4kit.nets.segnet import resize


@adapter("eln", "aux_constraint")
def aux_constraint(r: Recording) -> dict[str, Any]:
    label = r.label("label")
    own = [ce(resize(z, label.shape[-2:], True), label) for z in r.tensor("aux_logits")]
    held = [
        sum(held_back(loss, main, multiple) for loss, multiple in zip(own, r.hyper["multiples"]))
        for main in r.tensor("main_loss")
    ]
    return {"out_ce": torch.stack(own), "out_loss": torch.stack(held)}


@adapter("eln", "corrector_loss")
def corrector_loss(r: Recording) -> dict[str, Any]:
    label, z = r.label("label"), r.tensor("eln_logit", grad=True)
    size = label.shape[-2:]
    right = resize(r.tensor("cls_logits"), size, True).argmax(1) == label
    loss = wrongness_loss(resize(z, size, True)[:, 0], right)
    loss.backward()
    return {"out_loss": loss, "out_grad_eln_logit": grad_of(z), "out_target": right.to(torch.uint8)}


@adapter("eln", "pseudo_loss")
def pseudo_loss(r: Recording) -> dict[str, Any]:
    method = ELN(task_of(r.hyper["num_classes"]), net="tiny")
    right, z = r.tensor("eln_logit")[:, 0], r.tensor("student_logits", grad=True)
    target = method.judged(r.tensor("teacher_logits"), right, torch.ones_like(right))
    loss = pixel_ce(z, target, over="kept")
    loss.backward()
    return {
        "out_valid": target.weight.to(torch.uint8),
        "out_pseudo_label": target.label.where(target.weight > 0, VOID),
        "out_loss": loss,
        "out_grad_student": grad_of(z),
    }


@adapter("eln", "contrast")
def contrast(r: Recording) -> dict[str, Any]:
    query, key, label = r.tensor("teacher_feat"), r.tensor("student_feat", grad=True), r.label("label")
    valid, classes = r.tensor("valid") == 1, int(label.max()) + 1
    loss = pair_contrast(query, key, label, valid, classes, r.hyper["temperature"])
    loss.backward()
    alone = pair_contrast(query, key, torch.zeros_like(label), valid, classes, r.hyper["temperature"])
    return {"out_loss": loss, "out_grad_student": grad_of(key), "out_loss_single_class": alone}
