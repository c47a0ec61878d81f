"""Our own recordings of STPG (`minority`); see `other_recordings`."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, ce_of, exact, gradients, mean_ce, mixed, variant
from torch import Tensor


def mistaken(label: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """(C,) share of pixels that one of the two says is of the class and the other does not, of all classes together."""
    table = np.eye(classes)
    np.add.at(table, (label.ravel(), found.ravel()), 1)
    down, across, right = table.sum(0), table.sum(1), np.diag(table)
    score = (down - right) / down + (across - right) / across
    return score / score.sum() if score.sum() else score


def selected(label: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    score = mistaken(label, found, classes)
    return (label == found) | (score[label] > score[found])


@variant("minority_selection")
def selection(d: Draw) -> dict[str, Any]:
    """Seven classes, one of which nobody sees."""
    label, agree = d.classes(6, 3, 9, 14), d.classes(7, 3, 9, 14)
    found = np.where(d.uniform(3, 9, 14) < 0.4, d.classes(6, 3, 9, 14), label)
    chosen = selected(label, found, 7)
    assert not chosen.all() and (chosen & (label != found)).any()
    return {
        "in_label_agree": agree, "in_label": label, "in_pred": found, "out_selected": chosen.astype(np.float32),
        "out_selected_agree": np.ones((3, 9, 14)), "out_mismatch_score": mistaken(label, found, 7),
        "hyper": {"classes": 7},
    }  # fmt: skip


@variant("minority_step")
def step(d: Draw) -> dict[str, Any]:
    """Three images, a weight of the unlabelled ones, void pixels."""
    c, size, weight = 4, (9, 14), 0.6
    names = [f"in_logit_{part}_{k}" for part in ("sup", "mix") for k in (1, 2)]
    given = {name: d.logits(3, c, *size) for name in names}
    given |= {f"in_teacher_u{j}_{k}": d.logits(3, c, *size) for j in (0, 1) for k in (1, 2)}
    given |= {"in_label": d.label(c, 3, *size), "in_mask": d.box(3, *size)[:, None]}
    inside = exact(given["in_mask"][:, 0])[0]
    said = [mixed(inside, *exact(given[f"in_teacher_u1_{k}"], given[f"in_teacher_u0_{k}"])) for k in (1, 2)]
    (q_1, y_1), (q_2, y_2) = (logits.softmax(1).max(1) for logits in said)
    of_2 = given["in_logit_mix_2"].argmax(1)
    chosen = selected(y_1.numpy(), of_2, c)

    def terms(sup_1: Tensor, sup_2: Tensor, mix_1: Tensor, mix_2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        sup = mean_ce(sup_1, given["in_label"]) + mean_ce(sup_2, given["in_label"])
        wanted = q_1 * torch.from_numpy(chosen)
        return sup, (q_2 * ce_of(mix_1, y_2)).mean(), (wanted * ce_of(mix_2, y_1)).mean()

    leaves = [given[name] for name in names]
    loss, *grads = gradients(lambda *z: (lambda s, a, b: s + weight * (a + b))(*terms(*z)), *leaves)
    answers = dict(zip(("out_loss_sup", "out_loss_unsup_1", "out_loss_unsup_2"), terms(*exact(*leaves))))
    answers |= {f"out_grad_{name[9:]}": grad for name, grad in zip(names, grads)} | {"out_loss": loss}
    answers |= {"out_pseudo_1": y_1, "out_pseudo_2": y_2, "out_confidence_1": q_1, "out_confidence_2": q_2}
    answers |= {"out_selected": chosen, "out_mismatch_score": mistaken(y_1.numpy(), of_2, c)}
    hyper = {"classes": c, "unsup_weight": weight, "ignore_index": VOID}
    return given | answers | {"hyper": hyper}


@variant("minority_contrast_loss")
def contrast(d: Draw) -> dict[str, Any]:
    """Classes with no pixel, with one, with a memory of one row or none."""
    c, temperature = 5, 0.3
    f, anchor, memory = d.normal(17, 7), d.normal(c, 7), d.normal(c, 6, 7)
    anchor /= np.linalg.norm(anchor, axis=1, keepdims=True)
    label, held = np.array([0] * 6 + [1] * 5 + [2] + [3] * 5), np.array([6, 1, 3, 0, 4])
    a64, m64 = exact(anchor, memory)

    def loss(f: Tensor) -> Tensor:
        unit, total = [row / row.norm() for row in f], torch.zeros((), dtype=torch.float64)
        for k in range(c):
            own = [u for u, y in zip(unit, label) if y == k]
            if len(own) < 2:
                continue
            total = total - sum((a64 @ u / temperature).log_softmax(0)[k] for u in own) / len(own)
            if held[k] > 1:
                rows = [row / row.norm() for row in m64[k, : held[k]]]
                total = total + sum(1 - u @ row for u in own for row in rows) / (len(own) * len(rows))
        return total / c

    value, grad = gradients(loss, f)
    return {
        "in_feature": f, "in_label": label, "in_anchor": anchor, "in_memory": memory, "in_memory_rows": held,
        "out_loss": value, "out_grad_feature": grad, "hyper": {"classes": c, "temperature": temperature},
    }  # fmt: skip


@variant("minority_memory_select")
def trusted(d: Draw) -> dict[str, Any]:
    """Sides that do not divide, a lower confidence."""
    z, y, f, sure = d.normal(3, 4, 13, 17, scale=3), d.label(4, 3, 13, 17), d.normal(3, 5, 5, 6), 0.6
    y = np.where(d.uniform(3, 13, 17) < 0.6, z.argmax(1), y)
    p = exact(z)[0].softmax(1).numpy()
    kept = [
        (f[b, :, i, j], y[at])
        for b, i, j in np.ndindex(3, 5, 6)
        for at in [(b, i * 13 // 5, j * 17 // 6)]
        if p[b, :, at[1], at[2]].argmax() == y[at] and p[b, :, at[1], at[2]].max() > sure
    ]
    return {
        "in_logits": z, "in_label": y, "in_feature": f, "out_feature": np.array([row for row, _ in kept]),
        "out_label": np.array([label for _, label in kept]),
        "hyper": {"classes": 4, "confidence": sure, "ignore_index": VOID},
    }  # fmt: skip


@variant("minority_memory_voc", "minority_memory_city")
def memory(d: Draw, name: str) -> dict[str, Any]:
    """Other moments and sizes; the best of all matchings is sought among all of them."""
    c, dim, size, n, batch, momentum, ranked = 4, 6, 7, 1, 3, 0.7, 5
    until = 6 if name.endswith("voc") else None
    unit = [d.normal(c, dim) for _ in range(3)]
    anchor, start, assigned = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit)
    epochs, f, label = np.array([2, 4, 5, 6, 7, 9]), d.normal(6, 21, dim), d.classes(c, 6, 21)
    label[1][label[1] == 2] = 0  # a class that is not there
    centre, given, held = start.astype(np.float64), assigned.astype(np.float64), [np.zeros((0, dim))] * c
    found: dict[str, list] = {"memory": [], "rows": [], "centroid": [], "assign": []}
    for rows, y, epoch in zip(f.astype(np.float64), label, epochs):
        for k in np.unique(y):
            own = rows[y == k]
            ones = own / np.linalg.norm(own, axis=1, keepdims=True)
            if len(own) > batch * n:
                near = np.argsort(-(ones @ given[k])) if epoch >= ranked else np.arange(len(own))
                own = own[near[: batch * n]]
            held[k] = np.concatenate([own, held[k]])[:size]
            mean = ones.mean(0)
            moved = momentum * centre[k] + (1 - momentum) * mean / np.linalg.norm(mean)
            centre[k] = moved / np.linalg.norm(moved)
        if until is None or epoch <= until:
            gain = centre @ anchor.T.astype(np.float64)
            best = max(permutations(range(c)), key=lambda order: sum(gain[k, order[k]] for k in range(c)))
            given = anchor[list(best)].astype(np.float64)
        padded = [np.concatenate([rows, np.zeros((size - len(rows), dim))]) for rows in held]
        values = (np.array(padded), np.array([len(rows) for rows in held]), centre.copy(), given.copy())
        for key, value in zip(found, values):
            found[key].append(value)
    hyper = {
        "classes": c, "memory_per_class": size, "batch": batch, "n": n, "centroid_momentum": momentum,
        "rank_from_epoch": ranked, "assign_until_epoch": until,
    }  # fmt: skip
    inputs = {
        "in_anchor": anchor, "in_centroid0": start, "in_assign0": assigned, "in_feature": f, "in_label": label,
        "in_epoch": epochs,
    }  # fmt: skip
    return inputs | {f"out_{key}": np.array(values) for key, values in found.items()} | {"hyper": hyper}


@variant("minority_ema")
def average(d: Draw) -> dict[str, Any]:
    given = {f"in_{who}{of}": d.normal(n) for who in ("student", "teacher") for of, n in (("", 63), ("_buffers", 6))}
    student, teacher = exact(given["in_student"], given["in_teacher"])
    after = 0.7 * teacher + 0.3 * student
    return given | {"out_teacher": after, "out_teacher_buffers": given["in_teacher_buffers"], "hyper": {"decay": 0.7}}
