"""Our own recordings of whole steps; see `other_recordings`."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import Draw, ce_of, exact, gradients, hard_ce, mean_ce, mixed, resized, variant
from torch import Tensor

SIZE = (9, 14)
KEYS = ("x", "u_w", "u_w_mix", "u_s1", "u_s2", "u_w_fp")


def weak_to_strong(d: Draw, keys: tuple[str, ...], classes: int = 4, batch: int = 3) -> dict[str, np.ndarray]:
    """Inputs of a step of FixMatch and its successors."""
    streams = ("",) if "u_s" in keys else ("1", "2")
    return {
        **{f"in_logits_{key}": d.logits(batch, classes, *SIZE) for key in keys},
        "in_mask_x": d.label(classes, batch, *SIZE, void=255),
        **{f"in_ignore_mask{mix}": d.padding(batch, *SIZE) for mix in ("", "_mix")},
        **{f"in_cutmix_box{k}": d.box(batch, *SIZE) for k in streams},
    }


def sure_ce(z: Tensor, target: Tensor, sure: Tensor, counts: Tensor) -> Tensor:
    """Sum over sure pixels that count, divided by the number of those that count."""
    return (ce_of(z, target, 255) * sure * counts).sum() / counts.sum()


class Pasted:
    """Confidence, label and what counts of the unlabelled images: their own, and with the box of stream k."""

    def __init__(self, given: dict[str, np.ndarray], p_w: Tensor, p_mix: Tensor | None, names: tuple[str, ...]) -> None:
        self.c, self.y = p_w.max(1)
        self.counts = torch.from_numpy(given["in_ignore_mask"] != 255).double()
        self.of: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for name in names:
            box = exact(given[f"in_cutmix_box{name}"])[0]
            if p_mix is None:  # the partner is the mirrored batch
                other = (self.c.flip(0), self.y.flip(0), self.counts.flip(0))
            else:
                other = (*p_mix.max(1), torch.from_numpy(given["in_ignore_mask_mix"] != 255).double())
            self.of[name] = tuple(mixed(box, o, own) for o, own in zip(other, (self.c, self.y, self.counts)))


def criterion(z: Tensor, y: Any, hyper: dict[str, Any]) -> Tensor:
    spec = hyper["labelled_criterion"]
    return hard_ce(z, y, spec["thresh"], spec["min_kept"], 255) if isinstance(spec, dict) else mean_ce(z, y, 255)


def hyper_of(name: str, tau: float) -> dict[str, Any]:
    """Of a step with the plain or with the hard cross entropy."""
    hard = {"name": "ProbOhemCrossEntropy2d", "thresh": 0.4, "min_kept": 70}
    plain = "CrossEntropyLoss(ignore_index=255), mean over valid pixels"
    return {"conf_thresh": tau, "labelled_criterion": hard if name.endswith("ohem") else plain}


@variant("fixmatch_step", "fixmatch_step_ohem")
def fixmatch_step(d: Draw, name: str) -> dict[str, Any]:
    given, hyper = weak_to_strong(d, ("x", "u_w", "u_w_mix", "u_s")), hyper_of(name, 0.7)
    given |= {"in_img_u_s": d.normal(3, 3, *SIZE), "in_img_u_s_mix": d.normal(3, 3, *SIZE)}
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("",))
    c, y, counts = own.of[""]
    l_s = lambda z: sure_ce(z, y, c >= 0.7, counts)  # noqa: E731
    l_x = lambda z: criterion(z, given["in_mask_x"], hyper)  # noqa: E731
    total, g_x, g_s = gradients(lambda x, s: (l_x(x) + l_s(s)) / 2, given["in_logits_x"], given["in_logits_u_s"])
    return given | {
        "out_loss": total, "out_loss_x": l_x(exact(given["in_logits_x"])[0]),
        "out_loss_u_s": l_s(exact(given["in_logits_u_s"])[0]),
        "out_mask_ratio": ((own.c >= 0.7) * own.counts).sum() / own.counts.sum(),
        "out_img_u_s_mixed": mixed(*exact(given["in_cutmix_box"], given["in_img_u_s_mix"], given["in_img_u_s"])),
        "out_target": y, "out_conf": c, "out_ignore": 255 * (1 - counts), "out_grad_logits_x": g_x,
        "out_grad_logits_u_w": torch.zeros_like(g_x), "out_grad_logits_u_s": g_s,
        "out_forward_modes": np.array([0, 1, 1], np.uint8), "hyper": hyper,
    }  # fmt: skip


def standard(given: dict[str, np.ndarray], own: Pasted, tau: Any) -> list[Any]:
    """The three terms of UniMatch, each a function of its logits."""
    (c_1, y_1, n_1), (c_2, y_2, n_2) = own.of["1"], own.of["2"]
    return [
        lambda z: sure_ce(z, y_1, c_1 >= tau, n_1),
        lambda z: sure_ce(z, y_2, c_2 >= tau, n_2),
        lambda z: sure_ce(z, own.y, own.c >= tau, own.counts),
    ]


@variant("unimatch_step", "unimatch_step_ohem")
def unimatch_step(d: Draw, name: str) -> dict[str, Any]:
    given, hyper = weak_to_strong(d, KEYS, classes=6), hyper_of(name, 0.6)
    given |= {"in_img_u_s1": d.normal(3, 3, *SIZE), "in_img_u_s1_mix": d.normal(3, 3, *SIZE)}
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("1", "2"))
    terms = [lambda z: criterion(z, given["in_mask_x"], hyper), *standard(given, own, 0.6)]
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{key}"] for key in names]
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip((0.5, 0.125, 0.125, 0.25), terms, z)), *leaves)
    return given | {
        "out_loss": total, **{f"out_loss_{k}": f(*exact(z)) for k, f, z in zip(names, terms, leaves)},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)},
        "out_grad_logits_u_w": torch.zeros_like(grads[0]),
        "out_mask_ratio": ((own.c >= 0.6) * own.counts).sum() / own.counts.sum(),
        "out_img_u_s1_mixed": mixed(*exact(given["in_cutmix_box1"], given["in_img_u_s1_mix"], given["in_img_u_s1"])),
        "out_target1": own.of["1"][1], "out_target2": own.of["2"][1], "out_conf1": own.of["1"][0],
        "out_ignore2": 255 * (1 - own.of["2"][2]), "out_forward_modes": np.array([0, 1, 1], np.uint8), "hyper": hyper,
    }  # fmt: skip


@variant("unimatch_v2_step")
def unimatch_v2_step(d: Draw) -> dict[str, Any]:
    """Five images: the partner of the middle one is itself."""
    given = weak_to_strong(d, ("x", "u_w", "u_s1", "u_s2"), batch=5)
    del given["in_ignore_mask_mix"]
    given |= {f"in_img_u_s{k}": d.normal(5, 3, *SIZE) for k in "12"}
    own = Pasted(given, exact(given["in_logits_u_w"])[0].softmax(1), None, ("1", "2"))
    terms = [lambda z: mean_ce(z, given["in_mask_x"], 255), *standard(given, own, 0.75)[:2]]
    names = ("x", "u_s1", "u_s2")
    leaves = [given[f"in_logits_{key}"] for key in names]
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip((0.5, 0.25, 0.25), terms, z)), *leaves)
    images = {k: exact(given[f"in_img_u_s{k}"])[0] for k in "12"}
    return given | {
        "out_loss": total, **{f"out_loss_{k}": f(*exact(z)) for k, f, z in zip(names, terms, leaves)},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)},
        "out_grad_logits_u_w": torch.zeros_like(grads[0]),
        **{f"out_img_u_s{k}_mixed": mixed(*exact(given[f"in_cutmix_box{k}"]), x.flip(0), x) for k, x in images.items()},
        "out_target1": own.of["1"][1], "out_target2": own.of["2"][1], "out_conf1": own.of["1"][0],
        "out_ignore1": 255 * (1 - own.of["1"][2]),
        "out_mask_ratio": ((own.c >= 0.75) * own.counts).sum() / own.counts.sum(), "hyper": {"conf_thresh": 0.75},
    }  # fmt: skip


@variant("prevmatch_step", "prevmatch_step_pixelavg")
def prevmatch_step(d: Draw, name: str) -> dict[str, Any]:
    """An odd number of epochs, of which the second half is longer."""
    average, epoch, epochs = name.endswith("avg"), 9, 13
    strength = 1 - (epoch - 6) / 7
    given, k = weak_to_strong(d, KEYS), 2
    given |= {"in_img_u_s1": d.normal(3, 3, *SIZE), "in_img_u_s1_mix": d.normal(3, 3, *SIZE)}
    given |= {"in_logits_prev": d.logits(k, 6, 4, *SIZE), "in_prev_weights": np.float32([0.3, 0.7])}
    given |= {"in_idx_selected": np.array([3, 1]), "in_num_drawn": np.uint8(4), "in_lambda": np.float32(strength)}
    e = sum(w * z for w, z in zip((0.3, 0.7), exact(given["in_logits_prev"])[0]))
    p_w, p_mix = (exact(given[f"in_logits_{key}"])[0].softmax(1) for key in ("u_w", "u_w_mix"))
    own, past = Pasted(given, p_w, p_mix, ("1", "2")), Pasted(given, e[:3].softmax(1), e[3:].softmax(1), ("1", "2"))
    guided = standard(given, past, 0.8)
    if average:  # the whole batch's loss times the sum of the images' mean confidences

        def averaged(c: Tensor, y: Tensor, n: Tensor) -> Any:
            share = ((c * n).sum((1, 2)) / n.sum((1, 2))).sum()
            return lambda z: ce_of(z, y, 255).sum() * share / n.sum()

        guided = [averaged(*past.of["1"]), averaged(*past.of["2"]), averaged(past.c, past.y, past.counts)]
    usual, weights = standard(given, own, 0.9), (0.25, 0.25, 0.5)
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{key}"] for key in names]

    def sum_of(terms: list[Any], z: tuple[Tensor, ...]) -> Tensor:
        return sum(w * f(a) for w, f, a in zip(weights, terms, z))

    def loss(x: Tensor, *z: Tensor) -> Tensor:
        first = mean_ce(x, given["in_mask_x"], 255) + sum_of(usual, z)
        return (first + strength * sum_of(guided, z)) / (2 + strength)

    total, *grads = gradients(loss, *leaves)
    x, *z = exact(*leaves)
    return given | {
        "out_loss": total, "out_loss_x": mean_ce(x, given["in_mask_x"], 255), "out_loss_standard": sum_of(usual, z),
        **{f"out_loss_{key}_prev": f(a) for key, f, a in zip(names[1:], guided, z)}, "out_logits_prev_ensemble": e[:3],
        "out_target1_prev": past.of["1"][1], "out_conf1_prev": past.of["1"][0], "out_conf_prev": past.c,
        "out_img_u_s1_mixed": mixed(*exact(given["in_cutmix_box1"], given["in_img_u_s1_mix"], given["in_img_u_s1"])),
        **{f"out_grad_logits_{key}": g for key, g in zip(names, grads)},
        "hyper": {
            "conf_thresh": 0.9, "prev_conf_thresh": 0.8, "prev_conf_mode": "pixelavg" if average else "pixelwise",
            "K": 4, "list_len": 6, "epoch": epoch, "total_epochs": epochs,
        },
    }  # fmt: skip


@variant("daw_step")
def daw_step(d: Draw) -> dict[str, Any]:
    given, classes, m = weak_to_strong(d, KEYS), 4, 0.8
    given["in_label_ignore"] = np.where(given["in_mask_x"] == 255, 255, 0).astype(np.uint8)
    given["in_label_ignore"][0, :2] = 255
    x, w, mix = (exact(given[f"in_logits_{key}"])[0].softmax(1) for key in ("x", "u_w", "u_w_mix"))
    known = given["in_label_ignore"] != 255
    counts = np.concatenate([given["in_ignore_mask"], given["in_ignore_mask_mix"]]) != 255
    even = np.full(classes, 1 / classes)
    a, b = class_confidence(x, known, even, m), class_confidence(torch.cat([w, mix]), counts, even, m)
    scale = torch.from_numpy(a / b)[:, None, None]
    p_w, p_mix = ((p * scale) / (p * scale).sum(1, keepdim=True) for p in (w, mix))
    conf, says = x.max(1)
    right = says.numpy() == given["in_mask_x"]
    groups = [conf.numpy()[right & known], conf.numpy()[~right & known]]
    mean = [m / classes + (1 - m) * g.mean() for g in groups]
    var = [m * 0.5 + (1 - m) * g.var(ddof=1) for g in groups]
    tau = crossing(mean, var, classes, 0.95)
    own = Pasted(given, p_w, p_mix, ("1", "2"))
    label = np.where(known, given["in_mask_x"], 255)
    terms = [lambda z: mean_ce(z, label, 255), *standard(given, own, tau)]
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{key}"] for key in names]
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip((0.5, 0.125, 0.125, 0.25), terms, z)), *leaves)
    return given | {
        "out_threshold": tau, "out_prob_x": a, "out_prob_u": b, "out_target1": own.of["1"][1],
        "out_conf1": own.of["1"][0], "out_loss": total,
        **{f"out_loss_{k}": f(*exact(z)) for k, f, z in zip(names, terms, leaves)},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)}, "hyper": {"ema": m, "first_step": True},
    }  # fmt: skip


def class_confidence(p: Tensor, counts: np.ndarray, before: np.ndarray, momentum: float) -> np.ndarray:
    """Averaged mean confidence of the pixels that are predicted as each class."""
    (c, y), after = p.max(1), before.copy()
    for k in range(len(before)):
        here = (y.numpy() == k) & counts
        if here.any():
            after[k] = momentum * before[k] + (1 - momentum) * c.numpy()[here].mean()
    return after


def crossing(mean: list[float], var: list[float], classes: int, before: float, alpha: float = 1.0) -> float:
    """Where two Gaussians are equal, the root of +sqrt(D)."""
    (u, v), (s, t) = mean, np.sqrt(var)
    a, b = s**2 - t**2, 2 * (u * t**2 - v * s**2)
    c = (v * s) ** 2 - (u * t) ** 2 + 2 * (s * t) ** 2 * np.log(t / (alpha * s) + 1e-8)
    disc = b**2 - 4 * a * c
    return float(np.clip((-b + np.sqrt(disc)) / (2 * a + 1e-10), 1 / classes, 1)) if disc > 0 else before


@variant("daw_threshold")
def daw_threshold(d: Draw) -> dict[str, Any]:
    """In the last step there are few right pixels."""
    z, y, m = d.logits(4, 3, 5, *SIZE), d.label(5, 4, 3, *SIZE, void=255), 0.7
    ignore = np.where(y == 255, 255, 0).astype(np.uint8)
    y[2] = np.where(y[2] == 255, 255, z[2].argmax(1))  # all right: the other group keeps its mean
    mean, var, tau, rows = [0.3, 0.2], [0.4, 0.3], 0.9, []
    for logits, label in zip(z, y):
        c, says = exact(logits)[0].softmax(1).max(1)
        right, known = says.numpy() == label, label != 255
        for i, group in enumerate((c.numpy()[right & known], c.numpy()[~right & known])):
            if len(group) >= 20:
                mean[i] = m * mean[i] + (1 - m) * group.mean()
                var[i] = m * var[i] + (1 - m) * group.var(ddof=1)
        tau = crossing(mean, var, 5, tau, 1.3)
        rows.append((tau, [mean[0], var[0] ** 0.5], [mean[1], var[1] ** 0.5]))
    init = {"pos_mean": 0.3, "neg_mean": 0.2, "pos_var": 0.4, "neg_var": 0.3, "thr": 0.9}
    out = dict(zip(("out_threshold", "out_pos", "out_neg"), map(np.array, zip(*rows))))
    hyper = {"num_classes": 5, "ema": m, "alpha": 1.3, "init": init, "min_count": 20}
    return {"in_logits": z, "in_target": y, "in_ignore": ignore, **out, "hyper": hyper}


@variant("daw_align")
def daw_align(d: Draw) -> dict[str, Any]:
    z_x, z_u, m = d.logits(3, 3, 5, *SIZE), d.logits(3, 4, 5, *SIZE), 0.75
    ignored = [np.stack([d.padding(n, *SIZE) for _ in range(3)]) for n in (3, 4)]
    a = b = np.full(5, 0.35)
    rows = []
    for x, u, i_x, i_u in zip(z_x, z_u, *ignored):
        p_x, p_u = (z.softmax(1) for z in exact(x, u))
        a, b = class_confidence(p_x, i_x != 255, a, m), class_confidence(p_u, i_u != 255, b, m)
        q = p_u * torch.from_numpy(a / b)[:, None, None]
        rows.append((a, b, (q / q.sum(1, keepdim=True)).numpy()))
    out = dict(zip(("out_prob_x", "out_prob_u", "out_aligned"), map(np.stack, zip(*rows))))
    return {
        "in_logits_x": z_x, "in_logits_u": z_u, "in_ignore_x": ignored[0], "in_ignore_u": ignored[1], **out,
        "hyper": {"num_classes": 5, "ema": m, "init": 0.35},
    }  # fmt: skip


@variant("corrmatch_threshold")
def corrmatch_threshold(d: Draw) -> dict[str, Any]:
    z, ignore = d.logits(4, 3, 5, *SIZE), np.stack([d.padding(3, *SIZE) for _ in range(4)])
    ignore[1] = 255
    tau, means, taus = 0.7, [], []
    for logits, mask in zip(z, ignore):
        c, y = (t.numpy() for t in exact(logits)[0].softmax(1).max(1))
        found = [c[(y == k) & (mask != 255)].max() for k in range(5) if ((y == k) & (mask != 255)).any()]
        means.append(np.mean(found) if found else -1.0)
        tau = 0.9 * tau + 0.1 * means[-1] if found else tau
        taus.append(tau)
    return {
        "in_logits": z, "in_ignore_mask": ignore, "out_new_global": np.array(means), "out_threshold": np.array(taus),
        "hyper": {"momentum": 0.9, "thresh_init": 0.7},
    }  # fmt: skip


@variant("corrmatch_step")
def corrmatch_step(d: Draw) -> dict[str, Any]:
    keys, batch, maps = ("x", "u_w", "u_w_mix", "u_w_fp", "u_s"), 3, 7
    given = weak_to_strong(d, keys) | {f"in_logits_{k}_corr": d.logits(batch, 4, *SIZE) for k in ("x", "u_w", "u_s")}
    given["in_corr_map"] = np.stack([d.box(maps + 1, *SIZE)[:-1] for _ in range(batch)]).astype(np.uint8)
    given["in_threshold_before"] = np.float32(0.3)
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("",))
    conf, cut, counts = own.of[""]
    found = [own.c[(own.y == k) & (counts > 0)].max() for k in range(4) if ((own.y == k) & (counts > 0)).any()]
    tau = 0.3 * 0.95 + 0.05 * float(torch.stack(found).mean())
    sure = (conf >= tau) & (counts > 0)
    target, wide = cut.clone(), sure.clone()
    box = torch.from_numpy(given["in_cutmix_box"]) == 1
    for b in range(batch):
        for shape in torch.from_numpy(given["in_corr_map"][b]) == 1:
            region = shape & ~box[b] & (counts[b] > 0)
            trusted = region & sure[b]
            if not trusted.any() or trusted.sum() / region.sum() < tau:
                continue
            number = torch.bincount(target[b][trusted], minlength=4)
            if number.max() / trusted.sum() > tau:
                target[b][region] = number.argmax()
                wide[b] |= region
    label, unpasted = given["in_mask_x"], (own.c >= tau)
    kl = lambda z: ((p_w * (p_w.log() - z.log_softmax(1))).sum(1) * sure).sum() / counts.sum()  # noqa: E731
    terms = {
        "x": (0.25, lambda z: mean_ce(z, label, 255), "x"),
        "x_corr": (0.25, lambda z: mean_ce(z, label, 255), "x_corr"),
        "u_s": (0.125, lambda z: sure_ce(z, target, wide, counts), "u_s"),
        "u_kl": (0.125, kl, "u_s"),
        "u_w_fp": (0.125, lambda z: sure_ce(z, own.y, unpasted, own.counts), "u_w_fp"),
        "u_corr_s": (0.0625, lambda z: sure_ce(z, target, wide, counts), "u_s_corr"),
        "u_corr_w": (0.0625, lambda z: sure_ce(z, own.y, unpasted, own.counts), "u_w_corr"),
    }
    names = ("x", "u_w", "u_w_fp", "u_s", "x_corr", "u_w_corr", "u_s_corr")
    leaves = [given[f"in_logits_{k}"] for k in names]
    total, *grads = gradients(lambda *z: sum(w * f(z[names.index(k)]) for w, f, k in terms.values()), *leaves)
    value = {k: f(exact(given[f"in_logits_{of}"])[0]) for k, (_, f, of) in terms.items()}
    return given | {
        "out_threshold": np.float32(tau), "out_target_cutmixed": cut, "out_target_propagated": target,
        "out_conf_mask": sure, "out_conf_mask_propagated": wide, "out_loss": total,
        **{f"out_loss_{k}": v for k, v in value.items()},
        "out_loss_u_corr": (value["u_corr_s"] + value["u_corr_w"]) / 2,
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)}, "hyper": {"momentum": 0.95, "thresh_init": 0.85},
    }  # fmt: skip


def ranking_term(weak: Tensor, strong: Tensor, chosen: Tensor, k: int) -> Tensor:
    """KL of the rankings of the agents; features (B, D, h, w), agents at the positions (B, M)."""
    f_w, f_s = (f.flatten(2).transpose(1, 2) for f in (weak, strong))
    rows = torch.arange(len(f_w))[:, None]
    p_w, p_s = ((f @ f[rows, chosen].transpose(1, 2)).softmax(2) for f in (f_w, f_s))
    return rank_kl(p_w, p_s, k)


def rank_kl(p_w: Tensor, p_s: Tensor, k: int) -> Tensor:
    top = p_w.topk(k, -1).indices
    r_w, r_s = (orderings(p.gather(-1, top)) for p in (p_w, p_s))
    return (r_w * (r_w.log() - (r_s + 1e-10).log())).mean()


def orderings(g: Tensor) -> Tensor:
    """(..., k!) Plackett-Luce probabilities of all orders of k values."""
    found = []
    for order in permutations(range(g.shape[-1])):
        p = 1.0
        for j in range(len(order)):
            p = p * g[..., order[j]] / (sum(g[..., order[i]] for i in range(j, len(order))) + 1e-10)
        found.append(p)
    return torch.stack(found, -1)


def agents(weak: Tensor, number: int, first: np.ndarray) -> Tensor:
    """(B, M) positions, in the order of space: each the one most unlike all before."""
    rows = []
    for f, start in zip(weak.flatten(2).transpose(1, 2), first):
        unit = F.normalize(f, dim=1)
        chosen = [int(start)]
        while len(chosen) < number:
            like = (unit @ unit[chosen].T).abs().amax(1)
            like[chosen] = 9
            chosen.append(int(like.argmin()))
        rows.append(sorted(chosen))
    return torch.tensor(rows)


@variant("rankmatch_agents")
def rankmatch_agents(d: Draw) -> dict[str, Any]:
    w, s, first = d.normal(3, 6, 5, 8), d.normal(3, 6, 5, 8), d.classes(40, 3)
    chosen = agents(exact(w)[0], 11, first)
    rows = torch.arange(3)[:, None]
    a_w, a_s = (f.flatten(2).transpose(1, 2)[rows, chosen] for f in exact(w, s))
    return {
        "in_feat_w": w, "in_feat_s": s, "in_idx_first": first, "out_idx_agents": chosen, "out_agents_w": a_w,
        "out_agents_s": a_s, "hyper": {"num_agents": 11},
    }  # fmt: skip


@variant("rankmatch_corrloss")
def rankmatch_corrloss(d: Draw) -> dict[str, Any]:
    w, s, first = d.normal(3, 6, 5, 8, scale=0.5), d.normal(3, 6, 5, 8, scale=0.5), d.classes(40, 3)
    (weak,) = exact(w)
    loss, grad = gradients(lambda s: ranking_term(weak, s, agents(weak, 9, first), 3), s)
    return {
        "in_feat_w": w, "in_feat_s": s, "in_idx_first": first, "out_loss": loss, "out_grad_feat_s": grad,
        "hyper": {"num_agents": 9, "k": 3},
    }  # fmt: skip


@variant("rankmatch_prob2rank")
def rankmatch_prob2rank(d: Draw) -> dict[str, Any]:
    p_w, z = exact(d.logits(3, 4, 6, 7))[0].softmax(-1).float().numpy(), d.normal(3, 4, 6, 7)
    (p,) = exact(p_w)
    top = p.topk(3, -1).indices
    loss, grad = gradients(lambda z: rank_kl(p, z.softmax(-1), 3), z)
    return {
        "in_prob_w": p_w, "in_student_scores": z, "out_perms": np.array(list(permutations(range(3)))),
        "out_rank_w": orderings(p.gather(-1, top)), "out_rank_s": orderings(exact(z)[0].softmax(-1).gather(-1, top)),
        "out_loss": loss, "out_grad_scores": grad, "hyper": {"k": 3},
    }  # fmt: skip


@variant("rankmatch_step")
def rankmatch_step(d: Draw) -> dict[str, Any]:
    given, grid = weak_to_strong(d, KEYS), (5, 8)
    given |= {f"in_feat_{k}": d.normal(3, 6, *grid, scale=0.5) for k in ("u_w", "u_w_mix", "u_s1", "u_s2")}
    given |= {f"in_idx_first{k}": d.classes(40, 3) for k in "12"}
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("1", "2"))
    large = [resized(exact(given[f"in_feat_{k}"])[0], SIZE) for k in ("u_w_mix", "u_w")]
    pasted = {k: resized(mixed(exact(given[f"in_cutmix_box{k}"])[0], *large), grid) for k in "12"}
    chosen = {k: agents(pasted[k], 12, given[f"in_idx_first{k}"]) for k in "12"}
    terms = [lambda z: mean_ce(z, given["in_mask_x"], 255), *standard(given, own, 0.55)]
    terms += [lambda f, k=k: ranking_term(pasted[k], f, chosen[k], 3) for k in "12"]
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{k}"] for k in names] + [given[f"in_feat_u_s{k}"] for k in "12"]
    weights = (0.5, 0.125, 0.125, 0.25, 0.2, 0.2)
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip(weights, terms, z)), *leaves)
    losses = zip((*names, "c_s1", "c_s2"), terms, leaves)
    return given | {
        "out_feat_w_pasted1": pasted["1"], "out_loss": total,
        **{f"out_loss_{k}": f(*exact(z)) for k, f, z in losses},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)},
        **{f"out_grad_feat_u_s{k}": g for k, g in zip("12", grads[4:])},
        "out_grad_feat_u_w": torch.zeros_like(grads[4]), "out_grad_logits_u_w": torch.zeros_like(grads[0]),
        "hyper": {"conf_thresh": 0.55, "num_agents": 12, "k": 3, "weight_c": 0.4},
    }  # fmt: skip
