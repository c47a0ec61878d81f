"""Revisiting consistency against recordings of its official code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, relative_error, task_of

from s4kit.methods.consistency.revisiting import Revisiting, exchange
from s4kit.views import Batch
from s4kit.views.hsv import Shift, change_colours, to_hsv
from s4kit.views.spline import bend, spline_grid


def within_single_precision(answer: Any, expected: np.ndarray, key: str) -> float:
    """The spline's linear system costs float32 some digits, in the release as here: five times the usual tolerance."""
    return relative_error(answer, expected, key) / 5


@adapter("revisiting", "tps", error=within_single_precision)
def revisiting_tps(r: Recording) -> dict[str, Any]:
    """Its control points, partly outside of the image, are the recorded ones."""
    image = r.tensor("image")
    grid = spline_grid(r.tensor("control_points"), r.tensor("offsets"), image.shape[-2:])
    return {
        "out_grid": grid,
        "out_image": bend(image, grid),
        "out_target_logits": bend(r.tensor("target_logits"), grid),
        "out_mask": bend(torch.ones_like(image[:, 0]), grid),
    }


@adapter("revisiting", "photometric")
def revisiting_photometric(r: Recording) -> dict[str, Any]:
    shift = Shift(*(r.tensor(k) for k in ("add_v", "mul_s", "add_h", "mul_v", "channel_perm")))
    return {"out_hsv": to_hsv(r.tensor("image")), "out_image": change_colours(r.tensor("image"), shift)}


@adapter("revisiting", "cutmix_pairs")
def revisiting_cutmix_pairs(r: Recording) -> dict[str, Any]:
    return {"out_x": exchange(r.tensor("x"), r.tensor("mask") == 1)}


@adapter("revisiting", "loss")
def revisiting_loss(r: Recording) -> dict[str, Any]:
    """The method's own step; its supervised term stands in for the recorded constant."""
    h, answers = r.hyper, {}
    constant = float(re.search(r"([\d.]+) \(a stand-in", r.text("out_total_kl"))[1])
    for name, options in (("kl", {}), ("l2_conf", {"distance": "squared", "tau": h["conf_thresh"]})):
        z, t = r.tensor("student_logits", grad=True), r.tensor("teacher_logits")
        method = Revisiting(
            task_of(z.shape[1]),
            net=lambda **_: Recorded([]),
            weight=h["alpha"],
            supervised=lambda z_x, y: constant + 0 * z_x.sum(),
            **options,
        )
        method.student.answers, method.teacher.answers = [z.detach(), z], [t]
        counts = (r.tensor("mask") >= 1 - 1e-6).float()
        method.perturbed = lambda u, t_u, counts=counts: (u.weak, t_u, counts)
        u = views(torch.zeros(len(z), 3, *z.shape[2:]), torch.ones(z[:, 0].shape))
        losses = method.losses(Batch(x=u, u=u), START)
        losses.total.backward()
        answers |= {
            f"out_loss_u_{name}": losses["u"][0],
            f"out_total_{name}": losses.total,
            f"out_grad_{name}": grad_of(z),
        }
    return answers
