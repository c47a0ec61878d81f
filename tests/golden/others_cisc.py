"""CISC-R's maps and weights, by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import VOID, Draw, ce_of, gradients, variant


@variant("cisc_r_weighted_ce")
def weighted_ce(d: Draw) -> dict[str, Any]:
    z, target, map, s = d.logits(3, 4, 5, 6), d.label(4, 3, 5, 6), d.classes(2, 3, 5, 6), d.uniform(3, 5, 6)
    w = torch.from_numpy(np.where(map == 1, s, 1 - s).astype(np.float64))
    loss, grad = gradients(lambda q: (w * ce_of(q, target)).sum() / target.size, z)
    return {
        "in_logits": z, "in_target": target, "in_map": map, "in_similarity": s, "out_loss": loss,
        "out_grad_logits": grad, "hyper": {"ignore": VOID},
    }  # fmt: skip


@variant("cisc_r_consistency")
def consistency(d: Draw) -> dict[str, Any]:
    """Three pairs, the last without a shared class; features that are not enlarged, so that pixels stand for cells."""
    feats, maps = [d.uniform(3, 4, 5, 6) ** 4 for _ in range(2)], [d.classes(2, 3, 5, 6) for _ in range(2)]
    labels = [np.where(d.rng.random((3, 5, 6)) < 0.1, VOID, m) for m in maps]
    for m in maps:
        m[2] = 0
    out: dict[str, Any] = {}

    def loss(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        total = 0.0
        for mine, other, k in ((one, two, 0), (two, one, 1)):
            found = torch.zeros(3, 5, 6, dtype=torch.float64)
            for b in range(3):
                area = maps[1 - k][b] == 1
                v = sum((other[b, :, i, j] for i, j in np.argwhere(area)), torch.zeros(4).double())
                v = v / (area.sum() + 5e-4)
                rows = [[F.cosine_similarity(mine[b, :, i, j], v, 0) for j in range(6)] for i in range(5)]
                found[b] = torch.stack([torch.stack(row) for row in rows])
                if k == 0:
                    out.setdefault("v", torch.zeros(3, 4))[b] = v.detach()
            if k == 0:
                out["s"] = found.detach()
            y, known = torch.from_numpy(maps[k]), torch.from_numpy(labels[k] != VOID)
            bce = -torch.where(y == 1, found, 1 - found).log()
            total = total + bce[known].sum() / known.sum()
        return total

    value, first, second = gradients(loss, *feats)
    return {
        "in_feat1": feats[0], "in_feat2": feats[1], "in_map1": maps[0], "in_map2": maps[1], "in_label1": labels[0],
        "in_label2": labels[1], "out_vector2": out["v"], "out_similarity": out["s"], "out_loss": value,
        "out_grad_feat1": first, "out_grad_feat2": second, "hyper": {"ignore": VOID},
    }  # fmt: skip
