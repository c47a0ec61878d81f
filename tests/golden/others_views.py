"""Our own recordings of views, masks and the evaluation; see `other_recordings`."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
from other_recordings import VOID, Draw, exact, mixed, variant
from PIL import Image

BY_AREA = {"random_aspect_ratio": True, "prop_by_area": True, "within_bounds": True, "invert": True}


def boxes_of(options: dict[str, Any], draws: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """(N, 1, H, W): k boxes, each of which inverts what it covers, on a background of 0 (`invert`) or of 1."""
    low, high = options["prop_range"] if isinstance(options["prop_range"], list) else [options["prop_range"]] * 2
    n, k = draws[0].shape
    mask = np.full((n, 1, *size), 0 if options["invert"] else 1, np.uint8)
    for i, j in np.ndindex(n, k):
        share = low + (high - low) * draws[0][i, j]
        if not options["random_aspect_ratio"]:
            sides = [math.sqrt(share)] * 2 if options["prop_by_area"] else [share] * 2
        elif options["prop_by_area"]:
            height = math.exp(draws[1][i, j] * math.log(share))
            sides = [height, share / height]
        else:
            sides = [share, low + (high - low) * draws[1][i, j]]
        pixels = [round(side * math.sqrt(1 / k) * whole) for side, whole in zip(sides, size)]
        top, left = (round((whole - side) * u) for whole, side, u in zip(size, pixels, draws[-1][i, j]))
        mask[i, 0, top : top + pixels[0], left : left + pixels[1]] ^= 1
    return mask


@variant("cps_boxmask")
def cps_boxmask(d: Draw) -> dict[str, Any]:
    draws = [d.rng.random((5, 2)), d.rng.random((5, 2)), d.rng.random((5, 2, 2))]
    hyper = BY_AREA | {"mask_shape": [23, 40], "n_boxes": 2, "prop_range": [0.1, 0.7], "invert": False}
    out = boxes_of(hyper, draws, (23, 40))
    return {**{f"in_u{i}": u for i, u in enumerate(draws)}, "out_mask": out, "hyper": hyper}


@variant("cutmix_boxmask")
def cutmix_boxmask(d: Draw) -> dict[str, Any]:
    """A share of 0.25 to 0.6 in three boxes, whose shape and place are all that one case leaves open."""
    configs = {
        "default": BY_AREA,
        "noinvert": BY_AREA | {"invert": False},
        "fixed_aspect": BY_AREA | {"random_aspect_ratio": False},
        "by_size": BY_AREA | {"prop_by_area": False},
        "square": BY_AREA | {"prop_by_area": False, "random_aspect_ratio": False},
        "outside": BY_AREA | {"within_bounds": False},
    }
    hyper, given = {"prop_range": [0.25, 0.6], "n_boxes": 3, "H": 21, "W": 38, "N": 3, "configs": configs}, {}
    for case, options in configs.items():
        draws = [d.rng.random((3, 3)) for _ in range(1 + options["random_aspect_ratio"])] + [d.rng.random((3, 3, 2))]
        given |= {f"in_u{i}_{case}": u for i, u in enumerate(draws)}
        given[f"out_mask_{case}"] = boxes_of(hyper | options, draws, (21, 38))
    return given | {"hyper": hyper}


@variant("fpl_cutmix_mask")
def fpl_cutmix_mask(d: Draw) -> dict[str, Any]:
    """Two boxes on a map that is not square, of which the background is 1."""
    n, size = 1500, (24, 40)
    hyper = BY_AREA | {"H": 24, "W": 40, "n_samples": n, "prop_range": [0.2, 0.6], "n_boxes": 2, "invert": False}
    mask = boxes_of(hyper, [d.rng.random((n, 2)), d.rng.random((n, 2)), d.rng.random((n, 2, 2))], size)[:, 0]
    area = mask.mean((1, 2))
    cover = mask.mean(0).reshape(4, 6, 4, 10).mean((1, 3))
    stats = np.array([area.mean(), area.std(), *np.quantile(area, (0.05, 0.95))])
    return {"out_area_stats": stats, "out_coverage": cover, "hyper": hyper}


@variant("unimatch_cutmix_box")
def unimatch_cutmix_box(d: Draw) -> dict[str, Any]:
    """Fewer empty masks, smaller boxes, one odd side."""
    n, side = 3000, 77
    found, mask = [], np.zeros((side, side))
    for _ in range(n):
        if d.rng.random() > 0.8:
            continue
        area = d.rng.uniform(0.05, 0.3) * side * side
        while True:
            ratio = d.rng.uniform(0.5, 2.0)
            w, h = int(math.sqrt(area / ratio)), int(math.sqrt(area * ratio))
            x, y = d.rng.integers(0, side, 2)
            if x + w <= side and y + h <= side:
                break
        mask[y : y + h, x : x + w] += 1 / n
        found.append([w, h, x, y])
    w, h, x, y = np.array(found).T / side
    columns = [(w * h), np.log(h / w), x + w / 2, y + h / 2, w, h]
    area, edges = columns[0], np.linspace(0, side, 5).astype(int)
    moments = [f(c) for c in columns for f in (np.mean, np.std)]
    stats = [1 - len(found) / n, *moments[:2], area.min(), area.max(), *moments[2:]]
    cover = [[mask[a:b, e:f].mean() for e, f in pairwise(edges)] for a, b in pairwise(edges)]
    return {
        "in_sizes": np.array([side]), "out_stats": np.array([stats]), "out_coverage": np.array([cover]),
        "out_area_hist": np.array([np.histogram(area, 6, (0, 0.3))[0] / len(area)]),
        "hyper": {
            "n_samples": n, "defaults": "p=0.5,size_min=0.02,size_max=0.4,ratio_1=0.3,ratio_2=1/0.3",
            "overrides": {"p": 0.8, "size_min": 0.05, "size_max": 0.3, "ratio_1": 0.5, "ratio_2": 2.0},
            "area_hist_bins": "6 equal bins on [0,0.3]",
        },
    }  # fmt: skip


def beta_box(lam: float, row: int, column: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(row1, column1, row2, column2) of a window around a centre, cut to the image."""
    return window(math.sqrt(1 - lam), row, column, size)


