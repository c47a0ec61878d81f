"""Our own recordings of regions, banks and what is pasted; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
from other_recordings import (
    VOID,
    Draw,
    exact,
    mixed,
    variant,
)
from others_views import filled


@variant("ael_cutmix_mask")
def ael_cutmix_mask(d: Draw) -> dict[str, Any]:
    """Blobs on maps that are not square; regions by flooding, numbered in raster order."""
    size, n, share = (17, 26), 5, 0.02
    coarse = d.classes(3, n, 6, 9)
    label = coarse.repeat(3, 1).repeat(3, 2)[:, : size[0], : size[1]]
    which, fallback = d.classes(3, n), d.rng.random((n, 3)).astype(np.float32)
    which[4] = 7  # nowhere
    order, masks, found = np.zeros((n, 40), int), [], []
    for i in range(n):
        regions = flooded(label[i] == which[i])
        visit = d.rng.permutation(len(regions)) + 1
        order[i, : len(visit)] = visit
        large = [regions[k - 1] for k in visit if len(regions[k - 1]) > share * size[0] * size[1]]
        if large:
            a, b = np.array(large[0]).T
            box = (a.min(), b.min(), a.max() + 1, b.max() + 1)
        else:
            u = fallback[i].astype(np.float64)
            h = np.exp(u[0] * np.log(0.5))
            sides = [round(h * size[0]), round(0.5 / h * size[1])]
            top, left = (round((whole - side) * v) for whole, side, v in zip(size, sides, u[1:]))
            box = (top, left, top + sides[0], left + sides[1])
        masks.append(filled([box], size)[0])
        found.append(bool(large))
    return {
        "in_pred": label, "in_class": which, "in_component_order": order, "in_fallback_u": fallback,
        "out_mask": np.array(masks), "out_from_component": np.array(found),
        "hyper": {"area_thresh": share, "no_pad": True, "no_slim": True, "size": size[0]},
    }  # fmt: skip


def flooded(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Pixels of the regions of a map, neighbours over corners too, in the order of their first pixels."""
    seen, regions = np.zeros_like(mask), []
    for i, j in zip(*np.nonzero(mask)):
        if seen[i, j]:
            continue
        seen[i, j], region, rest = True, [], [(i, j)]
        while rest:
            a, b = rest.pop()
            region.append((a, b))
            for e in range(max(0, a - 1), min(mask.shape[0], a + 2)):
                for f in range(max(0, b - 1), min(mask.shape[1], b + 2)):
                    if mask[e, f] and not seen[e, f]:
                        seen[e, f] = True
                        rest.append((e, f))
        regions.append(region)
    return regions


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
