"""AugSeg against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.consistency.augseg import AugSeg, confidence_of_images, inject, known
from s4kit.methods.parts.losses import pixel_ce
from s4kit.nets import Decoded, Features, SegNet
from s4kit.views import Batch, Views, rasterise
from s4kit.views.boxes import beta_boxes
from s4kit.views.intensity import OPERATIONS

# Pillow cuts results to whole grey levels and rounds the mean luma; its blur rounds after each of six passes.
LEVELS = {"autocontrast": 1, "contrast": 1.5, "brightness": 1, "color": 1.5, "sharpness": 1.5, "blur": 3}


def pseudo(r: Recording) -> PseudoLabels:
    """Recorded labels, of which void ones are not valid; weights are for the method to give."""
    found = known(r.label("pseudo_label"))
    found.confidence = r.tensor("max_prob")
    return found


@adapter("augseg", "confidence")
def augseg_confidence(r: Recording) -> dict[str, Any]:
    z = r.tensor("teacher_logits")
    found = AugSeg(task_of(z.shape[1]), net="tiny").pseudo_labels(z, views(z, torch.ones(z[:, 0].shape)), START)
    return {
        "out_confidence": confidence_of_images(z),
        "out_max_prob": found.confidence,
        "out_pseudo_label": found.label,
    }


@adapter("augseg", "cutmix_adaptive")
def augseg_cutmix_adaptive(r: Recording) -> dict[str, Any]:
    size = r.inputs["in_image_u"].shape[-2:]
    small, large = (
        rasterise(
            torch.from_numpy(
                beta_boxes(r.inputs[f"in_lambda_{k}"], r.inputs[f"in_rows_{k}"], r.inputs[f"in_cols_{k}"], size)
            )[:, None],
            size,
        )
        for k in ("labelled", "unlabelled")
    )
    image, target = inject(
        r.tensor("image_u"),
        pseudo(r),
        r.tensor("image_l"),
        known(r.label("label_l")),
        r.tensor("trigger") > r.tensor("confidence"),
        r.tensor("perm"),
        small,
        large,
    )
    return {
        "out_image": image,
        "out_label": r.as_recorded(target.label.where(target.valid > 0, VOID)),
        "out_max_prob": target.confidence,
    }


@adapter("augseg", "unsup_loss")
def augseg_unsup_loss(r: Recording) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for name, tau in (("thr", "threshold"), ("neg", "threshold_neg")):
        z, target = r.tensor("student_logits", grad=True), pseudo(r)
        target.weight = (target.confidence >= r.hyper[tau]).float()
        loss = pixel_ce(z, target, over="all")
        loss.backward()
        ratio = (target.weight * target.valid).mean()
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad_of(z), f"out_ratio_{name}": ratio}
    return answers


@adapter("augseg", "ema")
def augseg_ema(r: Recording) -> dict[str, Any]:
    """`AugSeg.after_step` on a network whose state, as one vector, is the recorded one.

    The kit's first epoch is the release's first one with unlabelled images; before it the teacher is a copy as well.
    """
    student, h = nn.ParameterList([r.tensor("teacher0")]), r.hyper
    method, rows, decays = AugSeg(task_of(2), net=lambda **_: student, decay=h["ema_decay"]), [], []
    for i, state in enumerate(r.tensor("students")):
        step = max(0, i - h["steps_per_epoch"] * h["sup_only_epoch"])
        clock = Clock(step, h["epochs"] * h["steps_per_epoch"], h["steps_per_epoch"])
        method.student[0].data.copy_(state)
        method.after_step(clock)
        decays.append(method.decay_at(clock))
        rows.append(method.teacher[0].detach().clone())
    return {"out_decay": torch.tensor(decays), "out_teachers": torch.stack(rows)}


def within_levels(answer: np.ndarray, expected: np.ndarray, key: str) -> float:
    """0 where no pixel is further off than Pillow's rounding explains; equalise, posterise and solarise are exact."""
    off = np.abs(answer - expected).max()
    return 0.0 if off <= LEVELS.get(key.removeprefix("out_"), 1e-3) else float("inf")


@adapter("augseg", "intensity_ops", error=within_levels)
def augseg_intensity_ops(r: Recording) -> dict[str, Any]:
    """The uniforms are in the order of the release's list, which has the hue, that is not recorded, in its middle."""
    image, answers = r.tensor("image").permute(2, 0, 1)[None] / 255, {}
    for u, (name, operation) in zip(r.inputs["in_u"], OPERATIONS.items()):
        if name != "hue":
            answers[f"out_{name}"] = 255 * operation(image, float(u))[0].permute(1, 2, 0).numpy()
    return answers


class Toy(SegNet):
    """The recorded network: conv3x3 - BN - ReLU - conv1x1, as wide as the number of its parameters says."""

    def __init__(self, classes: int, parameters: int, inputs: int = 3) -> None:
        nn.Module.__init__(self)
        width, rest = divmod(parameters - classes, 9 * inputs + 3 + classes)
        assert not rest, f"{parameters} parameters are not those of a network of this kind"
        self.conv, self.bn = nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width)
        self.cls, self.heads, self.aux = nn.Conv2d(width, classes, 1), nn.ModuleDict(), None

    def encode(self, image: Tensor, start: Features | None = None) -> Features:
        return Features((self.bn(self.conv(image)).relu(),) * 2)

    def decode(self, features: Features, size: Any = None) -> Decoded:
        return Decoded(self.cls(features.low), features.low, features.low)


class Labelled(AugSeg):
    """Its pseudo-labels are the recorded ones; what was mixed before stays as it is."""

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        found = pseudo(self.recording)
        found.weight = (found.confidence >= self.tau).float()
        return found


@adapter("augseg", "step")
def augseg_step(r: Recording) -> dict[str, Any]:
    h, flat = r.hyper, r.tensor("params")
    method = Labelled(
        task_of(h["num_classes"]),
        net=lambda classes, **_: Toy(classes, len(flat), r.inputs["in_image_l"].shape[1]),
        tau=h["threshold"],
        weight=h["loss_weight"],
    ).train()
    method.recording, net = r, method.student
    parameters = [*net.conv.parameters(), *net.bn.parameters(), *net.cls.parameters()]
    torch.nn.utils.vector_to_parameters(flat, parameters)
    label, image = r.label("label_l"), r.tensor("image_u")
    empty = torch.zeros(image[:, 0].shape, dtype=torch.bool)
    u = views(image, ~empty, strong=[image], masks=[empty, empty])
    losses = method.losses(Batch(x=views(r.tensor("image_l"), label != VOID, label), u=u), START)
    losses.total.backward()
    return {
        "out_loss_sup": losses["x"][0],
        "out_loss_unsup": losses["u"][0] * losses["u"][1],
        "out_grad_params": torch.cat([p.grad.flatten() for p in parameters]),
        "out_running_mean": net.bn.running_mean,
        "out_running_var": net.bn.running_var,
    }
