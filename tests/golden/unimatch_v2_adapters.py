"""UniMatch V2 against recordings of its official code."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, relative_error, task_of

from s4kit.data.task import VOID
from s4kit.methods.consistency.unimatch_v2 import UniMatchV2
from s4kit.nets import Features, complementary_dropout
from s4kit.nets.perturb import complementary
from s4kit.views import Batch


@adapter("unimatch_v2", "step")
def unimatch_v2_step(r: Recording) -> dict[str, Any]:
    keys = ("x", "u_w", "u_s1", "u_s2")
    z_x, z_w, z_1, z_2 = leaves = [r.tensor(f"logits_{k}", grad=True) for k in keys]
    method = UniMatchV2(task_of(z_x.shape[1]), net=lambda **_: Recorded([]), tau=r.hyper["conf_thresh"])
    method.teacher.answers, method.student.answers = [z_w], [z_x, torch.cat([z_1, z_2])]
    label, first, second = r.label("mask_x"), r.tensor("img_u_s1"), r.tensor("img_u_s2")
    boxes = [r.tensor(f"cutmix_box{k}") == 1 for k in (1, 2)]
    batch = Batch(
        x=views(torch.zeros(len(label), 3, *label.shape[1:]), label != VOID, label),
        u=views(torch.zeros_like(first), r.label("ignore_mask") != VOID, strong=[first, second], masks=boxes),
    )
    losses = method.losses(batch, START)
    losses.total.backward()
    one, two = (losses.seen[k] for k in ("target", "second view/target"))
    own = method.pseudo_labels(z_w.detach(), batch.u, START)
    return {
        "out_loss": losses.total,
        "out_loss_x": losses["x"][0],
        "out_loss_u_s1": losses["s1"][0],
        "out_loss_u_s2": losses["s2"][0],
        "out_img_u_s1_mixed": losses.seen["mixed"],
        "out_img_u_s2_mixed": losses.seen["second view/mixed"],
        "out_target1": one.label,
        "out_target2": two.label,
        "out_conf1": one.confidence,
        "out_ignore1": r.ignore * (1 - one.valid),
        "out_mask_ratio": (own.weight * own.valid).sum() / own.valid.sum(),
        **{f"out_grad_logits_{k}": grad_of(z) for k, z in zip(keys, leaves)},
    }


def shares(answer: Any, expected: np.ndarray, key: str) -> float:
    """Means over random draws: 0 where they agree to 0.02; all else as usual."""
    if key != "out_stats":
        return relative_error(answer, expected, key)
    return 0.0 if np.abs(np.asarray(answer) - expected).max() <= 0.02 else float("inf")


def other_share(r: Recording) -> dict[str, str]:
    return {} if r.hyper["keep_share"] == 0.5 else {"out_stats": "half of the images are spared in every configuration"}


@adapter("unimatch_v2", "compdrop", skip=other_share, error=shares)
def unimatch_v2_compdrop(r: Recording) -> dict[str, Any]:
    drawn, kept = r.tensor("binomial"), torch.zeros(r.hyper["pairs"], dtype=torch.bool)
    kept[r.tensor("idx_kept")] = True
    names = sorted(key.removeprefix("in_") for key in r.inputs if key.startswith("in_feat"))
    levels = tuple(r.tensor(name).mT[..., None] for name in names)
    found = complementary_dropout(Features(levels), {r.hyper["dim"]: drawn}, kept)
    return {
        "out_multiplier": complementary(drawn, kept),
        **{f"out_{name}": level[..., 0].mT for name, level in zip(names, found.levels, strict=True)},
        "out_stats": draws(r.hyper["pairs"], r.hyper["dim"], r.hyper["n_stat"]),
    }


def draws(pairs: int, width: int, number: int) -> list[float]:
    """Of the method's own draws: share of images without dropout, of doubled channels in the first views of the
    others, of draws in which the factors of both views add up to 2 everywhere."""
    torch.manual_seed(0)
    method = UniMatchV2(task_of(2), net="tiny")
    spared, doubled, whole = [], [], []
    for _ in range(number):
        factors = method.share_channels(Features((torch.ones(2 * pairs, width, 1, 1),))).low[..., 0, 0]
        kept = (factors[:pairs] == 1).all(1)
        spared.append(kept.float().mean())
        doubled.append((factors[:pairs][~kept] == 2).float().mean())
        whole.append((factors[:pairs] + factors[pairs:] == 2).all().float())
    return [float(torch.stack(s).mean()) for s in (spared, doubled, whole)]
