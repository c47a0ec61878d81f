"""STPG against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.parts.anchors import anchored
from s4kit.methods.parts.contrast import shrink
from s4kit.methods.parts.losses import ce, ohem
from s4kit.methods.selftraining.minority import GENERAL, PROFESSIONAL, Minority, mismatch
from s4kit.nets import ema
from s4kit.views import Batch

CPS_WEIGHTS = (  # of the classes of Cityscapes, in TorchSemiSeg and the code that builds on it
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023, 0.9539, 0.9843, 1.1116, 0.9037,
    1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
)  # fmt: skip


class Tiny(Recorded):
    """A `Recorded` with all that the method asks of a decoder."""

    def __init__(self, answers: list[Tensor]) -> None:
        super().__init__(answers)
        self.decoder = nn.Module()
        self.decoder.embedding_channels = 4


def made(r: Recording, classes: int, answers: list[list[Tensor]], dim: int | None = None, **options: Any) -> Minority:
    nets = iter(map(Tiny, answers))
    return Minority(task_of(classes), net=lambda **_: next(nets), dim=dim or max(classes, 8), **options)


@adapter("minority", "selection")
def selection(r: Recording) -> dict[str, Any]:
    method = made(r, r.hyper["classes"], [[], []])
    agree, label, found = r.tensor("label_agree"), r.tensor("label"), r.tensor("pred")
    return {
        "out_selected_agree": method.selected(agree, agree).float(),
        "out_mismatch_score": mismatch(label, found, r.hyper["classes"]),
        "out_selected": method.selected(label, found).float(),
    }


def stepped(r: Recording) -> dict[str, Any]:
    """A whole step, before the memory."""
    h, label, m = r.hyper, r.label("label"), r.tensor("mask")[:, 0] == 1
    leaves = {f"{part}_{k}": r.tensor(f"logit_{part}_{k}", grad=True) for part in ("sup", "mix") for k in (1, 2)}
    supervised = ohem(h["ohem_thresh"], h["ohem_min_kept"], class_weight=CPS_WEIGHTS) if "ohem_thresh" in h else ce
    answers = [[leaves[f"sup_{k}"], leaves[f"mix_{k}"]] for k in (1, 2)]
    method = made(r, h["classes"], answers, weight=h["unsup_weight"], supervised=supervised, memory=1.0, late=1.0)
    for k, teacher in ((1, method.teacher1), (2, method.teacher2)):  # the mixed images come from v inside the boxes
        teacher.answers = [r.tensor(f"teacher_u1_{k}"), r.tensor(f"teacher_u0_{k}")]
    for net in (method.net1, method.net2):
        net.heads["projection"] = nn.Identity()
    blank = torch.zeros(len(m), 3, *m.shape[1:])
    u, v = (views(r.tensor(f"image_u{k}") if f"in_image_u{k}" in r.inputs else blank, torch.ones(m.shape), masks=[m])
            for k in (0, 1))  # fmt: skip
    x = views(torch.zeros(len(label), 3, *label.shape[1:]), label != VOID, label)
    losses = method.losses(Batch(x=x, u=u, v=v), Clock(0, 10))
    losses.total.backward()
    target = {k: losses.seen[f"{name}/target"] for k, name in ((2, GENERAL), (1, PROFESSIONAL))}
    z_2 = leaves["mix_2"].detach().argmax(1)
    found = {f"out_pseudo_{k}": y.label for k, y in target.items()}
    found |= {f"out_confidence_{k}": y.confidence for k, y in target.items()}
    return found | {
        "out_image_mixed": losses.seen["mixed"],
        "out_mismatch_score": mismatch(target[1].label, z_2, h["classes"]),
        "out_selected": method.selected(target[1].label, z_2).float(),
        "out_loss_sup": losses["x1"][0] + losses["x2"][0],
        "out_loss_unsup_1": losses["general"][0],
        "out_loss_unsup_2": losses["professional"][0],
        "out_loss": losses.total,
        **{f"out_grad_{name}": grad_of(leaf) for name, leaf in leaves.items()},
    }


for what in ("step", "step_city"):
    adapter("minority", what)(stepped)


@adapter("minority", "contrast_loss")
def contrast_loss(r: Recording) -> dict[str, Any]:
    f = r.tensor("feature", grad=True)
    given = (r.tensor(name) for name in ("label", "anchor", "memory", "memory_rows"))
    loss = anchored(f, *given, r.hyper["temperature"])
    loss.backward()
    return {"out_loss": loss, "out_grad_feature": grad_of(f)}


@adapter("minority", "memory_select")
def memory_select(r: Recording) -> dict[str, Any]:
    method = made(r, r.hyper["classes"], [[], []], sure=r.hyper["confidence"])
    f, label = method.trusted(r.tensor("logits"), r.label("label"), r.tensor("feature"))
    return {"out_feature": f[label != VOID], "out_label": label[label != VOID]}


def front_first(method: Minority, like: Tensor) -> Tensor:
    """The memory from its youngest row on, padded with zeros."""
    bank, out = method.bank, torch.zeros_like(like)
    rows = bank.rows[:-1].view(*like.shape)
    for c, (number, head) in enumerate(zip(bank.count.tolist(), bank.head.tolist())):
        out[c, :number] = rows[c, [(head - 1 - k) % like.shape[1] for k in range(number)]]
    return out


def remembering(r: Recording, classes: int, dim: int, size: int, **start: Tensor) -> Minority:
    h = r.hyper
    moments = {"ranked": f"{h['rank_from_epoch']} epochs"}
    if h["assign_until_epoch"] is not None:
        moments["settled"] = f"{h['assign_until_epoch'] + 1} epochs"
    method = made(r, classes, [[], []], dim, momentum=h["centroid_momentum"], rows=size, fresh=h["n"], **moments)
    method.anchors, method.centres, method.assigned = (start[name].clone() for name in ("anchor", "centre", "assigned"))
    return method


def updates(r: Recording) -> dict[str, Any]:
    h = r.hyper
    anchor, start, assigned = r.tensor("anchor"), r.tensor("centroid0"), r.tensor("assign0")
    size = h["memory_per_class"]
    method = remembering(r, h["classes"], anchor.shape[1], size, anchor=anchor, centre=start, assigned=assigned)
    found: dict[str, list[Tensor]] = {name: [] for name in ("memory", "rows", "centroid", "assign")}
    for f, label, epoch in zip(r.tensor("feature"), r.tensor("label"), r.tensor("epoch").tolist()):
        clock = Clock(epoch, 10**6)
        method.remember(f, label, h["batch"] * h["n"], clock)
        if method.settled is None or clock.since(method.settled) < 0:
            method.assign()
        found["memory"].append(front_first(method, torch.zeros(h["classes"], size, f.shape[1])))
        found["rows"].append(method.bank.count.clone())
        found["centroid"].append(method.centres.clone())
        found["assign"].append(method.assigned.clone())
    return {f"out_{name}": torch.stack(values) for name, values in found.items()}


for what in ("memory_city", "memory_voc"):
    adapter("minority", what)(updates)


@adapter("minority", "ema")
def average(r: Recording) -> dict[str, Any]:
    nets = {name: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)) for name in ("student", "teacher")}
    for name, net in nets.items():
        torch.nn.utils.vector_to_parameters(r.tensor(name), net.parameters())
        mean, variance = r.tensor(f"{name}_buffers").chunk(2)
        net[1].running_mean.copy_(mean)
        net[1].running_var.copy_(variance)
    ema(nets["teacher"], nets["student"], r.hyper["decay"], buffers="none")
    norm = nets["teacher"][1]
    return {
        "out_teacher": torch.nn.utils.parameters_to_vector(nets["teacher"].parameters()),
        "out_teacher_buffers": torch.cat([norm.running_mean, norm.running_var]),
    }


@adapter("minority", "step_late")
def late(r: Recording) -> dict[str, Any]:
    """The first half is that of `stepped`; then the memory and the match, behind which the release has its contrast."""
    h, classes, size = r.hyper, r.hyper["classes"], r.inputs["in_memory"].shape[1]
    first = stepped(r)
    before = {"anchor": r.tensor("anchor"), "centre": r.tensor("centroid"), "assigned": r.tensor("assign")}
    method = remembering(r, classes, before["anchor"].shape[1], size, **before)
    rows, count = r.tensor("memory"), r.tensor("memory_rows")
    for c, number in enumerate(count.tolist()):  # the youngest first there, the oldest first here
        method.bank.rows[:-1].view(*rows.shape)[c, :number] = rows[c, :number].flip(0)
    method.bank.count.copy_(count)
    method.bank.head.copy_(count % size)
    method.sure, clock = h["confidence"], Clock(h["epoch"], 10**6)
    label = r.label("label")
    method.remember(
        *method.trusted(r.tensor("teacher_labelled_2"), label, r.tensor("teacher_feature_2")),
        h["batch"] * h["n"],
        clock,
    )
    method.assign()
    on = {name: r.tensor(f"feature_{name}", grad=True) for name in ("labelled", "mixed")}
    method.temperature = h["temperature"]
    labels = {"labelled": label, "mixed": first["out_pseudo_2"]}
    terms = {name: method.drawn(f, shrink(labels[name], f.shape[-2:])) for name, f in on.items()}
    (h["contrast_weight"] * sum(terms.values())).backward()
    kept = {key: value for key, value in first.items() if key in r.expected}
    return kept | {
        "out_loss_contrast_labelled": terms["labelled"],
        "out_loss_contrast_unlabelled": terms["mixed"],
        "out_loss": first["out_loss"] + h["contrast_weight"] * sum(terms.values()),
        "out_memory": front_first(method, rows),
        "out_memory_rows": method.bank.count,
        "out_centroid": method.centres,
        "out_assign": method.assigned,
        **{f"out_grad_feature_{name}": grad_of(leaf) for name, leaf in on.items()},
    }
