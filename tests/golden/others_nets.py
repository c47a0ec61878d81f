"""Our own recordings of small networks, layers and noise; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import VOID, Draw, ce_of, exact, gradients, mean_ce, resized, variant
from others_losses import agreement
from torch import Tensor

WIDTH, CLASSES, SIZE = 6, 4, (9, 14)
SHAPES = [(WIDTH, 3, 3, 3), (WIDTH,), (WIDTH,), (WIDTH,), (CLASSES, WIDTH, 1, 1), (CLASSES,)]


def unflat(flat: Tensor, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    return [part.view(shape) for part, shape in zip(flat.split([int(np.prod(s)) for s in shapes]), shapes)]


def small_net(flat: Tensor, x: Tensor, train: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of conv3x3 - BN - ReLU - conv1x1, and mean and variance of what the BN saw."""
    w, b, gamma, beta, v, c = unflat(flat, SHAPES)
    h = F.conv2d(x, w, b, padding=1)
    mean, var = h.mean((0, 2, 3)), h.var((0, 2, 3), unbiased=False)
    used = (mean, var) if train else (torch.zeros_like(mean), torch.ones_like(var))
    n = (h - used[0][:, None, None]) / (used[1][:, None, None] + 1e-5).sqrt()
    logits = F.conv2d((n * gamma[:, None, None] + beta[:, None, None]).relu(), v, c)
    return logits, mean.detach(), h.var((0, 2, 3)).detach()


def small_weights(d: Draw) -> np.ndarray:
    flat = d.normal(sum(int(np.prod(s)) for s in SHAPES), scale=0.6)
    start = WIDTH * 28
    flat[start : start + WIDTH] = 1 + 0.2 * flat[start : start + WIDTH]
    return flat


