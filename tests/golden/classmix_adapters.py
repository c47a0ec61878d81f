"""ClassMix against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods import Clock, Losses
from s4kit.methods.consistency import classmix
from s4kit.methods.consistency.classmix import ClassMix
from s4kit.methods.parts.losses import ce
from s4kit.methods.parts.masks import class_mask
from s4kit.views import Batch, paste, rasterise


@adapter("classmix", "mask")
def classmix_mask(r: Recording) -> dict[str, Any]:
    """Recorded are the places of the chosen classes in the list of those present; they get the smallest draws."""
    label, classes = r.label("pred"), r.hyper["num_classes"]
    uniform = torch.full((len(label), classes), 0.9)
    for row, found, chosen in zip(uniform, label, r.tensor("choice")):
        present = found.unique()
        row[present[present != VOID][chosen[chosen >= 0]]] = 0.1
    mask = class_mask(label, uniform)
    chosen = [part[m].unique() for part, m in zip(label, mask)]
    return {"out_mask": mask, "out_num_chosen": torch.tensor([len(c) for c in chosen])}


def step(image: Tensor, t: Tensor, z: Tensor, mask: Tensor, clock: Clock, **options: Any) -> tuple[ClassMix, Losses]:
    """A step with recorded masks and answers; the labelled images are all void."""
    void = torch.full(mask.shape, VOID)
    answers = [torch.zeros_like(z), z]
    method = ClassMix(task_of(t.shape[1]), net=lambda **_: Recorded(answers), colour=False, **options)
    method.teacher = Recorded([t])
    u = views(image, torch.ones(mask.shape))
    with patch.object(classmix, "draw_class_mask", lambda *_: mask == 1):
        return method, method.losses(Batch(x=views(image, void != VOID, void), u=u), clock)


@adapter("classmix", "mix")
def classmix_mix(r: Recording) -> dict[str, Any]:
    mask, image, q, label = (r.tensor(k) for k in ("mask", "image", "prob", "label"))
    method, losses = step(image, q.log(), torch.zeros_like(q), mask, START)
    return {
        "out_image": method.student.images[1],
        "out_prob": losses.seen["target"].soft,
        "out_label": paste(mask == 1, label, label.roll(-1, 0)),
    }


@adapter("classmix", "unsup")
def classmix_unsup(r: Recording) -> dict[str, Any]:
    h, mask, t = r.hyper, r.tensor("mask"), r.tensor("teacher_logits")
    clock, answers = Clock(h["iteration"], 40_000), {}  # 10,000 steps of ramp are a quarter
    image = torch.zeros(len(t), 3, *t.shape[2:])
    cases = {"uniform": "share", "pixel": "pixel", "sigmoid": "ramp", "none": "none", "mse": "share"}
    for name, ours in cases.items():
        z = r.tensor("student_logits", grad=True)
        options = {"tau": h["threshold"], "weight": h["consistency_weight"], "weighting": ours, "soft": name == "mse"}
        _, losses = step(image, t, z, mask, clock, **options)
        losses.total.backward()
        answers |= {f"out_loss_{name}": losses.total, f"out_grad_student_logits_{name}": grad_of(z)}
        target = losses.seen["target"]
        if ours == "share":
            answers["out_confident_fraction"] = target.weight.double().mean()
    return answers | {"out_prob_mixed": target.soft, "out_pseudo_label": target.label}


@adapter("classmix", "sup")
def classmix_sup(r: Recording) -> dict[str, Any]:
    z = r.tensor("logits", grad=True)
    loss = ce(z, r.label("label"))
    loss.backward()
    return {"out_loss": loss, "out_grad_logits": grad_of(z)}


@adapter("classmix", "ema")
def classmix_ema(r: Recording) -> dict[str, Any]:
    student = torch.nn.ParameterList([r.tensor("teacher0")])
    method = ClassMix(task_of(2), net=lambda **_: student, decay=r.hyper["alpha"])
    rows = []
    for i, state in enumerate(r.tensor("students"), r.hyper["first_iteration"]):
        method.student[0].data.copy_(state)
        method.after_step(Clock(i, i + 1))
        rows.append(method.teacher[0].detach().clone())
    return {"out_teachers": torch.stack(rows)}


@adapter("classmix", "othermasks", skip={"out_cow_mask": "an ablation: no method here mixes by thresholded noise"})
def classmix_othermasks(r: Recording) -> dict[str, Any]:
    """The box of the CutMix ablation is that of `half_box` (U2PL), with the other side pasted."""
    h = r.hyper
    width, left, top = r.inputs["in_cut_draws"].tolist()
    boxes = torch.tensor([[[top, left, round(h["H"] * h["W"] / 2 / width), width]]])
    return {"out_cut_mask": ~rasterise(boxes, (h["H"], h["W"]))[0]}
