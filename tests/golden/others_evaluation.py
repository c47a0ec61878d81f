"""Our own recordings of the evaluation; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import (
    VOID,
    Draw,
    exact,
    variant,
)
from torch import Tensor


@variant("unimatch_evaluate")
def unimatch_evaluate(d: Draw) -> dict[str, Any]:
    """Odd sides, another step, multiples of 6, three images."""
    x, y, w, b = d.uniform(3, 3, 23, 31), d.label(5, 3, 23, 31), d.normal(5, 3, 3, 3), d.normal(5, scale=0.2)
    crop = 13

    def net(image: Tensor) -> Tensor:
        return F.conv2d(image, *exact(w, b), padding=1)

    images, answers = exact(x)[0], {}
    cut = [part(image, net, crop, range(0, 23, 6), range(0, 31, 6)) for image in images]
    shift = [part(image, net, crop, (0, 6, 10), (0, 6, 12, 18)) for image in images]
    middle = (slice(None), slice(5, 5 + crop), slice(9, 9 + crop))
    whole = [net(image[None])[0].argmax(0) for image in images]
    centre = [net(image[middle][None])[0].argmax(0) for image in images]
    multiples = [
        F.interpolate(
            net(F.interpolate(image[None], (24, 30), mode="bilinear", align_corners=True)), (23, 31), mode="bilinear",
            align_corners=True,
        )[0].argmax(0)
        for image in images
    ]  # fmt: skip
    for name, predicted, label in (
        ("v1_sliding_window", cut, y), ("v1_original", whole, y), ("v1_center_crop", centre, y[:, 5:18, 9:22]),
        ("v2_sliding_window", shift, y), ("v2_original_m6", multiples, y),
    ):  # fmt: skip
        says, iou = torch.stack(predicted).numpy(), []
        for k in range(5):
            known = label != VOID
            both, either = ((says == k) & (label == k)).sum(), (((says == k) | (label == k)) & known).sum()
            iou.append(100 * both / either if either else 0)
        answers |= {
            f"out_pred_{name}": says,
            f"out_iou_{name}": np.array(iou),
            f"out_miou_{name}": np.float32(np.mean(iou)),
        }
    hyper = {"crop_size": crop, "stride": "int(crop*1/2)", "nclass": 5, "ignore_index": VOID}
    return {"in_images": x, "in_masks": y, "in_conv_weight": w, "in_conv_bias": b, **answers, "hyper": hyper}


def part(image: Tensor, net: Any, crop: int, rows: Any, columns: Any) -> Tensor:
    """Classes by the sum of the probabilities of windows that start at `rows` and `columns`."""
    total = torch.zeros(5, *image.shape[1:]).double()
    for top in rows:
        for left in columns:
            place = (slice(None), slice(top, top + crop), slice(left, left + crop))
            total[place] += net(image[place][None])[0].softmax(0)
    return total.argmax(0)


@variant("cps_sliding_eval")
def cps_sliding_eval(d: Draw) -> dict[str, Any]:
    """Lower than the window and wider; mirrored as well; the canvas is black before the normalisation."""
    image, weight, crop, step = d.classes(256, 17, 44, 3).astype(np.uint8), d.normal(4, 3, 3, 3), 21, 16
    mean, std = np.array([0.4, 0.5, 0.3]), np.array([0.2, 0.3, 0.25])
    canvas = np.zeros((21, 44, 3))
    canvas[2:19] = image / 255
    pixels = exact(((canvas - mean) / std).transpose(2, 0, 1)[None].copy())[0]
    scores = torch.zeros(1, 4, 21, 44, dtype=torch.float64)
    for left in (0, 16, 23):
        part = pixels[..., left : left + crop]
        one, two = (F.conv2d(p, exact(weight)[0], padding=1) for p in (part, part.flip(-1)))
        scores[..., left : left + crop] += one + two.flip(-1)
    out = scores[0, :, 2:19].permute(1, 2, 0)
    hyper = {
        "crop": crop, "flip": True, "mean": mean.tolist(), "scales": [1], "std": std.tolist(), "stride": step,
        "stride_rate": "3/4",
    }  # fmt: skip
    return {"in_image": image, "in_conv_weight": weight, "out_scores": out, "out_pred": out.argmax(2), "hyper": hyper}
