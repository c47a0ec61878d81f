"""SemiSeg-Contrastive's losses and tables, by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, ce_of, gradients, variant


@variant("semiseg_contrastive_unlabeled_losses")
def unlabeled_losses(d: Draw) -> dict[str, Any]:
    z, target, conf, w = d.logits(3, 4, 5, 6), d.label(4, 3, 5, 6), d.uniform(3, 5, 6), d.uniform(4)
    ramp, known = np.exp(-5 * (1 - 30 / 90) ** 2), target != VOID
    factor = torch.from_numpy(conf.astype(np.float64) ** 6 * w.astype(np.float64)[np.where(known, target, 0)])
    l_u, grad_u = gradients(lambda q: ramp * (factor * ce_of(q, target)).sum() / target.size, z)

    def entropy(q: torch.Tensor) -> torch.Tensor:
        p, total = q.softmax(1), 0.0
        for b, i, j in np.argwhere(known):
            total = total - (p[b, :, i, j] * p[b, :, i, j].log2()).sum()
        return total / (target.size * 2 * known.mean())  # log2 of four classes is 2

    l_h, grad_h = gradients(entropy, z)
    ramps = [np.exp(-5 * (1 - min(50 * i, 90) / 90) ** 2) for i in range(4)]
    return {
        "in_logits": z, "in_target": target, "in_conf": conf, "in_class_weight": w, "in_iteration": np.array(30),
        "out_ce": l_u, "out_grad_ce": grad_u, "out_entropy": l_h, "out_grad_entropy": grad_h, "out_ramp": ramps,
        "hyper": {"rampup": 90, "ignore": VOID},
    }  # fmt: skip


@variant("semiseg_contrastive_class_balance")
def class_balance(d: Draw) -> dict[str, Any]:
    """Four of five classes are met; the median is the third of five."""
    label, pseudo = d.label(4, 7, 3, 4, 5), d.label(4, 7, 3, 2, 3)
    found = []
    for step in range(7):
        seen = np.zeros(5)
        for c in range(5):
            seen[c] += (label[:2] == c).sum() + (pseudo[max(0, step - 3) : step + 1] == c).sum()
        w = np.ones(5)
        if step >= 3:
            w = np.array([np.sqrt(np.median(seen) / n) if n else 0 for n in seen])
            w[seen == 0] = max(w.max(), 1.0)
        found.append(w)
    return {
        "in_labels": label, "in_pseudo": pseudo, "in_slots": np.array([2, 4]), "out_weights": np.array(found),
        "hyper": {"num_classes": 5, "ignore": VOID},
    }  # fmt: skip


@variant("semiseg_contrastive_contrast_loss")
def contrast_loss(d: Draw) -> dict[str, Any]:
    """Class 0 has no memory, class 2 a single feature; written for one pair of rows after the other."""
    label = np.array([0, 1, 1, 0, 1, 2, 1, 0, 1])
    f, memory = d.normal(9, 4), d.normal(3, 5, 4)
    shapes = {"0.weight": (4, 4), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "3.weight": (1, 4), "3.bias": (1,)}
    nets = {f"{n}_{c}.{k}": d.normal(*s) for n in ("sel", "selmemory") for c in range(3) for k, s in shapes.items()}
    w = {k: torch.from_numpy(v).double().requires_grad_() for k, v in nets.items()}
    x = torch.from_numpy(f).double().requires_grad_()
    own, m = np.flatnonzero(label == 1), torch.from_numpy(memory[1]).double()
    h = torch.stack([w["sel_1.0.weight"] @ x[i].detach() + w["sel_1.0.bias"] for i in own])
    h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt() * w["sel_1.1.weight"] + w["sel_1.1.bias"]
    s = torch.sigmoid(torch.where(h > 0, h, 0.2 * h) @ w["sel_1.3.weight"][0] + w["sel_1.3.bias"])
    total = 0.0
    for n, i in enumerate(own):
        for row in m:
            cosine = x[i] @ row / (x[i].norm() * row.norm())
            total = total + s[n] * len(own) / s.sum() * (1 - cosine) / (len(own) * len(m))
    loss = total / 3
    loss.backward()
    mine = [p.grad for k, p in w.items() if k.startswith("sel_1.")]
    norm = torch.stack([g.square().sum() for g in mine]).sum().sqrt()
    return {
        "in_features": f, "in_labels": label, "in_memory": memory, "in_memory_present": np.array([0, 1, 1]),
        **{f"in_{k}": v for k, v in nets.items()}, "out_loss": loss, "out_grad_features": x.grad,
        "out_selector_grad_norm": np.array([0.0, float(norm), 0.0]), "out_memory_selector_grad_norm": np.zeros(3),
        "hyper": {"num_classes": 3},
    }  # fmt: skip


@variant("semiseg_contrastive_memory_update")
def memory_update(d: Draw) -> dict[str, Any]:
    """Nine rows of a class at a time, of which a memory has room for two; class 3 has rows now and then, class 4 fewer
    than nine at the end alone."""
    images, labelled, room, per_image = 3, 9, 18, int(5 / 3 * round(18 / 9))
    shapes = {"0.weight": (4, 4), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "3.weight": (1, 4), "3.bias": (1,)}
    nets = [{k: d.normal(*shape) for k, shape in shapes.items()} for _ in range(5)]
    memory: list[list[np.ndarray]] = [[] for _ in range(5)]
    found: dict[str, Any] = {}
    for step in range(4):
        counts = [12, 11, 20, 10 if step % 2 else 0, 4 if step == 3 else 0]
        y = d.rng.permutation(np.repeat(np.arange(5), counts))
        f = d.normal(len(y), 4)
        for c, w in enumerate(nets):
            scored = []
            for row in f[y == c].astype(np.float64):
                h = (w["0.weight"] @ row + w["0.bias"]) / np.sqrt(1 + 1e-5) * w["1.weight"] + w["1.bias"]
                scored.append((w["3.weight"][0] @ np.where(h > 0, h, 0.2 * h), row))
            if len(scored) > images * per_image:
                scored = sorted(scored, key=lambda pair: pair[0])[: images * per_image]
            memory[c] = [row for _, row in scored] + memory[c]
            del memory[c][room:]
            found[f"out_memory{step}_{c}"] = np.array(memory[c]).reshape(-1, 4)
        found |= {f"in_features{step}": f, f"in_labels{step}": y}
    return found | {
        **{f"in_sel_{c}.{k}": v for c, w in enumerate(nets) for k, v in w.items()}, "in_batch_size": np.array(images),
        "in_num_labeled": np.array(labelled), "out_per_class_per_image": np.array(per_image),
        "hyper": {"memory_per_class": room, "dataset": "pascal", "num_classes": 5},
    }  # fmt: skip
