"""Our own recordings of layers, noise and changes of images; see `other_recordings`."""

from __future__ import annotations

import colorsys
import math
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


@variant("cps_aspp")
def cps_aspp(d: Draw) -> dict[str, Any]:
    """Two rates, three images, another momentum; the pooled branch is added."""
    inputs, hidden, out, rates, m, size = 5, 3, 4, [2, 3], 0.3, (7, 12)
    x, up, wide = d.normal(3, inputs, *size), d.normal(3, out, *size), 3 * hidden
    kernels = [d.normal(hidden, inputs, 1, 1), *(d.normal(hidden, inputs, 3, 3) for _ in rates)]
    given = {f"map_convs__{i}__weight": w for i, w in enumerate(kernels)} | {
        "global_pooling_conv__weight": d.normal(hidden, inputs, 1, 1), "red_conv__weight": d.normal(out, wide, 1, 1),
        "pool_red_conv__weight": d.normal(out, hidden, 1, 1),
    }  # fmt: skip
    for name, width in (("map_bn", wide), ("global_pooling_bn", hidden), ("red_bn", out)):
        given |= {f"{name}__weight": 1 + d.normal(width, scale=0.2), f"{name}__bias": d.normal(width, scale=0.2)}
        given |= {f"{name}__running_mean": d.normal(width), f"{name}__running_var": 1 + d.uniform(width)}
    of = dict(zip(given, exact(*given.values())))
    after: dict[str, Tensor] = {}

    def norm(t: Tensor, name: str, train: bool) -> Tensor:
        mean, var = after.get(f"{name}__running_mean"), after.get(f"{name}__running_var")
        if train:
            mean, var = t.mean((0, 2, 3)), t.var((0, 2, 3), unbiased=False)
            for key, seen in (("running_mean", mean), ("running_var", t.var((0, 2, 3)))):
                after[f"{name}__{key}"] = (1 - m) * of[f"{name}__{key}"] + m * seen.detach()
        t = (t - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt()
        t = t * of[f"{name}__weight"][:, None, None] + of[f"{name}__bias"][:, None, None]
        return torch.where(t > 0, t, 0.01 * t)

    def layer(x: Tensor, train: bool = True) -> Tensor:
        maps = [F.conv2d(x, of["map_convs__0__weight"])]
        maps += [F.conv2d(x, of[f"map_convs__{i}__weight"], padding=r, dilation=r) for i, r in enumerate(rates, 1)]
        pooled = F.conv2d(x.mean((2, 3), keepdim=True), of["global_pooling_conv__weight"])
        pooled = F.conv2d(norm(pooled, "global_pooling_bn", train), of["pool_red_conv__weight"])
        return norm(
            F.conv2d(norm(torch.cat(maps, 1), "map_bn", train), of["red_conv__weight"]) + pooled, "red_bn", train
        )

    _, grad = gradients(lambda x: (layer(x) * exact(up)[0]).sum(), x)
    y = layer(exact(x)[0])
    return {
        "in_x": x, "in_cotangent": up, **{f"in_w_{k}": v for k, v in given.items()}, "out_y_train": y,
        "out_grad_x": grad, **{f"out_state_{k}": v for k, v in after.items()},
        "out_y_eval_after": layer(exact(x)[0], train=False),
        "hyper": {
            "bn_momentum": m, "hidden": hidden, "in_channels": inputs, "leaky_slope": 0.01, "out_channels": out,
            "rates": rates,
        },
    }  # fmt: skip


@variant("ddfp_flow")
def ddfp_flow(d: Draw) -> dict[str, Any]:
    """Three blocks, another clamp."""
    width, hidden, blocks, clamp, x, means = 6, 5, 3, 1.3, d.normal(17, 6), d.normal(3, 6)
    given: dict[str, np.ndarray] = {}
    for b in range(blocks):
        given[f"idx_perm{b}"] = d.rng.permutation(width)
        for s in ("s1", "s2"):
            for k, (i, o) in enumerate(((width // 2, hidden), (hidden, hidden), (hidden, width))):
                given |= {f"b{b}_{s}_w{k}": d.normal(o, i, scale=0.3), f"b{b}_{s}_c{k}": d.normal(o, scale=0.3)}
    of = {k: v if k.startswith("idx") else exact(v)[0] for k, v in given.items()}

    def subnet(x: Tensor, name: str) -> tuple[Tensor, Tensor]:
        for k in range(3):
            x = x @ of[f"{name}_w{k}"].T + of[f"{name}_c{k}"]
            x = x.relu() if k < 2 else x
        s, t = x.chunk(2, 1)
        return clamp * 0.636 * s.atan(), t

    def flow(x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = 0.0
        for b in range(blocks):
            one, two = x.chunk(2, 1)
            s_2, t_2 = subnet(two, f"b{b}_s2")
            one = s_2.exp() * one + t_2
            s_1, t_1 = subnet(one, f"b{b}_s1")
            two = s_1.exp() * two + t_1
            logdet = logdet + s_1.sum(1) + s_2.sum(1)
            x = torch.cat([one, two], 1)[:, of[f"idx_perm{b}"]]
        return x, logdet

    def nll(x: Tensor) -> Tensor:
        z, logdet = flow(x)
        parts = -0.5 * (z[:, None] - exact(means)[0]).square().sum(2) - width / 2 * math.log(2 * math.pi)
        return -((parts - math.log(3)).logsumexp(1) + logdet).mean()

    value, grad = gradients(nll, x)
    z, logdet = flow(exact(x)[0])
    return {
        "in_x": x, "in_means": means, **{f"in_{k}": v for k, v in given.items()}, "out_z": z, "out_logdet": logdet,
        "out_nll": value, "out_grad_x": grad,
        "hyper": {"D": width, "hidden": hidden, "n_blocks": blocks, "clamp": clamp},
    }  # fmt: skip


@variant("psmt_tvat")
def psmt_tvat(d: Draw) -> dict[str, Any]:
    """Three images, other classes and sizes."""
    f, u, size, xi, radius = d.rng.normal(size=(3, 4, 5, 8)), d.rng.random((3, 4, 5, 8)), (9, 17), 0.3, 1.2
    given: dict[str, np.ndarray] = {}
    for t in ("t1", "t2"):
        given |= {f"{t}_conv1_w": d.rng.normal(size=(5, 4, 3, 3)), f"{t}_conv2_w": d.rng.normal(size=(3, 5, 1, 1))}
        given |= {f"{t}_bn_{k}": d.rng.normal(size=5) for k in ("b", "mean")} | {f"{t}_conv2_b": d.rng.normal(size=3)}
        given |= {f"{t}_bn_{k}": 0.5 + d.rng.random(5) for k in ("w", "var")}
    of = dict(zip(given, exact(*given.values())))

    def mean_logits(x: Tensor) -> Tensor:
        found = 0.0
        for t in ("t1", "t2"):
            w, b, mean, var = (of[f"{t}_bn_{k}"][:, None, None] for k in ("w", "b", "mean", "var"))
            h = (F.conv2d(x, of[f"{t}_conv1_w"], padding=1) - mean) / (var + 1e-5).sqrt() * w + b
            found = found + resized(F.conv2d(h.relu(), of[f"{t}_conv2_w"], of[f"{t}_conv2_b"]), size) / 2
        return found

    (x, start), noise = exact(f, u - 0.5), {}
    for step in (xi, 1e-6):
        way = (start / (start.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-8)).requires_grad_()
        q = mean_logits(x).softmax(1)
        far = (q * (q.log() - mean_logits(x + step * way).log_softmax(1))).sum() / 3
        (g,) = torch.autograd.grad(far, way)
        noise[step] = radius * g / (g.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-8)
    return {
        "in_feature": f, "in_uniform": u, **{f"in_{k}": v for k, v in given.items()}, "out_r_adv": noise[xi],
        "out_norm": noise[xi].flatten(1).norm(dim=1), "out_norm_xi1e6": noise[1e-6].flatten(1).norm(dim=1),
        "hyper": {"xi": xi, "eps": radius, "output_size": list(size)},
    }  # fmt: skip
