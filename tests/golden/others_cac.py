"""Our own recordings of CAC; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import (
    Draw,
    exact,
    gradients,
    variant,
    whole,
)
from torch import Tensor


def overlap(corner: np.ndarray, other: np.ndarray, size: tuple[int, int]) -> list[int]:
    """Box (row0, column0, row1, column1) in the crop at `corner` of what the crop at `other` shows as well."""
    first = [max(0, b - a) for a, b in zip(corner, other)]
    last = [min(s, b - a + s) for a, b, s in zip(corner, other, size)]
    return [*first, *last]


@variant("cac_contrast", "cac_bank")
def cac(d: Draw, name: str) -> dict[str, Any]:
    """Maps that are not square, three images; "bank" keeps three steps, of seven."""
    down, keep, steps = (
        name == "cac_contrast",
        (1 if name == "cac_contrast" else 3),
        (1 if name == "cac_contrast" else 7),
    )
    batch, inner, classes, grid, dim, number, tau, temp, weight = 3, 5, 4, (4, 7), 6, 13, 0.4, 0.2, 0.3
    scale = 2 if down else 1
    f = d.normal(steps, batch, 2, inner, scale * grid[0], scale * grid[1], scale=1.5)
    selected = np.array([[d.rng.permutation(batch * 28)[:number] for _ in "12"] for _ in range(steps)])
    corners = np.array([[[0, 0], [1, 2]], [[2, 3], [0, 1]], [[1, 0], [1, 0]]])
    box1 = np.array([overlap(a, b, grid) for a, b in corners])
    box2 = np.array([overlap(b, a, grid) for a, b in corners])
    box1[2, 2:] = box2[2, 2:] = [3, 5]  # the last image ends before the crops do
    flip = np.array([[False, True], [True, False], [True, True]])
    layers = {
        "cls_w": d.normal(classes, inner, 1, 1), "cls_b": d.normal(classes), "proj0_w": d.normal(inner, inner, 1, 1),
        "proj0_b": d.normal(inner), "proj1_w": d.normal(dim, inner, 1, 1), "proj1_b": d.normal(dim),
    }  # fmt: skip
    cls_w, cls_b = exact(layers["cls_w"], layers["cls_b"])
    bank: list[tuple[Tensor, Tensor]] = []

    def step(features: Tensor, w0: Tensor, b0: Tensor, w1: Tensor, b1: Tensor, chosen: np.ndarray) -> tuple[Any, Any]:
        g, c, y = [], [], []
        for k in (0, 1):
            e = F.avg_pool2d(features[:, k], 2) if down else features[:, k]
            g.append(F.normalize(F.conv2d(F.conv2d(e, w0, b0).relu(), w1, b1), dim=1))
            top = F.conv2d(e.detach(), cls_w, cls_b).softmax(1).max(1)
            c.append(top.values)
            y.append(top.indices)
        rows = [g[k].detach().permute(0, 2, 3, 1).flatten(0, 2)[whole(chosen[k])[0]] for k in (0, 1)]
        bank.append((torch.cat(rows), torch.cat([y[k].flatten()[whole(chosen[k])[0]] for k in (0, 1)])))
        held, held_label = (torch.cat(part) for part in zip(*bank[-keep:]))
        losses = []
        for one, two in ((0, 1), (1, 0)):
            total, count = 0.0, 0
            boxes = (box1, box2)
            for b in range(batch):
                cut = []
                for k in (one, two):
                    top, left, bottom, right = boxes[k][b]
                    maps = [t.flip(-1) if flip[b, k] else t for t in (g[k][b], c[k][b], y[k][b])]
                    cut.append([t[..., top:bottom, left:right] for t in maps])
                (g1, c1, y1), (g2, c2, _) = cut
                mask = (c2 > tau) & (c1 < c2)
                positive = ((g1 * g2.detach()).sum(0) / temp).exp()
                other = ((held @ g1.flatten(1)) / temp).exp() * (held_label[:, None] != y1.flatten()[None])
                negative = other.sum(0).view_as(positive)
                pulled = -(positive / (positive + negative + 1e-8) + 1e-8).log()
                total, count = total + (pulled * mask).sum(), count + int(mask.sum())
            losses.append(total / (count + 1e-12))
        return losses[0], losses[1]

    projector, found, sizes, grads = [layers[k] for k in ("proj0_w", "proj0_b", "proj1_w", "proj1_b")], [], [], None
    for number_of, (given, chosen) in enumerate(zip(f, selected)):
        found.append(step(*exact(given, *projector), chosen))
        sizes.append((min(number_of + 1, keep), min(number_of + 1, keep) * 2 * number))
        if number_of == steps - 1:
            bank.pop()
            _, *grads = gradients(lambda *t, c=chosen: weight * sum(step(*t, c)), given, *projector)
    one, two = (torch.stack(column) for column in zip(*found))
    held, label = (torch.cat(part) for part in zip(*bank[-keep:]))
    return {
        "in_features": f, "in_selected": selected, "in_box1": box1, "in_box2": box2, "in_flip": flip,
        **{f"in_{k}": v for k, v in layers.items()}, "out_loss1": one, "out_loss2": two,
        "out_loss_unsup": weight * (one + two), "out_bank_steps_and_size": np.array(sizes),
        "out_grad_features_last": grads[0], "out_grad_project_last": torch.cat([g.flatten() for g in grads[1:]]),
        "out_bank_features_last": held, "out_bank_labels_last": label,
        "hyper": {
            "temp": temp, "pos_thresh_value": tau, "weight_unsup": weight, "selected_num": number,
            "step_save": keep - 1, "downsample": down, "num_classes": classes,
        },
    }  # fmt: skip


@variant("cac_overlap")
def cac_overlap(d: Draw) -> dict[str, Any]:
    """Images that are smaller than the crop on one side or on both, one whose crops never share enough."""
    crop, stride, bounds = 48, 4, (0.3, 0.9)
    sizes, rows, geometry = np.array([[61, 90], [37, 71], [80, 30], [25, 33], [70, 55], [200, 200]]), [], []
    for height, width in sizes:
        room = [max(1, side - crop + 1) for side in (width, height)]
        draws = [int(d.rng.integers(n)) for n in room]
        x1, y1 = x2, y2 = draws
        for _ in range(50):
            new = [int(d.rng.integers(n)) for n in room]
            if (height, width) == (200, 200):
                new, (x1, y1) = [150, 150], (0, 0)
                draws[:2] = [0, 0]
            draws += new
            x2, y2 = (place(a, b, stride) for a, b in zip((x1, y1), new))
            shared = max(0, crop - abs(x1 - x2)) * max(0, crop - abs(y1 - y2))
            if bounds[0] <= shared / (2 * crop**2 - shared) <= bounds[1]:
                break
        else:
            x2, y2 = x1, y1
        found = []
        for (a, b), (e, f) in (((y1, x1), (y2, x2)), ((y2, x2), (y1, x1))):
            box = overlap(np.array([a, b]), np.array([e, f]), (crop, crop))
            ends = [side - start for side, start in zip((height, width), (a, b))]
            found += [
                *box[:2],
                *(min(end, real // stride * stride if real < crop else crop) for end, real in zip(box[2:], ends)),
            ]
        rows.append(draws + [-1] * (102 - len(draws)))
        geometry.append([y1, x1, y2, x2, *found])
    hyper = {"crop": crop, "stride": stride, "iou_bound": list(bounds)}
    return {"in_hw": sizes, "in_draws": np.array(rows), "out_geometry": np.array(geometry), "hyper": hyper}


def place(first: int, drawn: int, stride: int) -> int:
    at = first + (drawn - first) // stride * stride
    return at + stride if at < 0 else at
