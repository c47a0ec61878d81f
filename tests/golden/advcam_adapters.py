"""AdvCAM against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from harness import Recording, adapter
from torch import Tensor

from s4kit.methods.parts.climbing import Climb, already_found, attribution, channel_weights, climbing, moved
from s4kit.methods.parts.random_walk import random_walk
from s4kit.methods.weak.advcam import gathered, steps_at

SCALES = {"05": 0.5, "10": 1.0, "15": 1.5, "20": 2.0}


@adapter("advcam", "pieces")
def pieces(r: Recording) -> dict[str, Any]:
    h, f = r.hyper, r.tensor("fmaps")[None]
    weights = channel_weights(r.tensor("grads")[None])
    seen = attribution(f, weights)
    return {
        "out_weights": weights[0, :, :, None, None],
        "out_gradcam": seen[0, :, None],
        "out_next_image": moved(r.tensor("image")[None], r.tensor("image_grad")[None], h["eps"])[0],
        "out_mask": already_found(seen[0, :1], h["score_th"]).float(),
    }


@adapter("advcam", "random_walk")
def walk(r: Recording) -> dict[str, Any]:
    h = r.hyper
    found = random_walk(r.tensor("cam"), r.tensor("edge")[0], h["radius"], h["beta"], h["exp_times"])
    return {"out_rw": found[:, None]}


@adapter("advcam", "climb")
def climb(r: Recording) -> dict[str, Any]:
    h, tags = r.hyper, r.tensor("label").nonzero()[:, 0]
    how = Climb(h["adv_iter"], h["AD_stepsize"], h["AD_coeff"], h["score_th"])

    def encode(image: Tensor) -> Tensor:
        x = F.conv2d(image, r.tensor("w_conv1"), r.tensor("b_conv1"), 2, 1).relu()
        return F.conv2d(x, r.tensor("w_stage4"), r.tensor("b_stage4"), 2, 1).relu()

    found: dict[str, Any] = {}
    sums, counts = [], []
    for name, scale in SCALES.items():
        image, steps = r.tensor(f"img_{name}"), steps_at(scale, how.steps)
        rungs = list(climbing(encode, r.tensor("w_classifier").flatten(1), tags, image, how._replace(steps=steps)))
        sums.append(sum(rung.map for rung in rungs))
        counts.append(steps)
        if scale == 1:
            first, last = rungs[0], rungs[-1]
            found = {
                "out_first_grad": first.upward[0],
                "out_first_step": rungs[1].image[0],
                "out_last_image": moved(last.image, last.upward, how.size)[0],
                "out_regions_first": first.seen[0, :, None],
                "out_regions_last": last.seen[0, :, None],
            }
    side = r.inputs["in_img_10"].shape[-1]
    small = -(-side // 4)
    return found | {
        "out_cam": gathered(sums, (small, small)),
        "out_high_res": gathered(sums, (side, side)),
        "out_steps": torch.tensor(counts),
    }
