"""Views, their draws and the evaluation against recordings."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import torch
from harness import TOLERANCE, Recording, adapter, task_of
from torch import Tensor

from s4kit.data.task import Evaluation, Sample, Source, Task
from s4kit.engine import Scores, evaluate, protocol, sliding
from s4kit.engine.scores import count
from s4kit.engine.windows import predict
from s4kit.views.boxes import UniMatchBox, area_boxes, rasterise
from s4kit.views.geometry import Geometry, Window


def inverting_boxes(options: dict[str, Any], draws: list[np.ndarray], size: tuple[int, int]) -> Tensor:
    """(N, 1, H, W) masks of the release's box generator from its uniforms: share, shape if it is random, corner.

    The kit draws boxes by area; the release's other options are the same function at other uniforms.
    """
    low, high = (options["prop_range"],) * 2 if np.isscalar(options["prop_range"]) else options["prop_range"]
    share = low + (high - low) * draws[0]
    if not options["random_aspect_ratio"]:
        aspect = np.full_like(share, 0.5)  # height share = width share = sqrt(p)
        share = share if options["prop_by_area"] else share**2
    elif options["prop_by_area"]:
        aspect = draws[1]
    else:  # the two draws are the height and the width share
        height, width = (np.maximum(side, 1e-12) for side in (share, low + (high - low) * draws[1]))
        share = np.minimum(height * width, 1 - 1e-15)
        aspect = np.log(height) / np.log(share)
    mask = rasterise(torch.from_numpy(area_boxes(share, aspect, draws[-1], size, (0.0, 1.0))), size)[:, None]
    return mask if options["invert"] else ~mask


def across_the_border(r: Recording) -> dict[str, str]:
    """Arrays of recordings whose boxes may reach over the border."""
    cases = r.hyper.get("configs") or {"": r.hyper}
    outside = [name for name, options in cases.items() if not options["within_bounds"]]
    why = "no published run lets boxes reach over the border, and the kit draws none"
    return {key: why for key in r.expected if any(key.endswith(name) for name in outside)}


@adapter("cutmix", "boxmask", skip=across_the_border)
def cutmix_boxmask(r: Recording) -> dict[str, Any]:
    h, answers = r.hyper, {}
    for case, options in h["configs"].items():
        if options["within_bounds"]:
            draws = [r.inputs[k] for k in sorted(k for k in r.inputs if re.fullmatch(rf"in_u\d_{case}", k))]
            answers[f"out_mask_{case}"] = inverting_boxes(h | options, draws, (h["H"], h["W"]))
    return answers


@adapter("cps", "boxmask", skip=across_the_border)
def cps_boxmask(r: Recording) -> dict[str, Any]:
    draws = [r.inputs[k] for k in sorted(k for k in r.inputs if re.fullmatch(r"in_u\d", k))]
    return {"out_mask": inverting_boxes(r.hyper, draws, tuple(r.hyper["mask_shape"]))}


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
    bins, *limits = map(
        float, re.match(r"(\d+) equal bins on \[([\d.]+),([\d.]+)\]", r.hyper["area_hist_bins"]).groups()
    )
    layout = len(r.expected["out_coverage"][0]), int(bins), tuple(limits)
    parts = [_box_statistics(recipe, rng, int(side), n, *layout) for side in sizes]
    names = ("out_stats", "out_coverage", "out_area_hist")
    return {k: Estimate(*(np.stack([part[i][j] for part in parts]) for j in (0, 1))) for i, k in enumerate(names)}


def _number(text: Any) -> float:
    top, _, bottom = str(text).partition("/")
    return float(top) / float(bottom or 1)


def _box_statistics(
    recipe: UniMatchBox, rng: np.random.Generator, side: int, n: int, cells: int, bins: int, limits: tuple[float, float]
) -> list[Estimate]:
    table = np.concatenate([recipe.draw(rng, side) for _ in range(4 * n)])
    masks = _coverage(table, side)
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
    edges = np.linspace(0, side, cells + 1).astype(int)
    cover = np.array([[masks[a:b, c:d].mean() for c, d in pairwise(edges)] for a, b in pairwise(edges)])
    hist = np.histogram(area, bins, limits)[0] / len(area)
    return [
        Estimate(np.array(values), np.array(spread)),
        Estimate(cover, np.sqrt(np.maximum(cover * (1 - cover), 1 / n) / n) * more),
        Estimate(hist, np.sqrt(np.maximum(hist * (1 - hist), 1 / kept) / kept) * more),
    ]


def within_one_level(answer: np.ndarray, expected: np.ndarray) -> float:
    """0 if no pixel is off by more than one grey level of 255, and few are.

    The kit resamples the crop alone; Pillow takes its corners as float32, so a value next to one half may round the
    other way than in the resized whole image.
    """
    off = np.abs(answer.astype(int) - expected.astype(int))
    return 0.0 if off.max() <= 1 and off.mean() < 0.02 else float("inf")


def _coverage(boxes: np.ndarray, side: int) -> np.ndarray:
    """(side, side) share of the boxes (n, 4) that cover each pixel, by two-dimensional differences."""
    steps = np.zeros((side + 1, side + 1))
    top, left, height, width = boxes.T
    for y, x, sign in (
        (top, left, 1),
        (top + height, left, -1),
        (top, left + width, -1),
        (top + height, left + width, 1),
    ):
        np.add.at(steps, (y, x), sign)
    return steps.cumsum(0).cumsum(1)[:side, :side] / len(boxes)


class Nearest(NamedTuple):
    """A label map read by nearest neighbour, and for every pixel the labels that it may have as well: sample points
    half-way between two pixels fall to either of them."""

    label: np.ndarray
    others: list[np.ndarray]


def half_way(window: Window, size: tuple[int, int], crop: int) -> list[np.ndarray]:
    """(crop,) bool of rows and of columns whose sample points are the border of two pixels of the image."""
    found = []
    for start, whole, side in ((window.top, window.height, size[0]), (window.left, window.width, size[1])):
        point = (start + np.arange(crop) + 0.5) * side / whole
        found.append(np.abs(point - point.round()) < 1e-6)
    return [found[0], found[1][::-1] if window.flip else found[1]]


def nearest(geometry: Geometry, mask: np.ndarray, window: Window, crop: int) -> Nearest:
    rows, columns = half_way(window, mask.shape, crop)
    label, others = geometry.label(mask, window, crop), []
    for by_row, by_column in product((-1, 0, 1), repeat=2):
        other = geometry.label(np.roll(mask, (by_row, by_column), (0, 1)), window, crop)
        here = np.ones_like(label, bool) & (rows[:, None] | (by_row == 0)) & (columns | (by_column == 0))
        others.append(np.where(here, other, label))
    return Nearest(label, others)


def weak_view_error(answer: Any, expected: np.ndarray, key: str) -> float:
    if key == "out_image":
        return within_one_level(answer, expected)
    right = [any_of(found, truth).all() for found, truth in zip(answer, expected, strict=True)]
    return 0.0 if all(right) else float("inf")


def any_of(found: Nearest, truth: np.ndarray) -> np.ndarray:
    return np.any([other == truth for other in (found.label, *found.others)], axis=0)


@adapter("st", "weak_aug", error=weak_view_error)
def st_weak_aug(r: Recording) -> dict[str, Any]:
    image, mask, crop = r.inputs["in_image"], r.inputs["in_mask"], r.hyper["crop"]
    geometry, longer = Geometry(), max(image.shape[:2])
    images, masks = [], []
    for long_side, left, top, flip in r.inputs["in_params"].tolist():
        height, width = (int(side * long_side / longer + 0.5) for side in image.shape[:2])
        window = Window(height, width, top, left, bool(flip))
        images.append(geometry.image(image, window, crop))
        masks.append(nearest(geometry, mask, window, crop))
    return {"out_image": np.stack(images), "out_mask": masks}


class Memory(Source):
    """Recorded float images as a source; `evaluate` divides by 255, so they are handed out 255 times as large."""

    def __init__(self, images: Tensor, masks: Tensor) -> None:
        self.ids, self.images, self.masks = [str(i) for i in range(len(images))], images, masks

    def read(self, row: int, label: bool = True) -> Sample:
        return Sample(self.images[row] * 255, self.masks[row], self.ids[row])


@adapter("unimatch", "evaluate")
def unimatch_evaluate(r: Recording) -> dict[str, Any]:
    """The release counts a class that never occurs as 0; the kit leaves it out of the mean and says NaN."""
    images, masks, h = r.tensor("images"), r.label("masks"), r.hyper
    weight, bias = r.tensor("conv_weight"), r.tensor("conv_bias")
    net = torch.nn.Conv2d(images.shape[1], h["nclass"], weight.shape[-1], padding=weight.shape[-1] // 2)
    net.load_state_dict({"weight": weight, "bias": bias})
    crop, stride = h["crop_size"], float(Fraction(re.search(r"(\d+/\d+)", h["stride"])[1]))
    top, left = ((side - crop) // 2 for side in masks.shape[1:])
    centre = (..., slice(top, top + crop), slice(left, left + crop))
    answers = {}
    for name, source, how in (
        ("sliding_window", Memory(images, masks), Evaluation("sliding", crop, stride)),
        ("original", Memory(images, masks), Evaluation("whole")),
        ("center_crop", Memory(images[centre], masks[centre]), Evaluation("whole")),
    ):
        answers |= {f"out_{k}_v1_{name}": v for k, v in scored(net, source, h["nclass"], how).items()}
    for multiple in {int(key.rsplit("_m", 1)[1]) for key in r.expected if "_v2_original_m" in key}:
        how = replace(protocol("voc/unimatch_v2").evaluation, multiple=multiple)
        found = scored(net, Memory(images, masks), h["nclass"], how)
        answers |= {f"out_{k}_v2_original_m{multiple}": v for k, v in found.items()}
    # the second version shifts the last window back, and rounds the same step down
    shifted = [sliding(net, image[None], crop, int(crop * stride) / crop - 1e-9, border="shift") for image in images]
    predicted = torch.stack([scores.argmax(1)[0] for scores in shifted])
    counts = sum(count(p, m, h["nclass"]) for p, m in zip(predicted, masks))
    iou = 100 * Scores(counts, ()).iou.nan_to_num(0)
    return answers | {
        "out_miou_v2_sliding_window": iou.mean(),
        "out_iou_v2_sliding_window": iou,
        "out_pred_v2_sliding_window": predicted,
    }


def scored(net: torch.nn.Module, source: Memory, classes: int, how: Evaluation) -> dict[str, Any]:
    names = task_of(classes).classes
    task = Task("recorded", names, ((0, 0, 0),) * classes, source, (0,), (), source, 0)
    iou = 100 * evaluate(net, task, how).iou.nan_to_num(0)
    with torch.no_grad():
        predicted = [predict(net, image[None], how).argmax(1)[0] for image in source.images]
    return {"miou": iou.mean(), "iou": iou, "pred": torch.stack(predicted)}
