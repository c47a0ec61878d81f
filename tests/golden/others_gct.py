"""Our own recordings of GCT; see `other_recordings`."""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, ce_of, exact, gradients, variant
from torch import Tensor

SIZE = (8, 11)


def one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([y == k for k in range(classes)], 1).astype(np.float32)


def kernel(size: int) -> np.ndarray:
    """An impulse in an array of `size` places, filtered by a Gaussian cut at 4 sigma, the array mirrored on and on."""
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    reach = int(4 * sigma + 0.5)
    weights = np.array([exp(-0.5 * (k / sigma) ** 2) for k in range(-reach, reach + 1)])
    impulse = np.zeros(size)
    impulse[size // 2] = 1
    padded = np.pad(impulse, reach, mode="symmetric")
    return np.array([weights @ padded[k : k + 2 * reach + 1] for k in range(size)]) / weights.sum()


def blurred(map: np.ndarray, size: int) -> np.ndarray:
    """(B, 1, H, W) by the whole kernel, the border reflected without its own place."""
    half, whole = size // 2, np.outer(kernel(size), kernel(size))
    padded = np.pad(map.astype(float), ((0, 0), (0, 0), (half, half), (half, half)), mode="reflect")
    found = np.zeros(map.shape)
    for i in range(map.shape[2]):
        for j in range(map.shape[3]):
            found[:, :, i, j] = (padded[:, :, i : i + size, j : j + size] * whole).sum((2, 3))
    return found


def odd(size: float) -> int:
    return int(size) if int(size) % 2 else int(size) + 1


@variant("gct_blur")
def gct_blur(d: Draw) -> dict[str, Any]:
    x, sizes = d.normal(3, 1, *SIZE), np.array([3, 7, 13])
    kernels = {f"out_kernel_{k}": np.outer(kernel(size), kernel(size)) for k, size in enumerate(sizes)}
    return {"in_sizes": sizes, "in_x": x, "out_y": blurred(x, 7), **kernels, "hyper": {"y_kernel_size": 7}}


@variant("gct_flawmap_handler")
def gct_flawmap_handler(d: Draw) -> dict[str, Any]:
    """Of three images one is never flawed enough."""
    maps, side, least = d.normal(3, 1, *SIZE), 80, 0.12
    maps[1] *= 0.05
    found = blurred(maps.clip(min=0), odd(side / 16))
    for image in found:
        low, high = image.min(), image.max()
        image[:] = ((image if high > least else 0) - low) / (high - low + 1e-9)
    return {"in_flawmap": maps, "out_handled": found, "hyper": {"im_size": side, "clip_threshold": least}}


@variant("gct_dc_target")
def gct_dc_target(d: Draw) -> dict[str, Any]:
    """Pixel by pixel; some flaws are equal."""
    xi, p = 0.5, [exact(d.logits(3, 4, *SIZE))[0].softmax(1).numpy().astype(np.float32) for _ in range(2)]
    flaws = [np.round(d.uniform(3, 1, *SIZE), 1) for _ in range(2)]
    goal, both = [a.copy() for a in p], np.zeros(flaws[0].shape, np.float32)
    for i, _, y, x in np.ndindex(flaws[0].shape):
        raw = [float(flaw[i, 0, y, x]) for flaw in flaws]
        left, right = (1.0 if flaw > np.float32(xi) else flaw for flaw in raw)
        both[i, 0, y, x] = raw[0] > np.float32(xi) and raw[1] > np.float32(xi)
        if right < left:
            goal[0][i, :, y, x] = p[1][i, :, y, x]
        elif left < right:
            goal[1][i, :, y, x] = p[0][i, :, y, x]
    return {
        "in_l_prob": p[0], "in_r_prob": p[1], "in_l_flaw": flaws[0], "in_r_flaw": flaws[1], "out_l_target": goal[0],
        "out_r_target": goal[1], "out_l_fc_mask": both, "out_r_fc_mask": both, "hyper": {"dc_threshold": xi},
    }  # fmt: skip


@variant("gct_flaw_target")
def gct_flaw_target(d: Draw) -> dict[str, Any]:
    classes, side, mu, nu = 4, 24, 0.7, 2
    p = exact(d.logits(2, classes, *SIZE))[0].softmax(1).numpy().astype(np.float32)
    y = d.label(classes, 2, *SIZE)
    map = blurred(mu * np.abs(one_hot(y, classes) - p).sum(1, keepdims=True), odd(side / 8))
    for _ in range(nu):
        padded = np.pad(map, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
        parts = [padded[:, :, i : i + SIZE[0], j : j + SIZE[1]] for i in range(3) for j in range(3)]
        map = blurred(np.max(parts, 0), odd(side / 4))
    for image in map:
        low, high = image.min(), image.max()
        image[:] = (image - low) / (high - low + 1e-9)
    return {
        "in_prob": p, "in_label": y[:, None].astype(np.float32), "out_one_hot": one_hot(y, classes),
        "out_flaw_target": map, "hyper": {"ignore_index": VOID, "im_size": side, "mu": mu, "nu": nu},
    }  # fmt: skip


@variant("gct_fd_loss")
def gct_fd_loss(d: Draw) -> dict[str, Any]:
    scale, labelled, maps, goal = 4.0, 2, d.normal(3, 1, *SIZE), d.uniform(2, 1, *SIZE)
    out = {}
    for name, seen in (("clean", maps), ("as_in_code", maps.clip(min=0))):
        apart = seen[:labelled].astype(float) - goal
        grad = np.zeros(maps.shape)
        grad[:labelled] = scale * 2 * apart / apart.size
        out |= {f"out_loss_{name}": scale * (apart**2).mean(), f"out_grad_{name}": grad}
    return {
        "in_flawmap": maps, "in_flaw_target": goal, **out, "hyper": {"fd_scale": scale, "labelled_in_batch": labelled}
    }  # fmt: skip


@variant("gct_task_losses")
def gct_task_losses(d: Draw) -> dict[str, Any]:
    batch, classes, labelled, ramp, dc, fc, bias = 3, 4, 2, 0.6, 7.0, 3.0, 0.1
    z, coef = d.logits(batch, classes, *SIZE), d.normal(classes)
    y, where = d.label(classes, batch, *SIZE), (d.uniform(batch, 1, *SIZE) < 0.4).astype(np.float32)
    goal = exact(d.logits(batch, classes, *SIZE))[0].softmax(1).numpy().astype(np.float32)
    t, m, k = exact(goal, where, coef)

    def terms(z: Tensor) -> tuple[Tensor, ...]:
        p = z.softmax(1)
        task = ce_of(z[:labelled], y[:labelled], VOID).mean()
        flaw = torch.einsum("c,bchw->bhw", k, p)[:, None] - bias
        return task, ramp * dc * (p - t).square().mean(), fc * (m * flaw.square()).mean()

    total, grad = gradients(lambda z: sum(terms(z)), z)
    task, l_dc, l_fc = terms(exact(z)[0])
    return {
        "in_logits": z, "in_label": y[:, None].astype(np.float32), "in_dc_target": goal, "in_fc_mask": where,
        "in_flaw_coef": coef, "out_task_loss": task, "out_dc_loss": l_dc, "out_fc_loss": l_fc, "out_loss": total,
        "out_grad_logits": grad,
        "hyper": {"dc_rampup_value": ramp, "dc_ssl_scale": dc, "fc_ssl_scale": fc, "flaw_bias": bias,
                  "ignore_index": VOID, "labelled_in_batch": labelled},
    }  # fmt: skip
