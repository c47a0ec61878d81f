"""Our own recordings of thresholds that move: DAW, CorrMatch; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from other_recordings import (
    Draw,
    exact,
    gradients,
    mean_ce,
    variant,
)
from others_steps import KEYS, SIZE, Pasted, standard, sure_ce, weak_to_strong
from torch import Tensor


@variant("daw_step")
def daw_step(d: Draw) -> dict[str, Any]:
    given, classes, m = weak_to_strong(d, KEYS), 4, 0.8
    given["in_label_ignore"] = np.where(given["in_mask_x"] == 255, 255, 0).astype(np.uint8)
    given["in_label_ignore"][0, :2] = 255
    x, w, mix = (exact(given[f"in_logits_{key}"])[0].softmax(1) for key in ("x", "u_w", "u_w_mix"))
    known = given["in_label_ignore"] != 255
    counts = np.concatenate([given["in_ignore_mask"], given["in_ignore_mask_mix"]]) != 255
    even = np.full(classes, 1 / classes)
    a, b = class_confidence(x, known, even, m), class_confidence(torch.cat([w, mix]), counts, even, m)
    scale = torch.from_numpy(a / b)[:, None, None]
    p_w, p_mix = ((p * scale) / (p * scale).sum(1, keepdim=True) for p in (w, mix))
    conf, says = x.max(1)
    right = says.numpy() == given["in_mask_x"]
    groups = [conf.numpy()[right & known], conf.numpy()[~right & known]]
    mean = [m / classes + (1 - m) * g.mean() for g in groups]
    var = [m * 0.5 + (1 - m) * g.var(ddof=1) for g in groups]
    tau = crossing(mean, var, classes, 0.95)
    own = Pasted(given, p_w, p_mix, ("1", "2"))
    label = np.where(known, given["in_mask_x"], 255)
    terms = [lambda z: mean_ce(z, label, 255), *standard(given, own, tau)]
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{key}"] for key in names]
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip((0.5, 0.125, 0.125, 0.25), terms, z)), *leaves)
    return given | {
        "out_threshold": tau, "out_prob_x": a, "out_prob_u": b, "out_target1": own.of["1"][1],
        "out_conf1": own.of["1"][0], "out_loss": total,
        **{f"out_loss_{k}": f(*exact(z)) for k, f, z in zip(names, terms, leaves)},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)}, "hyper": {"ema": m, "first_step": True},
    }  # fmt: skip


def class_confidence(p: Tensor, counts: np.ndarray, before: np.ndarray, momentum: float) -> np.ndarray:
    """Averaged mean confidence of the pixels that are predicted as each class."""
    (c, y), after = p.max(1), before.copy()
    for k in range(len(before)):
        here = (y.numpy() == k) & counts
        if here.any():
            after[k] = momentum * before[k] + (1 - momentum) * c.numpy()[here].mean()
    return after


def crossing(mean: list[float], var: list[float], classes: int, before: float, alpha: float = 1.0) -> float:
    """Where two Gaussians are equal, the root of +sqrt(D)."""
    (u, v), (s, t) = mean, np.sqrt(var)
    a, b = s**2 - t**2, 2 * (u * t**2 - v * s**2)
    c = (v * s) ** 2 - (u * t) ** 2 + 2 * (s * t) ** 2 * np.log(t / (alpha * s) + 1e-8)
    disc = b**2 - 4 * a * c
    return float(np.clip((-b + np.sqrt(disc)) / (2 * a + 1e-10), 1 / classes, 1)) if disc > 0 else before


@variant("daw_threshold")
def daw_threshold(d: Draw) -> dict[str, Any]:
    """In the last step there are few right pixels."""
    z, y, m = d.logits(4, 3, 5, *SIZE), d.label(5, 4, 3, *SIZE, void=255), 0.7
    ignore = np.where(y == 255, 255, 0).astype(np.uint8)
    y[2] = np.where(y[2] == 255, 255, z[2].argmax(1))  # all right: the other group keeps its mean
    mean, var, tau, rows = [0.3, 0.2], [0.4, 0.3], 0.9, []
    for logits, label in zip(z, y):
        c, says = exact(logits)[0].softmax(1).max(1)
        right, known = says.numpy() == label, label != 255
        for i, group in enumerate((c.numpy()[right & known], c.numpy()[~right & known])):
            if len(group) >= 20:
                mean[i] = m * mean[i] + (1 - m) * group.mean()
                var[i] = m * var[i] + (1 - m) * group.var(ddof=1)
        tau = crossing(mean, var, 5, tau, 1.3)
        rows.append((tau, [mean[0], var[0] ** 0.5], [mean[1], var[1] ** 0.5]))
    init = {"pos_mean": 0.3, "neg_mean": 0.2, "pos_var": 0.4, "neg_var": 0.3, "thr": 0.9}
    out = dict(zip(("out_threshold", "out_pos", "out_neg"), map(np.array, zip(*rows))))
    hyper = {"num_classes": 5, "ema": m, "alpha": 1.3, "init": init, "min_count": 20}
    return {"in_logits": z, "in_target": y, "in_ignore": ignore, **out, "hyper": hyper}


@variant("daw_align")
def daw_align(d: Draw) -> dict[str, Any]:
    z_x, z_u, m = d.logits(3, 3, 5, *SIZE), d.logits(3, 4, 5, *SIZE), 0.75
    ignored = [np.stack([d.padding(n, *SIZE) for _ in range(3)]) for n in (3, 4)]
    a = b = np.full(5, 0.35)
    rows = []
    for x, u, i_x, i_u in zip(z_x, z_u, *ignored):
        p_x, p_u = (z.softmax(1) for z in exact(x, u))
        a, b = class_confidence(p_x, i_x != 255, a, m), class_confidence(p_u, i_u != 255, b, m)
        q = p_u * torch.from_numpy(a / b)[:, None, None]
        rows.append((a, b, (q / q.sum(1, keepdim=True)).numpy()))
    out = dict(zip(("out_prob_x", "out_prob_u", "out_aligned"), map(np.stack, zip(*rows))))
    return {
        "in_logits_x": z_x, "in_logits_u": z_u, "in_ignore_x": ignored[0], "in_ignore_u": ignored[1], **out,
        "hyper": {"num_classes": 5, "ema": m, "init": 0.35},
    }  # fmt: skip


@variant("corrmatch_threshold")
def corrmatch_threshold(d: Draw) -> dict[str, Any]:
    z, ignore = d.logits(4, 3, 5, *SIZE), np.stack([d.padding(3, *SIZE) for _ in range(4)])
    ignore[1] = 255
    tau, means, taus = 0.7, [], []
    for logits, mask in zip(z, ignore):
        c, y = (t.numpy() for t in exact(logits)[0].softmax(1).max(1))
        found = [c[(y == k) & (mask != 255)].max() for k in range(5) if ((y == k) & (mask != 255)).any()]
        means.append(np.mean(found) if found else -1.0)
        tau = 0.9 * tau + 0.1 * means[-1] if found else tau
        taus.append(tau)
    return {
        "in_logits": z, "in_ignore_mask": ignore, "out_new_global": np.array(means), "out_threshold": np.array(taus),
        "hyper": {"momentum": 0.9, "thresh_init": 0.7},
    }  # fmt: skip


@variant("corrmatch_step")
def corrmatch_step(d: Draw) -> dict[str, Any]:
    keys, batch, maps = ("x", "u_w", "u_w_mix", "u_w_fp", "u_s"), 3, 7
    given = weak_to_strong(d, keys) | {f"in_logits_{k}_corr": d.logits(batch, 4, *SIZE) for k in ("x", "u_w", "u_s")}
    given["in_corr_map"] = np.stack([d.box(maps + 1, *SIZE)[:-1] for _ in range(batch)]).astype(np.uint8)
    given["in_threshold_before"] = np.float32(0.3)
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("",))
    conf, cut, counts = own.of[""]
    found = [own.c[(own.y == k) & (counts > 0)].max() for k in range(4) if ((own.y == k) & (counts > 0)).any()]
    tau = 0.3 * 0.95 + 0.05 * float(torch.stack(found).mean())
    sure = (conf >= tau) & (counts > 0)
    target, wide = cut.clone(), sure.clone()
    box = torch.from_numpy(given["in_cutmix_box"]) == 1
    for b in range(batch):
        for shape in torch.from_numpy(given["in_corr_map"][b]) == 1:
            region = shape & ~box[b] & (counts[b] > 0)
            trusted = region & sure[b]
            if not trusted.any() or trusted.sum() / region.sum() < tau:
                continue
            number = torch.bincount(target[b][trusted], minlength=4)
            if number.max() / trusted.sum() > tau:
                target[b][region] = number.argmax()
                wide[b] |= region
    label, unpasted = given["in_mask_x"], (own.c >= tau)
    kl = lambda z: ((p_w * (p_w.log() - z.log_softmax(1))).sum(1) * sure).sum() / counts.sum()  # noqa: E731
    terms = {
        "x": (0.25, lambda z: mean_ce(z, label, 255), "x"),
        "x_corr": (0.25, lambda z: mean_ce(z, label, 255), "x_corr"),
        "u_s": (0.125, lambda z: sure_ce(z, target, wide, counts), "u_s"),
        "u_kl": (0.125, kl, "u_s"),
        "u_w_fp": (0.125, lambda z: sure_ce(z, own.y, unpasted, own.counts), "u_w_fp"),
        "u_corr_s": (0.0625, lambda z: sure_ce(z, target, wide, counts), "u_s_corr"),
        "u_corr_w": (0.0625, lambda z: sure_ce(z, own.y, unpasted, own.counts), "u_w_corr"),
    }
    names = ("x", "u_w", "u_w_fp", "u_s", "x_corr", "u_w_corr", "u_s_corr")
    leaves = [given[f"in_logits_{k}"] for k in names]
    total, *grads = gradients(lambda *z: sum(w * f(z[names.index(k)]) for w, f, k in terms.values()), *leaves)
    value = {k: f(exact(given[f"in_logits_{of}"])[0]) for k, (_, f, of) in terms.items()}
    return given | {
        "out_threshold": np.float32(tau), "out_target_cutmixed": cut, "out_target_propagated": target,
        "out_conf_mask": sure, "out_conf_mask_propagated": wide, "out_loss": total,
        **{f"out_loss_{k}": v for k, v in value.items()},
        "out_loss_u_corr": (value["u_corr_s"] + value["u_corr_w"]) / 2,
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)}, "hyper": {"momentum": 0.95, "thresh_init": 0.85},
    }  # fmt: skip
