"""Our own recordings of losses and pseudo-labels; see `other_recordings`."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import torch
from other_recordings import VOID, Draw, ce_of, exact, gradients, hard_ce, mean_ce, mixed, variant
from torch import Tensor


@variant("classmix_sup")
def classmix_sup(d: Draw) -> dict[str, Any]:
    z, y = d.logits(3, 4, 9, 14), d.label(4, 3, 9, 14)
    loss, grad = gradients(lambda z: mean_ce(z, y), z)
    return {
        "in_logits": z, "in_label": y, "out_loss": loss, "out_grad_logits": grad, "hyper": {"ignore_label": VOID}
    }  # fmt: skip


@variant("cps_ohem")
def cps_ohem(d: Draw) -> dict[str, Any]:
    z, y = d.logits(3, 5, 11, 16), d.label(5, 3, 11, 16)
    cases = {
        "a": {"thresh": 0.6, "min_kept": 30},
        "b": {"thresh": 0.02, "min_kept": 99},
        "c": {"thresh": 0.5, "min_kept": 5000},
    }
    answers = {"in_logits": z, "in_gts": y, "hyper": {"cases": cases, "ignore_label": VOID}}
    for name, case in cases.items():
        found = gradients(lambda z, c=case: hard_ce(z, y, c["thresh"], c["min_kept"]), z)
        answers |= {f"out_loss_{name}": found[0], f"out_grad_{name}": found[1]}
    return answers


@variant("unimatch_ohem")
def unimatch_ohem(d: Draw) -> dict[str, Any]:
    z, y = d.logits(3, 6, 8, 13), d.label(6, 3, 8, 13)
    cases = [[0.5, 17], [0.05, 111], [0.4, 0]]
    found = [gradients(lambda z, c=case: hard_ce(z, y, *c), z) for case in cases]
    losses, grads = (torch.stack(column) for column in zip(*found))
    return {
        "in_logits": z, "in_mask": y, "out_loss": losses, "out_grad_logits": grads,
        "hyper": {"cases_thresh_minkept": cases, "ignore_index": VOID},
    }  # fmt: skip


@variant("u2pl_ohem_ce")
def u2pl_ohem_ce(d: Draw) -> dict[str, Any]:
    z, y, answers = d.logits(3, 6, 9, 13), d.label(6, 3, 9, 13), {}
    for name, least in zip("abc", (20, 150, 9999)):
        loss, grad = gradients(lambda z, k=least: hard_ce(z, y, 0.55, k), z)
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad}
    return answers | {
        "in_logits": z, "in_target": y, "in_thresh": np.float64(0.55), "in_min_kept": np.array([20, 150, 9999]),
        "hyper": {"ignore_index": VOID},
    }  # fmt: skip


@variant("psmt_ohem")
def psmt_ohem(d: Draw) -> dict[str, Any]:
    z, y, answers = d.logits(3, 5, 9, 16), d.label(5, 3, 9, 16), {}
    for name, least in (("few", 44), ("many", 3000)):
        loss, grad = gradients(lambda z, k=least: hard_ce(z, y, 0.4, k), z)
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad}
    hyper = {"thresh": 0.4, "min_kept": 44, "ignore_index": VOID}
    return answers | {"in_logits": z, "in_label": y, "hyper": hyper, "arrays": {"out_loss_many": "min_kept=3000"}}


@variant("fst_ohem")
def fst_ohem(d: Draw) -> dict[str, Any]:
    z, a, y = d.logits(3, 4, 9, 12), d.logits(3, 4, 9, 12), d.label(4, 3, 9, 12)
    answers: dict[str, Any] = {"in_pred": z, "in_aux": a, "in_label": y, "in_min_kept": np.array([40, 9999])}
    for i, least in enumerate((40, 9999)):
        loss, grad = gradients(lambda z, k=least: hard_ce(z, y, 0.3, k) + 0.25 * hard_ce(exact(a)[0], y, 0.3, k), z)
        answers |= {f"out_loss_{i}": loss, f"out_grad_pred_{i}": grad}
    return answers | {"hyper": {"thresh": 0.3, "aux_weight": 0.25, "ignore_index": VOID}}


@variant("pixelssl_baselines_supervised_loss")
def pixelssl_supervised(d: Draw) -> dict[str, Any]:
    z, y = d.logits(3, 4, 8, 13), d.label(4, 3, 1, 8, 13)
    loss, grad = gradients(lambda z: ce_of(z, y[:, 0]).mean(), z)
    each = ce_of(*exact(z), y[:, 0]).mean((1, 2))
    hyper = {"ignore_index": VOID}
    return {
        "in_logits": z, "in_label": y.astype(np.float32), "out_loss": loss, "out_grad_logits": grad,
        "out_per_image": each, "hyper": hyper,
    }  # fmt: skip


@variant("pixelssl_baselines_cutmix_loss")
def pixelssl_cutmix(d: Draw) -> dict[str, Any]:
    image, p, mask, z = d.normal(6, 3, 9, 12), d.logits(6, 4, 9, 12), d.box(3, 9, 12), d.logits(3, 4, 9, 12)
    p = exact(p)[0].softmax(1).float().numpy()
    m, q = exact(mask)[0], exact(p)[0]
    target, seen = mixed(m, q[:3], q[3:]), mixed(m, *exact(image[:3], image[3:]))
    share = (target.amax(1) > 0.8).double().mean()
    loss, grad = gradients(lambda z: 12.0 * 0.3 * share * (z.softmax(1) - target).square().mean(), z)
    return {
        "in_img": image, "in_teacher_prob": p, "in_mask": mask[:, None], "in_student_logits": z,
        "out_img_mixed": seen, "out_target": target, "out_confidence": share, "out_loss": loss,
        "out_grad_student_logits": grad, "hyper": {"cons_scale": 12.0, "cons_threshold": 0.8, "rampup": 0.3},
    }  # fmt: skip


@variant("cps_plain_loss", "cps_plain_loss_ohem")
def cps_plain(d: Draw, name: str) -> dict[str, Any]:
    hyper = {"classes": 5, "cps_weight": 2.5, "ignore_index": VOID}
    hyper |= {"ohem_thresh": 0.6, "ohem_min_kept": 33} if name.endswith("ohem") else {}
    y, names = d.label(5, 3, 9, 14), ("sup_l", "unsup_l", "sup_r", "unsup_r")
    given = {key: d.logits(3, 5, 9, 14) for key in names}

    def supervised(z: Tensor) -> Tensor:
        return hard_ce(z, y, 0.6, 33) if "ohem_thresh" in hyper else mean_ce(z, y)

    def crossed(sup_l: Tensor, unsup_l: Tensor, sup_r: Tensor, unsup_r: Tensor) -> Tensor:
        left, right = torch.cat([sup_l, unsup_l]), torch.cat([sup_r, unsup_r])
        return 2.5 * (ce_of(left, right.argmax(1)).mean() + ce_of(right, left.argmax(1)).mean())

    total, *grads = gradients(lambda *z: supervised(z[0]) + supervised(z[2]) + crossed(*z), *given.values())
    return {
        **{f"in_{key}": z for key, z in given.items()}, "in_gts": y, "hyper": hyper, "out_loss": total,
        "out_loss_sup_l": supervised(*exact(given["sup_l"])), "out_loss_sup_r": supervised(*exact(given["sup_r"])),
        "out_loss_cps_weighted": crossed(*exact(*given.values())),
        **{f"out_grad_{key}": grad for key, grad in zip(names, grads)},
    }  # fmt: skip


@variant("cps_cutmix_loss", "cps_cutmix_loss_ohem")
def cps_cutmix(d: Draw, name: str) -> dict[str, Any]:
    hyper = {"classes": 4, "cps_weight": 0.7, "ignore_index": VOID}
    hyper |= {"ohem_thresh": 0.5, "ohem_min_kept": 50} if name.endswith("ohem") else {}
    y, mask, images = d.label(4, 3, 8, 13), d.box(3, 8, 13), (d.normal(3, 3, 8, 13), d.normal(3, 3, 8, 13))
    given = {f"{part}_{k}": d.logits(3, 4, 8, 13) for part in ("sup", "u0", "u1", "mix") for k in "12"}
    m = exact(mask)[0]
    pseudo = [mixed(m, *exact(given[f"u1_{k}"], given[f"u0_{k}"])).argmax(1) for k in "12"]

    def supervised(z: Tensor) -> Tensor:
        return hard_ce(z, y, 0.5, 50) if "ohem_thresh" in hyper else mean_ce(z, y)

    def crossed(z_1: Tensor, z_2: Tensor) -> Tensor:
        return 0.7 * (ce_of(z_1, pseudo[1]).mean() + ce_of(z_2, pseudo[0]).mean())

    leaves = [given[key] for key in ("sup_1", "sup_2", "mix_1", "mix_2")]
    total, *grads = gradients(lambda a, b, z_1, z_2: supervised(a) + supervised(b) + crossed(z_1, z_2), *leaves)
    return {
        **{f"in_logit_{key}": z for key, z in given.items()}, "in_gts": y, "in_mask": mask[:, None],
        "in_img_u0": images[0], "in_img_u1": images[1], "hyper": hyper, "out_loss": total,
        "out_img_mixed": mixed(m, *exact(images[1], images[0])), "out_pseudo_1": pseudo[0], "out_pseudo_2": pseudo[1],
        "out_loss_sup_1": supervised(*exact(leaves[0])), "out_loss_sup_2": supervised(*exact(leaves[1])),
        "out_loss_cps_weighted": crossed(*exact(*leaves[2:])),
        **{f"out_grad_{key}": g for key, g in zip(("sup_1", "sup_2", "mix_1", "mix_2"), grads)},
    }  # fmt: skip


@variant("augseg_unsup_loss")
def augseg_unsup(d: Draw) -> dict[str, Any]:
    z, y, c, answers = d.logits(3, 4, 9, 14), d.label(4, 3, 9, 14), d.uniform(3, 9, 14), {}
    for name, tau in (("thr", 0.35), ("neg", -0.2)):
        keep = torch.from_numpy((c >= tau) & (y != VOID))
        loss, grad = gradients(lambda z, keep=keep: (ce_of(z, y) * keep).mean(), z)
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad, f"out_ratio_{name}": keep.double().mean()}
    hyper = {"threshold": 0.35, "threshold_neg": -0.2, "ignore_index": VOID}
    return answers | {"in_student_logits": z, "in_pseudo_label": y, "in_max_prob": c, "hyper": hyper}


@variant("augseg_confidence")
def augseg_confidence(d: Draw) -> dict[str, Any]:
    z = d.logits(5, 7, 9, 14)
    p = exact(z)[0].softmax(1)
    c, y = p.max(1)
    surprise = -(p * (p + 1e-10).log()).sum(1)
    rho = (c * (1 - surprise / log(7))).mean((1, 2))
    return {"in_teacher_logits": z, "out_confidence": rho, "out_max_prob": c, "out_pseudo_label": y}


@variant("imas_unsup_loss")
def imas_unsup(d: Draw) -> dict[str, Any]:
    z, y, c, s = d.logits(4, 6, 9, 14), d.classes(6, 4, 9, 14), d.uniform(4, 9, 14), d.uniform(4)
    keep, score = torch.from_numpy(c >= 0.45), exact(s)[0]
    loss, grad = gradients(lambda z: (score * (ce_of(z, y) * keep).mean((1, 2))).mean(), z)
    return {
        "in_student_logits": z, "in_pseudo_label": y, "in_max_prob": c, "in_score": s, "out_loss": loss,
        "out_grad": grad, "hyper": {"threshold": 0.45},
    }  # fmt: skip


@variant("imas_hardness")
def imas_hardness(d: Draw) -> dict[str, Any]:
    """The last image is all background for both networks."""
    s, t, tau = d.logits(3, 4, 9, 14), d.logits(3, 4, 9, 14), 0.55
    s[2, 0] += 40
    t[2, 0] += 40
    (c_s, a_s), (c_t, a_t) = (z.softmax(1).max(1) for z in exact(s, t))
    sure_s, sure_t = ((c >= tau).double().mean((1, 2)) for c in (c_s, c_t))
    found = {}
    for name, first in (("v1_weighted", 0), ("v1_weighted_nobg", 1)):
        one = [float(sure_t[i]) * agreement(a_s[i], a_t[i], first) for i in range(3)]
        two = [float(sure_s[i]) * agreement(a_t[i], a_s[i], first) for i in range(3)]
        found[f"out_{name}"] = (np.array(one) + np.array(two)) / 2
    return {
        "in_student_logits": s, "in_teacher_logits": t, **found, "out_ratio_student": sure_s,
        "out_ratio_teacher": sure_t, "hyper": {"threshold": tau, "num_classes": 4},
    }  # fmt: skip


def agreement(answer: Tensor, reference: Tensor, first: int) -> float:
    """IoU of the classes from `first` on, weighed by their pixels in the reference; 0 where it has none."""
    total = shares = 0.0
    for k in range(first, 4):
        a, r = answer == k, reference == k
        if int((a | r).sum()):
            total += float(r.sum()) * float((a & r).sum()) / float((a | r).sum())
            shares += float(r.sum())
    return total / shares if shares else 0.0


@variant("cafs_class_threshold_mask")
def cafs(d: Draw) -> dict[str, Any]:
    p = exact(d.logits(3, 5, 9, 14))[0].softmax(1).float().numpy()
    tau = (0.55 + 0.4 * d.uniform(5)).astype(np.float32)
    mask = np.zeros((3, 9, 14), bool)
    for b, i, j in np.ndindex(*mask.shape):
        k = p[b, :, i, j].argmax()
        mask[b, i, j] = p[b, k, i, j] > tau[k]
    return {"in_prob": p, "in_tau": tau, "out_mask": mask}


@variant("psmt_assist")
def psmt_assist(d: Draw) -> dict[str, Any]:
    one, two = d.logits(3, 9, 7, 11), d.logits(3, 9, 7, 11)

    def filtered(heard: Tensor, other: Tensor) -> Tensor:
        least = heard.sort(1, descending=True).values[:, 3 - 1 : 3]
        return torch.where(heard >= least, heard, other)

    t1, t2 = exact(one, two)
    a1, a2 = filtered(t1, t2), filtered(t2, t1)
    return {
        "in_teacher1_logits": one, "in_teacher2_logits": two, "out_assist2": a2, "out_assist1": a1,
        "out_ensemble_id1": (t1 + a2) / 2, "out_ensemble_id2": (t2 + a1) / 2, "hyper": {"topk": 3, "gamma": 0.5},
    }  # fmt: skip


@variant("psmt_semi_ce")
def psmt_semi_ce(d: Draw) -> dict[str, Any]:
    """Fewer classes than teachers listen to by default."""
    z, t = d.logits(3, 5, 9, 14), d.logits(3, 5, 9, 14)
    c, y = exact(t)[0].softmax(1).max(1)
    keep = c >= 0.75
    loss, grad = gradients(lambda z: (ce_of(z, y) * c * keep).sum() / keep.sum(), z)
    return {
        "in_student_logits": z, "in_teacher_logits": t, "out_loss": loss, "out_grad_student_logits": grad,
        "out_confidence": c, "out_pass_rate": keep.double().mean(), "out_loss_none_confident": np.float32(0),
        "hyper": {"threshold": 0.75, "num_classes": 5},
    }  # fmt: skip


def surprise_filter(z: np.ndarray, y: np.ndarray, t: np.ndarray, percent: float) -> tuple[Tensor, Tensor, np.ndarray]:
    """Loss, gradient and labels of the pixels whose entropy is below the percentile of the known ones."""
    p = exact(t)[0].softmax(1)
    surprise = -(p * (p + 1e-10).log()).sum(1).numpy()
    cut = np.percentile(surprise[y != VOID], percent)
    after = np.where(surprise >= cut, VOID, y)
    factor = y.size / (after != VOID).sum()
    return *gradients(lambda z: factor * mean_ce(z, after), z), after


@variant("fst_unsup_loss")
def fst_unsup(d: Draw) -> dict[str, Any]:
    z, y, t = d.logits(3, 5, 9, 14), d.label(5, 3, 9, 14), d.logits(3, 5, 9, 14)
    loss, grad, after = surprise_filter(z, y, t, 65)
    return {
        "in_pred": z, "in_label": y, "in_teacher_logits": t, "in_percent": np.int64(65), "out_loss": loss,
        "out_grad_pred": grad, "out_label_after": after, "hyper": {"ignore_index": VOID},
    }  # fmt: skip


@variant("u2pl_unsup_loss")
def u2pl_unsup(d: Draw) -> dict[str, Any]:
    z, y, t = d.logits(3, 5, 8, 15), d.label(5, 3, 8, 15), d.logits(3, 5, 8, 15)
    loss, grad, after = surprise_filter(z, y, t, 37.5)
    return {
        "in_logits": z, "in_target": y, "in_teacher_logits": t, "in_percent": np.float64(37.5), "out_loss": loss,
        "out_grad_logits": grad, "out_target_after": after, "hyper": {"ignore": VOID},
    }  # fmt: skip
