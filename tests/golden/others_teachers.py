"""Our own recordings of Dual Teacher and CTT; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import VOID, Draw, ce_of, exact, gradients, mean_ce, mixed, resized, variant, whole
from torch import Tensor

SIZE = (11, 14)


def plain(x: Tensor, size: Any = SIZE) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


# ---- Dual Teacher ----


@variant("dual_teacher_classmix")
def classmix(d: Draw) -> dict[str, Any]:
    """Three images, whose partners are no swap."""
    t, z, m, p = d.logits(3, 5, 4, 6), d.logits(6, 5, 4, 6), d.box(3, *SIZE), np.array([2, 0, 1])
    label = d.label(5, 3, *SIZE)
    q = plain(exact(t)[0]).softmax(1)
    c, y = mixed(exact(m)[0], q, q[p]).max(1)

    def loss(z: Tensor) -> Tensor:
        big = plain(z)
        return mean_ce(big[:3], label) + (c >= 0.7).double().mean() * ce_of(big[3:], y).mean()

    value, grad = gradients(loss, z)
    return {
        "in_teacher_logits": t, "in_student_logits": z, "in_img": d.uniform(3, 3, *SIZE), "in_label": label,
        "in_class_mask": m.astype(np.int64), "in_shuffle": p, "out_loss": value, "out_grad_student_logits": grad,
        "hyper": {"classes": 5, "threshold": 0.7, "ignore_index": VOID},
    }  # fmt: skip


@variant("dual_teacher_consistency")
def consistency(d: Draw) -> dict[str, Any]:
    t, z, label = d.logits(3, 4, 5, 7), d.logits(3, 4, 5, 7), d.label(4, 3, *SIZE)
    c, y = plain(exact(t)[0]).softmax(1).max(1)
    counts = torch.as_tensor(label) != VOID
    value, grad = gradients(lambda z: (ce_of(plain(z), y) * ((c >= 0.8) & counts)).sum() / counts.sum(), z)
    return {
        "in_teacher_logits": t, "in_student_logits": z, "in_label_u": label, "out_loss": value,
        "out_grad_student_logits": grad,
        "hyper": {"threshold": 0.8, "weight_in_total": 0.7, "ignore_index": VOID},
    }  # fmt: skip


@variant("dual_teacher_cutmix_loss")
def cutmix_loss(d: Draw) -> dict[str, Any]:
    z, y, c = d.logits(3, 4, *SIZE), d.classes(4, 3, *SIZE), d.uniform(3, 1, *SIZE)

    def loss(z: Tensor) -> Tensor:
        return sum((c[b] >= 0.6).mean() * ce_of(z, y)[b].sum() for b in range(3)) / y.size

    value, grad = gradients(loss, z)
    return {
        "in_student_logits": z, "in_target": y, "in_conf": c, "out_loss": value, "out_grad_student_logits": grad,
        "hyper": {"threshold": 0.6, "ignore_index": VOID},
    }  # fmt: skip


@variant("dual_teacher_cutmixer")
def cutmixer(d: Draw) -> dict[str, Any]:
    """Height and width differ; one box reaches over the border."""
    image, label, p, lam = d.normal(3, 3, *SIZE), d.classes(6, 3, *SIZE), np.array([1, 2, 0]), np.float32(0.3)
    rows, columns = np.array([9, 3, 5]), np.array([2, 13, 7])
    out, target = image.copy(), label.copy()
    sides = [int(side * np.sqrt(1 - lam)) // 2 for side in SIZE]
    for b in range(3):
        top, left = max(0, rows[b] - sides[0]), max(0, columns[b] - sides[1])
        bottom, right = min(SIZE[0], rows[b] + sides[0]), min(SIZE[1], columns[b] + sides[1])
        out[b, :, top:bottom, left:right] = image[p[b], :, top:bottom, left:right]
        target[b, top:bottom, left:right] = label[p[b], top:bottom, left:right]
    return {
        "in_img": image, "in_label": label, "in_perm": p, "in_lam": lam, "in_cx": rows, "in_cy": columns,
        "out_img": out, "out_label": target,
    }  # fmt: skip


@variant("dual_teacher_ema")
def turns(d: Draw) -> dict[str, Any]:
    """Seven epochs of three steps, a decay that the third step reaches."""
    states, start, alpha = d.normal(7, 3, 5), d.normal(2, 5), 0.6
    teachers, found = start.astype(np.float64), []
    for epoch in range(7):
        for i in range(3):
            a = [0.0, 0.5, 0.6][i]
            teachers = teachers.copy()
            teachers[epoch % 2] = a * teachers[epoch % 2] + (1 - a) * states[epoch, i]
            found.append(teachers)
    return {
        "in_student": states, "in_teachers_init": start, "out_teachers": np.reshape(found, (7, 3, 2, 5)),
        "hyper": {"alpha": alpha},
    }  # fmt: skip


# ---- CTT ----


def contrast_of(z: Tensor, label: Any, use: Any, banks: np.ndarray, temperature: float, peer: Any = None) -> Tensor:
    """Pixel by pixel, row by row."""
    (bank,) = exact(banks)
    flat, y, use = z.permute(0, 2, 3, 1).flatten(0, 2), np.ravel(label), np.ravel(use)

    def e(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(a @ b / (a.norm() * b.norm()) / temperature)

    means = []
    for c in range(len(bank)):
        values = []
        for i in np.flatnonzero((y == c) & use):
            down = sum(e(flat[i], b) for k in range(len(bank)) if k != c for b in bank[k])
            ups = [e(flat[i], b) for b in bank[c]] if peer is None else [e(flat[i], exact(peer)[0][i])]
            values.append(sum(-torch.log(up / (up + down)) for up in ups) / len(ups))
        if values:
            means.append(sum(values) / len(values))
    return sum(means) / len(means)


@variant("ctt_contrast")
def contrast(d: Draw) -> dict[str, Any]:
    """Three images, no square; one class has no pixels, some are void."""
    left, right = d.normal(3, 4, 2, 5), d.normal(3, 4, 2, 5)
    banks = d.normal(4, 3, 4), d.normal(4, 3, 4)
    label, mask, which = d.label(3, 3, 2, 5), d.uniform(3, 2, 5) < 0.5, d.classes(2, 3, 2, 5)
    peer = np.moveaxis(right, 1, 3).reshape(-1, 4)
    high, grad_high = gradients(lambda z: contrast_of(z, label, mask, banks[0], 0.2), left)
    joined = np.concatenate(banks, 1)
    low, grad_low = gradients(lambda z: contrast_of(z, label, ~mask & (which == 1), joined, 0.4, peer), left)
    return {
        "in_bank_l": banks[0], "in_bank_r": banks[1], "in_feat_l": left, "in_feat_r": right, "in_label": label,
        "in_mask": mask, "in_which": which, "out_high_level": high, "out_grad_feat_l_high": grad_high,
        "out_low_level": low, "out_grad_feat_l_low": grad_low,
        "hyper": {"classes": 4, "temp_high": 0.2, "temp_low": 0.4, "ignore_label": VOID},
    }  # fmt: skip


@variant("ctt_memory_bank")
def memory_bank(d: Draw) -> dict[str, Any]:
    """Three images; seven rows a class, of which a step brings at most four."""
    start, logits = d.normal(3, 7, 2), d.normal(9, 3, 3, 3, 4, scale=2.0)
    feat, label = d.normal(9, 3, 2, 3, 4), d.label(3, 9, 3, 3, 4)
    banks, held, sizes = [[] for _ in range(3)], [], []
    for z, f, y in zip(logits, feat, label):
        top, guess, f = z.max(1).ravel(), z.argmax(1).ravel(), np.moveaxis(f, 1, 3).reshape(-1, 2)
        for c, bank in enumerate(banks):
            index = [i for i in range(len(top)) if y.ravel()[i] == guess[i] == c and top[i] >= 0.9]
            if len(index) >= 4:
                index = sorted(index, key=lambda i: -top[i])[:4]
            banks[c] = (bank + [f[i] for i in index])[-7:]
        held.append([np.concatenate([np.reshape(b, (-1, 2)), start[c, len(b) :]]) for c, b in enumerate(banks)])
        sizes.append([len(b) for b in banks])
    return {
        "in_bank_init": start, "in_teacher_out": logits, "in_teacher_feat": feat, "in_label": label,
        "out_bank": np.array(held), "out_size": np.array(sizes),
        "hyper": {"confidence": 0.9, "labelled_samples": 3, "min_add": 1, "batch": 3, "ignore_label": VOID},
    }  # fmt: skip


@variant("ctt_cross_teacher_step")
def cross_teacher_step(d: Draw) -> dict[str, Any]:
    """Three images of 12 x 20, weights of 0.5 for the pseudo-labels."""
    size, given = (12, 20), {}
    for who in ("student", "teacher"):
        for side in "lr":
            given |= {
                f"in_{who}_{side}_feat_w": d.normal(4, 3, 3, 3),
                f"in_{who}_{side}_out_w": d.normal(5, 4, 1, 1),
            }
    x, u, label, masks = d.uniform(3, 3, *size), d.uniform(3, 3, *size), d.label(5, 3, *size), {}

    def net(image: Any, who: str, side: str, out: Tensor | None = None) -> Tensor:
        feat, last = exact(given[f"in_{who}_{side}_feat_w"], given[f"in_{who}_{side}_out_w"])
        maps = F.conv2d(exact(image)[0], feat, stride=4, padding=1)
        return resized(F.conv2d(maps, last if out is None else out), size)

    answers = {}
    for side, other in (("l", "r"), ("r", "l")):
        masks[f"in_mask_{side}"] = m = d.box(3, *size)
        q = net(u, "teacher", other).softmax(1)
        c, y = mixed(exact(m)[0], q, q.roll(-1, 0)).max(1)
        seen = mixed(exact(m)[0], exact(u)[0], exact(u)[0].roll(-1, 0))
        ways = {"uniform": (c >= 0.6).double().mean(), "power6": c**6, "ones": 1.0}
        for name, w in ways.items():
            answers[f"out_unsup_{side}_{name}"] = 0.5 * (w * ce_of(net(seen, "student", side), y)).mean()
        answers[f"out_sup_{side}"] = mean_ce(net(x, "student", side), label)

        def total(
            out: Tensor, side: str = side, seen: Tensor = seen, y: Tensor = y, w: Any = ways["uniform"]
        ) -> Tensor:
            taught = 0.5 * (w * ce_of(net(seen, "student", side, out), y)).mean()
            return mean_ce(net(x, "student", side, out), label) + taught

        _, answers[f"out_grad_student_{side}_out_w"] = gradients(total, given[f"in_student_{side}_out_w"])
        answers[f"out_prob_{side}_at_feat"], answers[f"out_label_{side}_at_feat"] = (
            c[:, ::4, ::4],
            whole(y[:, ::4, ::4])[0],
        )
    return {
        **given, **masks, "in_img_l": x, "in_img_u": u, "in_label": label, **answers,
        "hyper": {
            "classes": 5, "confidence": 0.6, "consistency_weight": 0.5, "mix": "class", "blur": False,
            "colour_jitter": False, "ignore_label": VOID,
        },
    }  # fmt: skip
