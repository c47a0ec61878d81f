"""DARS against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from harness import Recording, adapter, relative_error

from s4kit.data.task import VOID
from s4kit.methods.parts.quotas import above, confident, quotas, tally, thinned, thresholds


@adapter(
    "dars", "thresholds",
    skip={"out_cbst_threshold": "thresholds that keep a share of each class are CBST's, which the kit does not have"},
)  # fmt: skip
def dars_thresholds(r: Recording) -> dict[str, Any]:
    label = torch.repeat_interleave(torch.arange(len(r.inputs["in_class_counts"])), r.tensor("class_counts"))
    counts = tally(label, r.tensor("confidence"), len(r.inputs["in_class_counts"]))
    prior = torch.from_numpy(r.inputs["in_prior_percent"]) / float(r.inputs["in_valid_percent"])
    pixels = int(r.inputs["in_pixels_per_image"]) * int(r.inputs["in_num_images"])
    wanted = quotas(float(r.inputs["in_labeling_ratio"]), prior, pixels)
    level, share = thresholds(counts, wanted)
    return {"out_target_count": wanted, "out_threshold": level, "out_sampling_ratio": share}


def subset(answer: Any, expected: np.ndarray, key: str) -> float:
    """Which pixels chance drops is its affair: what is left agrees with the recorded labels where both are."""
    if key != "out_example_sampled":
        return relative_error(answer, expected)
    answer = answer.numpy()
    both = (answer != VOID) & (expected != VOID)
    return float((answer != expected)[both].any())


@adapter("dars", "pseudo_label", error=subset)
def pseudo_label(r: Recording) -> dict[str, Any]:
    torch.manual_seed(0)
    label, confidence = confident(r.tensor("logits").movedim(-1, 1) / r.hyper["temperature"])
    kept = label.where(above(label, confidence, r.tensor("threshold")), VOID)
    sampled = torch.stack([thinned(image, r.tensor("sampling_ratio").double()) for image in kept])
    classes = torch.arange(r.hyper["num_classes"])
    counts = [(maps.flatten(1)[:, None] == classes[:, None]).sum(2) for maps in (kept, sampled)]
    return {
        "out_thresholded": kept,
        "out_count_thresholded": counts[0],
        "out_count_sampled": counts[1],
        "out_example_sampled": sampled,
    }
