"""Dual Teacher against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from consistency_adapters import views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock, Losses, PseudoLabels
from s4kit.methods.cotraining import dual_teacher
from s4kit.methods.cotraining.dual_teacher import DualTeacher, share
from s4kit.methods.parts.losses import pixel_ce
from s4kit.nets.segnet import resize
from s4kit.views import Batch, paste, rasterise
from s4kit.views.boxes import beta_boxes

CLASSMIX = Clock(1, 2)  # a turn of one step: the second teacher's


def full(logits: Tensor, size: Any) -> Tensor:
    return resize(logits, size, align_corners=False)


def step(r: Recording, batch: Batch, teacher: Tensor, answers: list[Tensor], m: Tensor, p: Tensor) -> Losses:
    """A step in a ClassMix turn with recorded answers and draws."""
    weight = r.hyper.get("weight_in_total", 0.2)
    method = DualTeacher(task_of(teacher.shape[1]), net="tiny", tau=r.hyper["threshold"], weight=weight)
    method.student, method.teacher2 = Recorded(answers), Recorded([teacher]).train()
    with (
        patch.object(dual_teacher, "draw_class_mask", lambda *_: m),
        patch.object(torch, "randperm", lambda *_, **__: p),
    ):
        losses = method.losses(batch, CLASSMIX)
    assert method.teacher2.modes == [1] and method.student.modes == [1, 1], "every forward is in train mode"
    return losses


@adapter("dual_teacher", "classmix")
def classmix(r: Recording) -> dict[str, Any]:
    image, label, size = r.tensor("img"), r.label("label"), r.tensor("img").shape[-2:]
    z, nothing = r.tensor("student_logits", grad=True), torch.zeros(len(image), r.hyper["classes"], *size)
    batch = Batch(x=views(image, label != VOID, label), u=views(image, torch.ones(len(image), *size), strong=[image]))
    teacher, m = full(r.tensor("teacher_logits"), size), r.tensor("class_mask") == 1
    losses = step(r, batch, teacher, [full(z, size), nothing], m, r.tensor("shuffle"))
    loss = losses["x"][0] + losses["mixed"][0]
    loss.backward()
    return {"out_loss": loss, "out_grad_student_logits": grad_of(z)}


@adapter("dual_teacher", "consistency")
def consistency(r: Recording) -> dict[str, Any]:
    """In the release the labelled batch's ground truth says what counts, here the validity."""
    counted = r.label("label_u") != VOID
    size, z = counted.shape[-2:], r.tensor("student_logits", grad=True)
    teacher = full(r.tensor("teacher_logits"), size)
    blank = torch.zeros(len(z), 3, *size)
    batch = Batch(x=views(blank, torch.zeros(counted.shape)), u=views(blank, counted, strong=[blank]))
    answers = [torch.cat([teacher, teacher]), full(z, size)]
    losses = step(r, batch, teacher, answers, torch.ones_like(counted), torch.arange(len(z)))
    value, weight = losses["implicit"]
    assert weight == r.hyper["weight_in_total"]
    value.backward()
    return {"out_loss": value, "out_grad_student_logits": grad_of(z)}


@adapter("dual_teacher", "cutmix_loss")
def cutmix_loss(r: Recording) -> dict[str, Any]:
    z, confidence = r.tensor("student_logits", grad=True), r.tensor("conf")[:, 0]
    weight = share(confidence, r.hyper["threshold"], of="image")
    loss = pixel_ce(z, PseudoLabels(r.label("target"), confidence, weight, torch.ones_like(weight)), over="valid")
    loss.backward()
    return {"out_loss": loss, "out_grad_student_logits": grad_of(z)}


@adapter("dual_teacher", "cutmixer")
def cutmixer(r: Recording) -> dict[str, Any]:
    image, label, p = r.tensor("img"), r.label("label"), r.tensor("perm")
    size = tuple(image.shape[-2:])
    lam = r.inputs["in_lam"]
    boxes = [beta_boxes(lam, x, y, size) for x, y in zip(r.inputs["in_cx"], r.inputs["in_cy"])]
    m = ~rasterise(torch.stack([torch.from_numpy(box) for box in boxes])[:, None], size)
    return {"out_img": paste(m, image, image[p]), "out_label": r.as_recorded(paste(m, label, label[p]))}


@adapter("dual_teacher", "ema")
def teachers(r: Recording) -> dict[str, Any]:
    """`after_step` on networks whose state is one vector, through all epochs."""
    states, rows = r.tensor("student"), []
    method = DualTeacher(task_of(2), net="tiny", decay=r.hyper["alpha"])
    method.student, method.teacher1, method.teacher2 = (
        nn.ParameterList([v.clone()]) for v in (states[0, 0], *r.tensor("teachers_init"))
    )
    each = states.shape[1]
    for k, state in enumerate(states.flatten(0, 1)):
        method.student[0].data.copy_(state)
        method.after_step(Clock(k, states.shape[0] * each, labelled_steps=each))
        rows.append(torch.stack([t[0].detach().clone() for t in method.teachers]))
    return {"out_teachers": torch.stack(rows).unflatten(0, states.shape[:2])}
