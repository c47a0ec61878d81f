"""MPMC's patches, by loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, variant


@variant("mpmc_patch_labels")
def patch_labels(d: Draw) -> dict[str, Any]:
    """Maps of 45 x 29; averages are of fields one pixel smaller than those of the labels."""
    label = np.repeat(np.repeat(d.label(4, 2, 5, 4), 9, 1), 8, 2)[:, :, :29]
    multi, share = np.zeros((2, 4, 12, 8)), np.zeros((2, 4, 12, 8))
    for b, i, j in np.ndindex(2, 12, 8):
        rows, columns = (slice(max(0, 4 * k - 19), 4 * k + 20) for k in (i, j))
        fewer = tuple(slice(max(0, 4 * k - 19), 4 * k + 19) for k in (i, j))
        for c in range(4):
            multi[b, c, i, j] = (label[b, rows, columns] == c).any()
            share[b, c, i, j] = (label[b][fewer] == c).mean()
    z = torch.from_numpy(d.normal(2, 96, 4)).double().requires_grad_()
    total = whole = 0.0
    for b, i, j in np.ndindex(2, 12, 8):
        e = np.exp(share[b, :, i, j])
        for c in range(4):
            p = torch.sigmoid(z[b, 8 * i + j, c])
            total = total - e[c] / e.sum() * torch.log(p if multi[b, c, i, j] else 1 - p)
            whole += e[c] / e.sum()
    (total / whole).backward()
    return {
        "in_label": label, "in_patch_logits": z, "out_multilabel": multi, "out_occupancy": share,
        "out_loss": total / whole, "out_grad_logits": z.grad,
        "out_receptive_field": np.array([(4 * i - 19, 4 * i + 19) for i in range(8)]),
        "hyper": {"num_classes": 4, "ignore": VOID},
    }  # fmt: skip


@variant("mpmc_noisy_selection")
def noisy_selection(d: Draw) -> dict[str, Any]:
    """Nobody says class 2; class 0 is said so seldom that nothing is doubted."""
    z, said = d.normal(40, 4), d.rng.random((40, 4)) < 0.6
    said[:, 2] = False
    delta = np.array([0.01, 0.3, 0.5, 0.15], np.float32)
    found = []
    for c in range(4):
        loss = {p: math.log1p(math.exp(-float(z[p, c]))) for p in range(40) if said[p, c]}
        worst = sorted(loss, key=loss.get, reverse=True)
        found += [(p, c) for p in worst[: max(0, math.ceil(len(worst) * float(delta[c])) - 1)]]
    found = np.array(sorted(found))
    return {
        "in_patch_logits": z, "in_patch_label": said.astype(np.float32), "in_delta": delta, "out_patch": found[:, 0],
        "out_class": found[:, 1],
    }  # fmt: skip
