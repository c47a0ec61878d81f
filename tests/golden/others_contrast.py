"""The contrasts of ReCo and its children, by loops over classes, anchors and negatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from other_recordings import Draw, exact, gradients, resized, variant
from torch import Tensor

CLASSES, QUERIES, NEGATIVES, HARD = 5, 4, 3, 0.6


def inputs(d: Draw) -> dict[str, Any]:
    """Two images of 7 x 10 with five classes, of which class 3 has no pixel and class 1 only easy ones."""
    shape = (2, 7, 10)
    label = d.rng.choice([0, 1, 2, 4, 255], size=shape)
    mask = (d.rng.random((2, 1, 7, 10)) < 0.8).astype(np.float32)
    p = torch.from_numpy(d.logits(2, CLASSES, 7, 10)).softmax(1).numpy()
    easy = np.full(CLASSES, 0.05, np.float32)
    easy[1] = 0.8
    p = np.where((label == 1)[:, None], easy[:, None, None], p)
    used = np.where(mask[:, 0] > 0, label, 255).ravel()
    of_own = np.moveaxis(p, 1, 3).reshape(-1, CLASSES)
    pools = {k: np.flatnonzero(used == k) for k in (0, 1, 2, 4)}
    hard = {k: [i for i in pool if of_own[i, k] < HARD] for k, pool in pools.items()}
    present = list(pools)
    positions = [i for i, k in enumerate(present) if hard[k]]
    assert len(positions) == 3
    anchors = np.stack([d.rng.integers(0, len(hard[present[i]]), QUERIES) for i in positions])
    sizes = [sum(len(pools[k]) for k in present if k != present[i]) for i in positions]
    negatives = np.stack([d.rng.integers(0, n, QUERIES * NEGATIVES) for n in sizes])
    return {
        "in_label": label, "in_mask": mask, "in_prob": p, "in_valid_classes": np.array(present),
        "in_draw_position": np.array(positions), "in_anchor_idx": anchors, "in_negative_idx": negatives,
        "pools": pools, "hard": hard,
    }  # fmt: skip


def contrasted(given: dict[str, Any], z: Tensor, centre: dict[int, Tensor], score: Callable, heat: float) -> dict:
    """The loss and the distributions of the negative classes; `z` (N, D), centres by class."""
    pools, hard, present = given.pop("pools"), given.pop("hard"), given["in_valid_classes"].tolist()
    total, shares = 0.0, []
    for i, anchors, negatives in zip(given["in_draw_position"], given["in_anchor_idx"], given["in_negative_idx"]):
        k, turned = present[i], present[i + 1 :] + present[:i]
        alike = np.array([float(score(centre[k], centre[j])) / heat for j in turned])
        shares.append(np.exp(alike) / np.exp(alike).sum())
        pool = np.concatenate([pools[j] for j in turned])
        term = 0.0
        for q, anchor in enumerate(anchors):
            a = z[hard[k][anchor]]
            others = [z[pool[n]].detach() for n in negatives[q * NEGATIVES : (q + 1) * NEGATIVES]]
            e = [torch.exp(score(a, b) / heat) for b in (centre[k], *others)]
            term = term - torch.log(e[0] / sum(e))
        total = total + term / QUERIES
    return {"out_loss": total / len(present), "out_negative_class_prob": np.stack(shares)}


def hyper(heat: float) -> dict[str, Any]:
    return {
        "strong_threshold": HARD, "temp": heat, "num_queries": QUERIES, "num_negatives": NEGATIVES,
        "num_classes": CLASSES,
    }  # fmt: skip


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.square().sum() * b.square().sum()).sqrt()


@variant("reco_contrast_loss")
def reco_contrast_loss(d: Draw) -> dict[str, Any]:
    given = inputs(d)
    rep = torch.from_numpy(d.normal(2, 6, 7, 10)).requires_grad_()
    z = rep.permute(0, 2, 3, 1).reshape(-1, 6)
    centre = {k: z[torch.from_numpy(pool)].mean(0).detach() for k, pool in given["pools"].items()}
    found = contrasted(given, z, centre, cosine, 0.3)
    (grad,) = torch.autograd.grad(found["out_loss"], rep)
    return given | found | {"in_rep": rep, "out_grad_rep": grad, "hyper": hyper(0.3)}


@variant("reco_unsup_loss")
def reco_unsup_loss(d: Draw) -> dict[str, Any]:
    """Three images, of which one has no sure pixel and one no valid one."""
    z = torch.from_numpy(d.logits(3, 4, 5, 6)).requires_grad_()
    label, confidence = d.rng.integers(0, 4, (3, 5, 6)), d.uniform(3, 5, 6)
    label[d.rng.random((3, 5, 6)) < 0.2] = -1
    label[2], confidence[1] = -1, 0.2
    total, number = 0.0, 0
    for logits, y, c in zip(z, label, confidence):
        known = y != -1
        weight = (c >= 0.6).sum() / max(known.sum(), 1)
        for i, j in zip(*np.nonzero(known)):
            total = total - weight * logits[:, i, j].log_softmax(0)[y[i, j]]
            number += 1
    (grad,) = torch.autograd.grad(total / number, z)
    return {
        "in_logits": z, "in_target": label, "in_conf": confidence, "in_threshold": np.float32(0.6),
        "out_loss": total / number, "out_grad_logits": grad, "hyper": {"threshold": 0.6, "ignore": -1},
    }  # fmt: skip


def likelihood(a: Tensor, b: Tensor) -> Tensor:
    """Of rows that hold means and variances."""
    n = len(a) // 2
    total = 0.0
    for i in range(n):
        apart = a[i] / a[:n].square().sum().sqrt() - b[i] / b[:n].square().sum().sqrt()
        total = total - 0.5 * (apart**2 / (a[n + i] + b[n + i]) + torch.log(a[n + i] + b[n + i]))
    return total / n


@variant("prcl_contrast_loss")
def prcl_contrast_loss(d: Draw) -> dict[str, Any]:
    given = inputs(d)
    mean = torch.from_numpy(d.normal(2, 6, 7, 10)).requires_grad_()
    variance = torch.from_numpy(0.05 + 0.9 * d.uniform(2, 6, 7, 10)).requires_grad_()
    z = torch.cat([mean, variance], 1).permute(0, 2, 3, 1).reshape(-1, 12)
    centre = {}
    for k, pool in given["pools"].items():
        precision, weighted = torch.zeros(6), torch.zeros(6)
        for row in z[torch.from_numpy(pool)].detach():
            precision, weighted = precision + 1 / row[6:], weighted + row[:6] / row[6:]
        centre[k] = torch.cat([weighted / precision, 1 / precision])
    found = contrasted(given, z, centre, likelihood, 2.0)
    grads = dict(zip(("out_grad_mu", "out_grad_var"), torch.autograd.grad(found["out_loss"], (mean, variance))))
    return given | found | grads | {"in_mu": mean, "in_var": variance, "hyper": hyper(2.0)}


@variant("prcl_mls")
def prcl_mls(d: Draw) -> dict[str, Any]:
    given = {"mu0": d.normal(3, 1, 6), "var0": 0.05 + d.uniform(3, 1, 6)}
    given |= {"mu1": d.normal(1, 5, 6), "var1": 0.05 + d.uniform(1, 5, 6)}
    cotangent = d.normal(3, 5)

    def scores(m0: Tensor, v0: Tensor, m1: Tensor, v1: Tensor) -> Tensor:
        pairs = [(torch.cat([m0[i, 0], v0[i, 0]]), torch.cat([m1[0, j], v1[0, j]])) for i, j in np.ndindex(3, 5)]
        return torch.stack([likelihood(*pair) for pair in pairs]).view(3, 5)

    _, *found = gradients(lambda *leaves: (scores(*leaves) * exact(cotangent)[0]).sum(), *given.values())
    return {
        **{f"in_{key}": value for key, value in given.items()}, "in_cotangent": cotangent,
        "out_score": scores(*exact(*given.values())), **{f"out_grad_{key}": g for key, g in zip(given, found)},
    }  # fmt: skip


@variant("css_space_labels")
def css_space_labels(d: Draw) -> dict[str, Any]:
    """Prototype 3 is not there yet: nothing is like it. Maps and images are not square."""
    rep, prototypes, logits = d.normal(3, 5, 4, 6), d.normal(4, 5), d.logits(3, 4, 4, 6)
    prototypes[3] = 0
    z, p = exact(rep, prototypes)
    alike = torch.zeros(3, 4, 4, 6).double()
    for b, k, i, j in np.ndindex(3, 3, 4, 6):
        alike[b, k, i, j] = cosine(z[b, :, i, j], p[k]) / 0.3
    by_space, by_head = (resized(t, (9, 16)).softmax(1).max(1) for t in (alike, exact(logits)[0]))
    same = by_space.indices == by_head.indices
    return {
        "in_rep": rep, "in_prototypes": prototypes, "in_logits": logits, "in_size": np.array([9, 16]),
        "out_label_rep": by_space.indices, "out_conf_rep": by_space.values, "out_label_cls": by_head.indices,
        "out_conf_cls": by_head.values, "out_label_mix": torch.where(same, by_head.indices, 255),
        "out_prob_all": alike.softmax(1), "hyper": {"temp": 0.3},
    }  # fmt: skip


@variant("css_contrast_loss")
def css_contrast_loss(d: Draw) -> dict[str, Any]:
    """Prototype 2 is not there yet."""
    given = inputs(d)
    rep = torch.from_numpy(d.normal(2, 6, 7, 10)).requires_grad_()
    z = rep.permute(0, 2, 3, 1).reshape(-1, 6)
    before = d.normal(CLASSES, 6)
    before[2] = 0
    after = torch.from_numpy(before.copy())
    for k, pool in given["pools"].items():
        mean = z[torch.from_numpy(pool)].mean(0).detach()
        after[k] = mean if k == 2 else 0.7 * after[k] + 0.3 * mean
    found = contrasted(given, z, dict(enumerate(after)), cosine, 0.4)
    (grad,) = torch.autograd.grad(found["out_loss"], rep)
    answers = {"out_prototypes": after, "out_grad_rep": grad, "hyper": hyper(0.4) | {"alpha": 0.7}}
    return given | found | answers | {"in_rep": rep, "in_prototypes": before}
