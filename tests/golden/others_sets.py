"""Our own recordings of FPL, CPSR, S4MC and USCS; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import Draw, ce_of, exact, gradients, mean_ce, mixed, variant
from torch import Tensor

SIZE = (9, 14)


def fuzzy_loss(z: Tensor, p: Tensor, tau: float, most: int) -> tuple[Tensor, Tensor]:
    """FPL's set loss log(1 + sum of positives e^-z sum of negatives e^z), and the number of positives."""
    ordered, index = p.sort(1, descending=True)
    number = (ordered.cumsum(1) < tau).sum(1).clamp(1, most)
    positive = torch.zeros_like(p, dtype=torch.bool)
    for rank in range(p.shape[1]):
        positive.scatter_(1, index[:, rank : rank + 1], (rank < number)[:, None])
    up = (-z).exp().masked_fill(~positive, 0).sum(1)
    down = z.exp().masked_fill(positive, 0).sum(1)
    return torch.log1p(up * down), number


def clarity(p: Tensor, number: Tensor, kind: str) -> Tensor:
    """FPL's weight: how far the first class outside of the set stays below an even share."""
    ordered = p.sort(1, descending=True).values
    total, after = ordered.cumsum(1).gather(1, number[:, None] - 1)[:, 0], ordered.gather(1, number[:, None])[:, 0]
    m = total / (number + 1) + after / (number + 1)
    gap = m - after
    weight = {
        "none": torch.ones_like(gap),
        "linear": gap / m,
        "convex": gap / (after + m),
        "concave": torch.log(1 + 50 * gap) / torch.log(1 + 50 * m),
    }[kind]
    return weight.clamp(max=1)


@variant("fpl_topk")
def fpl_topk(d: Draw) -> dict[str, Any]:
    z, t = d.logits(3, 7, *SIZE), d.normal(3, 7, *SIZE, scale=1.5)
    p = exact(t)[0].softmax(1)
    loss, number = fuzzy_loss(exact(z)[0], p, 0.8, 4)
    answers = {f"out_weight_{kind}": clarity(p, number, kind) for kind in ("linear", "convex", "concave")}
    for kind in ("none", "concave"):
        w = clarity(p, number, kind)
        answers[f"out_grad_{kind}"] = gradients(lambda z, w=w: (fuzzy_loss(z, p, 0.8, 4)[0] * w).mean(), z)[1]
    return answers | {
        "in_logits_student": z, "in_logits_teacher": t, "out_loss_map": loss, "out_num_positive": number,
        "hyper": {"threshold": 0.8, "temp_k": 4},
    }  # fmt: skip


