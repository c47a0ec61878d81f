"""Three-Stage against a recording of its official code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from harness import Recording, adapter, grad_of

from s4kit.data.task import VOID
from s4kit.methods import PseudoLabels
from s4kit.methods.parts.losses import ce
from s4kit.methods.parts.rounds import believed
from s4kit.methods.selftraining.three_stage import ThreeStage


def as_target(label: torch.Tensor) -> PseudoLabels:
    return believed(label, SimpleNamespace(valid=torch.ones(label.shape)))


@adapter("three_stage", "losses")
def losses(r: Recording) -> dict[str, Any]:
    h, n = r.hyper, r.hyper["labelled_in_batch"]
    said = r.tensor("teacher_logits").argmax(1)
    row, column, valid = r.tensor("row"), r.tensor("col"), r.tensor("valid") == 1
    image = torch.arange(len(row))[:, None, None]
    target = torch.cat([said[:n], said[n:][image, row, column].where(valid, VOID)])
    z, second = r.tensor("student_logits", grad=True), r.tensor("student_logits2", grad=True)
    method = SimpleNamespace(
        supervised=ce, supervised_weight=h["supervised_weight"], weight=h["consistency_weight"]
    )  # all that the terms read
    kept = as_target(r.label("pseudo_mask"))
    found = ThreeStage.terms(method, z, second, r.label("label"), as_target(target), kept)
    found.total.backward()
    return {
        "out_target": r.as_recorded(target),
        "out_sup_loss": found["x"][0],
        "out_pl_loss": 0.5 * (found["teacher"][0] + found["kept"][0]),
        "out_total": found.total,
        "out_grad_logits": grad_of(z),
        "out_grad_logits2": grad_of(second),
    }
