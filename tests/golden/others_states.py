"""Our own recordings of averages, schedules and banks; see `other_recordings`."""

from __future__ import annotations

from math import cos, exp, pi
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import VOID, Draw, exact, variant


def averages(start: np.ndarray, states: np.ndarray, decays: list[float]) -> np.ndarray:
    """The teacher after each step."""
    rows, teacher = [], start.astype(np.float64)
    for state, decay in zip(states, decays, strict=True):
        teacher = decay * teacher + (1 - decay) * state
        rows.append(teacher)
    return np.array(rows)


@variant("augseg_ema")
def augseg_ema(d: Draw) -> dict[str, Any]:
    """Two epochs without unlabelled images."""
    length, epochs, only, cap = 3, 5, 2, 0.7
    states, start, decays = d.normal(length * epochs, 11), d.normal(11), []
    for i in range(length * epochs):
        decays.append(0.0 if i // length <= only else min(1 - 1 / (i - length * only + 1), cap))
    hyper = {"ema_decay": cap, "steps_per_epoch": length, "epochs": epochs, "sup_only_epoch": only}
    out = {"out_decay": np.array(decays), "out_teachers": averages(start, states, decays)}
    return {"in_teacher0": start, "in_students": states, **out, "hyper": hyper}


@variant("classmix_ema")
def classmix_ema(d: Draw) -> dict[str, Any]:
    states, start = d.normal(5, 13), d.normal(13)
    decays = [min(1 - 1 / (i + 1), 0.9) for i in range(7, 12)]
    hyper = {"alpha": 0.9, "first_iteration": 7, "steps": 5}
    return {
        "in_students": states,
        "in_teacher0": start,
        "out_teachers": averages(start, states, decays),
        "hyper": hyper,
    }


@variant("cutmix_ema")
def cutmix_ema(d: Draw) -> dict[str, Any]:
    start, states = d.normal(17), d.normal(5, 17)
    rows = np.concatenate([start[None], averages(start, states, [0.8] * 5)])
    return {"in_student0": start, "in_students": states, "out_teachers": rows, "hyper": {"alpha": 0.8, "steps": 5}}


@variant("psmt_ema")
def psmt_ema(d: Draw) -> dict[str, Any]:
    """More steps than half a hundred."""
    start, states = d.normal(7), d.normal(61, 7)
    return {
        "in_teacher0": start, "in_students": states, "out_teachers": averages(start, states, [0.9] * 61),
        "hyper": {"keep_rate": 0.9},
    }  # fmt: skip


@variant("reco_ema")
def reco_ema(d: Draw) -> dict[str, Any]:
    """The cap is met at the sixth step."""
    states = d.normal(14)
    decays = [min(1 - 1 / (k + 1), 0.8) for k in range(14)]
    teacher = averages(np.ones(1), states[:, None], decays)[:, 0]
    return {"in_alpha": np.float32(0.8), "in_student": states, "out_teacher": teacher}


@variant("pixelssl_baselines_mt_ema")
def pixelssl_ema(d: Draw) -> dict[str, Any]:
    start, states, buffer = d.normal(9), d.normal(8, 9), d.normal(3)
    decays = [min(1 - 1 / (i + 1), 0.75) for i in range(8)]
    return {
        "in_student": states, "in_teacher_init": start, "in_student_buffer": d.normal(3),
        "in_teacher_buffer_init": buffer, "out_teacher": averages(start, states, decays), "out_teacher_buffer": buffer,
        "hyper": {"ema_decay": 0.75, "steps": 8},
    }  # fmt: skip


@variant("unimatch_schedule")
def unimatch_schedule(d: Draw) -> dict[str, Any]:
    """A batch norm of five channels, an odd number of steps, a factor of 3 for the head."""
    n, lr, power, cap = 37, 0.02, 0.7, 0.9
    start, states, means, counts = (
        d.rng.normal(size=6),
        d.rng.normal(size=(n, 6)),
        d.rng.normal(size=(n, 5)),
        np.arange(n) + 1,
    )
    decays = [min(1 - 1 / (i + 1), cap) for i in range(n)]
    after = np.array([lr * (1 - i / n) ** power for i in range(n)])
    used = np.concatenate([[lr], after[:-1]])
    number, found = 0, []
    for count, decay in zip(counts, decays):
        number = int(torch.tensor(number) * decay + torch.tensor(int(count)) * (1 - decay))
        found.append(number)
    return {
        "in_init_weight": start, "in_student_weight": states, "in_student_running_mean": means,
        "in_student_num_batches": counts, "out_teacher_weight": averages(start, states, decays),
        "out_teacher_running_mean": averages(np.zeros(5), means, decays), "out_teacher_num_batches": np.array(found),
        "out_lr_used": np.stack([used, 3 * used], 1), "out_lr_after": np.stack([after, 3 * after], 1),
        "out_ema_ratio": np.array(decays),
        "hyper": {"total_iters": n, "lr": lr, "lr_multi": 3.0, "power": power, "ema_cap": cap},
    }  # fmt: skip


@variant("gct_rampup")
def gct_rampup(d: Draw) -> dict[str, Any]:
    steps = np.array([0, 3, 16, 17, 90])
    scale = np.exp(-5 * (1 - np.clip(steps, 0, 17) / 17) ** 2)
    return {"in_step": steps, "out_scale": scale, "out_scale_len0": np.ones(5), "hyper": {"length": 17}}


@variant("cct_rampup")
def cct_rampup(d: Draw) -> dict[str, Any]:
    epoch, step, length, end, epochs, classes = np.array([0, 1, 2, 4, 10]), np.array([0, 12, 5, 3, 8]), 13, 3, 11, 6
    t = length * epoch + step
    weight = [7 * exp(-5 * (1 - min(i, end * length) / (end * length)) ** 2) for i in t]
    whole_way = 0.4 * epochs * length
    threshold = [(1 - exp(-5 * min(1, i / whole_way))) * (0.9 - 1 / classes) + 1 / classes for i in t]
    hyper = {
        "final_w": 7, "iters_per_epoch": length, "rampup_ends_epochs": end, "epochs": epochs, "num_classes": classes
    }  # fmt: skip
    out = {"out_weight": np.array(weight), "out_abce_threshold": np.array(threshold)}
    return {"in_epoch": epoch, "in_iter": step, **out, "hyper": hyper}


@variant("psmt_rampup")
def psmt_rampup(d: Draw) -> dict[str, Any]:
    epoch, step = np.array([0, 2, 6, 7, 20]), np.array([1, 8, 10, 0, 3])
    t = np.minimum(11 * epoch + step, 77) / 77
    hyper = {"final_w": 0.6, "iters_per_epoch": 11, "ramp_up_epochs": 7}
    weight = np.array([0.6 * (1 - 0.5 * (cos(pi * i) + 1)) for i in t])
    return {"in_epoch": epoch, "in_iter": step, "out_weight": weight, "hyper": hyper}


@variant("prcl_rampdown")
def prcl_rampdown(d: Draw) -> dict[str, Any]:
    usual = {"in_begin": 0, "in_max_value": 1, "in_min_value": 0, "in_mult": -5}
    weight = [exp(-5 * e**2 / 37**2) if e < 37 else 0.0 for e in range(45)]
    return {**usual, "in_max_epoch": np.array(37), "out_value": np.array(weight)}


@variant("cps_lr_schedule")
def cps_lr_schedule(d: Draw) -> dict[str, Any]:
    """With a warm-up."""
    at = np.array([0, 1, 9, 10, 50, 122])
    rate = [0.3 * i / 10 if i < 10 else 0.3 * (1 - i / 123) ** 0.6 for i in at]
    hyper = {"base_lr": 0.3, "power": 0.6, "total_iters": 123, "warmup_iters": 10}
    return {"in_iters": at, "out_lr": np.array(rate), "hyper": hyper}


@variant("s4mc_schedule")
def s4mc_schedule(d: Draw) -> dict[str, Any]:
    n = 7 * 11
    plain = np.array([0.05 * (1 - i / n) ** 0.8 for i in range(n)])
    warm = np.where(np.arange(n) < 9, 0.05 * np.arange(n) / 9, plain)
    hyper = {"iters_per_epoch": 7, "epochs": 11, "lr": 0.05, "head_multiplier": 4, "warmup_steps": 9, "power": 0.8}
    poly = {"out_lr_poly": np.stack([plain, 4 * plain], 1), "out_lr_poly_cps": plain, "out_lr_warm_poly": warm}
    return poly | {"hyper": hyper}


@variant("u2pl_schedules")
def u2pl_schedules(d: Draw) -> dict[str, Any]:
    """Two warm-up epochs, an odd number of epochs."""
    epochs, length, only, cap = 9, 5, 2, 0.8
    e, at = np.arange(epochs), np.arange(length * only, length * epochs)
    n = 4 * length
    return {
        "in_epochs": np.int64(epochs), "in_iters_per_epoch": np.int64(length), "in_sup_only_epoch": np.int64(only),
        "in_ema": np.float64(cap), "in_drop_percent": np.int64(70), "in_low_entropy_threshold": np.int64(30),
        "in_iterations": at, "out_drop_percent": 100 - 30 * (1 - e / epochs), "out_alpha_t": 30 * (1 - e / epochs),
        "out_ema_decay": np.array([min(1 - 1 / (i - length * only + 1), cap) for i in at]),
        "out_poly_lr": np.array([[b * (1 - i / n) ** 0.5 for b in (0.2, 0.7)] for i in range(n)]),
        "said": "poly learning rate (4 epochs of L iterations, base 0.2 / 0.7, power 0.5; ...)",
    }  # fmt: skip


@variant("prevmatch_lambda_conf")
def prevmatch_lambda_conf(d: Draw) -> dict[str, Any]:
    """An odd number of epochs, one other threshold."""
    epochs, half = 13, 6
    strength = [e / half if e < half else 1 - (e - half) / (epochs - half) for e in range(epochs)]
    loss, conf, ignore = d.uniform(3, 9, 14), d.uniform(3, 9, 14), d.padding(3, 9, 14)
    (x, c), n = exact(loss, conf), torch.from_numpy(ignore != 255).double()
    answers: dict[str, Any] = {"out_lambda": np.array(strength)}
    for digit in (3, 8):
        answers[f"out_pixelwise_{digit}"] = (x * (c >= digit / 10) * n).sum() / n.sum()
        answers[f"out_pixelavg_{digit}"] = x.sum() * ((c * n).sum((1, 2)) / n.sum((1, 2))).sum() / n.sum()
        answers[f"out_pixelratio_{digit}"] = np.float32(0)  # a mode of the release alone
    return answers | {"in_loss": loss, "in_conf": conf, "in_ignore_mask": ignore, "hyper": {"total_epochs": epochs}}


@variant("ael_confidence_bank")
def ael_confidence_bank(d: Draw) -> dict[str, Any]:
    """The third class is in no batch."""
    q, z, y, now, after = d.uniform(4), d.logits(5, 3, 4, 7, 12), d.label(4, 5, 3, 7, 12), [], []
    y = np.where(y == 2, VOID, y)
    bank = q.astype(float)
    for logits, label in zip(z, y):
        p = exact(logits)[0].softmax(1).numpy()
        row = [p[:, k][label == k].mean() if (label == k).any() else 0 for k in range(4)]
        bank = 0.8 * bank + 0.2 * np.array(row)
        now.append(row)
        after.append(bank)
    return {
        "in_bank0": q, "in_logits": z, "in_label": y, "out_batch_confidence": np.array(now),
        "out_bank": np.array(after),
        "hyper": {"momentum": 0.8, "num_classes": 4, "ignore_index": VOID},
    }  # fmt: skip


@variant("u2pl_label_onehot_quirk")
def u2pl_onehot(d: Draw) -> dict[str, Any]:
    y = d.label(4, 5, 6, 11)
    single = np.stack([y[:1] == k for k in range(4)], 1)
    official = np.zeros((5, 4, 6, 11), bool)
    for image in np.where(y == VOID, 0, y):
        official[0] |= np.stack([image == k for k in range(4)])
    official[0] &= y[0] != VOID
    out = {"out_onehot_single": single, "out_onehot_official": official}
    return {"in_labels": y, **out, "hyper": {"num_classes": 4, "ignore_index": VOID}}


@variant("u2pl_reliability_masks")
def u2pl_reliability(d: Draw) -> dict[str, Any]:
    """Maps that are not square, more labelled than unlabelled images."""
    t, y_l, y_u = d.logits(2, 5, 22, 33), d.label(5, 3, 22, 33), d.label(5, 2, 22, 33)
    small, (epoch, epochs) = (11, 11), (4, 9)
    p = exact(t)[0].softmax(1)
    h = -(p * (p + 1e-10).log()).sum(1).numpy()
    a = 25 * (1 - epoch / epochs)
    low, high = (np.percentile(h[y_u != VOID], q) for q in (a, 100 - a))
    masks = []
    for mask in ((h <= low) & (y_u != VOID), (h >= high) & (y_u != VOID)):
        both = np.concatenate([y_l != VOID, mask])[:, None].astype(np.float32)
        masks.append(F.interpolate(torch.from_numpy(both), small, mode="nearest"))
    return {
        "in_teacher_logits_u": t, "in_label_l": y_l, "in_label_u": y_u, "in_epoch": np.int64(epoch),
        "in_epochs": np.int64(epochs), "in_small_size": np.array(small), "out_alpha_t": np.float32(a),
        "out_low_thresh": np.float32(low), "out_high_thresh": np.float32(high), "out_low_mask": masks[0],
        "out_high_mask": masks[1], "hyper": {"low_entropy_threshold": 25, "ignore_index": VOID},
    }  # fmt: skip


@variant("unimatch_v2_compdrop")
def unimatch_v2_compdrop(d: Draw) -> dict[str, Any]:
    """An odd number of images, three levels."""
    pairs, width, n = 5, 8, 900
    drawn, kept = d.classes(2, pairs, width), np.array([4, 1])
    factor = np.concatenate([2 * drawn, 2 - 2 * drawn]).astype(np.float32)
    factor[[4, 1, 9, 6]] = 1
    feats = {f"feat{k}": d.normal(2 * pairs, 6, width) for k in (0, 1, 3)}
    hyper = {"pairs": pairs, "dim": width, "patch_h": 2, "patch_w": 3, "keep_share": 0.5, "n_stat": n}
    return {
        "in_binomial": drawn, "in_idx_kept": kept, "out_multiplier": factor, "out_stats": np.array([0.4, 0.5, 1.0]),
        **{f"in_{k}": f for k, f in feats.items()}, **{f"out_{k}": f * factor[:, None] for k, f in feats.items()},
        "hyper": hyper,
    }  # fmt: skip
