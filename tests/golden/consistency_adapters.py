"""FixMatch, UniMatch and CutMix-Seg against recordings of their official code."""

from __future__ import annotations

from typing import Any

import torch
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor

from s4kit.data.task import VOID
from s4kit.methods import Clock, Losses, Method, PseudoLabels
from s4kit.methods.consistency.cutmix import CutMix
from s4kit.methods.consistency.fixmatch import FixMatch
from s4kit.methods.consistency.unimatch import UniMatch
from s4kit.methods.parts.distances import DISTANCES
from s4kit.methods.parts.losses import ce, ohem, pixel_mean
from s4kit.views import Batch, Views, paste

START = Clock(0, 1)
DISTANCE_OF = {
    "var": "squared",
    "bce": "binary",
    "kld": "kl",
    "logits_var": "logits",
    "logits_smoothl1": "logits_smooth_l1",
}


def views(image: Tensor, valid: Tensor, label: Tensor | None = None, strong: Any = (), masks: Any = ()) -> Views:
    """Views with what a step reads; `valid` (B, H, W)."""
    rows = torch.arange(len(image))
    label = torch.full(valid.shape, VOID) if label is None else label
    return Views(image, list(strong), list(masks), valid.float(), label, rows, rows < 0)


def criterion_of(hyper: dict[str, Any]) -> Any:
    spec = hyper.get("labelled_criterion", "cross entropy")
    return ohem(spec["thresh"], spec["min_kept"]) if isinstance(spec, dict) else ce


def weak_to_strong_batch(r: Recording, suffixes: tuple[str, ...]) -> Batch:
    """x, u, v of a FixMatch or UniMatch step; images that are not recorded are blank, the stub looks at none."""

    def image(key: str) -> Tensor:
        return r.tensor(key) if f"in_{key}" in r.inputs else torch.zeros_like(r.tensor(f"img_u_s{suffixes[0]}"))

    label, ignored, ignored_mix = (r.label(k) for k in ("mask_x", "ignore_mask", "ignore_mask_mix"))
    boxes = [r.tensor(f"cutmix_box{s}") == 1 for s in suffixes]
    strong, strong_mix = ([image(f"img_u_s{s}{mix}") for s in suffixes] for mix in ("", "_mix"))
    return Batch(
        x=views(torch.zeros(len(label), 3, *label.shape[1:]), label != VOID, label),
        u=views(image("img_u_w"), ignored != VOID, strong=strong, masks=boxes),
        v=views(image("img_u_w_mix"), ignored_mix != VOID, strong=strong_mix),
    )


def common_answers(method: Method, losses: Losses, own: PseudoLabels) -> dict[str, Any]:
    return {
        "out_loss": losses.total,
        "out_loss_x": losses["x"][0],
        "out_mask_ratio": (own.weight * own.valid).sum() / own.valid.sum(),
        "out_forward_modes": torch.tensor(method.student.modes),
    }


def fixmatch_step(r: Recording) -> dict[str, Any]:
    z_x, z_w, z_s = (r.tensor(k, grad=True) for k in ("logits_x", "logits_u_w", "logits_u_s"))
    answers = [r.tensor("logits_u_w_mix"), torch.cat([z_x, z_w]), z_s]
    method = FixMatch(
        task_of(z_x.shape[1]),
        net=lambda **_: Recorded(answers),
        tau=r.hyper["conf_thresh"],
        supervised=criterion_of(r.hyper),
    )
    batch = weak_to_strong_batch(r, ("",))
    losses = method.losses(batch, START)
    losses.total.backward()
    target = losses.seen["target"]
    own = method.pseudo_labels(z_w.detach(), batch.u, START)
    return common_answers(method, losses, own) | {
        "out_loss_u_s": losses["u"][0],
        "out_img_u_s_mixed": method.student.images[2],
        "out_target": target.label,
        "out_conf": target.confidence,
        "out_ignore": r.ignore * (1 - target.valid),
        "out_grad_logits_x": grad_of(z_x),
        "out_grad_logits_u_w": grad_of(z_w),
        "out_grad_logits_u_s": grad_of(z_s),
    }


def unimatch_step(r: Recording) -> dict[str, Any]:
    keys = ("x", "u_w", "u_s1", "u_s2", "u_w_fp")
    z_x, z_w, z_1, z_2, z_fp = leaves = [r.tensor(f"logits_{k}", grad=True) for k in keys]
    # the release throws the dropped copies of the labelled features away: any answer will do
    answers = [r.tensor("logits_u_w_mix"), torch.cat([z_x, z_w, z_x.detach(), z_fp]), torch.cat([z_1, z_2])]
    method = UniMatch(
        task_of(z_x.shape[1]),
        net=lambda **_: Recorded(answers),
        tau=r.hyper["conf_thresh"],
        supervised=criterion_of(r.hyper),
    )
    batch = weak_to_strong_batch(r, ("1", "2"))
    losses = method.losses(batch, START)
    losses.total.backward()
    first, second, own = (losses.seen[k] for k in ("target", "second view/target", "dropped features/target"))
    return common_answers(method, losses, own) | {
        "out_loss_u_s1": losses["s1"][0],
        "out_loss_u_s2": losses["s2"][0],
        "out_loss_u_w_fp": losses["fp"][0],
        "out_img_u_s1_mixed": method.student.images[2][: len(z_1)],
        "out_target1": first.label,
        "out_target2": second.label,
        "out_conf1": first.confidence,
        "out_ignore2": r.ignore * (1 - second.valid),
        **{f"out_grad_logits_{k}": grad_of(z) for k, z in zip(keys, leaves)},
    }


