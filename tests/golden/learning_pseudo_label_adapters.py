"""LPL against recordings of its official code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from harness import Recording, adapter, grad_of, task_of

from s4kit.methods.parts.losses import pixel_mean
from s4kit.methods.parts.present import class_aware, class_aware_map, within
from s4kit.methods.selftraining.learning_pseudo_label import LearningPseudoLabel


@adapter("learning_pseudo_label", "cce")
def cce(r: Recording) -> dict[str, Any]:
    assert (r.hyper["temperature"], r.hyper["eps"]) == (1, 1e-5)
    z, there, label = r.tensor("logits", grad=True), r.tensor("category") > 0, r.label("label")
    known = (label != 255).float()
    loss_map = class_aware_map(z, label, there)
    loss = pixel_mean(loss_map, known, known, over="valid")
    loss.backward()
    return {
        "out_prob": class_aware(z, there)[0],
        "out_loss_map": loss_map,
        "out_loss": loss,
        "out_grad": grad_of(z),
    }


@adapter("learning_pseudo_label", "pct")
def pct(r: Recording) -> dict[str, Any]:
    h = r.hyper
    method = LearningPseudoLabel(
        task_of(h["num_classes"]), net="tiny", power=h["power"], momentum=h["momentum"], background=False
    )
    found: dict[str, list] = {key: [] for key in ("area_true", "area_pred", "area_hit", "iou", "weight", "loss")}
    strong = h["strong_images"]
    given = zip(r.label("label"), r.tensor("pseudo_label"), r.tensor("category") > 0, r.tensor("logits_weak"))
    for label, pseudo, there, z in given:
        method.count(label[:strong], pseudo[:strong], torch.ones(pseudo[:strong].shape))
        u = SimpleNamespace(
            labelled=torch.zeros(len(z), dtype=torch.bool),
            label=torch.full_like(pseudo[strong:], 255),
            valid=torch.ones(pseudo[strong:].shape),
        )
        v = method.trust(there[strong:])
        said = torch.nn.functional.one_hot(pseudo[strong:], h["num_classes"]).movedim(-1, 1).float()
        target = method.chosen(within(said, torch.ones_like(there[strong:])), u, v[:, None, None])
        loss = (class_aware_map(z, target.label, there[strong:]) * target.weight).mean()
        for key, value in zip(found, (*method.areas.clone(), method.iou(), v, loss)):
            found[key].append(value)
    return {f"out_{key}": torch.stack(values) for key, values in found.items()}
