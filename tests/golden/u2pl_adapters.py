"""U2PL against recordings of its official code; where that has a bug, the release's part takes the place of ours."""

from __future__ import annotations

import re
from fractions import Fraction
from string import ascii_lowercase
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, relative_error, task_of
from torch import Tensor
from view_adapters import Estimate, within_four_errors

from s4kit.data.task import VOID
from s4kit.methods import Clock
from s4kit.methods.contrastive import u2pl
from s4kit.methods.contrastive.u2pl import U2PL, Forward
from s4kit.methods.parts.banks import Queues
from s4kit.methods.parts.contrast import Draws, members
from s4kit.methods.parts.losses import entropy, ohem, upweighted_ce
from s4kit.methods.parts.quantile import percentiles
from s4kit.methods.parts.schedules import linear, poly
from s4kit.nets import warm
from s4kit.views import half_box, paste


@adapter("u2pl", "unsup_loss")
def u2pl_unsup_loss(r: Recording) -> dict[str, Any]:
    """Through the rule and the loss of the method; void pixels of the recorded labels are not valid."""
    z, label = r.tensor("logits", grad=True), r.label("target")
    method = U2PL(task_of(z.shape[1]), net="tiny", drop=float(r.inputs["in_percent"]), contrast=0)
    view = views(torch.zeros(len(z), 3, *z.shape[2:]), label != VOID)
    says = members(label.flatten(), z.shape[1]).T.float().view(*label.shape, -1).permute(0, 3, 1, 2)
    target = method.pseudo_labels((says, entropy(r.tensor("teacher_logits"))), view, START)
    loss = upweighted_ce(z, target)
    loss.backward()
    after = r.as_recorded(torch.where(target.weight * target.valid > 0, target.label, VOID))
    return {"out_loss": loss, "out_grad_logits": grad_of(z), "out_target_after": after}


@adapter("u2pl", "reliability_masks")
def u2pl_reliability_masks(r: Recording) -> dict[str, Any]:
    logits, known = r.tensor("teacher_logits_u"), r.label("label_u") != VOID
    method = U2PL(task_of(logits.shape[1]), net="tiny", alpha=r.hyper["low_entropy_threshold"], contrast=0)
    clock, size = Clock(int(r.inputs["in_epoch"]), int(r.inputs["in_epochs"])), r.inputs["in_small_size"].tolist()
    h, a = entropy(logits), linear(method.alpha, 0, clock.progress)
    lowest, highest = percentiles(h, [a, 100 - a], known)
    low, high = method.reliability(r.label("label_l"), h, known, clock, size)
    return {
        "out_alpha_t": a,
        "out_low_thresh": lowest,
        "out_high_thresh": highest,
        "out_low_mask": low[:, None],
        "out_high_mask": high[:, None],
    }


def released_unlikely(belongs: Tensor, place: Tensor, sure: Tensor, labelled: Tensor, low: int, high: int) -> Tensor:
    """The release asks a negative of c to carry the label c, and a labelled one not to carry it as well."""
    return sure & belongs & ~labelled & (place >= low) & (place < high)


class ReleasedPairing:
    """`class_contrast` as released: the i-th class present meets the anchors and the centre of class i."""

    def __init__(self) -> None:
        self.found = torch.empty(0)

    def __call__(self, features, candidates, centre, queues, present, *rest) -> Tensor:
        self.found, real = candidates.sum(1), present.nonzero()[:, 0]
        shifted, centres = candidates.clone(), centre.clone()
        shifted[real], centres[real] = candidates[: len(real)], centre[: len(real)]
        return CLASS_CONTRAST(features, shifted, centres, queues, present, *rest)


CLASS_CONTRAST = u2pl.class_contrast


def contrast(r: Recording) -> dict[str, Any]:
    """With both index bugs of the release; the classes' positions are the classes themselves when none is missing."""
    h, z = r.hyper, r.tensor("rep", grad=True)
    method = U2PL(
        task_of(h["num_classes"]),
        net="tiny",
        threshold=h["current_class_threshold"],
        low=h["low_rank"],
        high=h["high_rank"],
        queries=h["num_queries"],
        negatives=h["num_negatives"],
        temperature=h["temperature"],
    )
    bank, count = r.tensor("bank"), r.tensor("bank_count")
    method.queues = Queues(r.inputs["in_queue_size"].tolist(), bank.shape[2])
    held = torch.arange(bank.shape[1]) < count[:, None]
    method.queues.write(bank.flatten(0, 1), torch.block_diag(*held).bool())
    before = method.queues.count.clone()

    real = r.tensor("valid_classes")[r.tensor("draw_position")]
    draws = Draws(*(torch.zeros(len(bank), r.inputs[k].shape[1]).long() for k in ("in_anchor_idx", "in_negative_idx")))
    draws.anchors[real], draws.negatives[real] = r.tensor("anchor_idx"), r.tensor("negative_idx")

    own = Forward(torch.empty(0), z, None)
    other = Forward(torch.cat([r.tensor("prob_l"), r.tensor("prob_u")]).log(), r.tensor("rep_teacher"), None)
    label = torch.cat([r.label("label_l"), r.label("label_u")])
    low, high = (r.tensor(k)[:, 0] == 1 for k in ("low_mask", "high_mask"))
    offered, pairing = [], ReleasedPairing()

    def noted(*given) -> Tensor:
        offered.append(released_unlikely(*given))
        return offered[-1]

    with patch.object(u2pl, "unlikely", noted), patch.object(u2pl, "class_contrast", pairing):
        loss = method.contrast(own, other, label, low, high, len(r.inputs["in_label_l"]), draws)
    loss.backward()
    assert torch.equal(before, count)
    queues, width = method.queues, int(method.queues.count.max())
    stored = torch.stack([queues.take(k, torch.arange(width)) for k in range(len(bank))])
    return {
        "out_loss": loss,
        "out_grad_rep": grad_of(z),
        "out_bank": stored * (torch.arange(width) < queues.count[:, None])[..., None],
        "out_bank_count": queues.count,
        "out_new_keys": offered[0].sum(1),
        "out_anchor_candidates": pairing.found,
    }


