"""Our own recordings of CCVC, CPCL, DSSN, GCT and n-CPS; see `other_recordings`."""

from __future__ import annotations

from itertools import permutations
from math import exp
from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, ce_of, exact, gradients, mean_ce, mixed, variant
from torch import Tensor

SIZE = (8, 11)


def one_hot(y: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([y == k for k in range(classes)], 1).astype(np.float32)


# ---- CCVC ----


@variant("ccvc_conflict_masks")
def ccvc_conflict_masks(d: Draw) -> dict[str, Any]:
    z, tau = [d.normal(3, 4, *SIZE, scale=1.5) for _ in range(2)], 1.3
    conflict = z[0].argmax(1) != z[1].argmax(1)
    sure = [conflict & (logits.max(1) > tau) for logits in z]
    out = {f"out_conflict_confident{k + 1}": s for k, s in enumerate(sure)}
    out |= {f"out_rest{k + 1}": ~s for k, s in enumerate(sure)}
    return {"in_logits1": z[0], "in_logits2": z[1], **out, "hyper": {"threshold": tau}}


@variant("ccvc_losses_noaug")
def ccvc_losses_noaug(d: Draw) -> dict[str, Any]:
    batch, classes, tau, w_ce, w_con, w_dis, confident = 3, 4, 2.0, 3.0, 1.5, 0.5, 2.5
    given = {f"in_{part}{k}": d.logits(batch, classes, *SIZE) for part in ("lab", "unl") for k in "12"}
    given |= {f"in_{part}_feat{k}": d.normal(batch, 5, 4, 6) for part in ("lab", "unl") for k in "12"}
    label, ignore = d.label(classes, batch, *SIZE, void=255), d.padding(batch, *SIZE).astype(np.int64)
    counts = torch.from_numpy(ignore != 255).double()

    def pushed(a: Tensor, b: Tensor) -> Tensor:
        """One of the two stop-gradient sides."""
        b = b.detach()
        return 1 + ((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt()).mean()

    def terms(l1: Tensor, l2: Tensor, u1: Tensor, u2: Tensor, *f: Tensor) -> tuple[Tensor, ...]:
        conflict, con = u1.argmax(1) != u2.argmax(1), 0.0
        for teacher, learner in ((u1, u2), (u2, u1)):
            weight = torch.where(conflict & (teacher.max(1).values > tau), confident, 1.0)
            con = con + (ce_of(learner, teacher.argmax(1)) * weight * counts).sum() / counts.sum() / 2
        dis = sum(pushed(a, b) + pushed(b, a) for a, b in (f[:2], f[2:])) / 4
        return w_ce * (mean_ce(l1, label, 255) + mean_ce(l2, label, 255)) / 2, w_con * con, w_dis * dis

    leaves = list(given.values())
    total, *grads = gradients(lambda *given: sum(terms(*given)), *leaves)
    ce, con, dis = terms(*exact(*leaves))
    hyper = {
        "classes": classes, "conf_threshold": tau, "ignore_value_unlabelled": 255, "mode_confident": "vote_threshold",
        "w_CE": w_ce, "w_con": w_con, "w_confident": confident, "w_dis": w_dis,
    }  # fmt: skip
    return {
        **given, "in_label": label, "in_ignore_mask": ignore,
        "out_loss_CE": ce, "out_loss_con": con, "out_loss_dis": dis, "out_loss": total,
        **{key.replace("in_", "out_grad_"): grad for key, grad in zip(given, grads)}, "hyper": hyper,
    }  # fmt: skip


# ---- CPCL ----


@variant("cpcl_losses")
def cpcl_losses(d: Draw) -> dict[str, Any]:
    batch, classes, weight = 3, 4, 2.5
    keys = [f"{part}_{k}" for k in "12" for part in ("sup", "mix", "u0", "u1")]
    given = {f"in_logit_{key}": d.logits(batch, classes, *SIZE) for key in keys}
    label, m = d.label(classes, batch, *SIZE), d.box(batch, *SIZE)
    z = dict(zip(keys, exact(*given.values())))
    taught = [mixed(exact(m)[0], z[f"u1_{k}"], z[f"u0_{k}"]).softmax(1) for k in "12"]
    (c1, p1), (c2, p2) = (tuple(a.numpy() for a in p.max(1)) for p in taught)
    counts = np.eye(classes)
    for a, b in zip(p1.flatten(), p2.flatten()):
        counts[a, b] += 1
    w = np.array([1 - counts[c, c] / counts[:, c].sum() + 1 - counts[c, c] / counts[c].sum() for c in range(classes)])
    w = w / (w.sum() + 1e-6)
    union, sure = p2.copy(), c2.copy()
    for i in np.ndindex(p1.shape):
        if p1[i] == p2[i]:
            sure[i] = (c1[i] + c2[i]) / 2
        elif w[p1[i]] > w[p2[i]]:
            union[i], sure[i] = p1[i], c1[i]
    inter = np.where(p1 == p2, p1, VOID)
    both, s = torch.from_numpy((c1 + c2) / 2), torch.from_numpy(sure)

    def terms(x1: Tensor, x2: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, ...]:
        sup = mean_ce(x1, label) + mean_ce(x2, label)
        return sup, (ce_of(q1, inter) * both).mean(), (ce_of(q2, union) * s).mean()

    def total(*given: Tensor) -> Tensor:
        sup, l_inter, l_union = terms(*given)
        return sup + weight * (l_inter + l_union)

    names = ("sup_1", "sup_2", "mix_1", "mix_2")
    loss, *grads = gradients(total, *(given[f"in_logit_{name}"] for name in names))
    sup, l_inter, l_union = terms(*(z[name] for name in names))
    return {
        **given, "in_label": label, "in_mask": m[:, None],
        "out_class_disagreement": w, "out_pseudo_intersection": inter, "out_pseudo_union": union,
        "out_confidence_1": c1, "out_confidence_2": c2,
        "out_loss_sup": sup, "out_loss_inter": l_inter, "out_loss_union": l_union, "out_loss": loss,
        **{f"out_grad_{name}": grad for name, grad in zip(names, grads)},
        "hyper": {"classes": classes, "ignore_index": VOID, "unsup_weight": weight},
    }  # fmt: skip


# ---- DSSN ----


def chosen(p: np.ndarray, high: float, keep: float) -> np.ndarray:
    """(B, H, W) pixels that a class takes, image by image."""
    found = np.zeros((len(p), *p.shape[2:]), np.int64)
    for image, mask in zip(p, found):
        for of_class in image:
            best = of_class.max()
            mask += of_class > (keep * best if best > high else best)
    return found


@variant("dssn_adaptive_mask")
def dssn_adaptive_mask(d: Draw) -> dict[str, Any]:
    z = d.normal(3, 5, *SIZE, scale=1.7)
    mask = chosen(exact(z)[0].softmax(1).numpy(), 0.8, 0.9)
    return {"in_logits": z, "out_mask": mask, "hyper": {"high": 0.8, "keep": 0.9}}


@variant("dssn_losses_voc", "dssn_losses_city")
def dssn_losses(d: Draw, name: str) -> dict[str, Any]:
    batch, classes, w_strong, w_siamese, voc = 3, 5, 0.4, 0.3, name.endswith("voc")
    keys = ("w", "tea", "tea_mix", "x", "s1", "s2", "fp", "Fp")
    given = {f"in_logit_{key}": d.normal(batch, classes, *SIZE, scale=4.0) for key in keys}
    label = d.label(classes, batch, *SIZE, void=255)
    ignore, ignore_mix = (d.padding(batch, *SIZE).astype(np.int64) for _ in range(2))
    boxes, tau = [d.box(batch, *SIZE) for _ in range(2)], 0.6
    z = dict(zip(keys, exact(*given.values())))

    def taught(logits: Tensor, counts: np.ndarray) -> tuple[Tensor, Tensor]:
        """Label, and what is kept over what counts."""
        p = logits.softmax(1)
        keep = torch.from_numpy(chosen(p.numpy(), 0.92, 0.96) > 0) if voc else p.max(1).values >= tau
        counts = torch.from_numpy(counts != 255).double()
        return p.argmax(1), keep * counts / counts.sum()

    def pasted(box: np.ndarray) -> tuple[Tensor, Tensor]:
        m = exact(box)[0]
        counts = np.where(box == 1, ignore_mix, ignore)
        return taught(mixed(m, z["tea_mix"], z["tea"]), counts)

    y = {"s1": pasted(boxes[0]), "s2": pasted(boxes[1]), "fp": taught(z["w"], ignore), "Fp": taught(z["w"], ignore)}

    def standard(z: Tensor) -> Tensor:
        centred = z - z.mean(1, keepdim=True)
        return centred / (centred.square().sum(1, keepdim=True) / (classes - 1)).sqrt()

    def terms(x: Tensor, *views: Tensor) -> dict[str, Tensor]:
        of = dict(zip(("s1", "s2", "fp", "Fp"), views))
        found = {key: (ce_of(of[key], y[key][0]) * y[key][1]).sum() for key in of}
        found["siamese_image"] = (standard(of["s1"]) - standard(of["s2"])).square().mean()
        found["siamese_feature"] = (standard(of["fp"]) - standard(of["Fp"])).square().mean()
        return {"x": mean_ce(x, label, 255), **found}

    def total(*given: Tensor) -> Tensor:
        f = terms(*given)
        siamese = f["siamese_image"] + f["siamese_feature"]
        return 0.5 * (f["x"] + w_strong * (f["s1"] + f["s2"] + f["fp"] + f["Fp"]) + w_siamese * siamese)

    loss, *grads = gradients(total, *(given[f"in_logit_{key}"] for key in keys[3:]))
    return {
        **given, "in_label": label, "in_ignore": ignore, "in_ignore_mix": ignore_mix,
        "in_box1": boxes[0], "in_box2": boxes[1],
        "out_loss": loss, **{f"out_loss_{key}": value for key, value in terms(*(z[key] for key in keys[3:])).items()},
        "out_keep_rate": np.float32(0.996), "out_pseudo_mix1": y["s1"][0],
        **{f"out_grad_{key}": grad for key, grad in zip(keys[3:], grads)},
        "hyper": {"classes": classes, "dataset": "voc" if voc else "city", "conf_thresh": None if voc else tau,
                  "scale": 0.5, "w_strong": w_strong, "w_feature": w_strong, "w_siamese": w_siamese,
                  "warm_stage": False},
    }  # fmt: skip


@variant("dssn_update_teacher")
def dssn_update_teacher(d: Draw) -> dict[str, Any]:
    shapes = {"0__weight": (5, 2), "0__bias": (5,), "1__weight": (5,), "1__bias": (5,), "1__running_mean": (5,),
              "1__running_var": (5,)}  # fmt: skip
    keeps, counts = [0.7, 1.0, 0.25], {"student": 9, "teacher": 4}
    state = {who: {name: d.uniform(*shape) for name, shape in shapes.items()} for who in counts}
    given = {f"in_{who}_{name}": value for who, of in state.items() for name, value in of.items()}
    given |= {f"in_{who}_1__num_batches_tracked": np.int64(count) for who, count in counts.items()}
    out = {}
    for k, keep in enumerate(keeps):
        for name in shapes:
            out[f"out_teacher{k}_{name}"] = keep * state["teacher"][name] + (1 - keep) * state["student"][name]
        count = int(keep * counts["teacher"] + (1 - keep) * counts["student"])
        out[f"out_teacher{k}_1__num_batches_tracked"] = np.int64(count)
    return {**given, **out, "hyper": {"keep_rates": keeps}}


# ---- GCT ----


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


# ---- n-CPS ----


@variant("ncps_ensemble")
def ncps_ensemble(d: Draw) -> dict[str, Any]:
    z = d.logits(4, 3, 6, *SIZE)
    p = exact(z)[0].softmax(2)
    out = {"out_single": z[0], "out_soft_voting": p.sum(0), "out_max_confidence_softmax": p.amax(0)}
    return {"in_logits": z, **out, "hyper": {"n": 4}}


@variant("ncps_plain_loss")
def ncps_plain_loss(d: Draw) -> dict[str, Any]:
    """Four networks, a threshold, the constant taken out."""
    n, batch, classes, weight, tau = 4, 3, 4, 0.8, 0.6
    sup, unsup = d.logits(n, batch, classes, *SIZE), d.logits(n, batch, classes, *SIZE)
    y = d.label(classes, batch, *SIZE, void=255)

    def terms(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        both, l_cps = torch.cat([x, u], 1), 0.0
        for i, j in permutations(range(n), 2):
            p = both[j].detach().softmax(1)
            made = torch.where(p.max(1).values > tau, p.argmax(1), 255)
            l_cps = l_cps + mean_ce(both[i], made, 255) / (n - 1)
        return sum(mean_ce(x_i, y, 255) for x_i in x), l_cps

    def total(x: Tensor, u: Tensor) -> Tensor:
        l_sup, l_cps = terms(x, u)
        return l_sup + weight * 2 / n * l_cps

    loss, by_sup, by_unsup = gradients(total, sup, unsup)
    l_sup, l_cps = terms(*exact(sup, unsup))
    return {
        "in_label": y, "in_sup": sup, "in_unsup": unsup, "out_loss_sup": l_sup, "out_loss_cps": l_cps, "out_loss": loss,
        "out_grad_sup": by_sup, "out_grad_unsup": by_unsup,
        "hyper": {"n": n, "cps_weight": weight, "normalising_const": 1, "threshold": tau},
    }  # fmt: skip
