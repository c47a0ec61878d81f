"""Our own recordings of layers, noise and changes of images; see `other_recordings`."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import (
    Draw,
    exact,
    gradients,
    resized,
    variant,
)
from torch import Tensor


@variant("guidedmix_decouple")
def guidedmix_decouple(d: Draw) -> dict[str, Any]:
    """A permutation of three that is not its own inverse."""
    f_x, f_u, z_x, z_u = d.normal(3, 5, 6, 9), d.normal(3, 5, 6, 9), d.normal(3, 4, 6, 9), d.normal(3, 4, 6, 9)
    w, b, v, c, perm, beta = d.normal(7, 5, 3, 3), d.normal(7), d.normal(4, 7, 1, 1), d.normal(4), [1, 2, 0], 0.7
    lam = min(beta, 1 - beta)
    y = exact(z_u)[0][perm].argmax(1)

    def decoupled(w: Tensor, z: Tensor) -> Tensor:
        a, e = exact(f_x, f_u)
        hidden = F.conv2d(lam * a + (1 - lam) * e[perm], w, exact(b)[0], padding=1).relu()
        return F.conv2d(hidden, *exact(v, c)) - lam * z

    def loss(w: Tensor, z: Tensor) -> Tensor:
        p = decoupled(w, z).sigmoid()
        own = F.one_hot(y, 4).permute(0, 3, 1, 2).double()
        far = own * 0.25 * (1 - p) ** 1.5 * -p.log() + (1 - own) * 0.75 * p**1.5 * -(1 - p).log()
        return 3.0 * far.mean()

    total, g_w, g_z = gradients(loss, w, z_x)
    return {
        "in_aspp_labelled": f_x, "in_aspp_unlabelled": f_u, "in_perm": np.array(perm), "in_beta_draw": np.float64(beta),
        "in_logits_labelled": z_x, "in_logits_unlabelled": z_u, "in_mixhead_bottleneck_w": w,
        "in_mixhead_bottleneck_b": b, "in_mixhead_cls_w": v, "in_mixhead_cls_b": c, "out_lambda": np.float64(lam),
        "out_decoupled_unlabelled": decoupled(*exact(w, z_x)), "out_target_label": y, "out_loss": total,
        "out_grad_mixhead_bottleneck_w": g_w, "out_grad_cls_b": g_z.sum((0, 2, 3)),
        "hyper": {"lambda_factor": 0.5, "gamma": 1.5, "alpha": 0.25, "loss_weight": 3.0, "num_classes": 4},
    }  # fmt: skip


@variant("colouraug_vat_perturbation")
def colouraug_vat(d: Draw) -> dict[str, Any]:
    w, b, v, c = d.normal(5, 3, 3, 3), d.normal(5), d.normal(4, 5, 1, 1), d.normal(4)
    weak, seen, noise = (d.normal(3, 3, 8, 13) for _ in range(3))
    layers, (t, s, e) = exact(w, b, v, c), exact(weak, seen, noise)

    def net(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, layers[0], layers[1], padding=1).tanh(), layers[2], layers[3])

    def unit(x: Tensor) -> Tensor:
        return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    step = (1e-6 * 8 * 13 / 1000 * unit(e)).requires_grad_()
    q = net(t).softmax(1)
    p = net(s + step)
    (g,) = torch.autograd.grad((q * (q.log() - p.log_softmax(1))).sum(), step)
    down, right = s[..., 2:, :] - s[..., :-2, :], s[..., 2:] - s[..., :-2]
    length = 0.5 * (down.square().flatten(1).sum(1) + right.square().flatten(1).sum(1)).sqrt() * 0.7
    return {
        "in_image_teacher": weak, "in_image_student": seen, "in_noise": noise, "in_w0": w, "in_b0": b, "in_w1": v,
        "in_b1": c, "out_perturbation_adaptive": unit(g) * length.view(-1, 1, 1, 1),
        "out_perturbation_fixed": unit(g) * 0.7 * (3 * 8 * 13) ** 0.5,
        "hyper": {"vat_radius": 0.7, "cons_loss_fn": "kld"},
    }  # fmt: skip


@variant("revisiting_tps")
def revisiting_tps(d: Draw) -> dict[str, Any]:
    """Other points and offsets, a portrait."""
    size, points = (19, 12), np.float32([[0.7, 0.8], [1.2, 0.75], [0.8, 1.3], [1.25, 1.2]])
    x, z, offset = d.normal(3, 3, *size), d.normal(3, 5, *size), d.normal(3, 4, 2, scale=0.07)
    grids = []
    for moved in (points + offset).astype(np.float64):
        system = np.zeros((7, 7))
        system[:4, :4] = kernel(moved[:, None] - moved[None])
        system[:4, 4:] = np.concatenate([np.ones((4, 1)), moved], 1)
        system[4:, :4] = system[:4, 4:].T
        weights = np.linalg.solve(system, np.concatenate([points.astype(float), np.zeros((3, 2))]))
        rows, columns = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]), indexing="ij")
        at = np.stack([columns, rows], -1).reshape(-1, 2)
        basis = np.concatenate([kernel(at[:, None] - moved[None]), np.ones((len(at), 1)), at], 1)
        grids.append((2 * (basis @ weights) - 1).reshape(*size, 2))
    grid = torch.from_numpy(np.array(grids))
    bent = [F.grid_sample(t, grid, align_corners=True) for t in (*exact(x, z), torch.ones(3, 1, *size).double())]
    return {
        "in_image": x, "in_target_logits": z, "in_offsets": offset, "in_control_points": points, "out_grid": grid,
        "out_image": bent[0], "out_target_logits": bent[1], "out_mask": bent[2][:, 0], "hyper": {"offset_std": 0.07},
    }  # fmt: skip


def kernel(difference: np.ndarray) -> np.ndarray:
    """r^2 log r."""
    square = (difference**2).sum(-1)
    return 0.5 * square * np.log(np.maximum(square, 1e-300))


@variant("corrmatch_corr")
def corrmatch_corr(d: Draw) -> dict[str, Any]:
    """A grid that is not square, fewer features and rows."""
    grid, size, classes, dim = (4, 7), (13, 22), 4, 24
    f, z, rows, up = d.normal(3, dim, *grid), d.normal(3, classes, *size), d.classes(27, 9), d.normal(3, classes, *grid)
    layers = {
        "conv1_weight": d.normal(classes, dim, scale=0.3), "conv1_bias": d.normal(classes),
        "conv2_weight": d.normal(classes, dim, scale=0.3), "conv2_bias": d.normal(classes),
    }  # fmt: skip

    def similar(f: Tensor) -> Tensor:
        w, b, v, c = exact(*layers.values())
        left = torch.einsum("kf,bfn->bkn", w, f.flatten(2)) + b[:, None]
        right = torch.einsum("kf,bfn->bkn", v, f.flatten(2)) + c[:, None]
        return (left.transpose(1, 2) @ right / classes**0.5).softmax(-1)

    def passed(f: Tensor) -> Tensor:
        seen = resized(exact(z)[0], grid).flatten(2)
        return (seen @ similar(f)).view(3, classes, *grid)

    _, grad = gradients(lambda f: (passed(f) * exact(up)[0]).sum(), f)
    return {
        "in_feature": f, "in_logits": z, **{f"in_{k}": v for k, v in layers.items()}, "in_idx_rows": rows,
        "in_cotangent": up, "out_corr_logits": passed(exact(f)[0]), "out_grad_feature": grad,
        "hyper": {"nclass": classes, "feat_dim": dim, "n_sampled_rows": 9},
    }  # fmt: skip


@variant("revisiting_photometric")
def revisiting_photometric(d: Draw) -> dict[str, Any]:
    x, perm = d.uniform(4, 3, 5, 8), np.array([2, 0, 1])
    add_v, add_h = np.float32([-0.2, 0.1, 0.0, 0.22]), np.float32([0.1, -0.05, 0.02, -0.1])
    mul_s, mul_v = np.float32([0.5, 1.7, 1.0, 0.3]), np.float32([1.5, 0.4, 1.0, 0.9])
    hsv, out = np.zeros(x.shape), np.zeros(x.shape)
    for b, i, j in np.ndindex(4, 5, 8):
        h, s, v = colorsys.rgb_to_hsv(*map(float, x[b, :, i, j]))
        hsv[b, :, i, j] = h, s, v
        s, v = s * float(mul_s[b]), (v + float(add_v[b])) * float(mul_v[b])
        out[b, :, i, j] = colorsys.hsv_to_rgb((h + float(add_h[b])) % 1, s, v) if s else (v, v, v)
    given = {"add_v": add_v, "add_h": add_h, "mul_s": mul_s, "mul_v": mul_v, "channel_perm": perm}
    return {"in_image": x, **{f"in_{k}": v for k, v in given.items()}, "out_hsv": hsv, "out_image": out[:, perm]}