def not_answered(r: Recording) -> dict[str, str]:
    """The release's second threshold, 1 in every configuration, lets every unreliable pixel be a negative."""
    skip = {"out_queue_ptr": "a number that the release keeps and never reads"}
    if r.hyper["current_class_negative_threshold"] < 1:
        touched = ("out_loss", "out_grad_rep", "out_bank", "out_bank_count", "out_new_keys")
        skip |= dict.fromkeys(touched, "no configuration limits how probable the class of a negative may be")
    return skip


for what in ("contrast_all_classes", "contrast_missing_class"):
    adapter("u2pl", what, skip=not_answered)(contrast)


def released_onehot(labels: Tensor, classes: int) -> Tensor:
    """(B, H, W) to (B, K, H, W) as released: all into image 0, void as class 0; then its own void is cleared."""
    belongs = members(torch.where(labels == VOID, 0, labels).flatten(), classes)
    belongs = belongs.view(classes, *labels.shape).transpose(0, 1)
    answer = torch.zeros_like(belongs)
    answer[0] = belongs.any(0) & (labels[0] != VOID)
    return answer


@adapter("u2pl", "label_onehot_quirk")
def u2pl_label_onehot_quirk(r: Recording) -> dict[str, Any]:
    labels, classes = r.label("labels"), r.hyper["num_classes"]
    single = members(labels[0].flatten(), classes).view(1, classes, *labels.shape[1:])
    return {"out_onehot_single": single, "out_onehot_official": released_onehot(labels, classes)}


@adapter("u2pl", "schedules")
def u2pl_schedules(r: Recording) -> dict[str, Any]:
    g = {k.removeprefix("in_"): v.item() for k, v in r.inputs.items() if v.ndim == 0}
    length = g["iters_per_epoch"]
    progress = [Clock(e * length, g["epochs"] * length).progress for e in range(g["epochs"])]
    said = re.search(r"base ([\d.]+) / ([\d.]+), power ([\d.]+)", r.spec["description"])
    *base, power = map(float, said.groups())
    steps = len(r.expected["out_poly_lr"])
    factors = [poly(power)(Clock(step, steps)) for step in range(steps)]
    first = length * g["sup_only_epoch"]
    return {
        "out_drop_percent": np.array([linear(g["drop_percent"], 100, p) for p in progress]),
        "out_alpha_t": np.array([linear(g["low_entropy_threshold"], 0, p) for p in progress]),
        "out_ema_decay": np.array([warm(g["ema"], i - first) for i in r.inputs["in_iterations"].tolist()]),
        "out_poly_lr": np.array(factors)[:, None] * np.array(base),
    }


def box_or_equal(answer: Any, expected: np.ndarray, key: str) -> float:
    return (within_four_errors if key == "out_box_stats" else relative_error)(answer, expected, key)


def other_area(r: Recording) -> dict[str, str]:
    half = Fraction(r.hyper["area_ratio"]) == Fraction(1, 2)
    return {} if half else {"out_box_stats": "the release's boxes always have half of the area"}


@adapter("u2pl", "mixing", skip=other_area, error=box_or_equal)
def u2pl_mixing(r: Recording) -> dict[str, Any]:
    """`paste` with recorded masks (0 = taken from elsewhere), and the statistics of `half_box`."""
    maps, answers = {k: r.tensor(k) for k in ("image", "target", "conf")}, {}
    blank = {"image": 0.0, "target": r.ignore, "conf": 0.0}
    for mode in ("cutout", "cutmix", "classmix"):
        box = r.tensor(f"mask_{mode}") == 0
        for k, t in maps.items():
            other = torch.full_like(t, blank[k]) if mode == "cutout" else t.roll(-1, 0)
            answers[f"out_{k}_{mode}"] = paste(box, other, t)
    n, side = map(int, re.search(r"over (\d+) draws at (\d+)x\2", r.text("out_box_stats")).groups())
    rng, recipe = np.random.default_rng(0), half_box()
    _, _, height, width = np.concatenate([recipe.draw(rng, side) for _ in range(10 * n)]).T
    columns = (height * width / side**2, width, height)
    errors = [np.std(c) / np.sqrt(n) * np.sqrt(1.1) for c in columns]
    value = np.array([f(c) for c in columns for f in (np.mean, np.std)])
    return answers | {"out_box_stats": Estimate(value, np.repeat(errors, 2))}


@adapter("u2pl", "ohem_ce")
def u2pl_ohem_ce(r: Recording) -> dict[str, Any]:
    answers = {}
    for case, min_kept in zip(ascii_lowercase, r.inputs["in_min_kept"].tolist()):
        logits = r.tensor("logits", grad=True)
        loss = ohem(float(r.inputs["in_thresh"]), min_kept)(logits, r.label("target"))
        loss.backward()
        answers |= {f"out_loss_{case}": loss, f"out_grad_{case}": logits.grad}
    return answers
