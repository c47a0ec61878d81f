"""ST and ST++ against recordings of their official code; the weak views are in `view_adapters`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import Recording, adapter, relative_error
from torch import Tensor, nn

from s4kit.data.task import Evaluation
from s4kit.engine.windows import predict
from s4kit.methods.parts.reliability import class_iou, stability
from s4kit.methods.selftraining.st import ST


def with_gaps(answer: Tensor, expected: np.ndarray, key: str) -> float:
    """The error where both are numbers; infinite where one alone is none."""
    answer = answer.numpy() if isinstance(answer, Tensor) else np.asarray(answer)
    if (np.isnan(answer) != np.isnan(expected)).any():
        return float("inf")
    return relative_error(np.nan_to_num(answer), np.nan_to_num(expected))


@adapter("st", "reliability", error=with_gaps)
def reliability(r: Recording) -> dict[str, Any]:
    *earlier, last = r.tensor("preds")
    classes = r.hyper["num_classes"]
    iou = torch.stack([class_iou(labels, last, classes) for labels in earlier], 1)
    found = stability(earlier, last, classes)
    order = sorted(range(len(found)), key=lambda image: -found[image])
    half = len(order) // 2
    return {
        "out_iou": iou,
        "out_miou": iou.nanmean(2),
        "out_reliability": found,
        "out_reliable_order": np.array(order[:half]),
        "out_unreliable_order": np.array(order[half:]),
    }


class Toy(nn.Module):
    """The recorded network: a strided convolution, its logits resized to the image."""

    def __init__(self, r: Recording) -> None:
        super().__init__()
        self.weight, self.bias, self.corners = r.tensor("weight"), r.tensor("bias"), r.hyper["align_corners"]
        self.step, self.margin = (2, 1)

    def forward(self, image: Tensor) -> Tensor:
        z = F.conv2d(image, self.weight, self.bias, self.step, self.margin)
        return F.interpolate(z, image.shape[-2:], mode="bilinear", align_corners=self.corners)


@adapter("st", "tta")
def tta(r: Recording) -> dict[str, Any]:
    h, image = r.hyper, r.tensor("x")
    net = Toy(r)
    how = Evaluation(
        scales=tuple(h["scales"]), flip=h["flip"], corners=h["align_corners"], floor=h["size_rule"] == "int(side*scale)"
    )
    scores = predict(net, image, how)
    return {"out_sum": scores, "out_label": scores.argmax(1), "out_plain_logits": net(image)}


def as_likely(answer: np.ndarray, expected: np.ndarray, key: str) -> float:
    """0 where a mean and a deviation (or a share) are those of the same draw, within what their number allows."""
    answer, expected = np.asarray(answer), np.asarray(expected)
    if key == "out_fire_rate":
        return max(0.0, abs(float(answer - expected)) - 0.05)
    mean, deviation, low, high = expected
    close = abs(answer[0] - mean) < 0.2 * deviation and abs(answer[1] / deviation - 1) < 0.1
    reach = 0.1 * (high - low)
    return 0.0 if close and answer[2] < low + reach and answer[3] > high - reach else float("inf")


@adapter(
    "st", "cutout_stats", error=as_likely,
    skip={"out_fill_value": "the kit fills with torch.rand in the step, a float between 0 and 1"},
)  # fmt: skip
def cutout_stats(r: Recording) -> dict[str, Any]:
    """Boxes as ST draws them, against the moments of the release's."""
    h, rng = r.hyper, np.random.default_rng(0)
    (recipe,) = ST.views["u"].masks
    side = h["H"]
    assert side == h["W"] and (recipe.area, recipe.p) == ((h["size_min"], h["size_max"]), h["p"])
    boxes = np.concatenate([recipe.draw(rng, side) for _ in range(4 * h["samples"])])
    top, left, height, width = boxes[boxes[:, 2] > 0].T
    values = {
        "out_area_fraction": height * width / side**2,
        "out_h_over_w": height / width,
        "out_x_fraction": left / side,
        "out_y_fraction": top / side,
    }
    moments = {name: np.array([v.mean(), v.std(), v.min(), v.max()]) for name, v in values.items()}
    return moments | {"out_fire_rate": (boxes[:, 2] > 0).mean()}
