"""PrevMatch against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import views, weak_to_strong_batch
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import Clock, PseudoLabels
from s4kit.methods.consistency.prevmatch import PrevMatch
from s4kit.methods.parts.losses import ce_map, pixel_mean
from s4kit.methods.parts.schedules import triangle


class Drawn(PrevMatch):
    """Draws what was drawn, and, for "pixelavg", has the release's weighting."""

    def draw(self) -> list[tuple[nn.Module, float]]:
        return [(self.held[i], w) for i, w in self.drawn]

    def guided(self, logits: Tensor, target: PseudoLabels) -> Tensor:
        if not self.average:
            return super().guided(logits, target)
        return released_average(ce_map(logits, target.label), target.confidence, target.valid)


def released_average(loss: Tensor, confidence: Tensor, valid: Tensor) -> Tensor:
    """The loss of the whole batch, padding included, times the sum of the images' mean confidences."""
    mean = (confidence * valid).sum((1, 2)) / valid.sum((1, 2))
    return loss.sum() * mean.sum() / valid.sum()


def clock_of(epoch: int, epochs: int) -> Clock:
    """The release's way is half done after epochs // 2, the rest of an odd number of epochs is one longer."""
    half = epochs // 2
    return Clock(epoch, 2 * half) if epoch < half else Clock(epochs - 2 * half + epoch, 2 * (epochs - half))


NOT_PUBLISHED = "no published configuration uses it"


def shares_of_pixels(r: Recording) -> dict[str, str]:
    """The release's third mode of weighing, by the share of sure pixels."""
    if r.hyper.get("prev_conf_mode") != "pixelratio":
        return {}
    terms = [f"out_{kind}_{view}" for kind in ("loss", "grad_logits") for view in ("u_s1", "u_s2", "u_w_fp")]
    keys = ["out_loss", *(f"{key}_prev" if "loss" in key else key for key in terms), "out_grad_logits_x"]
    return dict.fromkeys(keys, NOT_PUBLISHED)


def step(r: Recording) -> dict[str, Any]:
    keys, h = ("x", "u_w", "u_s1", "u_s2", "u_w_fp"), r.hyper
    z_x, z_w, z_1, z_2, z_fp = leaves = [r.tensor(f"logits_{k}", grad=True) for k in keys]
    method = Drawn(
        task_of(z_x.shape[1]),
        net=lambda **_: Recorded([]),
        tau=h["conf_thresh"],
        tau_prev=h["prev_conf_thresh"],
        average=h["prev_conf_mode"] == "pixelavg",
        mixed=h["K"],
    )
    method.student.answers = [
        r.tensor("logits_u_w_mix"),
        torch.cat([z_x, z_w, z_x.detach(), z_fp]),
        torch.cat([z_1, z_2]),
    ]
    chosen, logits = r.tensor("idx_selected").tolist(), r.tensor("logits_prev")
    method.stored, method.drawn = h["list_len"], list(zip(chosen, r.tensor("prev_weights").tolist()))
    for i, answer in zip(chosen, logits):
        method.held[i].answers = [answer, answer]
    batch = weak_to_strong_batch(r, ("1", "2"))
    e_u, _ = method.ensemble(torch.cat([batch.u.weak, batch.v.weak]), method.draw(), logits[0]).chunk(2)
    clock = clock_of(h["epoch"], h["total_epochs"])
    losses = method.losses(batch, clock)
    losses.total.backward()
    value, guide = {name: term for name, (term, _) in losses.items()}, losses.seen["previous models/target"]
    return {
        "out_loss": losses.total,
        "out_loss_x": value["x"],
        "out_loss_standard": value["s1"] / 4 + value["s2"] / 4 + value["fp"] / 2,
        "out_loss_u_s1_prev": value["s1_prev"],
        "out_loss_u_s2_prev": value["s2_prev"],
        "out_loss_u_w_fp_prev": value["fp_prev"],
        "out_logits_prev_ensemble": e_u,
        "out_target1_prev": guide.label,
        "out_conf1_prev": guide.confidence,
        "out_conf_prev": e_u.softmax(1).amax(1),
        "out_img_u_s1_mixed": losses.seen["mixed"],
        **{f"out_grad_logits_{k}": grad_of(z) for k, z in zip(keys, leaves)},
    }


for what in ("step", "step_pixelavg"):
    adapter("prevmatch", what, skip=shares_of_pixels)(step)


@adapter(
    "prevmatch",
    "lambda_conf",
    skip=lambda r: {key: NOT_PUBLISHED for key in r.expected if key.startswith("out_pixelratio")},
)
def prevmatch_lambda_conf(r: Recording) -> dict[str, Any]:
    epochs = r.hyper["total_epochs"]
    answers = {"out_lambda": torch.tensor([triangle(clock_of(e, epochs).progress) for e in range(epochs)])}
    loss, confidence, ignore = r.tensor("loss"), r.tensor("conf"), r.label("ignore_mask")
    valid = views(loss[:, None], ignore != VOID).valid
    for digit in sorted({key.rsplit("_", 1)[1] for key in r.expected if key.startswith("out_pixel")}):
        method = PrevMatch(task_of(2), net="tiny", tau_prev=int(digit) / 10, models=1)
        method.stored = 1
        weight = method.weigh(PseudoLabels(ignore, confidence, torch.ones_like(confidence), valid)).weight
        answers[f"out_pixelwise_{digit}"] = pixel_mean(loss, weight, valid, over="valid")
        answers[f"out_pixelavg_{digit}"] = released_average(loss, confidence, valid)
    return answers
