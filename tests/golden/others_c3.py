"""C3-SemiSeg's thresholds, consistency and contrast, by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, variant


@variant("c3_semiseg_class_threshold")
def class_threshold(d: Draw) -> dict[str, Any]:
    """Class 4 is never predicted."""
    confidence, label = d.uniform(3, 2, 5, 7), d.rng.integers(0, 4, (3, 2, 5, 7))
    thresholds, found = np.full(5, 0.7), []
    for c, y in zip(confidence, label):
        for k in range(4):
            falling = sorted(c[y == k].tolist(), reverse=True)
            thresholds[k] = 0.6 * thresholds[k] + 0.4 * falling[int(len(falling) * 0.5)]
        found.append(thresholds.copy())
    mask = confidence[-1] >= np.float32(thresholds)[label[-1]]
    return {
        "in_conf": confidence, "in_pred": label, "out_threshold": np.stack(found), "out_mask": mask[:, None],
        "hyper": {"ema": 0.6, "gamma": 0.0, "end_percent": 0.5, "init": 0.7},
    }  # fmt: skip


@variant("c3_semiseg_consistency")
def consistency(d: Draw) -> dict[str, Any]:
    z = torch.from_numpy(d.logits(3, 4, 5, 6)).requires_grad_()
    p = torch.from_numpy(d.logits(3, 4, 5, 6)).softmax(1)
    mask = (d.rng.random((3, 1, 5, 6)) < 0.5).astype(np.float32)
    places = list(zip(*np.nonzero(mask[:, 0])))
    loss = -sum((p[b, :, i, j] * z[b, :, i, j].log_softmax(0)).sum() for b, i, j in places) / (4 * len(places))
    (grad,) = torch.autograd.grad(loss, z)
    ramp = [np.exp(-5 * (1 - min(max(i, 0), 1000) / 1000) ** 2) for i in range(-50, 600, 50)]
    return {
        "in_logits": z, "in_teacher_prob": p, "in_mask": mask, "out_loss": loss, "out_grad_logits": grad,
        "out_ramp": np.array(ramp),
    }  # fmt: skip


@variant("c3_semiseg_contrast_loss")
def contrast_loss(d: Draw) -> dict[str, Any]:
    """Two images of 4 x 6; class 2 has one group, so its anchors have positives within it alone."""
    z = torch.from_numpy(d.normal(2, 5, 4, 6)).requires_grad_()
    keys, label, mask = torch.from_numpy(d.normal(2, 5, 4, 6)), np.full((2, 4, 6), VOID), np.ones((2, 1, 4, 6))
    label[0, :2], label[0, 2:], label[1, :3] = 1, 2, 1
    mask[0, 0, 0, 0] = 0
    groups = [(0, 1), (0, 2), (1, 1)]
    index = []
    for image, k in groups:
        own = np.flatnonzero((label[image].ravel() == k) & (mask[image, 0].ravel() == 1))
        index.append(d.rng.permutation(own)[:3])
    slots = [(b, i // 6, i % 6, k) for (b, k), own in zip(groups, index) for i in own]

    def unit(t: torch.Tensor) -> torch.Tensor:
        return t / t.square().sum().sqrt()

    total = 0.0
    for n, (b, y, x, k) in enumerate(slots):
        score = [(unit(z[b, :, y, x]) * unit(keys[c, :, i, j])).sum() / 0.2 for c, i, j, _ in slots]
        others = sum(torch.exp(s) for s, slot in zip(score, slots) if slot[3] != k)
        near = [s for m, (s, slot) in enumerate(zip(score, slots)) if slot[3] == k and m != n]
        total = total - sum(torch.log(torch.exp(s) / (torch.exp(s) + others)) for s in near) / len(near)
    loss = 0.2 / 0.1 * total / len(slots)
    (grad,) = torch.autograd.grad(loss, z)
    return {
        "in_feat": z, "in_feat_teacher": keys, "in_label": label, "in_prediction": d.rng.integers(0, 3, (2, 4, 6)),
        "in_mask": mask.astype(np.float32), "in_group_image": np.array([b for b, _ in groups]),
        "in_group_class": np.array([k for _, k in groups]), "in_pixel_idx": np.stack(index), "out_loss": loss,
        "out_grad_feat": grad,
        "hyper": {"temperature": 0.2, "base_temperature": 0.1, "n_view": 3, "num_classes": 3, "ignore": VOID},
    }  # fmt: skip