def window(share: float, row: int, column: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    half = [int(whole * share) // 2 for whole in size]
    first = [max(0, c - h) for c, h in zip((row, column), half)]
    last = [min(whole, c + h) for c, h, whole in zip((row, column), half, size)]
    return *first, *last


def filled(boxes: list[tuple[int, int, int, int]], size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((len(boxes), *size), np.float32)
    for image, (a, b, c, e) in zip(mask, boxes):
        image[a:c, b:e] = 1
    return mask


@variant("psmt_cutmix")
def psmt_cutmix(d: Draw) -> dict[str, Any]:
    size, perm, lam = (17, 30), np.array([2, 0, 1, 4, 3]), 0.37
    x, z = d.normal(5, 3, *size), d.normal(5, 6, *size)
    rows, columns = d.rng.integers(2, 17, 5), d.rng.integers(3, 30, 5)
    boxes = [beta_box(lam, r, c, size) for r, c in zip(rows, columns)]
    m = exact(filled(boxes, size))[0]
    return {
        "in_image": x, "in_target_logits": z, "in_perm": perm, "in_lambda": np.float64(lam), "in_centre_rows": rows,
        "in_centre_cols": columns, "out_boxes": np.array(boxes), "out_image": mixed(m, *exact(x[perm], x)),
        "out_target_logits": mixed(m, *exact(z[perm], z)), "hyper": {"beta": [4, 4]},
    }  # fmt: skip


@variant("augseg_cutmix_adaptive")
def augseg_cutmix_adaptive(d: Draw) -> dict[str, Any]:
    size, perm = (13, 22), np.array([1, 2, 0])
    x, y, c = d.normal(3, 3, *size), d.classes(5, 3, *size), d.uniform(3, *size)
    known, label = d.normal(3, 3, *size), d.label(5, 3, *size)
    rho, trigger = np.float32([0.4, 0.6, 0.5]), np.float32([0.7, 0.2, 0.9])
    centres = {k: (d.rng.integers(1, 13, 3), d.rng.integers(2, 22, 3)) for k in ("labelled", "unlabelled")}
    lam = {"labelled": 0.75, "unlabelled": 0.3}
    mask = {k: filled([beta_box(lam[k], r, e, size) for r, e in zip(*centres[k])], size)[:, None] > 0 for k in centres}
    maps = np.concatenate([x, y[:, None], c[:, None]], 1)
    human = np.concatenate([known, label[:, None], np.ones((3, 1, *size))], 1)[perm]
    on = (trigger > rho)[:, None, None, None]
    copy = np.where(mask["labelled"] & on, human, maps)
    out = np.where(mask["unlabelled"], copy[perm], maps)
    return {
        "in_image_u": x, "in_pseudo_label": y, "in_max_prob": c, "in_image_l": known, "in_label_l": label,
        "in_confidence": rho, "in_perm": perm, "in_trigger": trigger,
        **{f"in_lambda_{k}": np.float64(v) for k, v in lam.items()},
        **{f"in_rows_{k}": v[0] for k, v in centres.items()}, **{f"in_cols_{k}": v[1] for k, v in centres.items()},
        "out_image": out[:, :3], "out_label": out[:, 3], "out_max_prob": out[:, 4], "hyper": {"ignore_index": VOID},
    }  # fmt: skip


@variant("imas_cutmix")
def imas_cutmix(d: Draw) -> dict[str, Any]:
    """An even batch, and windows as large as the batch is easy."""
    size, score = (17, 34), np.float32([0.3, 0.9, 0.1, 0.5])
    x, y, c, u = d.normal(4, 3, *size), d.classes(5, 4, *size), d.uniform(4, *size), 0.81
    partner = [3, 2, 1, 0]  # 0.1 0.3 0.5 0.9: 2 with 1, 0 with 3
    share = (0.2 + 0.7 * u) * float(score.mean())
    rows, columns = d.rng.integers(1, 17, 4), d.rng.integers(2, 34, 4)
    m = exact(filled([window(share, r, e, size) for r, e in zip(rows, columns)], size))[0]
    out = [mixed(m, *exact(t[partner], t)) for t in (x, y, c)]
    return {
        "in_image": x, "in_pseudo_label": y, "in_max_prob": c, "in_score": score, "in_u": np.float64(u),
        "in_rows": rows, "in_cols": columns, "out_image": out[0], "out_label": out[1], "out_max_prob": out[2],
        "hyper": {"scale": [0.2, 0.9], "hardness_random": True},
    }  # fmt: skip


@variant("st_weak_aug")
def st_weak_aug(d: Draw) -> dict[str, Any]:
    """A portrait, once half and once twice as large: sample points half-way between two pixels."""
    image, mask, crop = d.classes(256, 40, 28, 3).astype(np.uint8), d.classes(9, 40, 28).astype(np.uint8), 25
    image = np.asarray(Image.fromarray(image).resize((28, 40), Image.Resampling.BOX, (5, 5, 12, 15)))
    params = np.array([[20, 0, 0, 1], [80, 13, 31, 0], [80, 20, 9, 1], [57, 9, 20, 0], [26, 0, 1, 1]])
    images, masks = [], []
    for long_side, x, y, flip in params:
        height, width = long_side, int(28 * long_side / 40 + 0.5)
        big = np.zeros((max(height, crop), max(width, crop), 3), np.uint8)
        big_mask = np.full(big.shape[:2], 255, np.uint8)
        big[:height, :width] = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        big_mask[:height, :width] = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        step = -1 if flip else 1
        images.append(big[y : y + crop, x : x + crop][:, ::step])
        masks.append(big_mask[y : y + crop, x : x + crop][:, ::step])
    hyper = {"base_size": 40, "ratio_range": [0.5, 2.0], "crop": crop}
    out = {"out_image": np.stack(images), "out_mask": np.stack(masks)}
    return {"in_image": image, "in_mask": mask, "in_params": params, **out, "hyper": hyper}
