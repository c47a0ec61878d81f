"""DGCL's densities and contrast, by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, variant


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows.astype(np.float64) ** 2).sum(-1, keepdims=True))


def densities(f: np.ndarray, memory: np.ndarray, scales: tuple[int, ...]) -> np.ndarray:
    found = []
    for row in f:
        alike = np.sort(unit(memory) @ unit(row))[::-1]
        found.append(np.mean([alike[:k].mean() for k in scales]))
    return np.array(found)


@variant("dgcl_density")
def dgcl_density(d: Draw) -> dict[str, Any]:
    f, memory = d.normal(9, 5), d.normal(23, 5)
    return {
        "in_feat": f, "in_memory": memory, "in_k": np.array([3, 7]), "out_density": densities(f, memory, (3, 7)),
    }  # fmt: skip


@variant("dgcl_contrast_loss")
def dgcl_contrast_loss(d: Draw) -> dict[str, Any]:
    """Class 2 has fewer pixels than anchors are wanted, class 3 none; void pixels are nobody's negatives."""
    rep = torch.from_numpy(d.normal(2, 4, 5, 6)).requires_grad_()
    feat, label = d.normal(2, 3, 5, 6), d.rng.choice([0, 1, 4, VOID], size=(2, 5, 6))
    label[0, 0, :3] = 2
    stored = {k: d.normal(5, 12, n) for k, n in (("feat", 3), ("proj", 4))}
    remembered = d.uniform(5, 12)
    z, flat = rep.permute(0, 2, 3, 1).reshape(-1, 4), np.moveaxis(feat, 1, 3).reshape(-1, 3)
    y, terms = label.ravel(), []
    for c in (1, 2, 4):
        own, others = np.flatnonzero(y == c), np.flatnonzero((y != c) & (y != VOID))
        order = own[np.argsort(densities(flat[own], stored["feat"][c], (2, 5)), kind="stable")]
        best = stored["proj"][c][np.argsort(remembered[c])[::-1][:3].copy()]
        centre = torch.cat([z[order[::-1][:3].copy()].detach(), torch.from_numpy(best)]).mean(0)
        losses = []
        for i in order[:6]:
            score = [torch.cosine_similarity(z[i], row.detach(), dim=0) / 0.3 for row in (centre, *z[others])]
            losses.append(-torch.log(torch.stack(score).softmax(0)[0]))
        terms.append(torch.stack(losses).mean())
    loss = torch.stack(terms).mean()
    (grad,) = torch.autograd.grad(loss, rep)
    return {
        "in_rep": rep, "in_feat": feat, "in_label": label, "in_feat_memory": stored["feat"],
        "in_proj_memory": stored["proj"], "in_density_memory": remembered, "out_loss": loss, "out_grad_rep": grad,
        "hyper": {"temperature": 0.3, "k_den_cal": [2, 5], "k_high": 3, "k_low": 6, "ignore": VOID},
    }  # fmt: skip


@variant("dgcl_memory_update")
def dgcl_memory_update(d: Draw) -> dict[str, Any]:
    """Class 0 is full, class 1 has just as many rows as are too few, class 2 none, class 3 no pixel; one list of
    densities more has a surplus 0."""
    before, least, capacity, scales = [20, 9, 0, 6, 10], 9, 20, (2, 5)
    feat, rep, label = d.normal(2, 3, 5, 6), d.normal(2, 2, 5, 6), d.rng.choice([0, 1, 2, 4, VOID], size=(2, 5, 6))
    flat, y = np.moveaxis(feat, 1, 3).reshape(-1, 3), label.ravel()
    found: dict[str, Any] = {}
    number, entries = [], []
    for c, n in enumerate(before):
        stored, dense = d.normal(n, 3), np.append(d.uniform(n), [0.0] if c in (2, 3) else [])
        new = flat[y == c]
        own = densities(new, stored, scales) if n > least else np.zeros(len(new))
        rows, values = np.concatenate([new, stored])[:capacity], np.concatenate([own, dense])[:capacity]
        found |= {f"in_feat_memory{c}": stored, f"in_density{c}": dense.astype(np.float32)}
        found |= {f"out_feat_head{c}": rows[:15], f"out_density{c}": values}
        number.append(len(rows))
        entries.append(len(values))
    return found | {
        "in_feat": feat, "in_rep": rep, "in_label": label, "in_rows": np.array(before), "out_rows": np.array(number),
        "out_density_rows": np.array(entries),
        "hyper": {"memory_per_class": capacity, "k": list(scales), "density_min_rows": least, "max_new": 50,
                  "ignore": VOID},
    }  # fmt: skip
