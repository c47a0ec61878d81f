"""S4MC against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from consistency_adapters import views
from harness import Recording, adapter, grad_of, task_of

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.consistency.s4mc import S4MC, refine
from s4kit.methods.parts.contrast import members
from s4kit.methods.parts.losses import upweighted_ce
from s4kit.methods.parts.quantile import percentiles
from s4kit.methods.parts.schedules import poly


@adapter("s4mc", "refine")
def s4mc_refine(r: Recording) -> dict[str, Any]:
    """Through the rule and the loss of the method; void pixels of the recorded labels are not valid."""
    label, teacher = r.label("target"), r.tensor("logits_teacher")
    classes, p, answers = teacher.shape[1], teacher.softmax(1), {}
    view = views(torch.zeros(len(label), 3, *label.shape[1:]), label != VOID)
    says = members(label.flatten(), classes).T.float().view(*label.shape, -1).permute(0, 3, 1, 2)
    for i, case in enumerate(r.hyper["cases"]):
        z = r.tensor("logits_student", grad=True)
        method = S4MC(
            task_of(classes),
            net="tiny",
            share=case["percent"],
            indicator=case["indicator"],
            around=case["neigborhood_size"],
            best=case["n_neigbors"],
            beta=r.hyper["beta"],
            joint=r.hyper["E_joint"],
        )
        target = method.pseudo_labels((says, teacher), view, Clock(0, 1))
        loss = upweighted_ce(z, target)
        loss.backward()
        kept = target.weight * target.valid > 0
        (g,) = percentiles(method.certainty(p), [100 - case["percent"]], label != VOID)
        answers |= {
            f"out_loss_{i}": loss,
            f"out_target_{i}": r.as_recorded(torch.where(kept, target.label, VOID)),
            f"out_threshold_{i}": -g if case["indicator"] == "entropy" else g,
            f"out_scale_{i}": kept.numel() / kept.sum(),
            f"out_refined_prob_{i}": refine(p, method.joint, method.beta, method.around, method.best),
            f"out_grad_student_{i}": grad_of(z),
        }
    return answers


@adapter("s4mc", "schedule")
def s4mc_schedule(r: Recording) -> dict[str, Any]:
    """The warm-up of the last two (FPL's host) starts at 0, the kit's one step further."""
    h = r.hyper
    steps = h["iters_per_epoch"] * h["epochs"]
    plain, warm = poly(h["power"]), poly(h["power"], warmup=h["warmup_steps"])
    rates = np.array([h["lr"] * plain(Clock(t, steps)) for t in range(steps)])
    late = [h["lr"] * warm(Clock(t - (t < h["warmup_steps"]), steps)) for t in range(steps)]
    return {
        "out_lr_poly": np.stack([rates, h["head_multiplier"] * rates], 1),
        "out_lr_poly_cps": rates,
        "out_lr_warm_poly": np.array(late),
    }
