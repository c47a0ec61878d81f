"""CPS against recordings of its official code."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.engine import sliding
from s4kit.methods import Clock, Losses
from s4kit.methods.cotraining.cps import CPS
from s4kit.methods.parts.losses import ce, ohem
from s4kit.methods.parts.schedules import poly
from s4kit.views import Batch


def method_of(r: Recording, answers: tuple[list[Tensor], list[Tensor]], cutmix: bool) -> CPS:
    """CPS whose two networks answer with recorded logits."""
    h, nets = r.hyper, iter([Recorded(a) for a in answers])
    supervised = ohem(h["ohem_thresh"], h["ohem_min_kept"]) if "ohem_thresh" in h else ce
    return CPS(
        task_of(h["classes"]), net=lambda **_: next(nets), cutmix=cutmix, weight=h["cps_weight"], supervised=supervised
    )


def common_answers(losses: Losses, names: str) -> dict[str, Any]:
    losses.total.backward()
    value, weight = losses["cps"]
    return {
        "out_loss": losses.total,
        "out_loss_cps_weighted": weight * value,
        f"out_loss_sup_{names[0]}": losses["x1"][0],
        f"out_loss_sup_{names[1]}": losses["x2"][0],
    }


def plain_loss(r: Recording) -> dict[str, Any]:
    leaves = {f"{part}_{k}": r.tensor(f"{part}_{k}", grad=True) for k in "lr" for part in ("sup", "unsup")}
    method = method_of(r, tuple([leaves[f"sup_{k}"], leaves[f"unsup_{k}"]] for k in "lr"), cutmix=False)
    label = r.label("gts")
    blank, known = torch.zeros(len(label), 3, *label.shape[1:]), torch.ones(label.shape)
    losses = method.losses(Batch(x=views(blank, known, label), u=views(blank, known)), START)
    return common_answers(losses, "lr") | {f"out_grad_{k}": grad_of(leaf) for k, leaf in leaves.items()}


def cutmix_loss(r: Recording) -> dict[str, Any]:
    leaves = {f"{part}_{k}": r.tensor(f"logit_{part}_{k}", grad=True) for k in "12" for part in ("sup", "mix")}
    answers = (
        [r.tensor(f"logit_u0_{k}"), r.tensor(f"logit_u1_{k}"), leaves[f"mix_{k}"], leaves[f"sup_{k}"]] for k in "12"
    )
    method = method_of(r, tuple(answers), cutmix=True)
    label, m = r.label("gts"), r.tensor("mask")[:, 0] == 1
    x = views(torch.zeros(len(label), 3, *label.shape[1:]), label != VOID, label)
    u, v = (views(r.tensor(k), torch.ones(m.shape), masks=[m]) for k in ("img_u0", "img_u1"))
    losses = method.losses(Batch(x=x, u=u, v=v), START)
    assert method.net1.modes == [1, 1, 1, 1], "every forward is in train mode"
    return common_answers(losses, "12") | {
        "out_img_mixed": losses.seen["mixed"],
        "out_pseudo_1": losses.seen["1 teaches 2/target"].label,
        "out_pseudo_2": losses.seen["2 teaches 1/target"].label,
        **{f"out_grad_{k}": grad_of(leaf) for k, leaf in leaves.items()},
    }


for suffix in ("", "_ohem"):
    adapter("cps", f"plain_loss{suffix}")(plain_loss)
    adapter("cps", f"cutmix_loss{suffix}")(cutmix_loss)


@adapter("cps", "ohem")
def cps_ohem(r: Recording) -> dict[str, Any]:
    answers = {}
    for case, given in r.hyper["cases"].items():
        logits = r.tensor("logits", grad=True)
        loss = ohem(given["thresh"], given["min_kept"])(logits, r.label("gts"))
        loss.backward()
        answers |= {f"out_loss_{case}": loss, f"out_grad_{case}": logits.grad}
    return answers


@adapter(
    "cps",
    "lr_schedule",
    skip={"out_epoch_plan": "the kit's epoch is one pass over the unlabelled list, rounded up"},
)
def cps_lr_schedule(r: Recording) -> dict[str, Any]:
    h = r.hyper
    factor = poly(h["power"], warmup=h["warmup_iters"])
    # the release's warm-up starts at 0, the kit's one step further
    steps = [t - (t < h["warmup_iters"]) for t in r.inputs["in_iters"].tolist()]
    return {"out_lr": np.array([h["base_lr"] * factor(Clock(t, h["total_iters"])) for t in steps])}


def other_evaluation(r: Recording) -> dict[str, str]:
    """The release resizes images of whole levels with OpenCV, whose rounding is another than the kit's."""
    if list(r.hyper["scales"]) == [1]:
        return {}
    return dict.fromkeys(("out_scores", "out_pred"), "images resized to other scales are rounded as OpenCV does")


class Normalised(nn.Module):
    """One convolution behind a normalisation whose mean colour the padding has."""

    def __init__(self, mean: Tensor, std: Tensor, weight: Tensor) -> None:
        super().__init__()
        self.mean, self.std, self.weight = mean, std, weight

    def forward(self, image: Tensor) -> Tensor:
        return F.conv2d((image - self.mean) / self.std, self.weight, padding=self.weight.shape[-1] // 2)


@adapter("cps", "sliding_eval", skip=other_evaluation)
def cps_sliding_eval(r: Recording) -> dict[str, Any]:
    h = r.hyper
    net = Normalised(*(torch.tensor(h[k]).view(1, 3, 1, 1) for k in ("mean", "std")), r.tensor("conv_weight"))
    image = r.tensor("image").permute(2, 0, 1)[None] / 255
    stride = float(Fraction(h["stride_rate"]))
    scores = sliding(net, image, h["crop"], stride, border="shift", combine="logits", flip=h["flip"], pad="fitting")
    scores = scores[0].permute(1, 2, 0)
    return {"out_scores": scores, "out_pred": scores.argmax(-1)}
