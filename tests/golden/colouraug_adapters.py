"""Colour augmentation against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Losses
from s4kit.methods.consistency import colouraug
from s4kit.methods.consistency.colouraug import ColourAug
from s4kit.methods.parts.adversary import adversarial_noise
from s4kit.views import Batch, Views, warp


def step(r: Recording, teacher: list[Tensor], z: Tensor, **streams: Views) -> tuple[ColourAug, Losses]:
    h, void = r.hyper, torch.full(z[:, 0].shape, VOID)
    method = ColourAug(
        task_of(z.shape[1]),
        net=lambda **_: Recorded([torch.zeros_like(z), z]),
        perturbation="blend" if "v" in streams else "shift",
        tau=h["conf_thresh"],
        weight=h["cons_weight"],
    )
    method.teacher = Recorded(teacher)
    method.student.mean = torch.zeros(1, 3, 1, 1)  # the recorded images are normalised
    x = views(streams["u"].weak, void != VOID, void)
    losses = method.losses(Batch(x=x, **streams), START)
    losses.total.backward()
    return method, losses


def other_distance(r: Recording) -> dict[str, str]:
    """The method has the squared error of its configurations; of the release's other distances it has none."""
    if r.hyper["cons_loss_fn"] == "var" and r.hyper.get("align_corners", True):
        return {}
    why = f"no published configuration has {r.hyper['cons_loss_fn']} or warps without align_corners"
    return dict.fromkeys(("out_loss", "out_grad_student_logits"), why)


@adapter("colouraug", "ict_consistency", skip=other_distance)
def colouraug_ict(r: Recording) -> dict[str, Any]:
    z = r.tensor("student_logits", grad=True)
    u, v = (
        views(r.tensor(f"image{k}_student"), r.tensor(f"valid{k}")[:, 0], strong=[r.tensor(f"image{k}_student")])
        for k in (0, 1)
    )
    with patch.object(colouraug, "draw_blend", lambda *_: r.tensor("lambda")):
        method, losses = step(r, [r.tensor("teacher_logits0"), r.tensor("teacher_logits1")], z, u=u, v=v)
    target = losses.seen["target"]
    return {
        "out_student_input": method.student.images[1],
        "out_teacher_prob": target.soft,
        "out_loss_mask": (target.valid * target.weight)[:, None],
        "out_conf_rate": target.weight.double().mean(),
        "out_loss": losses.total,
        "out_grad_student_logits": grad_of(z),
    }


@adapter("colouraug", "aug_consistency", skip=other_distance)
def colouraug_aug(r: Recording) -> dict[str, Any]:
    """The student's crop is another one there, with padding of its own; here it is the teacher's, moved."""
    z, theta, own = r.tensor("student_logits", grad=True), r.tensor("theta"), r.tensor("valid_student")[:, 0]
    image = torch.zeros(len(z), 3, *z.shape[2:])
    u = views(image, r.tensor("valid_teacher")[:, 0], strong=[image])

    def padded(x: Tensor, change: Tensor) -> Tensor:
        return warp(x, change) * own if x.dim() == 3 else warp(x, change)

    with patch.object(colouraug, "draw_shift", lambda *_: theta), patch.object(colouraug, "warp", padded):
        _, losses = step(r, [r.tensor("teacher_logits")], z, u=u)
    target = losses.seen["target"]
    return {
        "out_teacher_prob_warped": target.soft,
        "out_valid_warped": target.valid[:, None],
        "out_conf_rate": target.weight.double().mean(),
        "out_loss": losses.total,
        "out_grad_student_logits": grad_of(z),
    }


@adapter("colouraug", "vat_perturbation")
def colouraug_vat(r: Recording) -> dict[str, Any]:
    """`ColourAug.noise` with the recorded direction and step; the fixed radius is an option of the release alone."""
    w0, b0, w1, b1 = (r.tensor(k).double() for k in ("w0", "b0", "w1", "b1"))
    net = nn.Sequential(
        nn.Conv2d(w0.shape[1], len(b0), w0.shape[2:], padding=w0.shape[2] // 2),
        nn.Tanh(),
        nn.Conv2d(len(b0), len(b1), 1),
    ).double()
    with torch.no_grad():
        for own, given in zip(net.parameters(), (w0, b0, w1, b1), strict=True):
            own.copy_(given)
    method = ColourAug(task_of(len(b1)), net="tiny", perturbation="vat", radius=r.hyper["vat_radius"])
    method.teacher = net
    weak, seen, noise = (r.tensor(k).double() for k in ("image_teacher", "image_student", "noise"))
    height, width = seen.shape[2:]

    def fed(predict: Any, x: Tensor, direction: Tensor, xi: Any, radius: Any, reference: Tensor) -> Tensor:
        return adversarial_noise(predict, x, noise, 1e-6 * height * width / 1000, radius, reference)

    with patch.object(colouraug, "adversarial_noise", fed):
        adaptive = method.noise(seen, net(weak).detach())
    far = r.hyper["vat_radius"] * (seen.shape[1] * height * width) ** 0.5
    return {
        "out_perturbation_adaptive": adaptive,
        "out_perturbation_fixed": fed(net, seen, noise, None, far, net(weak).detach()),
    }
