"""Baselines, schedules and common losses against recordings."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, task_of
from torch import nn

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.consistency.cutmix import CutMix
from s4kit.methods.parts.losses import ohem, pixel_ce
from s4kit.methods.parts.schedules import poly, sigmoid_ramp
from s4kit.nets import ema, warm
from s4kit.views import Batch


@adapter("gct", "rampup")
def gct_rampup(r: Recording) -> dict[str, Any]:
    steps = r.inputs["in_step"].tolist()
    return {
        "out_scale": torch.tensor([sigmoid_ramp(s, r.hyper["length"]) for s in steps]),
        "out_scale_len0": torch.tensor([sigmoid_ramp(s, 0) for s in steps]),
    }


@adapter("fst", "ohem")
def fst_ohem(r: Recording) -> dict[str, Any]:
    answers = {}
    for i, min_kept in enumerate(r.tensor("min_kept").tolist()):
        logits, label = r.tensor("pred", grad=True), r.label("label")
        criterion = ohem(r.hyper["thresh"], min_kept)
        loss = criterion(logits, label) + r.hyper["aux_weight"] * criterion(r.tensor("aux"), label)
        loss.backward()
        answers |= {f"out_loss_{i}": loss, f"out_grad_pred_{i}": logits.grad}
    return answers


@adapter("pixelssl_baselines", "supervised_loss")
def pixelssl_supervised_loss(r: Recording) -> dict[str, Any]:
    """PixelSSL divides by all pixels, void ones included: `over="all"`; the kit's own supervised term is `ce`."""
    logits, label = r.tensor("logits", grad=True), r.label("label")[:, 0]
    loss = pixel_ce(logits, label, over="all")
    loss.backward()
    each = [pixel_ce(z[None], y[None], over="all") for z, y in zip(logits.detach(), label)]
    return {"out_loss": loss, "out_grad_logits": logits.grad, "out_per_image": torch.stack(each)}


class Vector(nn.Module):
    """A network that is one parameter vector and one buffer."""

    def __init__(self, weight: torch.Tensor, state: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.register_buffer("state", state.clone())


@adapter("pixelssl_baselines", "mt_ema")
def pixelssl_mt_ema(r: Recording) -> dict[str, Any]:
    """PixelSSL leaves the teacher's BN statistics to its own forwards: `buffers="none"`."""
    rows, students = [], r.tensor("student")
    teacher = Vector(r.tensor("teacher_init"), r.tensor("teacher_buffer_init"))
    for i, weight in enumerate(students):
        student = Vector(weight, r.tensor("student_buffer"))
        ema(teacher, student, warm(r.hyper["ema_decay"], i), buffers="none")
        rows.append(teacher.weight.detach().clone())
    return {"out_teacher": torch.stack(rows), "out_teacher_buffer": teacher.state}


@adapter("pixelssl_baselines", "cutmix_loss")
def pixelssl_cutmix_loss(r: Recording) -> dict[str, Any]:
    """As the kit's CutMix, but with a mean over classes too, a scale of 20, and halves of one batch as u and v."""
    z = r.tensor("student_logits", grad=True)
    inside, outside = r.tensor("img").chunk(2)
    q_inside, q_outside = r.tensor("teacher_prob").log().chunk(2)
    h, blank = r.hyper, torch.full(z[:, 0].shape, VOID)
    method = CutMix(
        task_of(z.shape[1]),
        net=lambda **_: Recorded([torch.zeros_like(z), z]),
        tau=h["cons_threshold"],
        weight=h["cons_scale"] * h["rampup"] / z.shape[1],
    )
    method.teacher = Recorded([q_inside, q_outside])
    everywhere = torch.ones(z[:, 0].shape)
    u = views(outside, everywhere, masks=[r.tensor("mask")[:, 0] == 1])
    batch = Batch(x=views(outside, everywhere, blank), u=u, v=views(inside, everywhere))
    losses = method.losses(batch, START)
    losses.total.backward()
    target = losses.seen["target"]
    return {
        "out_img_mixed": method.student.images[1],
        "out_target": target.soft,
        "out_confidence": target.weight.mean(),
        "out_loss": losses.total,
        "out_grad_student_logits": z.grad,
    }


@adapter("unimatch", "schedule")
def unimatch_schedule(r: Recording) -> dict[str, Any]:
    """The learning rate of UniMatch, and the EMA of its second version, BN statistics and counters included."""
    h = r.hyper
    clocks = [Clock(i, h["total_iters"]) for i in range(h["total_iters"])]
    groups = torch.tensor([h["lr"], h["lr"] * h["lr_multi"]], dtype=torch.float64)
    used = torch.tensor([poly(h["power"], after=True)(c) for c in clocks], dtype=torch.float64)
    left = torch.tensor([poly(h["power"])(c) for c in clocks], dtype=torch.float64)
    decays = [warm(h["ema_cap"], c.step) for c in clocks]
    rows = []
    channels = r.inputs["in_student_running_mean"].shape[1]
    teacher = WithNorm(r.inputs["in_init_weight"], channels)
    for i, decay in enumerate(decays):
        student = WithNorm(r.inputs["in_student_weight"][i], channels)
        student.norm.running_mean.copy_(torch.from_numpy(r.inputs["in_student_running_mean"][i]))
        student.norm.num_batches_tracked.fill_(int(r.inputs["in_student_num_batches"][i]))
        ema(teacher, student, decay, buffers="average")
        rows.append([t.detach().clone() for t in (teacher.weight, *list(teacher.norm.buffers()))])
    weight, mean, _, count = (torch.stack(column) for column in zip(*rows))
    return {
        "out_teacher_weight": weight,
        "out_teacher_running_mean": mean,
        "out_teacher_num_batches": count,
        "out_lr_used": used[:, None] * groups,
        "out_lr_after": left[:, None] * groups,
        "out_ema_ratio": torch.tensor(decays, dtype=torch.float64),
    }


class WithNorm(nn.Module):
    """A weight vector and a batch norm, in float64."""

    def __init__(self, weight: Any, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight).clone())
        self.norm = nn.BatchNorm1d(channels, affine=False).double()
