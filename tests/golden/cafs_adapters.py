"""CAFS against a recording of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recording, adapter, task_of

from s4kit.methods.consistency.cafs import CAFS


@adapter("cafs", "class_threshold_mask")
def cafs_class_threshold_mask(r: Recording) -> dict[str, Any]:
    p, tau = r.tensor("prob"), r.tensor("tau")
    given = tau.tolist()
    method = CAFS(task_of(len(tau)), net="tiny", thresholds=given, class_iou=[0.5] * len(given))
    view = views(torch.zeros(len(p), 3, *p.shape[2:]), torch.ones(p[:, 0].shape))
    weight = method.pseudo_labels(p.log(), view, START).weight
    assert not weight.requires_grad
    return {"out_mask": weight > 0}
