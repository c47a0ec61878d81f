"""Our own recordings of methods that are told tags or boxes; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import VOID, Draw, exact, gradients, mean_ce, variant, whole
from torch import Tensor

EPS = 1e-5


def chances(z: Tensor, there: Tensor) -> Tensor:
    """(B, C, H, W) exp z over the sum of those that are there."""
    e, there = z.exp(), there[:, :, None, None]
    return e / ((e * there).sum(1, keepdim=True) + EPS)


def costs(z: Tensor, there: Tensor, y: Tensor) -> Tensor:
    """(B, H, W) class-aware cross entropy, 0 at void pixels."""
    picked = (chances(z, there) + EPS).log().gather(1, torch.where(y == VOID, 0, y)[:, None])[:, 0]
    return torch.where(y == VOID, 0.0, -picked)


@variant("learning_pseudo_label_cce")
def cce(d: Draw) -> dict[str, Any]:
    """Three images, one with a single class, labels that are not among the tags too."""
    z, y = d.logits(3, 5, 7, 11), d.label(5, 3, 7, 11)
    tags = np.array([[1, 0, 0, 0, 0], [1, 0, 1, 1, 0], [1, 1, 1, 1, 1]], np.float32)
    (there,), (label,) = exact(tags), whole(y)
    loss, grad = gradients(lambda z: costs(z, there, label).sum() / (label != VOID).sum(), z)
    (z64,) = exact(z)
    return {
        "in_logits": z, "in_category": tags, "in_label": y,
        "out_prob": chances(z64, there) * there[:, :, None, None], "out_loss_map": costs(z64, there, label),
        "out_loss": loss, "out_grad": grad,
        "hyper": {"temperature": 1, "eps": EPS, "ignore_index": VOID},
    }  # fmt: skip


@variant("learning_pseudo_label_pct")
def pct(d: Draw) -> dict[str, Any]:
    """Another power and momentum, three labelled images and one other, a class that is never hit."""
    steps, strong, classes, power, momentum = 4, 3, 5, 3, 0.8
    y, found = d.label(classes, steps, 4, 5, 9), d.classes(classes - 1, steps, 4, 5, 9)
    found = np.where(d.uniform(*found.shape) < 0.5, np.where(y < classes - 1, y, 0), found)
    tags = (d.uniform(steps, 4, classes) < 0.5).astype(np.float32)
    tags[..., 0] = 1
    z = d.logits(steps, 1, classes, 5, 9)
    areas, kept = np.array([[1.0] * classes, [0.0] * classes, [0.0] * classes]), {}
    for t in range(steps):
        areas = areas * momentum
        for c in range(classes):
            true, said = y[t, :strong] == c, found[t, :strong] == c
            areas[:, c] += [true.sum(), said.sum(), (true & said).sum()]
        iou = areas[2] / (areas[0] + areas[1] - areas[2])
        held = [iou[c] for c in range(classes) if tags[t, strong, c] and iou[c]]
        v = min([*held, 1.0]) ** power
        (z64, there), (label,) = exact(z[t], tags[t, strong:]), whole(found[t, strong:])
        loss = (v * costs(z64, there, label)).mean()
        values = (*areas, iou, [v], float(loss))
        for key, value in zip(("area_true", "area_pred", "area_hit", "iou", "weight", "loss"), values):
            kept.setdefault(f"out_{key}", []).append(value)
    hyper = {
        "num_classes": classes, "strong_images": strong, "weak_images": 1, "power": power, "momentum": momentum,
        "ignore_index": VOID,
    }  # fmt: skip
    given = {"in_label": y, "in_pseudo_label": found, "in_category": tags, "in_logits_weak": z}
    return given | {key: np.array(values) for key, values in kept.items()} | {"hyper": hyper}


@variant("self_correcting_linear")
def linear(d: Draw) -> dict[str, Any]:
    """Other ends of alpha, three images."""
    p, a, (first, last, total) = d.logits(3, 4, 5, 8), d.logits(3, 4, 5, 8), (12.0, 0.25, 31)
    found: dict[str, list] = {"alpha": [], "target": [], "loss": [], "grad_primary": []}
    for step in (0, 1, 30):
        alpha = np.exp(np.log(first) + step / (total - 1) * (np.log(last) - np.log(first)))
        p64, a64 = exact(p, a)
        # the q that is nearest to both is the normalised product of powers of their probabilities
        q = (p64.softmax(1) ** (1 / (1 + alpha))) * (a64.softmax(1) ** (alpha / (1 + alpha)))
        q = q / q.sum(1, keepdim=True)
        loss, grad = gradients(lambda z, q=q: -(q * z.log_softmax(1)).sum() / (3 * 5 * 8), p)
        for key, value in zip(found, (torch.tensor(alpha), q, loss, grad)):
            found[key].append(value)
    given = {"in_step": np.array([0, 1, 30]), "in_primary": p, "in_ancillary": a}
    hyper = {"classes": 4, "alpha_start": first, "alpha_end": last, "total_steps": total}
    return given | {f"out_{k}": torch.stack(v) for k, v in found.items()} | {"hyper": hyper}


@variant("self_correcting_conv")
def conv(d: Draw) -> dict[str, Any]:
    """Another width, convolutions as sums over shifted maps."""
    classes, hidden = 3, 7
    maps = {f"in_{who}_{of}": d.logits(2, classes, 5, 8) for of in "fw" for who in ("primary", "ancillary")}
    weights = {
        "in_weight_1": d.normal(hidden, 2 * classes, 3, 3, scale=0.2), "in_bias_1": d.normal(hidden, scale=0.2),
        "in_weight_2": d.normal(classes, hidden, 3, 3, scale=0.2), "in_bias_2": d.normal(classes, scale=0.2),
    }  # fmt: skip
    y = d.label(classes, 2, 5, 8)
    w1, b1, w2, b2 = exact(*weights.values())

    def joined(of: str, b1: Tensor, w2: Tensor) -> Tensor:
        both = torch.cat(exact(maps[f"in_primary_{of}"], maps[f"in_ancillary_{of}"]), 1)
        return convolved(convolved(both, w1, b1).clamp(min=0), w2, b2)

    l_module, grad_b, grad_w = gradients(
        lambda b1, w2: mean_ce(joined("f", b1, w2), y), weights["in_bias_1"], weights["in_weight_2"]
    )
    l_primary, grad_f = gradients(lambda z: mean_ce(z, y), maps["in_primary_f"])
    q = joined("w", b1, w2).softmax(1)
    l_w, grad_p = gradients(lambda z: -(q * z.log_softmax(1)).sum() / (2 * 5 * 8), maps["in_primary_w"])
    answers = {
        "out_logits_f": joined("f", b1, w2), "out_loss_primary": l_primary, "out_loss_module": l_module,
        "out_grad_primary_f": grad_f, "out_grad_weight_2": grad_w, "out_grad_bias_1": grad_b, "out_target_w": q,
        "out_loss_w": l_w, "out_grad_primary_w": grad_p,
    }  # fmt: skip
    hyper = {"classes": classes, "hidden": hidden, "ignore_index": VOID}
    return maps | weights | {"in_label_f": y} | answers | {"hyper": hyper}


@variant("self_correcting_box_attention")
def box_attention(d: Draw) -> dict[str, Any]:
    """Sides that do not divide."""
    box, answers = (d.uniform(2, 3, 19, 23) < 0.4).astype(np.float32), {}
    given: dict[str, Any] = {"in_box": box}
    for name, channels, size in (("low", 4, (6, 7)), ("high", 5, (3, 4))):
        map, weight, bias = d.normal(2, channels, *size), d.normal(channels, 3, 3, 3), d.normal(channels)
        rows, columns = ([int(np.floor(k * n / m)) for k in range(m)] for n, m in zip((19, 23), size))
        m64, b64, w64, c64 = exact(map, box[:, :, rows][..., columns], weight, bias)
        answers[f"out_{name}"] = m64 / (1 + (-convolved(b64, w64, c64)).exp())
        given |= {f"in_{name}": map, f"in_weight_{name}": weight, f"in_bias_{name}": bias}
    return given | answers | {"hyper": {"classes": 3}}


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3x3 convolution with a border of 0, as a sum over shifted maps."""
    padded, (h, w) = F.pad(x, (1, 1, 1, 1)), x.shape[-2:]
    shifts = ((i, j, padded[..., i : i + h, j : j + w]) for i in range(3) for j in range(3))
    return sum(torch.einsum("oc,bchw->bohw", weight[:, :, i, j], part) for i, j, part in shifts) + bias[:, None, None]