for what in ("step", "step_ohem"):
    adapter("fixmatch", what)(fixmatch_step)
    adapter("unimatch", what)(unimatch_step)


@adapter("unimatch", "ohem")
def unimatch_ohem(r: Recording) -> dict[str, Any]:
    losses, grads = [], []
    for thresh, min_kept in r.hyper["cases_thresh_minkept"]:
        logits = r.tensor("logits", grad=True)
        loss = ohem(thresh, int(min_kept))(logits, r.label("mask"))
        loss.backward()
        losses.append(loss.detach())
        grads.append(logits.grad)
    return {"out_loss": torch.stack(losses), "out_grad_logits": torch.stack(grads)}


@adapter("cutmix", "consistency")
def cutmix_consistency(r: Recording) -> dict[str, Any]:
    """Every distance, with the confidence of the batch and of the pixel, through `CutMix.losses`."""
    answers: dict[str, Any] = {}
    for ours, per_pixel, name in variants():
        z_m = r.tensor("student_logits", grad=True)
        label = torch.full(z_m[:, 0].shape, VOID)
        method = cutmix_of(r, ours, per_pixel, [torch.zeros_like(z_m), z_m])
        method.teacher = Recorded([r.tensor("teacher_logits1"), r.tensor("teacher_logits0")])  # v first, then u
        u = views(r.tensor("image0_student"), r.tensor("valid0")[:, 0], masks=[r.tensor("mask")[:, 0] == 1])
        v = views(r.tensor("image1_student"), r.tensor("valid1")[:, 0])
        losses = method.losses(Batch(x=views(u.weak, u.valid, label), u=u, v=v), START)
        losses.total.backward()
        answers[f"out_loss_{name}"] = losses.total
        answers[f"out_grad_student_logits_{name}"] = z_m.grad
        target = losses.seen["target"]
        if not per_pixel:
            answers["out_conf_rate"] = target.weight.double().mean()
        answers |= {
            "out_student_input": method.student.images[1],
            "out_valid_mixed": target.valid[:, None],
            "out_teacher_prob": target.soft,
        }
    return answers


@adapter("cutmix", "cutout_consistency")
def cutmix_cutout(r: Recording) -> dict[str, Any]:
    """Cut-out is in `colouraug`, with one distance; here the rule of `cutmix` with a validity that the box cuts."""
    answers: dict[str, Any] = {}
    keep = r.tensor("mask")[:, 0] == 1
    image = r.tensor("image_student")
    valid = paste(keep, r.tensor("valid")[:, 0], torch.zeros(keep.shape))
    for ours, per_pixel, name in variants():
        z, t = r.tensor("student_logits", grad=True), r.tensor("teacher_logits")
        method = cutmix_of(r, ours, per_pixel, [])
        target = method.pseudo_labels(t, views(image, valid), START)
        loss = method.weight * pixel_mean(method.distance(z, t), target.weight, target.valid, over="all")
        loss.backward()
        answers |= {f"out_loss_{name}": loss, f"out_grad_student_logits_{name}": z.grad}
        if not per_pixel:
            answers["out_conf_rate"] = target.weight.double().mean()
        answers["out_teacher_prob"] = target.soft
    return answers | {"out_student_input": paste(keep, image, torch.zeros_like(image))}


def variants() -> list[tuple[str, bool, str]]:
    """(our distance, per pixel, the suffix of the recorded arrays)."""
    assert set(DISTANCE_OF.values()) <= set(DISTANCES)
    return [(ours, rate == "pixel", f"{rate}_{o}") for o, ours in DISTANCE_OF.items() for rate in ("mean", "pixel")]


def cutmix_of(r: Recording, distance: str, per_pixel: bool, answers: list[Tensor]) -> CutMix:
    return CutMix(
        task_of(r.hyper["num_classes"]),
        net=lambda **_: Recorded(answers),
        tau=r.hyper["conf_thresh"],
        weight=r.hyper["cons_weight"],
        per_pixel=per_pixel,
        distance=distance,
    )


@adapter("cutmix", "ema")
def cutmix_ema(r: Recording) -> dict[str, Any]:
    """`CutMix.after_step` on a network whose state, as one vector, is the recorded one."""
    student = torch.nn.ParameterList([r.tensor("student0")])
    method = CutMix(task_of(2), net=lambda **_: student, decay=r.hyper["alpha"])
    rows = [method.teacher[0].detach().clone()]
    for i, state in enumerate(r.tensor("students")):
        method.student[0].data.copy_(state)
        method.after_step(Clock(i, len(r.inputs["in_students"])))
        rows.append(method.teacher[0].detach().clone())
    return {"out_teachers": torch.stack(rows)}
