"""AEL against recordings of its official code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods.consistency import ael
from s4kit.methods.consistency.ael import AEL
from s4kit.methods.parts.components import components
from s4kit.views import paste, rasterise
from s4kit.views.boxes import area_boxes


@adapter("ael", "confidence_bank")
def ael_confidence_bank(r: Recording) -> dict[str, Any]:
    q, now, after = r.tensor("bank0"), [], []
    for logits, label in zip(r.tensor("logits"), r.label("label")):
        now.append(ael.class_confidence(logits, label))
        q = r.hyper["momentum"] * q + (1 - r.hyper["momentum"]) * now[-1]
        after.append(q)
    return {"out_batch_confidence": torch.stack(now), "out_bank": torch.stack(after)}


@adapter("ael", "sampling_probs")
def ael_sampling_probs(r: Recording) -> dict[str, Any]:
    q = r.tensor("confidence")
    cut = ael.cut_probabilities(q)
    seen = r.tensor("bank")[cut.argmax()]
    seen = seen if seen.any() else torch.ones_like(seen)  # any image where none shows the class
    return {
        "out_copy_paste_probs": ael.paste_probabilities(q, r.tensor("target_classes")),
        "out_cutmix_probs": cut,
        "out_example_class": cut.argmax(),
        "out_example_candidates": seen.nonzero()[:, 0],
    }


@adapter("ael", "consistency")
def ael_consistency(r: Recording) -> dict[str, Any]:
    h, q, t = r.hyper, r.tensor("bank"), r.tensor("teacher_logits")
    method = AEL(task_of(t.shape[1]), net="tiny", tau=h["threshold"], gamma=h["gamma"], gamma2=h["gamma2"])
    target = method.pseudo_labels(t, views(torch.zeros(len(t), 3, *t.shape[2:]), torch.ones(t[:, 0].shape)), START)
    answers: dict[str, Any] = {
        "out_pseudo_label": r.as_recorded(target.label.where(target.weight > 0, VOID)),
        "out_confidence": target.confidence,
        "out_keep_rate": ael.keep_rates(q, h["gamma2"]),
    }
    for name, uniform in (("sampled", r.tensor("rand")), ("plain", torch.full_like(r.tensor("rand"), 2.0))):
        z = r.tensor("student_logits", grad=True)
        loss = ael.balanced_ce(z, target, q, uniform, method.gamma, method.gamma2)
        loss.backward()
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad_of(z)}
    return answers


@adapter("ael", "copy_paste")
def ael_copy_paste(r: Recording) -> dict[str, Any]:
    taken = ael.pasted_pixels(r.tensor("paste_label"), r.tensor("query"))
    return {
        "out_image": paste(taken, r.tensor("paste_image"), r.tensor("image")),
        "out_label": paste(taken, r.tensor("paste_label"), r.tensor("label")),
    }


@adapter("ael", "bank_update")
def ael_bank_update(r: Recording) -> dict[str, Any]:
    classes, images = r.hyper["num_classes"], r.hyper["num_images"]
    task = SimpleNamespace(**vars(task_of(classes)), unlabelled=tuple(range(images)))
    method, banks = AEL(task, net="tiny", seen=r.hyper["area_thresh"]), []
    for pred, index in zip(r.tensor("pred"), r.tensor("image_ids")):
        method.remember(index, pred)
        banks.append(method.bank.clone())
    return {"out_bank": torch.stack(banks)}


def priorities(mask: Tensor, order: np.ndarray) -> Tensor:
    """The recorded order of visits, of regions numbered by their first pixel, by the kit's region numbers."""
    number = components(mask[None])[0].flatten().numpy()
    found, first = np.unique(number[number > 0], return_index=True)
    by_first = found[np.argsort(np.flatnonzero(number > 0)[first])]
    priority = torch.zeros(mask.numel() + 1)
    for place, which in enumerate(order[order > 0]):
        priority[by_first[which - 1]] = len(order) - place
    return priority


@adapter("ael", "cutmix_mask")
def ael_cutmix_mask(r: Recording) -> dict[str, Any]:
    label, which, u = r.tensor("pred"), r.tensor("class"), r.inputs["in_fallback_u"].astype(np.float64)
    size, masks = tuple(label.shape[-2:]), label == which[:, None, None]
    priority = torch.stack([priorities(m, o) for m, o in zip(masks, r.inputs["in_component_order"])])
    boxes = area_boxes(np.zeros((len(u), 1)), u[:, :1], u[:, None, 1:], size, (0.5, 0.5))
    half = rasterise(torch.from_numpy(boxes), size)
    taken, without = (
        ~ael.object_mask(label, which, priority, fallback, r.hyper["area_thresh"])
        for fallback in (half, torch.zeros_like(half))
    )
    return {"out_mask": taken, "out_from_component": without.flatten(1).any(1)}
