"""ReCo against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import PseudoLabels
from s4kit.methods.contrastive import reco
from s4kit.methods.contrastive.reco import Forward, ReCo
from s4kit.methods.parts.contrast import Draws, OtherClasses, members
from s4kit.methods.parts.losses import image_share, pixel_ce
from s4kit.nets import ema, warm


def nothing(like: Tensor) -> PseudoLabels:
    """Pseudo-labels of no image, of the size of these labels."""
    return PseudoLabels(*(like[:0] for _ in range(4)))


def known(r: Recording) -> Tensor:
    """(B, h, w) labels, void where the mask leaves a pixel out."""
    return r.label("label").where(r.tensor("mask")[:, 0] == 1, VOID)


def draws_of(r: Recording, label: Tensor, classes: int) -> Draws:
    """The recorded draws, by class instead of by position, and pixels instead of places in the other classes' pools.

    The pools are rotated: those of the classes present behind the class, then those before it.
    """
    present, n = r.tensor("valid_classes").tolist(), r.inputs["in_negative_idx"].shape[1]
    pixels = [(label.flatten() == k).nonzero()[:, 0] for k in range(classes)]
    draws = Draws(torch.zeros(classes, r.inputs["in_anchor_idx"].shape[1]).long(), torch.zeros(classes, n).long())
    for position, anchors, negatives in zip(*(r.tensor(k) for k in ("draw_position", "anchor_idx", "negative_idx"))):
        turned = present[position + 1 :] + present[:position]
        draws.anchors[present[position]] = anchors
        draws.negatives[present[position]] = torch.cat([pixels[k] for k in turned])[negatives]
    return draws


def keeping(made: list[OtherClasses]) -> type[OtherClasses]:
    """`OtherClasses` that are put into a list when they are made."""

    class Kept(OtherClasses):
        def __init__(self, *given: Tensor) -> None:
            super().__init__(*given)
            made.append(self)

    return Kept


def rotated_shares(r: Recording, others: OtherClasses) -> Tensor:
    """The distribution over the other classes in the order of the recording."""
    present = r.tensor("valid_classes").tolist()
    return torch.stack([others.share[present[i], present[i + 1 :] + present[:i]] for i in r.tensor("draw_position")])


@adapter("reco", "unsup_loss")
def reco_unsup_loss(r: Recording) -> dict[str, Any]:
    z, label, confidence = r.tensor("logits", grad=True), r.label("target"), r.tensor("conf")
    valid = (label != VOID).float()
    share = image_share((confidence >= float(r.inputs["in_threshold"])).float(), valid)
    loss = pixel_ce(z, PseudoLabels(label.where(valid > 0, 0), confidence, share, valid), over="valid")
    loss.backward()
    return {"out_loss": loss, "out_grad_logits": grad_of(z)}


@adapter("reco", "contrast_loss")
def reco_contrast_loss(r: Recording) -> dict[str, Any]:
    h, z = r.hyper, r.tensor("rep", grad=True)
    method = ReCo(
        task_of(h["num_classes"]), net="tiny", hard=h["strong_threshold"], queries=h["num_queries"],
        negatives=h["num_negatives"], temperature=h["temp"],
    )  # fmt: skip
    label, made = known(r), []

    draws = draws_of(r, label, h["num_classes"])
    with patch.object(reco, "OtherClasses", keeping(made)):
        loss = method.contrast([Forward(r.tensor("prob").log(), z)], label, nothing(label), draws)
    loss.backward()
    present = members(label.flatten(), h["num_classes"]).any(1)
    assert present.nonzero()[:, 0].tolist() == r.tensor("valid_classes").tolist()
    return {"out_loss": loss, "out_grad_rep": grad_of(z), "out_negative_class_prob": rotated_shares(r, made[0])}


@adapter("reco", "ema")
def reco_ema(r: Recording) -> dict[str, Any]:
    student, teacher, means = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False), []
    nn.init.ones_(teacher.weight)
    for k, value in enumerate(r.tensor("student")):
        nn.init.constant_(student.weight, float(value))
        ema(teacher, student, warm(float(r.inputs["in_alpha"]), k), buffers="none")
        means.append(teacher.weight.item())
    return {"out_teacher": torch.tensor(means)}
