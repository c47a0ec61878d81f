"""iMAS against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from augseg_adapters import Toy
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods import PseudoLabels
from s4kit.methods.consistency import imas
from s4kit.methods.consistency.imas import IMAS, mirrored, scores, window_mask
from s4kit.methods.parts.losses import pixel_ce
from s4kit.views import Batch, paste


@adapter(
    "imas",
    "hardness",
    skip={
        "out_v2_weighted_nobg": "an option that no published run uses",
        "out_v1_plain": "an option that no published run uses",
    },
)
def imas_hardness(r: Recording) -> dict[str, Any]:
    student, teacher, tau = r.tensor("student_logits"), r.tensor("teacher_logits"), r.hyper["threshold"]
    answers = {
        f"out_v1_{name}": scores(student, teacher, tau, k) for name, k in (("weighted", 0), ("weighted_nobg", 1))
    }
    for name, z in (("student", student), ("teacher", teacher)):
        method = IMAS(task_of(z.shape[1]), net="tiny", tau=tau)
        # of a teacher that agrees with itself the score is the share of its sure pixels
        found = method.pseudo_labels((z, z), views(z, torch.ones(z[:, 0].shape)), START)
        answers[f"out_ratio_{name}"] = (found.confidence >= tau).float().mean((1, 2))
    return answers


def mask_of(r: Recording, size: Any, low: float, high: float, score: Tensor) -> Tensor:
    """With `hardness_random`, which no published run has, the window is as large as the batch is easy."""
    side = torch.tensor(low + (high - low) * float(r.inputs["in_u"]), dtype=torch.float64)
    side = side * score.mean() if r.hyper.get("hardness_random") else side
    return window_mask(side, r.tensor("rows"), r.tensor("cols"), tuple(size))


@adapter("imas", "cutmix")
def imas_cutmix(r: Recording) -> dict[str, Any]:
    image, conf, score = r.tensor("image"), r.tensor("max_prob"), r.tensor("score")
    own, one = mask_of(r, image.shape[-2:], *r.hyper["scale"], score), torch.ones_like(conf)
    target, partner = PseudoLabels(r.tensor("pseudo_label"), conf, one, one), mirrored(score)
    mixed = paste(own, target, target[partner])
    return {
        "out_image": paste(own, image, image[partner]),
        "out_label": mixed.label,
        "out_max_prob": mixed.confidence,
    }


@adapter("imas", "unsup_loss")
def imas_unsup_loss(r: Recording) -> dict[str, Any]:
    z, conf = r.tensor("student_logits", grad=True), r.tensor("max_prob")
    method = IMAS(task_of(z.shape[1]), net="tiny", tau=r.hyper["threshold"])
    weight = method.weigh(conf, r.tensor("score"))
    loss = pixel_ce(z, PseudoLabels(r.tensor("pseudo_label"), conf, weight, torch.ones_like(conf)), over="all")
    loss.backward()
    return {"out_loss": loss, "out_grad": grad_of(z)}


@adapter("imas", "step")
def imas_step(r: Recording) -> dict[str, Any]:
    h, triggered = r.hyper, "not" not in r.hyper["trigger"]
    given = {name: r.tensor(f"{name}_params") for name in ("student", "teacher")}
    method = IMAS(
        task_of(h["num_classes"]),
        net=lambda classes, **_: Toy(classes, len(given["student"]), r.inputs["in_image_l"].shape[1]),
        tau=h["threshold"],
        weight=h["loss_weight"],
    ).train()
    parts = {}
    for name in ("student", "teacher"):
        net = getattr(method, name)
        parts[name] = [*net.conv.parameters(), *net.bn.parameters(), *net.cls.parameters()]
        torch.nn.utils.vector_to_parameters(given[name], parts[name])
    label, image = r.label("label_l"), r.tensor("image_u_weak")
    u = views(image, torch.ones(image[:, 0].shape), strong=[r.tensor("image_u_strong")])
    x = views(r.tensor("image_l"), label != VOID, label)
    score = scores(*reversed(method.teach(u)), h["threshold"], 1)
    own = mask_of(r, image.shape[-2:], *h["cutmix_range"], score)
    with (
        patch.object(imas, "draw_window_mask", lambda *_: own),
        patch.object(imas, "draw_trigger", lambda s: torch.tensor(triggered)),
    ):
        losses = method.losses(Batch(x=x, u=u), START)
    losses.total.backward()
    return {
        "out_score": score,
        "out_loss_sup": losses["x"][0],
        "out_loss_unsup_aug": (1 + triggered) * losses["s"][0],
        "out_loss_unsup_cutmix": 2 * losses["cut"][0],
        "out_loss_unsup": sum(v * w for v, w in (losses["s"], losses["cut"])),
        "out_grad_student": torch.cat([p.grad.flatten() for p in parts["student"]]),
        "out_running_mean": method.student.bn.running_mean,
    }
