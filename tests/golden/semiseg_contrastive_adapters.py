"""SemiSeg-Contrastive against recordings of its official code, with its two bugs put in place of ours."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from harness import Recording, adapter, grad_of
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods import PseudoLabels
from s4kit.methods.contrastive.semiseg_contrastive import SemiSegContrastive
from s4kit.methods.parts import selectors as module
from s4kit.methods.parts.class_frequencies import ClassTable
from s4kit.methods.parts.contrast import members
from s4kit.methods.parts.losses import entropy, pixel_ce, pixel_mean
from s4kit.methods.parts.schedules import sigmoid_ramp
from s4kit.methods.parts.selectors import Selectors, memory_distance, shares


def made(classes: int, labelled: int = 16, **options: Any) -> SemiSegContrastive:
    task = SimpleNamespace(num_classes=classes, labelled=range(labelled), unlabelled=range(4))
    return SemiSegContrastive(task, net="tiny", **options)


def selectors(r: Recording, name: str, classes: int) -> Selectors:
    """The recorded networks as one."""
    held = [{k: r.tensor(f"{name}_{c}.{k}") for k in ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")}
            for c in range(classes)]  # fmt: skip
    found = Selectors(classes, held[0]["0.bias"].numel())
    fitting = {"first": "0.weight", "offset": "0.bias", "gain": "1.weight", "shift": "1.bias", "last": "3.weight",
               "bias": "3.bias"}  # fmt: skip
    with torch.no_grad():
        for ours, theirs in fitting.items():
            value = torch.stack(
                [h[theirs].T if theirs.endswith("weight") and h[theirs].dim() == 2 else h[theirs] for h in held]
            )
            getattr(found, ours).copy_(value.view_as(getattr(found, ours)))
    return found


def by_class(features: Tensor, label: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(K, N, D) and (K, N): every class's rows first, in their own order."""
    belongs = members(label, classes)
    real, index = belongs.sort(dim=1, descending=True, stable=True)
    return features[index], real


NOISE = "rounding errors around zero: there the selectors of the memory learn nothing"


@adapter("semiseg_contrastive", "contrast_loss", skip={"out_memory_selector_grad_norm": NOISE})
def semiseg_contrastive_contrast_loss(r: Recording) -> dict[str, Any]:
    """With memory weights of 1, as released."""
    classes, memory = r.hyper["num_classes"], r.tensor("memory")
    f = r.tensor("features", grad=True)
    features, real = by_class(f, r.label("labels"), classes)
    held = (r.tensor("memory_present") == 1)[:, None].expand(memory.shape[:2])
    select = selectors(r, "sel", classes)
    loss = memory_distance(features, real, memory, held, shares(select(features.detach(), real), real), held.float())
    loss.backward()
    norm = sum(p.grad.flatten(1).square().sum(1) for p in select.parameters()).sqrt()
    return {"out_loss": loss, "out_grad_features": grad_of(f), "out_selector_grad_norm": norm}


def untrained(x: Tensor, real: Tensor) -> Tensor:
    """A batch norm in eval mode with a mean of 0 and a variance of 1."""
    return x / math.sqrt(1 + 1e-5)


@adapter("semiseg_contrastive", "memory_update")
def semiseg_contrastive_memory_update(r: Recording) -> dict[str, Any]:
    """With scores turned round, since the release keeps the lowest; its newest rows stand first."""
    classes, most = r.hyper["num_classes"], r.hyper["memory_per_class"]
    images, labelled = int(r.inputs["in_batch_size"]), int(r.inputs["in_num_labeled"])
    spare = classes / 3 if r.hyper["dataset"] == "pascal" else 1.0
    method = made(classes, labelled, rows=most, dim=r.tensor("features0").shape[1], spare=spare)
    choose = selectors(r, "sel", classes)
    with torch.no_grad():
        choose.last.neg_(), choose.bias.neg_()
    method.teacher.heads["choose"] = choose
    answers = {"out_per_class_per_image": method.per_image}
    with patch.object(module, "standardised", untrained):
        for step in range(sum(k.startswith("in_features") for k in r.inputs)):
            method.write(*by_class(r.tensor(f"features{step}"), r.label(f"labels{step}"), classes), images)
            count = method.memory.count.tolist()
            for c in range(classes):
                held = method.memory.take(c, torch.arange(count[c]))
                blocks = held.split(images * method.per_image)
                answers[f"out_memory{step}_{c}"] = torch.cat(blocks[::-1])
    return answers


@adapter("semiseg_contrastive", "unlabeled_losses")
def semiseg_contrastive_unlabeled_losses(r: Recording) -> dict[str, Any]:
    z, label, w = r.tensor("logits", grad=True), r.label("target"), r.tensor("class_weight")
    known, length = (label != VOID).float(), r.hyper["rampup"]
    method = made(z.shape[1])
    confidence, y = r.tensor("conf"), label.where(label != VOID, 0)
    target = PseudoLabels(y, confidence, confidence**method.power * w[y], known)
    ramp = sigmoid_ramp(int(r.inputs["in_iteration"]), length)
    l_u = ramp * pixel_ce(z, target, over="all")
    (grad_u,) = torch.autograd.grad(l_u, z)
    l_h = pixel_mean(entropy(z), torch.ones_like(known), known, over="valid") / math.log(z.shape[1])
    (grad_h,) = torch.autograd.grad(l_h, z)
    ramps = torch.tensor([sigmoid_ramp(50 * i, length) for i in range(len(r.expected["out_ramp"]))])
    return {"out_ce": l_u, "out_grad_ce": grad_u, "out_entropy": l_h, "out_grad_entropy": grad_h, "out_ramp": ramps}


@adapter("semiseg_contrastive", "class_balance")
def semiseg_contrastive_class_balance(r: Recording) -> dict[str, Any]:
    """Its tables count steps, ours images; all steps have as many."""
    label, pseudo = r.label("labels"), r.label("pseudo")
    slots = r.inputs["in_slots"].tolist()
    table = ClassTable(r.hyper["num_classes"], slots[0] * label.shape[1], slots[1] * pseudo.shape[1])
    found = []
    for a, b in zip(label, pseudo):
        table.count(a.where(a < table.labelled.shape[1], VOID), b)
        found.append(table.weights())
    return {"out_weights": torch.stack(found)}
