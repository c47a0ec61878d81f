"""FPL against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from view_adapters import Estimate, across_the_border, inverting_boxes, within_four_errors

from s4kit.data.task import VOID
from s4kit.methods.consistency.fpl import FPL
from s4kit.methods.parts.fuzzy import amount, clarity, set_loss, with_value_of
from s4kit.methods.parts.losses import ce_map, pixel_mean
from s4kit.views import Batch


@adapter("fpl", "topk", skip={"out_weight_convex_ael": "of the other host, which is not in the kit"})
def fpl_topk(r: Recording) -> dict[str, Any]:
    p, h = r.tensor("logits_teacher").softmax(1), r.hyper
    number, grads = amount(p, h["threshold"], h["temp_k"]), {}
    for kind in ("none", "concave"):
        z = r.tensor("logits_student", grad=True)
        loss = set_loss(z, p, number)
        (loss * clarity(p, number, kind)).mean().backward()
        grads[f"out_grad_{kind}"] = z.grad
    weights = {f"out_weight_{kind}": clarity(p, number, kind) for kind in ("linear", "convex", "concave")}
    return {"out_loss_map": loss, "out_num_positive": number[:, 0], **weights, **grads}


@adapter("fpl", "step")
def fpl_step(r: Recording) -> dict[str, Any]:
    h, k = r.hyper, "12"
    mixed = [r.tensor(f"logits_mix_net{i}", grad=True) for i in k]
    x = [r.tensor(f"logits_x_net{i}", grad=True) for i in k]
    answers = [[r.tensor(f"logits_u0_net{i}"), r.tensor(f"logits_u1_net{i}"), s, z] for i, s, z in zip(k, mixed, x)]
    method = FPL(
        task_of(x[0].shape[1]),
        net=lambda **_: Recorded(answers.pop(0)),
        threshold=h["threshold"],
        most=h["temp_k"],
        clear=h["weight"],
        weight=h["cps_weight"],
    )
    label, m = r.label("mask_x"), r.tensor("mix_mask")[:, 0] == 1
    u, v = (views(r.tensor(f"img_u{i}"), torch.ones(m.shape), masks=[m]) for i in "01")
    losses = method.losses(Batch(x=views(torch.zeros_like(u.weak), label != VOID, label), u=u, v=v), START)
    losses.total.backward()
    assert method.net1.modes == [1, 1, 1, 1], "every forward is in train mode"
    y1, y2 = (losses.seen[f"{name}/target"] for name in ("1 teaches 2", "2 teaches 1"))
    fuzzy = sum(method.fuzzy(s.detach(), y).mean() for s, y in zip(mixed, (y2, y1)))
    return {
        "out_img_mixed": losses.seen["mixed"],
        "out_loss": losses.total,
        "out_loss_sup1": losses["x1"][0],
        "out_loss_sup2": losses["x2"][0],
        "out_loss_cps": losses["fpl"][0],
        "out_cps_scalar": losses["fpl"][0] / fuzzy,
        "out_pseudo1": y1.label,
        "out_pseudo2": y2.label,
        **{f"out_grad_mix_net{i}": grad_of(s) for i, s in zip(k, mixed)},
        **{f"out_grad_x_net{i}": grad_of(z) for i, z in zip(k, x)},
    }


@adapter("fpl", "ael_consistency")
def fpl_ael_consistency(r: Recording) -> dict[str, Any]:
    """The term of the other host from the same parts: squared confidences weigh the set losses."""
    z, h = r.tensor("logits_student", grad=True), r.hyper
    teacher, conf = r.tensor("logits_teacher"), r.tensor("conf") ** h["gamma"]
    p = teacher.softmax(1)
    number = amount(p, h["threshold"], h["temp_k"])
    loss, plain = set_loss(z, p, number), ce_map(z, teacher.argmax(1)).mean()
    clear = loss * clarity(p, number, h["weight"])
    mean = pixel_mean(clear, conf, torch.ones_like(conf), over="weight")
    total = mean * (with_value_of(clear.mean(), plain) / clear.mean()).detach()
    total.backward()
    return {"out_loss": total, "out_scalar": plain / loss.mean(), "out_grad_student": z.grad}


@adapter("fpl", "cutmix_mask", skip=across_the_border, error=within_four_errors)
def fpl_cutmix_mask(r: Recording) -> dict[str, Any]:
    """Statistics of the boxes over ten times as many draws."""
    h, rng = r.hyper, np.random.default_rng(0)
    n, k, size = h["n_samples"], h["n_boxes"], (h["H"], h["W"])
    areas, cover = [], np.zeros(r.expected["out_coverage"].shape)
    edges = [np.linspace(0, side, cells + 1).astype(int) for side, cells in zip(size, cover.shape)]
    for _ in range(10):
        draws = [rng.random((n, k)) for _ in range(1 + h["random_aspect_ratio"])]
        mask = inverting_boxes(h, [*draws, rng.random((n, k, 2))], size)[:, 0].numpy()
        areas.append(mask.mean((1, 2)))
        cells = np.add.reduceat(np.add.reduceat(mask.mean(0), edges[0][:-1], 0), edges[1][:-1], 1)
        cover += cells / np.outer(*map(np.diff, edges)) / 10
    a = np.concatenate(areas)
    value = np.array([a.mean(), a.std(), *np.quantile(a, (0.05, 0.95))])
    width = np.quantile(a, (0.06, 0.96)) - np.quantile(a, (0.04, 0.94))  # the inverse density at both quantiles
    spread = np.array([a.std(), a.std() / 2**0.5, *(width / 0.02 * np.sqrt(0.05 * 0.95))])
    return {
        "out_area_stats": Estimate(value, spread * np.sqrt(1.1 / n)),
        "out_coverage": Estimate(cover, np.sqrt(np.maximum(cover * (1 - cover), 1 / n) * 1.1 / n)),
    }
