"""The mean teacher of FST, which is U2PL without mixing and contrast, against recordings."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import views
from harness import Recording, adapter, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.contrastive.u2pl import U2PL
from s4kit.methods.parts.losses import entropy
from s4kit.methods.parts.quantile import percentiles
from s4kit.nets import Decoded, Features, SegNet, ema
from s4kit.nets.segnet import Fused
from s4kit.views import Batch


@adapter("fst", "unsup_loss")
def fst_unsup_loss(r: Recording) -> dict[str, Any]:
    """U2PL's term for unlabelled pixels; recorded labels that are 255 already count as not valid."""
    z, label, h = r.tensor("pred", grad=True), r.label("label"), entropy(r.tensor("teacher_logits"))
    valid = label != VOID
    (tau,) = percentiles(h, [float(r.inputs["in_percent"])], valid)
    target = PseudoLabels(label.where(valid, 0), h, (h < tau).float(), valid.float())
    loss = U2PL.unsupervised(None, z, target)
    loss.backward()
    kept = valid & (target.weight > 0)
    return {"out_loss": loss, "out_grad_pred": z.grad, "out_label_after": r.as_recorded(label.where(kept, VOID))}


class Toy(SegNet):
    """The recorded network: a strided convolution with batch norm, and a 1x1 convolution to logits (`rep` idles)."""

    def __init__(self, shapes: dict[str, list[int]], classes: int) -> None:
        nn.Module.__init__(self)
        width, inputs, kernel, _ = shapes["conv.weight"]
        self.conv, self.bn = nn.Conv2d(inputs, width, kernel, 2, kernel // 2), nn.BatchNorm2d(width)
        self.cls, self.rep = nn.Conv2d(width, classes, 1), nn.Conv2d(width, shapes["rep.weight"][0], 1)
        self.heads, self.aux, self.decoder = nn.ModuleDict(), None, Flags()

    def encode(self, image: Tensor, start: Features | None = None) -> Features:
        return Features((self.bn(self.conv(image)).relu(),) * 2)

    def fuse(self, features: Features) -> Fused:
        return Fused(features.low, features.high)

    def classify(self, map: Tensor, size: Any = None) -> Decoded:
        return Decoded(self._upsample(self.cls(map), size), map, map)


class Flags(nn.Module):
    """All that is asked of the toy's decoder."""

    align_corners = True


def flat(net: Toy, order: list[str]) -> Tensor:
    parameters = dict(net.named_parameters())
    return torch.cat([parameters[name].detach().flatten() for name in order])


def fill(net: Toy, values: Tensor, order: list[str]) -> None:
    parameters = dict(net.named_parameters())
    for name, part in zip(order, values.split([parameters[name].numel() for name in order])):
        parameters[name].data.copy_(part.view_as(parameters[name]))


def statistics(net: Toy) -> Tensor:
    return torch.cat([net.bn.running_mean, net.bn.running_var])


def mean_teacher_step(r: Recording) -> dict[str, Any]:
    """U2PL's step with empty boxes, a percentile that stays where it is, and no contrast.

    In the first epoch the release copies the student into the teacher before every step by assigning `.data`, which
    shares the memory, so that the two are one until the epoch ends.
    """
    h = r.hyper
    order, aliased = h["param_order"], "first_iteration_index" not in h
    shapes = dict(zip(order, h["param_shapes"]))
    method = U2PL(
        task_of(h["num_classes"]),
        net=lambda **_: Toy(shapes, h["num_classes"]),
        warmup=0.0,
        decay=h["ema_decay"],
        drop=h["drop_percent"],
        contrast=0.0,
    )
    student, teacher = method.student, method.teacher
    fill(student, r.tensor("student_init"), order)
    fill(teacher, r.tensor("teacher_init"), order)
    optimiser = torch.optim.SGD(
        [
            {"params": [*student.conv.parameters(), *student.bn.parameters()], "lr": h["lr_backbone"]},
            {"params": [*student.cls.parameters(), *student.rep.parameters()], "lr": h["lr_head"]},
        ],
        momentum=h["momentum"],
        weight_decay=h["weight_decay"],
    )
    names = ("student", "teacher", "student_bn", "teacher_bn", "sup_loss", "unsup_loss")
    rows: dict[str, list[Tensor]] = {f"out_{name}": [] for name in names}
    for i in range(h["steps"]):
        clock = Clock(h.get("first_iteration_index", 0) + i, 10**12)
        if aliased:
            ema(teacher, student, 0.0, buffers="none")
        label, image_u = r.label("label_l")[i], r.tensor("image_u")[i]
        u = views(image_u, torch.ones(image_u[:, 0].shape), masks=[torch.zeros(image_u[:, 0].shape) > 0])
        batch = Batch(x=views(r.tensor("image_l")[i], label != VOID, label), u=u)
        losses = method.losses(batch, clock)
        optimiser.zero_grad()
        (losses.total + 0 * sum(p.sum() for p in student.rep.parameters())).backward()
        optimiser.step()
        method.after_step(clock)
        if aliased:
            ema(teacher, student, 0.0, buffers="none")
        values = (flat(student, order), flat(teacher, order), statistics(student), statistics(teacher))
        for name, value in zip(names, (*values, losses["x"][0], losses["u"][0])):
            rows[f"out_{name}"].append(value.detach().clone())
    return {name: torch.stack(values) for name, values in rows.items()}


def looks_ahead(r: Recording) -> dict[str, str]:
    steps = r.hyper["look_ahead_steps"]
    return dict.fromkeys(r.expected, f"{steps} steps of look-ahead are FST's, not the mean teacher's") if steps else {}


for what in ("mean_teacher_step", "mean_teacher_step_late"):
    adapter("fst", what, skip=looks_ahead)(mean_teacher_step)
