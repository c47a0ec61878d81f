"""Views, their draws and the evaluation against recordings."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import TOLERANCE, Recording, adapter, task_of

from s4kit.data.task import Evaluation, Sample, Source, Task
from s4kit.engine.evaluate import evaluate, predict
from s4kit.views.boxes import UniMatchBox, area_boxes, rasterise
from s4kit.views.geometry import Geometry, Window


@adapter("cutmix", "boxmask")
def cutmix_boxmask(r: Recording) -> dict[str, Any]:
    """The kit draws boxes by area; the release's other options are the same function at other uniforms."""
    h, answers = r.hyper, {}
    low, high = (h["prop_range"],) * 2 if np.isscalar(h["prop_range"]) else h["prop_range"]
    for case, options in h["configs"].items():
        draws = [r.inputs[k] for k in sorted(k for k in r.inputs if re.fullmatch(rf"in_u\d_{case}", k))]
        share, corner = low + (high - low) * draws[0], draws[-1]
        if not options["random_aspect_ratio"]:
            aspect = np.full_like(share, 0.5)  # height share = width share = sqrt(p)
            share = share if options["prop_by_area"] else share**2
        elif options["prop_by_area"]:
            aspect = draws[1]
        else:  # the two draws are the height and the width share
            height, width = share, low + (high - low) * draws[1]
            share, aspect = height * width, np.log(height) / np.log(height * width)
        boxes = area_boxes(share, aspect, corner, (h["H"], h["W"]), (0.0, 1.0))
        mask = rasterise(torch.from_numpy(boxes), (h["H"], h["W"]))[:, None]
        answers[f"out_mask_{case}"] = mask if options["invert"] else ~mask
    return answers


class Estimate(NamedTuple):
    """A statistic and the standard error of its difference to the recorded one."""

    value: np.ndarray
    error: np.ndarray


def within_four_errors(answer: Estimate, expected: np.ndarray, key: str) -> float:
    """TOLERANCE at a deviation of four standard errors."""
    return float((np.abs(answer.value - expected) / (4 * answer.error)).max() * TOLERANCE)


@adapter("unimatch", "cutmix_box", error=within_four_errors)
def unimatch_cutmix_box(r: Recording) -> dict[str, Any]:
    """Statistics of `UniMatchBox`, four times as many draws as were recorded."""
    given = dict(p.split("=") for p in r.hyper["defaults"].split(",")) | r.hyper["overrides"]
    p, small, large, first, second = (_number(given[k]) for k in ("p", "size_min", "size_max", "ratio_1", "ratio_2"))
    recipe = UniMatchBox(p, (small, large), (first, second))
    sizes, n = r.inputs["in_sizes"], r.hyper["n_samples"]
    rng = np.random.default_rng(0)
    parts = [_box_statistics(recipe, rng, int(side), n) for side in sizes]
    names = ("out_stats", "out_coverage", "out_area_hist")
    return {k: Estimate(*(np.stack([part[i][j] for part in parts]) for j in (0, 1))) for i, k in enumerate(names)}


def _number(text: Any) -> float:
    top, _, bottom = str(text).partition("/")
    return float(top) / float(bottom or 1)


