"""CTT against recordings of its official code."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from consistency_adapters import START, views
from harness import Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Losses
from s4kit.methods.cotraining import ctt
from s4kit.methods.cotraining.ctt import CTT, NAMES
from s4kit.methods.parts.banks import Queues, surest
from s4kit.methods.parts.contrast import bank_contrast, members, rows, shrink
from s4kit.nets import Decoded, Features, SegNet
from s4kit.views import Batch

SIDES = {"l": 0, "r": 1}


class Stub(SegNet):
    """The recorded stand-in: a 3x3 convolution of stride 4, a 1x1 convolution."""

    def __init__(self, feat: Tensor, out: Tensor) -> None:
        nn.Module.__init__(self)
        self.feat, self.out, self.decoder = nn.Parameter(feat), nn.Parameter(out), nn.Module()
        self.decoder.align_corners = True

    def encode(self, image: Tensor, *_: Any) -> Features:
        return Features((F.conv2d(image, self.feat, stride=4, padding=1),))

    def decode(self, features: Features, size: Any = None) -> Decoded:
        logits = F.conv2d(features.low, self.out)
        return Decoded(self.enlarge(logits, size), features.low, features.low)


def step(r: Recording, weighting: str) -> tuple[CTT, Losses]:
    h = r.hyper
    options = {"colour": h["colour_jitter"] or h["blur"], "mix": h["mix"] == "class", "weighting": weighting}
    method = CTT(
        task_of(h["classes"]), "tiny", tau=h["confidence"], weight=h["consistency_weight"], contrast=0.0, **options
    )
    method.net1, method.net2, method.teacher1, method.teacher2 = (
        Stub(r.tensor(f"{who}_{side}_feat_w"), r.tensor(f"{who}_{side}_out_w"))
        for who in ("student", "teacher")
        for side in SIDES
    )
    image, label, u = r.tensor("img_l"), r.label("label"), r.tensor("img_u")
    masks = iter(r.tensor(f"mask_{side}") == 1 for side in SIDES)
    batch = Batch(x=views(image, label != VOID, label), u=views(u, torch.ones(len(u), *u.shape[2:])))
    with patch.object(ctt, "draw_class_mask", lambda *_: next(masks)):
        return method, method.losses(batch, START)


@adapter("ctt", "cross_teacher_step")
def cross_teacher_step(r: Recording) -> dict[str, Any]:
    answers = {}
    for name, weighting in (("power6", "power"), ("ones", "none"), ("uniform", "share")):
        method, losses = step(r, weighting)
        for side, k in SIDES.items():
            value, weight = losses[f"u{k + 1}"]
            answers[f"out_unsup_{side}_{name}"] = weight * value
    losses.total.backward()
    for side, k in SIDES.items():
        target, net = losses.seen[f"{NAMES[k]}/target"], method.students[k]
        size = net.encode(r.tensor("img_u")).low.shape[-2:]
        answers |= {
            f"out_sup_{side}": losses[f"x{k + 1}"][0],
            f"out_grad_student_{side}_out_w": grad_of(net.out),
            f"out_prob_{side}_at_feat": shrink(target.confidence, size),
            f"out_label_{side}_at_feat": shrink(target.label, size),
        }
    return answers


OLDER = "an older variant with positives from either bank, which the release does not call"


@adapter("ctt", "contrast", skip={"out_two_bank": OLDER, "out_grad_feat_l_two_bank": OLDER})
def contrast(r: Recording) -> dict[str, Any]:
    h, label, mask = r.hyper, r.label("label").flatten(), (r.tensor("mask") == 1).flatten()
    bank_l, bank_r = r.tensor("bank_l"), r.tensor("bank_r")
    ready = torch.ones(h["classes"], dtype=torch.bool)
    answers = {}
    z = r.tensor("feat_l", grad=True)
    answers["out_high_level"] = bank_contrast(rows(z), label, mask, bank_l, ready, h["temp_high"])
    answers["out_high_level"].backward()
    answers["out_grad_feat_l_high"] = grad_of(z)
    z, unsure = r.tensor("feat_l", grad=True), ~mask & (r.tensor("which") == 1).flatten()
    both, peer = torch.cat([bank_l, bank_r], 1), rows(r.tensor("feat_r"))
    answers["out_low_level"] = bank_contrast(rows(z), label, unsure, both, ready, h["temp_low"], peer)
    answers["out_low_level"].backward()
    return answers | {"out_grad_feat_l_low": grad_of(z)}


@adapter("ctt", "memory_bank")
def memory_bank(r: Recording) -> dict[str, Any]:
    """Of the release the largest logit is compared; free places of a bank are random there, 0 here."""
    h, start = r.hyper, r.tensor("bank_init")
    classes, held, dim = start.shape
    bank, states, sizes = Queues([held] * classes, dim), [], []
    most = max(int(2 * held / h["labelled_samples"]), h["min_add"] * h["batch"])
    for logits, feat, label in zip(r.tensor("teacher_out"), r.tensor("teacher_feat"), r.label("label")):
        score, guess = logits.max(1)
        right = members(label.flatten(), classes) & ((guess == label) & (score >= h["confidence"])).flatten()
        bank.append(*surest(rows(feat), score.flatten(), right, most))
        state = start.clone()
        for k, n in enumerate(bank.count.tolist()):
            state[k, :n] = bank.take(k, torch.arange(n))
        states.append(state)
        sizes.append(bank.count.clone())
    return {"out_bank": torch.stack(states), "out_size": torch.stack(sizes)}
