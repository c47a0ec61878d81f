"""FST against recordings, and its mean teacher, which is U2PL without mixing and contrast."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import views
from harness import Recording, adapter, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.contrastive.u2pl import U2PL
from s4kit.methods.parts.losses import entropy, upweighted_ce
from s4kit.methods.parts.quantile import percentiles
from s4kit.methods.selftraining.fst import FST
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
    loss = upweighted_ce(z, target)
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
        return Decoded(self.enlarge(self.cls(map), size), map, map)


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


def started(r: Recording, method: Any) -> torch.optim.Optimizer:
    """The recorded start of both networks, and the release's optimiser."""
    h, student = r.hyper, method.student
    fill(student, r.tensor("student_init"), h["param_order"])
    fill(method.teacher, r.tensor("teacher_init"), h["param_order"])
    return torch.optim.SGD(
        [
            {"params": [*student.conv.parameters(), *student.bn.parameters()], "lr": h["lr_backbone"]},
            {"params": [*student.cls.parameters(), *student.rep.parameters()], "lr": h["lr_head"]},
        ],
        momentum=h["momentum"],
        weight_decay=h["weight_decay"],
    )


def outer_steps(r: Recording, method: Any, masks: int) -> dict[str, Any]:
    """The recorded steps.

    In the first epoch the release copies the student into the teacher before every evaluation by assigning `.data`,
    which shares the memory, so that the two are one until the epoch ends.
    """
    h, student, teacher = r.hyper, method.student, method.teacher
    order, aliased, optimiser = h["param_order"], "first_iteration_index" not in h, started(r, method)
    names = ("student", "teacher", "student_bn", "teacher_bn", "sup_loss", "unsup_loss")
    rows: dict[str, list[Tensor]] = {f"out_{name}": [] for name in names}
    found: list[Any] = []
    for i in range(h["steps"]):
        clock = Clock(h.get("first_iteration_index", 0) + i, 10**12)
        label, image_u = r.label("label_l")[i], r.tensor("image_u")[i]
        box = [torch.zeros(image_u[:, 0].shape) > 0] * masks
        u = views(image_u, torch.ones(image_u[:, 0].shape), masks=box)
        batch = Batch(x=views(r.tensor("image_l")[i], label != VOID, label), u=u)

        def update(losses: Any, batch: Batch = batch, clock: Clock = clock) -> None:
            if aliased:
                ema(teacher, student, 0.0, buffers="none")
            found.append(losses(batch, clock))
            optimiser.zero_grad()
            (found[-1].total + 0 * sum(p.sum() for p in student.rep.parameters())).backward()
            optimiser.step()

        method.step(update, clock)
        if aliased:
            ema(teacher, student, 0.0, buffers="none")
        values = (flat(student, order), flat(teacher, order), statistics(student), statistics(teacher))
        for name, value in zip(names, (*values, found[-1]["x"][0], found[-1]["u"][0])):
            rows[f"out_{name}"].append(value.detach().clone())
    return {name: torch.stack(values) for name, values in rows.items()}


def toy_net(r: Recording) -> Any:
    shapes = dict(zip(r.hyper["param_order"], r.hyper["param_shapes"]))
    return lambda **_: Toy(shapes, r.hyper["num_classes"])


def mean_teacher_step(r: Recording) -> dict[str, Any]:
    """U2PL's step with empty boxes, a percentile that stays where it is, and no contrast."""
    h = r.hyper
    method = U2PL(
        task_of(h["num_classes"]),
        net=toy_net(r),
        warmup=0.0,
        decay=h["ema_decay"],
        drop=h["drop_percent"],
        contrast=0.0,
    )
    return outer_steps(r, method, 1)


def look_ahead_step(r: Recording) -> dict[str, Any]:
    h = r.hyper
    options = {"ahead": h["look_ahead_steps"], "decay": h["ema_decay"], "drop": h["drop_percent"]}
    return outer_steps(r, FST(task_of(h["num_classes"]), net=toy_net(r), **options), 0)


def looks_ahead(r: Recording) -> dict[str, str]:
    steps = r.hyper["look_ahead_steps"]
    return dict.fromkeys(r.expected, f"{steps} steps of look-ahead are FST's, not the mean teacher's") if steps else {}


for what in ("mean_teacher_step", "mean_teacher_step_late"):
    adapter("fst", what, skip=looks_ahead)(mean_teacher_step)
for what in ("step", "step_late"):
    adapter("fst", what)(look_ahead_step)