def _box_statistics(recipe: UniMatchBox, rng: np.random.Generator, side: int, n: int) -> list[Estimate]:
    table = np.concatenate([recipe.draw(rng, side) for _ in range(4 * n)])
    masks = rasterise(torch.from_numpy(table)[:, None], (side, side)).float().mean(0).numpy()
    drawn = table[table[:, 2] > 0]
    top, left, h, w = (drawn / side).T
    area, aspect = h * w, np.log(h / w)
    columns = (area, aspect, left + w / 2, top + h / 2, w, h)
    none, kept = 1 - len(drawn) / len(table), n * len(drawn) / len(table)
    more = np.sqrt(1 + 1 / 4)  # our own sampling error beside the recorded one's
    mean_error = np.array([c.std() for c in columns]) / np.sqrt(kept) * more
    # the spread of a bounded variable has a standard error of at most std / sqrt(2 n)
    moments = [m for c in columns for m in (c.mean(), c.std())]
    errors = [e for m in mean_error for e in (m, m)]
    values = [none, *moments[:2], area.min(), area.max(), *moments[2:]]
    spread = [np.sqrt(none * (1 - none) / n) * more, *errors[:2], mean_error[0], mean_error[0], *errors[2:]]
    edges = np.linspace(0, side, 6).astype(int)
    cover = np.array([[masks[a:b, c:d].mean() for c, d in zip(edges, edges[1:])] for a, b in zip(edges, edges[1:])])
    hist = np.histogram(area, 10, (0, 0.5))[0] / len(area)
    return [
        Estimate(np.array(values), np.array(spread)),
        Estimate(cover, np.sqrt(cover * (1 - cover) / n) * more),
        Estimate(hist, np.sqrt(np.maximum(hist * (1 - hist), 1 / kept) / kept) * more),
    ]


@adapter("st", "weak_aug")
def st_weak_aug(r: Recording) -> dict[str, Any]:
    image, mask, crop = r.inputs["in_image"], r.inputs["in_mask"], r.hyper["crop"]
    geometry, longer = Geometry(), max(image.shape[:2])
    images, masks = [], []
    for long_side, left, top, flip in r.inputs["in_params"].tolist():
        height, width = (int(side * long_side / longer + 0.5) for side in image.shape[:2])
        window = Window(height, width, top, left, bool(flip))
        images.append(geometry.image(image, window, crop))
        masks.append(geometry.label(mask, window, crop))
    return {"out_image": np.stack(images), "out_mask": np.stack(masks)}


class Memory(Source):
    """Recorded float images as a source; `evaluate` divides by 255, so they are stored 255 times as large."""

    def __init__(self, images: torch.Tensor, masks: torch.Tensor) -> None:
        self.ids, self.images, self.masks = [str(i) for i in range(len(images))], images * 255, masks

    def read(self, row: int, label: bool = True) -> Sample:
        return Sample(self.images[row], self.masks[row], self.ids[row])


SECOND_VERSION = "belongs to UniMatch V2"
CENTRE = "the release scores a centre crop with a function that its training never calls"


@adapter(
    "unimatch",
    "evaluate",
    skip={
        **{
            f"out_{k}_v2_{mode}": SECOND_VERSION
            for k in ("miou", "iou", "pred")
            for mode in ("sliding_window", "original_m14")
        },
        **{f"out_{k}_v1_center_crop": CENTRE for k in ("miou", "iou", "pred")},
    },
)
def unimatch_evaluate(r: Recording) -> dict[str, Any]:
    """The release counts a class that never occurs as 0; the kit leaves it out of the mean and says NaN."""
    images, masks, h = r.tensor("images"), r.tensor("masks"), r.hyper
    weight, bias = r.tensor("conv_weight"), r.tensor("conv_bias")
    net = torch.nn.Conv2d(3, h["nclass"], weight.shape[-1], padding=weight.shape[-1] // 2)
    net.load_state_dict({"weight": weight, "bias": bias})
    source = Memory(images, masks)
    names = task_of(h["nclass"]).classes
    task = Task("recorded", names, ((0, 0, 0),) * len(names), source, (0,), (), source, h["crop_size"])
    protocols = {"sliding_window": Evaluation("sliding", h["crop_size"]), "original": Evaluation("whole")}
    answers: dict[str, Any] = {}
    for name, how in protocols.items():
        iou = 100 * evaluate(net, task, how).iou.nan_to_num(0)
        with torch.no_grad():
            prediction = [predict(net, image[None], how).argmax(1)[0] for image in images]
        answers |= {
            f"out_miou_v1_{name}": iou.mean(),
            f"out_iou_v1_{name}": iou,
            f"out_pred_v1_{name}": torch.stack(prediction),
        }
    return answers