@variant("fpl_step")
def fpl_step(d: Draw) -> dict[str, Any]:
    given = {
        f"in_logits_{part}_net{k}": d.normal(3, 5, *SIZE, scale=1.5) for part in ("u0", "u1", "mix", "x") for k in "12"
    }
    given |= {"in_mask_x": d.label(5, 3, *SIZE, void=255), "in_mix_mask": d.box(3, *SIZE)[:, None]}
    given |= {f"in_img_u{k}": d.normal(3, 3, *SIZE) for k in "01"}
    m = exact(given["in_mix_mask"][:, 0])[0]
    q = [mixed(m, *exact(given[f"in_logits_u1_net{k}"], given[f"in_logits_u0_net{k}"])) for k in "12"]
    y = [t.argmax(1) for t in q]

    def fuzzy(z: Tensor, t: Tensor, kind: str = "linear") -> Tensor:
        loss, number = fuzzy_loss(z, t.softmax(1), 0.75, 2)
        return (loss * clarity(t.softmax(1), number, kind)).mean()

    def crossed(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        found, plain = fuzzy(a, q[1]) + fuzzy(b, q[0]), ce_of(a, y[1]).mean() + ce_of(b, y[0]).mean()
        return found, (plain / found).detach()

    def loss(x_1: Tensor, x_2: Tensor, a: Tensor, b: Tensor) -> Tensor:
        found, scale = crossed(a, b)
        label = given["in_mask_x"]
        return mean_ce(x_1, label, 255) + mean_ce(x_2, label, 255) + 1.4 * found * scale

    names = ("x_net1", "x_net2", "mix_net1", "mix_net2")
    leaves = [given[f"in_logits_{k}"] for k in names]
    total, *grads = gradients(loss, *leaves)
    x_1, x_2, a, b = exact(*leaves)
    found, scale = crossed(a, b)
    unweighted = fuzzy(a, q[1], "none") + fuzzy(b, q[0], "none")
    return given | {
        "out_img_mixed": mixed(m, *exact(given["in_img_u1"], given["in_img_u0"])), "out_loss": total,
        "out_loss_sup1": mean_ce(x_1, given["in_mask_x"], 255), "out_loss_sup2": mean_ce(x_2, given["in_mask_x"], 255),
        "out_loss_cps": found * scale, "out_cps_scalar": found * scale / unweighted,
        "out_pseudo1": y[0], "out_pseudo2": y[1],
        **{f"out_grad_{k}": g for k, g in zip(names, grads)},
        "hyper": {"threshold": 0.75, "temp_k": 2, "weight": "linear", "cps_weight": 1.4},
    }  # fmt: skip


@variant("fpl_ael_consistency")
def fpl_ael(d: Draw) -> dict[str, Any]:
    z, t, conf = d.normal(3, 5, *SIZE), d.normal(3, 5, *SIZE, scale=1.5), d.uniform(3, *SIZE)
    p, c = exact(t)[0].softmax(1), exact(conf)[0] ** 3
    plain = ce_of(exact(z)[0], p.argmax(1)).mean()
    raw, number = fuzzy_loss(exact(z)[0], p, 0.8, 2)
    w = clarity(p, number, "linear")
    scale = plain / (raw * w).mean()
    loss, grad = gradients(lambda z: (c * fuzzy_loss(z, p, 0.8, 2)[0] * w).sum() / c.sum() * scale, z)
    return {
        "in_logits_student": z, "in_logits_teacher": t, "in_conf": conf, "out_loss": loss, "out_grad_student": grad,
        "out_scalar": plain / raw.mean(), "hyper": {"gamma": 3, "threshold": 0.8, "temp_k": 2, "weight": "linear"},
    }  # fmt: skip


@variant("cpsr_losses")
def cpsr_losses(d: Draw) -> dict[str, Any]:
    """The second image is sure everywhere."""
    z, logits, ignore, tau = d.normal(3, 5, *SIZE), d.logits(3, 5, *SIZE), d.padding(3, *SIZE), 0.8
    logits[1, 2] += 30
    p = exact(logits)[0].softmax(1).float().numpy()
    valid = torch.from_numpy(ignore != 255)

    def terms(z: Tensor) -> tuple[Tensor, Tensor]:
        shrink, tail = 0.0, 0.0
        for b in range(3):
            q, order = exact(p[b])[0].sort(0, descending=True)
            if bool((q[0] >= tau).all()):
                continue
            s, cut = z[b].gather(0, order), 4
            for c in (2, 3):
                kept = torch.cat([q[:1], q[c:]]).softmax(0)  # as released: the softmax of probabilities
                if bool((kept.amax(0) >= tau).all()):
                    cut = c
                    break
            reduced = torch.cat([s[:1], s[cut:]])
            shrink = shrink + ((reduced.logsumexp(0) - reduced[0]) * valid[b]).sum() / valid[b].sum() / 3
            out = z[b].softmax(0).gather(0, order)[cut:]
            tail = tail + (-(1 - out + 1e-10).log()).sum(0).mean() / 3
        return shrink, tail

    shrink, g_s = gradients(lambda z: 0.2 * terms(z)[0], z)
    tail, g_t = gradients(lambda z: terms(z)[1], z)
    return {
        "in_logits_student": z, "in_prob_weak": p, "in_ignore": ignore, "out_shrink": shrink, "out_npl": tail,
        "out_grad_shrink": g_s, "out_grad_npl": g_t, "hyper": {"conf": tau, "shrink_weight": 0.2},
    }  # fmt: skip


@variant("s4mc_refine")
def s4mc_refine(d: Draw) -> dict[str, Any]:
    z, t, y, joint, beta = (
        d.normal(3, 5, *SIZE),
        d.logits(3, 5, *SIZE),
        d.label(5, 3, *SIZE, void=255),
        0.8 + 0.2 * d.uniform(5),
        0.4,
    )
    p, e = exact(t)[0].softmax(1), exact(joint)[0][:, None, None]
    cases = [
        {"percent": 55, "indicator": "margin", "neigborhood_size": 8, "n_neigbors": 2},
        {"percent": 85, "indicator": "confidence", "neigborhood_size": 4, "n_neigbors": 1},
        {"percent": 62, "indicator": "entropy", "neigborhood_size": 4, "n_neigbors": 1},
        {"percent": 70, "indicator": "margin", "neigborhood_size": 4, "n_neigbors": 3},
    ]
    sureness = {
        "margin": lambda p: p.topk(2, 1).values[:, 0] - p.topk(2, 1).values[:, 1],
        "confidence": lambda p: p.amax(1),
        "entropy": lambda p: (p * (p + 1e-10).log()).sum(1),
    }
    answers: dict[str, Any] = {}
    for i, case in enumerate(cases):
        steps = [(-1, 0), (1, 0), (0, -1), (0, 1)]
        steps += [(-1, -1), (-1, 1), (1, -1), (1, 1)] if case["neigborhood_size"] == 8 else []
        padded = F.pad(p, (1, 1, 1, 1))
        around = torch.stack([padded[..., 1 + a : 1 + a + SIZE[0], 1 + b : 1 + b + SIZE[1]] for a, b in steps])
        refined = p
        for n in around.sort(0, descending=True).values[: case["n_neigbors"]]:
            refined = refined + beta * n - beta * torch.maximum(refined * n, refined * e)
        f = sureness[case["indicator"]]
        g = np.percentile(f(p).numpy()[y != 255], 100 - case["percent"])
        after = np.where(f(refined).numpy() <= g, 255, y)
        scale = y.size / (after != 255).sum()
        loss, grad = gradients(lambda z, after=after, scale=scale: scale * mean_ce(z, after, 255), z)
        answers |= {
            f"out_loss_{i}": loss, f"out_target_{i}": after, f"out_scale_{i}": scale, f"out_grad_student_{i}": grad,
            f"out_threshold_{i}": np.float32(-g if case["indicator"] == "entropy" else g),
            f"out_refined_prob_{i}": refined,
        }  # fmt: skip
    hyper = {"dataset": "other", "cases": cases, "beta": beta, "E_joint": joint.tolist()}
    return answers | {"in_logits_student": z, "in_logits_teacher": t, "in_target": y, "hyper": hyper}


@variant("uscs_uncertainty_loss")
def uscs_loss(d: Draw) -> dict[str, Any]:
    given = {key: d.normal(3, 5, *SIZE) for key in ("z0", "z1", "q0", "q1")}
    labels, weights = [], []
    for z in exact(given["z0"], given["z1"]):
        p = z.softmax(1)
        h = -(p * (p + 1e-8).log()).sum(1)
        low, high = h.amin((1, 2), keepdim=True), h.amax((1, 2), keepdim=True)
        v = 1 - (h - low) / (high - low)
        labels.append(p.argmax(1))
        weights.append(torch.where(v >= 0.35, 1.0, v / 0.35))

    def loss(q_0: Tensor, q_1: Tensor) -> Tensor:
        return sum((w * ce_of(q, y)).sum() / w.sum() for q, y, w in zip((q_0, q_1), labels[::-1], weights[::-1]))

    total, g_0, g_1 = gradients(loss, given["q0"], given["q1"])
    return {
        **{f"in_{k}": v for k, v in given.items()}, "out_loss": total, "out_grad_q0": g_0, "out_grad_q1": g_1,
        **{f"out_y{k}": y for k, y in enumerate(labels)}, **{f"out_w{k}": w for k, w in enumerate(weights)},
        "hyper": {"a": 0.35},
    }  # fmt: skip
