"""MPMC against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from harness import Recording, adapter, grad_of

from s4kit.methods.parts.patches import SIDE, STEP, doubtful, inside, occupancy, patch_bce, present


@adapter("mpmc", "patch_labels")
def mpmc_patch_labels(r: Recording) -> dict[str, Any]:
    """With averages of patches one pixel smaller, as released."""
    label, classes = r.label("label"), r.hyper["num_classes"]
    multi, share = present(label, classes), occupancy(label, classes, SIDE - 1)
    z = r.tensor("patch_logits", grad=True)
    loss = patch_bce(z.mT.unflatten(2, multi.shape[-2:]), multi, share)
    loss.backward()
    h = multi.shape[-1]
    fields = []
    for i in range(h):
        chosen = torch.zeros(1, 1, h + 20, 1, dtype=torch.bool)  # far from the border
        chosen[0, 0, i + 10] = True
        seen = inside(chosen, (STEP * (h + 20), 1))[0, 0, :, 0].nonzero() - 10 * STEP
        fields.append([int(seen.min()), int(seen.max())])
    return {
        "out_multilabel": multi, "out_occupancy": share, "out_loss": loss, "out_grad_logits": grad_of(z),
        "out_receptive_field": np.array(fields),
    }  # fmt: skip


WHY = "it drops patches said not to hold a class as well, by a second share and a rule that the kit does not have"


@adapter("mpmc", "noisy_selection", skip={"out_mean_loss": WHY})
def mpmc_noisy_selection(r: Recording) -> dict[str, Any]:
    found = doubtful(r.tensor("patch_logits"), r.tensor("patch_label"), r.tensor("delta")).nonzero()
    return {"out_patch": found[:, 0], "out_class": found[:, 1]}
