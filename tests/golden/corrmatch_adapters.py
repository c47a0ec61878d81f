"""CorrMatch against recordings of its official code."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, relative_error, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import PseudoLabels
from s4kit.methods.consistency.corrmatch import CorrMatch
from s4kit.methods.parts import correlation
from s4kit.nets.heads import CorrelationHead
from s4kit.nets.segnet import resize
from s4kit.views import Batch, Views, paste


class Stub(Recorded):
    """Recorded logits; the correlation branch has no input of its own."""

    def __init__(self, answers: list[Tensor]) -> None:
        super().__init__(answers)
        self.backbone = SimpleNamespace(channels=(3,))
        self.decoder = SimpleNamespace(align_corners=True, embedding_channels=2)


class Released(CorrMatch):
    """Reads what the release reads: recorded branch outputs, pasted padding in the statistics, an unpasted soft target.

    Attributes:
        feed: z^c of the joint and of the strong batch; shapes, padding, logits_w as recorded.
    """

    def pass_on(self, logits: Tensor, similar: Tensor, high: Tensor) -> Tensor:
        return self.feed.passed.pop(0)

    def shapes(self, similar: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
        return self.feed.shapes

    def observe(self, logits: Tensor, valid: Tensor) -> None:
        super().observe(logits, self.feed.pasted_valid)

    def judge(self, logits: Tensor, view: Views) -> PseudoLabels:
        found = super().judge(logits, view)
        found.soft = self.feed.logits_w.softmax(1)
        return found


def released(r: Recording, answers: list[Tensor], classes: int, **feed: Any) -> Released:
    options = {k: float(r.inputs[f"in_{v}"]) for k, v in {"tau": "threshold_before"}.items() if f"in_{v}" in r.inputs}
    method = Released(
        task_of(classes),
        net=lambda **_: Stub(answers),
        **({"tau": r.hyper["thresh_init"]} | options),
        momentum=r.hyper["momentum"],
    )
    method.feed = SimpleNamespace(**feed)
    return method


@adapter("corrmatch", "step")
def corrmatch_step(r: Recording) -> dict[str, Any]:
    keys = ("x", "u_w", "u_w_fp", "u_s", "x_corr", "u_w_corr", "u_s_corr")
    leaves = {k: r.tensor(f"logits_{k}", grad=True) for k in keys}
    z_x, z_w, z_fp, z_s, c_x, c_w, c_s = leaves.values()
    label, m = r.label("mask_x"), r.tensor("cutmix_box") == 1
    blank = torch.zeros(len(m), 3, *m.shape[1:])
    u = views(blank, r.label("ignore_mask") != VOID, strong=[blank], masks=[m])
    v = views(blank, r.label("ignore_mask_mix") != VOID, strong=[blank])
    method = released(
        r,
        [r.tensor("logits_u_w_mix"), torch.cat([z_x, z_w, z_x.detach(), z_fp]), z_s],
        z_x.shape[1],
        passed=[torch.cat([c_x, c_w]), c_s],
        shapes=r.tensor("corr_map") == 1,
        pasted_valid=paste(m, v.valid, u.valid),
        logits_w=z_w.detach(),
    )
    losses = method.losses(
        Batch(x=views(torch.zeros(len(label), 3, *m.shape[1:]), label != VOID, label), u=u, v=v), START
    )
    losses.total.backward()
    target = losses.seen["target"]
    before = paste(m, method.judge(r.tensor("logits_u_w_mix"), v), method.judge(z_w.detach(), u))
    value = {name: term for name, (term, _) in losses.items()}
    return {
        "out_threshold": method.tau,
        "out_target_cutmixed": before.label,
        "out_target_propagated": target.label,
        "out_conf_mask": before.weight * before.valid,
        "out_conf_mask_propagated": target.weight * target.valid,
        "out_loss": losses.total,
        "out_loss_x": value["x"],
        "out_loss_x_corr": value["x_corr"],
        "out_loss_u_s": value["s"],
        "out_loss_u_kl": value["kl"],
        "out_loss_u_w_fp": value["fp"],
        "out_loss_u_corr": (value["corr_s"] + value["corr_w"]) / 2,
        "out_loss_u_corr_s": value["corr_s"],
        "out_loss_u_corr_w": value["corr_w"],
        **{f"out_grad_logits_{k}": grad_of(leaf) for k, leaf in leaves.items()},
    }


@adapter("corrmatch", "threshold")
def corrmatch_threshold(r: Recording) -> dict[str, Any]:
    """A step without a valid pixel is recorded as -1 and leaves the threshold alone."""
    logits, thresholds, means = r.tensor("logits"), [], []
    for z, ignore in zip(logits, r.label("ignore_mask")):
        valid = (ignore != VOID).float()
        method = released(r, [], logits.shape[2], pasted_valid=valid)
        method.tau.fill_(thresholds[-1] if thresholds else r.hyper["thresh_init"])
        method.observe(z, valid)
        thresholds.append(method.tau.clone())
        method.momentum = 0.0
        method.tau.fill_(-1)
        method.observe(z, valid)
        means.append(method.tau.clone())
    return {"out_new_global": torch.stack(means), "out_threshold": torch.stack(thresholds)}


def corr_error(answer: Any, expected: np.ndarray, key: str) -> float:
    """Of the binary shapes up to one pixel in a thousand may be on the other side of the threshold."""
    if key == "out_corr_map":
        return float((answer.numpy() != expected.astype(bool)).mean() / 100)
    return relative_error(answer, expected, key)


@adapter("corrmatch", "corr", error=corr_error)
def corrmatch_corr(r: Recording) -> dict[str, Any]:
    """The branch from its projected features on, with the recorded 1x1 convolutions and rows."""
    feature, logits = r.tensor("feature", grad=True), r.tensor("logits")
    head = CorrelationHead(feature.shape[1], logits.shape[1], feature.shape[1])
    head.project = nn.Identity()
    for conv, name in ((head.left, "conv1"), (head.right, "conv2")):
        conv.weight.data = r.tensor(f"{name}_weight")[:, :, None, None]
        conv.bias.data = r.tensor(f"{name}_bias")
    grid, size = feature.shape[-2:], logits.shape[-2:]
    similar = correlation.similarity(*head(feature))
    out = correlation.propagate(resize(logits, grid, True), similar)
    (out * r.tensor("cotangent")).sum().backward()
    shapes = correlation.shapes(similar.detach(), r.tensor("idx_rows"), grid, size, True)
    return {"out_corr_logits": out, "out_corr_map": shapes, "out_grad_feature": feature.grad}
