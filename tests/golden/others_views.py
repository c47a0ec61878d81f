"""Our own recordings of views, masks and the evaluation; see `other_recordings`."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
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


@variant("classmix_mask")
def classmix_mask(d: Draw) -> dict[str, Any]:
    label, mask, number = d.label(6, 3, 9, 15), np.zeros((3, 9, 15)), []
    label[1] = 4
    choice = np.full((3, 3), -1)
    for i in range(3):
        present = [k for k in range(6) if (label[i] == k).any()]
        chosen = sorted(d.rng.permutation(len(present))[: len(present) // 2].tolist())
        choice[i, : len(chosen)] = chosen
        mask[i] = np.isin(label[i], [present[k] for k in chosen])
        number.append(len(chosen))
    return {
        "in_pred": label, "in_choice": choice, "out_mask": mask, "out_num_chosen": np.array(number),
        "hyper": {"num_classes": 6, "ignore_label": VOID},
    }  # fmt: skip


@variant("classmix_mix")
def classmix_mix(d: Draw) -> dict[str, Any]:
    mask, x, y = d.box(4, 7, 12), d.normal(4, 3, 7, 12), np.float32(d.classes(5, 4, 7, 12))
    q = exact(d.logits(4, 5, 7, 12))[0].softmax(1).float().numpy()
    m = exact(mask)[0]
    out = [mixed(m, t, t.roll(-1, 0)) for t in exact(x, q, y)]
    return {
        "in_mask": mask, "in_image": x, "in_prob": q, "in_label": y, "out_image": out[0], "out_prob": out[1],
        "out_label": out[2], "hyper": {"B": 4},
    }  # fmt: skip


@variant("classmix_othermasks")
def classmix_othermasks(d: Draw) -> dict[str, Any]:
    height, width = 19, 32
    mask = np.ones((height, width))
    w, left, top = 27, 4, 2
    mask[top : top + round(height * width / 2 / w), left : left + w] = 0
    return {"in_cut_draws": np.array([w, left, top]), "out_cut_mask": mask, "hyper": {"H": height, "W": width}}


@variant("u2pl_mixing")
def u2pl_mixing(d: Draw) -> dict[str, Any]:
    """More images than three, other statistics of boxes."""
    n, side, size, sides = 700, 51, (9, 16), []
    maps = {"image": d.normal(5, 3, *size), "target": d.label(4, 5, *size), "conf": d.uniform(5, *size)}
    given: dict[str, Any] = {f"in_{k}": v for k, v in maps.items()}
    blank = {"image": 0, "target": VOID, "conf": 0}
    for mode in ("cutout", "cutmix", "classmix"):
        mask = 1 - d.box(5, *size)
        given[f"in_mask_{mode}"] = mask.astype(np.uint8)
        for k, t in maps.items():
            m = mask[:, None] if k == "image" else mask
            given[f"out_{k}_{mode}"] = np.where(m == 1, t, blank[k] if mode == "cutout" else np.roll(t, -1, 0))
    for _ in range(n):
        w = int(d.rng.integers(side // 2 + 1, side))
        sides.append((w, round(side * side / 2 / w)))
    w, h = np.array(sides).T
    stats = [f(c) for c in (w * h / side**2, w, h) for f in (np.mean, np.std)]
    said = {"out_box_stats": f"mean,std over {n} draws at {side}x{side} of: area fraction, box width, box height"}
    hyper = {"area_ratio": "1/2", "ignore_index": VOID}
    return given | {"out_box_stats": np.array(stats), "arrays": said, "hyper": hyper}


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


@variant("cct_perturbations")
def cct_perturbations(d: Draw) -> dict[str, Any]:
    f, z, drop, positive = d.normal(3, 4, 5, 9), d.logits(3, 3, 10, 18), 0.8, d.uniform(3, 4, 5, 9)
    noise = (0.5 * d.uniform(4, 5, 9) - 0.25).astype(np.float32)
    thing = (z.argmax(1) > 0)[:, None, ::2, ::2]
    activity = positive.mean(1, keepdims=True)
    kept = activity < drop * activity.max((2, 3), keepdims=True)
    return {
        "in_feature": f, "in_pred_logits": z, "in_drop_factor": np.float64(drop), "in_feature_positive": positive,
        "in_noise": noise, "out_context_masked": f * thing, "out_object_masked": f * ~thing,
        "out_feature_drop": positive * kept, "out_feature_noise": f * noise + f,
        "hyper": {"uniform_range": 0.25, "upscale": 2},
    }  # fmt: skip


@variant("ael_copy_paste")
def ael_copy_paste(d: Draw) -> dict[str, Any]:
    x, p, y, label, query = (
        d.normal(5, 3, 7, 12),
        d.normal(5, 3, 7, 12),
        d.label(6, 5, 7, 12),
        d.label(6, 5, 7, 12),
        [0, 3, 5],
    )
    taken = np.isin(label, query)
    return {
        "in_image": x, "in_paste_image": p, "in_label": y, "in_paste_label": label, "in_query": np.array(query),
        "out_image": np.where(taken[:, None], p, x), "out_label": np.where(taken, label, y),
    }  # fmt: skip


@variant("ael_bank_update")
def ael_bank_update(d: Draw) -> dict[str, Any]:
    """Three images a step; the least area is 8 % of 12 x 19 pixels."""
    pred, ids = (
        d.classes(9, 4, 3, 12, 19) // 2 * d.classes(2, 4, 3, 1, 1),
        np.array([d.rng.permutation(7)[:3] for _ in range(4)]),
    )
    bank, rows = np.zeros((6, 7)), []
    for labels, images in zip(pred, ids):
        for label, i in zip(labels, images):
            bank[:, i] = [(label == k).sum() >= 0.08 * 12 * 19 for k in range(6)]
        rows.append(bank.copy())
    hyper = {"area_thresh": 0.08, "num_classes": 6, "num_images": 7}
    return {"in_pred": pred, "in_image_ids": ids, "out_bank": np.array(rows), "hyper": hyper}


@variant("ael_sampling_probs")
def ael_sampling_probs(d: Draw) -> dict[str, Any]:
    """No image shows the most probable class: any will do."""
    q, target, bank = d.uniform(7), np.array([1, 4, 5, 6]), d.classes(2, 7, 5)
    first = int(q.argmin())
    bank[first] = 0
    e, f = np.exp(np.sqrt(1 - q[target].astype(float))), np.exp(1 - q.astype(float))
    return {
        "in_confidence": q, "in_target_classes": target, "in_bank": bank, "out_copy_paste_probs": e / e.sum(),
        "out_cutmix_probs": f / f.sum(), "out_example_class": np.int64(first), "out_example_candidates": np.arange(5),
        "hyper": {"num_classes": 7, "excluded": [0, 2, 3]},
    }  # fmt: skip


@variant("revisiting_cutmix_pairs")
def revisiting_cutmix_pairs(d: Draw) -> dict[str, Any]:
    x, mask = d.normal(6, 2, 7, 12), d.box(3, 7, 12) == 1
    out = x.copy()
    for k, m in enumerate(mask):
        out[2 * k][:, m], out[2 * k + 1][:, m] = x[2 * k + 1][:, m], x[2 * k][:, m]
    return {"in_x": x, "in_mask": mask, "out_x": out}


@variant("uscs_checkerboard")
def uscs_checkerboard(d: Draw) -> dict[str, Any]:
    a, b = d.normal(3, 5, 7, 9), d.normal(3, 5, 7, 9)
    rows, columns = np.indices((7, 9))
    mask = np.broadcast_to((rows + columns) % 2 == 1, a.shape).astype(np.float32)
    return {"in_f0": a, "in_f1": b, "out_mask": mask, "out_merged": mask * a + (1 - mask) * b}
