"""Our own recordings of USRN, label noise suppression, ELN and MLLC; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import VOID, Draw, ce_of, exact, gradients, mean_ce, mixed, resized, variant
from scipy import ndimage
from torch import Tensor

REJECTED = 255  # what ELN's pseudo-labels have where they are not believed


# ---- USRN and label noise suppression ----


@variant("usrn_losses")
def usrn(d: Draw) -> dict[str, Any]:
    """Maps at half their size, other weights, a class with a single subclass."""
    split, size, tau, of_sub, of_u = (2, 1, 3, 2), (9, 14), 0.6, 0.5, 2.0
    c, s = len(split), sum(split)
    parent = torch.tensor([k for k, n in enumerate(split) for _ in range(n)])
    names = ("in_logits_l", "in_logits_weak", "in_logits_strong")
    given = {name: d.logits(3, c + s, *size) for name in names}
    given |= {"in_label": d.label(c, 3, *size), "in_label_sub": d.label(s, 3, *size), "in_split": np.array(split)}

    def pooled(t: Tensor) -> Tensor:
        return sum(t[..., i:8:2, j:14:2] for i in (0, 1) for j in (0, 1)) / 4

    def spread(p: Tensor) -> Tensor:
        return -(p * p.log()).sum(1) / np.log(p.shape[1])

    weak = exact(given["in_logits_weak"])[0]
    p, q = pooled(weak)[:, :c].softmax(1), pooled(weak)[:, c:].softmax(1)
    sub = q.argmax(1)
    gate = (parent[sub][:, None] == torch.arange(c)[:, None, None]) | (spread(q) > spread(p))[:, None]
    chosen = (p * gate).max(1)

    def terms(z: Tensor, strong: Tensor) -> dict[str, Tensor]:
        half = pooled(strong)
        return {
            "sup": mean_ce(z[:, :c], given["in_label"]),
            "sup_sub": mean_ce(z[:, c:], given["in_label_sub"]),
            "unsup_sub": (ce_of(half[:, c:], sub) * (q.amax(1) > tau)).mean(),
            "unsup_reg": (ce_of(half[:, :c], chosen.indices) * (chosen.values > tau)).mean(),
        }

    def total(*pair: Tensor) -> Tensor:
        of = terms(*pair)
        return of["sup"] + of_sub * of["sup_sub"] + of_sub * of_u * of["unsup_sub"] + of_u * of["unsup_reg"]

    pair = (given["in_logits_l"], given["in_logits_strong"])
    value, on_l, on_strong = gradients(total, *pair)
    answers = {f"out_{name}": term for name, term in terms(*exact(*pair)).items()} | {"out_total": value}
    answers |= {"out_grad_logits_l": on_l, "out_grad_logits_strong": on_strong}
    answers |= {"out_grad_logits_weak": torch.zeros_like(weak), "out_entropy_parent": spread(weak[:, :c].softmax(1))}
    hyper = {
        "num_classes": c, "num_subclasses": s, "pos_thresh": tau, "downsample": True, "loss_weight_subcls": of_sub,
        "loss_weight_unsup": of_u, "ignore_index": VOID,
    }  # fmt: skip
    return given | answers | {"out_entropy_sub": spread(weak[:, c:].softmax(1)), "hyper": hyper}


@variant("ssl_denoising_cow_mask")
def cow(d: Draw) -> dict[str, Any]:
    """Filtered by SciPy; the last kernel is wider than the map."""
    found: dict[str, Any] = {}
    for k, (size, sigma, offset) in enumerate((((21, 34), 1.7, 0.0), ((17, 12), 3.2, 0.4), ((9, 14), 5.0, -0.3))):
        noise = d.uniform(*size)
        blots = ndimage.gaussian_filter(noise.astype(np.float64), sigma, mode="reflect", truncate=4.0)
        found |= {f"in_noise_{k}": noise, f"in_sigma_{k}": np.array(sigma), f"in_offset_{k}": np.array(offset)}
        found[f"out_mask_{k}"] = (blots < blots.mean() + offset * blots.std()).astype(np.uint8)
    return found


@variant("ssl_denoising_unsup_step")
def unsupervised_step(d: Draw) -> dict[str, Any]:
    """Three pairs, a gradient that is clipped, another scale."""
    c, scale, lr, momentum, decay, most, ema = 4, 2.0, 0.1, 0.8, 1e-2, 0.05, 0.9
    images, mask = d.uniform(6, 3, 9, 11), d.box(3, 9, 11)[:, None]
    nets = {name: (d.normal(c, 3, 3, 3), d.normal(c)) for name in ("student", "teacher", "ema")}

    def logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return scale * F.conv2d(x, weight, bias, padding=1)

    (x,) = exact(images)
    label = logits(x, *exact(*nets["teacher"])).argmax(1)
    w = logits(x, *exact(*nets["student"])).softmax(1).gather(1, label[:, None])[:, 0]
    inside = exact(mask[:, 0])[0]
    x, label, w = (mixed(inside, t[0::2], t[1::2]) for t in (x, label, w))
    loss, *grads = gradients(lambda *net: (w * ce_of(logits(x, *net), label)).mean(), *nets["student"])
    norm = torch.cat([g.flatten() for g in grads]).norm()
    assert norm > most
    answers = {"out_mixed_images": x[:2], "out_label": label, "out_weight": w, "out_loss": loss}
    for key, before, average, grad in zip(("weight", "bias"), exact(*nets["student"]), exact(*nets["ema"]), grads):
        step = grad * most / (norm + 1e-6) + decay * before
        after = before - lr * (step + momentum * step)  # the first step: its momentum is the step itself
        answers |= {f"out_student_{key}": after, f"out_ema_{key}": ema * average + (1 - ema) * after}
    given = {f"in_{name}_{key}": value for name, net in nets.items() for key, value in zip(("weight", "bias"), net)}
    hyper = {
        "num_classes": c, "lr": lr, "momentum": momentum, "nesterov": True, "weight_decay": decay,
        "grad_clip_norm": most, "ema": ema, "logit_scale": scale,
    }  # fmt: skip
    return given | {"in_images": images, "in_cow_mask": mask.astype(np.uint8)} | answers | {"hyper": hyper}


# ---- ELN ----


@variant("eln_aux_constraint")
def held_back(d: Draw) -> dict[str, Any]:
    """Three decoders with other multiples."""
    z, y, main, multiples = (
        d.logits(3, 2, 4, 4, 6),
        d.label(4, 2, 9, 14),
        np.float32([0.0, 0.1, 0.4, 0.9, 3.0]),
        (2, 7, 30),
    )
    own = torch.stack([mean_ce(resized(part, (9, 14)), y) for part in exact(z)[0]])
    held = [sum(float(c) for c, m in zip(own, multiples) if c >= m * first) for first in main.tolist()]
    assert len(set(held)) > 3, "each decoder stops at another loss"
    return {
        "in_aux_logits": z, "in_label": y, "in_main_loss": main, "out_ce": own, "out_loss": np.array(held),
        "hyper": {"multiples": multiples, "ignore_index": VOID},
    }  # fmt: skip


@variant("eln_corrector_loss")
def localiser(d: Draw) -> dict[str, Any]:
    """Void pixels are wrong whatever is said."""
    z, y, e = d.logits(3, 4, 5, 8), d.label(4, 3, 9, 14), d.normal(3, 1, 5, 8)
    right = resized(exact(z)[0], (9, 14)).argmax(1).numpy() == y
    factor = right.sum() / (~right).sum()

    def loss(e: Tensor) -> Tensor:
        p = resized(e, (9, 14))[:, 0].sigmoid()
        return -torch.where(torch.from_numpy(right), p.log(), factor * (1 - p).log()).mean()

    value, grad = gradients(loss, e)
    return {
        "in_cls_logits": z, "in_label": y, "in_eln_logit": e, "out_loss": value, "out_grad_eln_logit": grad,
        "out_target": right.astype(np.uint8), "hyper": {"num_classes": 4, "ignore_index": VOID},
    }  # fmt: skip


@variant("eln_pseudo_loss")
def believed(d: Draw) -> dict[str, Any]:
    z, t, e = d.logits(3, 5, 6, 11), d.logits(3, 5, 6, 11), d.normal(3, 1, 6, 11)
    valid = e[:, 0] > 0
    label = np.where(valid, t.argmax(1), REJECTED)
    loss, grad = gradients(lambda z: mean_ce(z, label, REJECTED), z)
    return {
        "in_student_logits": z, "in_teacher_logits": t, "in_eln_logit": e, "out_valid": valid.astype(np.uint8),
        "out_pseudo_label": label, "out_loss": loss, "out_grad_student": grad, "hyper": {"num_classes": 5},
    }  # fmt: skip


@variant("eln_contrast")
def pair_contrast(d: Draw) -> dict[str, Any]:
    """Another temperature, a class that no pixel has, one of which no pixel is valid."""
    query, key, label = d.normal(2, 5, 4, 7), d.normal(2, 5, 4, 7), d.classes(4, 2, 4, 7)
    label = np.where(label == 1, 4, label)
    valid = (d.uniform(2, 4, 7) < 0.7) & (label != 2)

    def flat(f: Tensor) -> Tensor:
        return torch.stack([f[b, :, i, j] / f[b, :, i, j].norm() for b, i, j in np.ndindex(2, 4, 7) if valid[b, i, j]])

    def loss(key: Tensor, label: np.ndarray) -> Tensor:
        q, k, y = flat(exact(query)[0]), flat(key), label[valid]
        total, present = 0.0, np.unique(y)
        for c in present:
            from_c = (q[y == c] @ k.mT / 0.3).exp()
            positive, negative = from_c[:, y == c].sum(), from_c[:, y != c].sum().clamp(min=1e-8)
            total = total + (1 + negative / positive).log() / (y == c).sum()
        return total / len(present)

    value, grad = gradients(lambda key: loss(key, label), key)
    alone = loss(exact(key)[0], np.zeros_like(label))
    assert alone < 1e-8, "1 + 1e-8 / P is 1 in float32"
    return {
        "in_teacher_feat": query, "in_student_feat": key, "in_label": label, "in_valid": valid.astype(np.uint8),
        "out_loss": value, "out_grad_student": grad, "out_loss_single_class": np.zeros(()),
        "hyper": {"temperature": 0.3, "dim": 5},
    }  # fmt: skip


# ---- MLLC ----


@variant("mllc_graph")
def semantic_graph(d: Draw) -> dict[str, Any]:
    """Two images, fewer neighbours, another level."""
    z, f, often, most, level = d.logits(2, 4, 5, 7), d.normal(2, 12, 5, 7), 1 + 9 * d.uniform(4), 6, 0.9
    graphs = []
    for image in f.astype(np.float64):
        pixels = [image[:, i, j] / np.linalg.norm(image[:, i, j]) for i, j in np.ndindex(5, 7)]
        a = np.array([[max(p @ q, 0.0) for q in pixels] for p in pixels])
        for row in a:
            row[row < sorted(row)[-most - 1]] = 0
        a = a + a.T
        degree = a.sum(1)
        graphs.append(a / np.sqrt(degree[:, None] * degree))
    graph = torch.from_numpy(np.stack(graphs))
    sure, found = exact(z)[0].softmax(1).max(1)
    settled = (sure >= level) | (sure >= level * exact(often / often.max())[0][found])
    assert (settled & (sure < level)).any() and not settled.all()

    def out(z: Tensor) -> Tensor:
        new = (z.flatten(2) @ graph.mT).view_as(z)
        return torch.where(settled[:, None], 0.2 * new + 0.8 * z, 0.8 * new + 0.2 * z)

    _, grad = gradients(lambda z: out(z).square().mean(), z)
    return {
        "in_logits": z, "in_feat": f, "in_class_weight": often, "out_logits": out(exact(z)[0]),
        "out_confident": settled, "out_grad_logits": grad,
        "hyper": {"num_classes": 4, "feat_dim": 12, "neighbours": most, "conf": level},
    }  # fmt: skip
