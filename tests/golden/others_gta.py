"""GTA-Seg's loss and its transfers, by loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from other_recordings import VOID, Draw, ce_of, gradients, variant


@variant("gta_unsup_loss")
def unsup_loss(d: Draw) -> dict[str, Any]:
    """Keeps 55 percent; the confidences of void pixels neither move the threshold nor leave the divisor."""
    z, judges, target = d.logits(3, 4, 5, 6), d.logits(3, 4, 5, 6), d.label(4, 3, 5, 6)
    p = np.exp(judges - judges.max(1, keepdims=True))
    c = (p / p.sum(1, keepdims=True)).max(1)
    least = np.percentile(c[target != VOID], 45)
    dropped = (target != VOID) & (c <= least)
    after = np.where(dropped, VOID, target)
    share = np.where(dropped, 1, 1 + c)
    share = share / share.sum()
    pixels = [tuple(i) for i in np.argwhere(after != VOID)]

    def weighted(logits: Any) -> Any:
        ce = ce_of(logits, after)
        return sum(float(share[i]) * ce[i] for i in pixels)

    loss, grad = gradients(weighted, z)
    (plain, _) = gradients(lambda logits: ce_of(logits, after).sum() / len(pixels) * after.size / len(pixels), z)
    return {
        "in_logits": z, "in_target": target, "in_teacher_logits": judges, "in_percent": np.array(55), "out_loss": loss,
        "out_grad_logits": grad, "out_target_after": after, "out_loss_unweighted": plain, "hyper": {"ignore": VOID},
    }  # fmt: skip


@variant("gta_transfer")
def transfer(d: Draw) -> dict[str, Any]:
    """Late enough that both decays have reached their caps; the statistics of norms stay everybody's own."""
    names = {"stem.weight": (2, 3), "stem.running_mean": (4,), "head.last.weight": (3, 2), "header.bias": (2,)}
    nets = {net: {k: d.normal(*s) for k, s in names.items()} for net in ("student", "assistant", "teacher")}
    student = {
        k: v if k.startswith("head.") or "running" in k else 0.999 * v + (1 - 0.999) * nets["assistant"][k]
        for k, v in nets["student"].items()
    }
    teacher = {k: v if "running" in k else 0.95 * v + (1 - 0.95) * student[k] for k, v in nets["teacher"].items()}
    return {
        **{f"in_{net}.{k}": v for net, held in nets.items() for k, v in held.items()},
        **{f"out_student.{k}": v for k, v in student.items()}, **{f"out_teacher.{k}": v for k, v in teacher.items()},
        "in_iteration": np.array(5000), "in_iters_per_epoch": np.array(50), "in_sup_only_epoch": np.array(2),
        "in_teacher_ema": np.float32(0.95), "out_decay_student": 0.999, "out_decay_teacher": 0.95,
        "hyper": {"excluded_prefix": "head"},
    }  # fmt: skip