@variant("augseg_step")
def augseg_step(d: Draw) -> dict[str, Any]:
    """A network of another width."""
    flat, x, u = small_weights(d), d.normal(3, 3, *SIZE), d.normal(3, 3, *SIZE)
    y, pseudo, conf = d.label(CLASSES, 3, *SIZE), d.label(CLASSES, 3, *SIZE), d.uniform(3, *SIZE)
    keep = torch.from_numpy((conf >= 0.4) & (pseudo != VOID))

    def parts(flat: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        z, mean, var = small_net(flat, torch.cat(exact(x, u)))
        return mean_ce(z[:3], y), 0.7 * (ce_of(z[3:], pseudo) * keep).mean(), mean, var

    _, grad = gradients(lambda f: sum(parts(f)[:2]), flat)
    sup, unsup, mean, var = parts(exact(flat)[0])
    return {
        "in_image_l": x, "in_label_l": y, "in_image_u": u, "in_pseudo_label": pseudo, "in_max_prob": conf,
        "in_params": flat, "out_loss_sup": sup, "out_loss_unsup": unsup, "out_grad_params": grad,
        "out_running_mean": 0.1 * mean, "out_running_var": 0.9 + 0.1 * var,
        "hyper": {"threshold": 0.4, "loss_weight": 0.7, "num_classes": CLASSES, "ignore_index": VOID},
    }  # fmt: skip


@variant("imas_step")
def imas_step(d: Draw) -> dict[str, Any]:
    """No CutMix in this step: the images of its branch are the weak ones, which the batch norm sees all the same."""
    s, t, x, y = small_weights(d), small_weights(d), d.normal(3, 3, *SIZE), d.label(CLASSES, 3, *SIZE)
    weak, strong, tau = d.normal(3, 3, *SIZE), d.normal(3, 3, *SIZE), 0.5
    rows, columns, u = d.rng.integers(0, 9, 3), d.rng.integers(0, 14, 3), 0.45
    z_s, z_t = (small_net(f, exact(weak)[0], train=False)[0] for f in exact(s, t))
    (c_s, a_s), (c_t, a_t) = z_s.softmax(1).max(1), z_t.softmax(1).max(1)
    rho = [(c >= tau).double().mean((1, 2)) for c in (c_s, c_t)]
    score = torch.stack([
        (rho[1][i] * agreement(a_s[i], a_t[i], 1) + rho[0][i] * agreement(a_t[i], a_s[i], 1)) / 2 for i in range(3)
    ])  # fmt: skip
    share = score[:, None, None, None]
    blend = share * exact(strong)[0] + (1 - share) * exact(weak)[0]
    sure = (c_t >= tau).double()

    def parts(flat: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z, mean, _ = small_net(flat, torch.cat([exact(x)[0], exact(weak)[0], exact(weak)[0], blend]))
        return mean_ce(z[:3], y), (score * (ce_of(z[9:], a_t) * sure).mean((1, 2))).mean(), mean

    _, grad = gradients(lambda f: parts(f)[0] + 1.3 * parts(f)[1], s)
    sup, unsup, mean = parts(exact(s)[0])
    return {
        "in_image_l": x, "in_label_l": y, "in_image_u_weak": weak, "in_image_u_strong": strong, "in_student_params": s,
        "in_teacher_params": t, "in_u": np.float64(u), "in_rows": rows, "in_cols": columns, "out_score": score,
        "out_loss_sup": sup, "out_loss_unsup_aug": unsup, "out_loss_unsup": 1.3 * unsup, "out_grad_student": grad,
        "out_running_mean": 0.1 * mean,
        "hyper": {
            "threshold": tau, "loss_weight": 1.3, "cutmix_range": [0.2, 0.6], "num_classes": CLASSES,
            "trigger": "cutmix not triggered", "ignore_index": VOID,
        },
    }  # fmt: skip


def shuffled(x: Tensor, weights: list[Tensor]) -> Tensor:
    """CCT's decoder: a 1x1 convolution, then doublings, each a 1x1 convolution, ReLU, pixel shuffle."""
    x = F.conv2d(x, weights[0])
    for w, b in zip(weights[1::2], weights[2::2]):
        x = F.pixel_shuffle(F.conv2d(x, w, b).relu(), 2)
    return x


def decoder_shapes(inputs: int, classes: int, doublings: int) -> list[tuple[int, ...]]:
    return [(classes, inputs, 1, 1), *[(4 * classes, classes, 1, 1), (4 * classes,)] * doublings]


@variant("cct_main_decoder")
def cct_main_decoder(d: Draw) -> dict[str, Any]:
    """Three doublings."""
    f, up = d.normal(3, 5, 3, 4), d.normal(3, 3, 24, 32)
    weights = [d.normal(*shape) for shape in decoder_shapes(5, 3, 3)]
    names = ["0_weight"] + [f"{i}_conv_{k}" for i in (1, 2, 3) for k in ("weight", "bias")]
    _, grad = gradients(lambda f: (shuffled(f, list(exact(*weights))) * exact(up)[0]).sum(), f)
    return {
        "in_feature": f, "in_grad_output": up, "out_logits": shuffled(exact(f)[0], list(exact(*weights))),
        "out_grad_feature": grad, **{f"in_upsample_{k}": w for k, w in zip(names, weights)},
        "hyper": {"upscale": 8, "cin": 5, "num_classes": 3},
    }  # fmt: skip


@variant("cct_vat")
def cct_vat(d: Draw) -> dict[str, Any]:
    """Two doublings, three images."""
    f, u = d.rng.normal(size=(3, 5, 3, 4)), d.rng.random((3, 5, 3, 4))
    weights = [d.rng.normal(size=shape) for shape in decoder_shapes(5, 3, 2)]
    names = ["0_weight"] + [f"{i}_conv_{k}" for i in (1, 2) for k in ("weight", "bias")]
    layers, x, xi, radius = list(exact(*weights)), exact(f)[0], 0.2, 1.5
    out: dict[str, Any] = {}
    for step, name in ((xi, ""), (1e-6, "_xi1e6")):
        start = exact(u)[0] - 0.5
        start = (start / (start.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-8)).requires_grad_()
        target = shuffled(x, layers).softmax(1)
        far = (target * (target.log() - shuffled(x + step * start, layers).log_softmax(1))).sum() / 3
        (g,) = torch.autograd.grad(far, start)
        r = radius * g / (g.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-8)
        out |= {f"out_r_adv{name}": r, f"out_norm{name}": r.flatten(1).norm(dim=1)}
    return {
        "in_feature": f, "in_uniform": u, **{f"in_{k}": w for k, w in zip(names, weights)}, **out,
        "out_logits": shuffled(x + out["out_r_adv"], layers),
        "hyper": {"xi": xi, "eps": radius, "iterations": 1, "upscale": 4},
    }  # fmt: skip


@variant("cct_step")
def cct_step(d: Draw) -> dict[str, Any]:
    """Two doublings, images that are not square, three of them."""
    cin, classes, shapes = 5, 3, decoder_shapes(5, 3, 2)
    n = sum(int(np.prod(s)) for s in shapes)
    x, u, y = d.normal(3, 3, *SIZE), d.normal(3, 3, *SIZE), d.label(classes, 3, *SIZE)
    enc_w, enc_b, main, aux = d.normal(cin, 3, 1, 1), d.normal(cin), d.normal(n), d.normal(2 * n)
    t = 2 * 17 + 9
    strength = 12 * np.exp(-5 * (1 - t / (6 * 17)) ** 2)

    def parts(w: Tensor, b: Tensor, main: Tensor, aux: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f_x, f_u = (F.conv2d(i, w, b) for i in exact(x, u))
        z = resized(shuffled(f_x, unflat(main, shapes)), SIZE)
        q = shuffled(f_u, unflat(main, shapes)).detach()
        thing = F.interpolate((q.argmax(1) > 0)[:, None].double(), SIZE, mode="nearest")
        far = 0.0
        for flat, mask in zip(aux.chunk(2), (thing, 1 - thing)):
            p = shuffled(f_u * mask, unflat(flat, shapes)).softmax(1)
            far = far + (p - q.softmax(1)).square().mean() / 2
        return mean_ce(z, y), strength * far, z

    total, g_w, _, g_main, g_aux = gradients(lambda *t: sum(parts(*t)[:2]), enc_w, enc_b, main, aux)
    sup, unsup, z = parts(*exact(enc_w, enc_b, main, aux))
    return {
        "in_x_l": x, "in_x_ul": u, "in_y_l": y, "in_enc_w": enc_w, "in_enc_b": enc_b, "in_main_params": main,
        "in_aux_params": aux, "out_loss_sup": sup, "out_loss_unsup": unsup, "out_total": total, "out_grad_enc_w": g_w,
        "out_grad_main": g_main, "out_grad_aux": g_aux, "out_pred_l": z,
        "hyper": {
            "upscale": 4, "final_w": 12, "iters_per_epoch": 17, "rampup_ends_epochs": 6, "epoch": 2, "iter": 9,
            "num_classes": classes, "cin": cin, "ignore_index": VOID,
        },
    }  # fmt: skip


@variant("prcl_probability_head")
def prcl_probability_head(d: Draw) -> dict[str, Any]:
    """Norms that forget faster and have a larger eps."""
    x, first, second, (gamma, beta) = d.normal(3, 7, 4, 3), d.normal(5, 7), d.normal(5, 5), (0.7, 0.3)
    scale, shift, eps, momentum = 1 + d.uniform(5), d.normal(5), 0.01, 0.3

    def layer(h: np.ndarray, w: np.ndarray) -> np.ndarray:
        """Channels last; rows of unit length."""
        return h @ (w / np.sqrt((w.astype(np.float64) ** 2).sum(1, keepdims=True))).T

    def answer(stats: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, list[np.ndarray]]:
        """The variances, and what the two norms saw; by the batch's own statistics where none are given."""
        h, seen = np.moveaxis(x, 1, 3).astype(np.float64), []
        for k, w in enumerate((first, second)):
            h = layer(h, w)
            seen.append(h)
            mean, var = stats[k] if stats else (h.mean((0, 1, 2)), h.var((0, 1, 2)))
            h = (h - mean) / np.sqrt(var + eps)
            h = np.maximum(h * scale + shift, 0) if k == 0 else gamma * h + beta
        return np.moveaxis(1 / (1 + 1 / (np.exp(h) + 1e-6)), 3, 1), seen

    train, seen = answer([])
    stats = [(momentum * h.mean((0, 1, 2)), 1 - momentum + momentum * h.var((0, 1, 2), ddof=1)) for h in seen]
    return {
        "in_x": x, "in_fc1": first, "in_fc2": second, "in_bn1_weight": scale, "in_bn1_bias": shift,
        "in_gamma": np.float32([gamma]), "in_beta": np.float32([beta]), "out_var_train": train,
        "out_var_eval": answer(stats)[0],
        **{f"out_running_{name}{k + 1}": s for k, pair in enumerate(stats) for name, s in zip(("mean", "var"), pair)},
        "hyper": {"bn_eps": eps, "bn_momentum": momentum},
    }  # fmt: skip
