"""Noisy Boundaries against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import Recording, adapter

from s4kit.methods.instances.noisy_boundaries import NoisyBoundaries, boundary_map, class_thresholds, mask_terms


@adapter("noisy_boundaries", "mask_loss")
def mask_loss(r: Recording) -> dict[str, Any]:
    label, target, out = r.tensor("label"), r.tensor("target"), {}
    for order, name in (("paper", "none"), ("official", "mean")):
        pred = r.tensor("pred", grad=True)
        z = pred[torch.arange(len(label)), label]
        terms = mask_terms(z, target, order)
        terms.mean().backward()
        out |= {f"out_map_{name}": terms, f"out_loss_{name}": terms.mean(), f"out_grad_{name}": pred.grad}
    configured = NoisyBoundaries.recipes["cityscapes"]["method"]["mask_weight"] * out["out_loss_mean"]
    plain = F.binary_cross_entropy_with_logits(z, target)
    return out | {"out_loss_configured": configured, "out_loss_plain_bce": plain, "out_weight": boundary_map(z)}


@adapter("noisy_boundaries", "class_threshold")
def class_threshold(r: Recording) -> dict[str, Any]:
    scores, labels = r.inputs["in_score"], r.inputs["in_class"]
    true, images = r.inputs["in_labelled_class"], int(r.inputs["in_num_unlabelled_images"])
    wanted = np.bincount(true, minlength=int(labels.max()) + 1) / int(r.inputs["in_num_labelled_images"])
    found = class_thresholds(scores, labels, images, wanted)
    return {
        "out_threshold": found,
        "out_keep": (scores > found[labels]).astype(np.int32),
        "out_labelled_per_image": wanted,
    }
