"""Our own recordings of distances, weights and densities; see `other_recordings`."""

from __future__ import annotations

from math import exp, log, pi
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import (
    VOID,
    Draw,
    ce_of,
    exact,
    gradients,
    mixed,
    variant,
    whole,
)
from torch import Tensor

DISTANCES = {
    "var": lambda z, t: (z.softmax(1) - t.softmax(1)).square().sum(1),
    "bce": lambda z, t: (
        -(t.softmax(1) * (z.softmax(1) + 1e-6).log() + (1 - t.softmax(1)) * (1 - z.softmax(1) + 1e-6).log()).sum(1)
    ),
    "kld": lambda z, t: (t.softmax(1) * (t.log_softmax(1) - z.log_softmax(1))).sum(1),
    "logits_var": lambda z, t: (z - t).square().sum(1) / z.shape[1] ** 0.5,
    "logits_smoothl1": lambda z, t: F.smooth_l1_loss(z, t, reduction="none").sum(1) / z.shape[1] ** 0.5,
}


def distances(z: np.ndarray, t: Tensor, valid: Tensor, tau: float, weight: float) -> dict[str, Any]:
    sure = (t.softmax(1).amax(1) >= tau).double()
    answers: dict[str, Any] = {"out_conf_rate": sure.mean(), "out_teacher_prob": t.softmax(1)}
    for name, far in DISTANCES.items():
        for kind, trust in (("mean", sure.mean()), ("pixel", sure)):
            loss, grad = gradients(lambda z, far=far, trust=trust: weight * (far(z, t) * valid * trust).mean(), z)
            answers |= {f"out_loss_{kind}_{name}": loss, f"out_grad_student_logits_{kind}_{name}": grad}
    return answers


@variant("cutmix_consistency")
def cutmix_consistency(d: Draw) -> dict[str, Any]:
    mask, z = d.box(3, 9, 14), d.normal(3, 5, 9, 14)
    image, valid, t = ([make(3, k, 9, 14) for _ in "01"] for make, k in ((d.normal, 3), (d.uniform, 1), (d.logits, 5)))
    m = exact(mask)[0]
    seen, shown, target = (mixed(m, *exact(pair[1], pair[0])) for pair in (image, valid, t))
    return distances(z, target, shown[:, 0], 0.7, 0.4) | {
        "in_mask": mask[:, None], "in_student_logits": z, "out_student_input": seen, "out_valid_mixed": shown,
        **{f"in_image{k}_student": image[k] for k in (0, 1)}, **{f"in_valid{k}": valid[k] for k in (0, 1)},
        **{f"in_teacher_logits{k}": t[k] for k in (0, 1)},
        "hyper": {"conf_thresh": 0.7, "cons_weight": 0.4, "num_classes": 5},
    }  # fmt: skip


@variant("cutmix_cutout_consistency")
def cutmix_cutout(d: Draw) -> dict[str, Any]:
    mask, z, t, image, valid = (
        d.box(3, 9, 14),
        d.logits(3, 5, 9, 14),
        d.logits(3, 5, 9, 14),
        d.normal(3, 3, 9, 14),
        d.uniform(3, 1, 9, 14),
    )
    m, v = exact(mask, valid[:, 0])
    return distances(z, exact(t)[0], m * v, 0.6, 1.7) | {
        "in_mask": mask[:, None], "in_image_student": image, "in_valid": valid, "in_teacher_logits": t,
        "in_student_logits": z, "out_student_input": image * mask[:, None],
        "hyper": {"conf_thresh": 0.6, "cons_weight": 1.7, "num_classes": 5},
    }  # fmt: skip


@variant("colouraug_ict_consistency")
def colouraug_ict(d: Draw) -> dict[str, Any]:
    image, valid, t = ([make(3, k, 9, 14) for _ in "01"] for make, k in ((d.normal, 3), (d.uniform, 1), (d.logits, 5)))
    z, share = d.logits(3, 5, 9, 14), d.uniform(3, 1, 1, 1)
    w = exact(share)[0]
    seen, shown = ((1 - w) * a + w * b for a, b in (exact(*image), exact(*valid)))
    target = (1 - w) * exact(t[0])[0].softmax(1) + w * exact(t[1])[0].softmax(1)
    sure = (1 - w[:, 0]) * exact(t[0])[0].softmax(1).amax(1) + w[:, 0] * exact(t[1])[0].softmax(1).amax(1)
    rate = (sure >= 0.6).double().mean()
    trust = shown * rate
    loss, grad = gradients(lambda z: 0.3 * ((z.softmax(1) - target).square().sum(1) * trust[:, 0]).mean(), z)
    return {
        **{f"in_image{k}_student": image[k] for k in (0, 1)}, **{f"in_valid{k}": valid[k] for k in (0, 1)},
        **{f"in_teacher_logits{k}": t[k] for k in (0, 1)}, "in_lambda": share, "in_student_logits": z,
        "out_student_input": seen, "out_teacher_prob": target, "out_loss_mask": trust, "out_conf_rate": rate,
        "out_loss": loss, "out_grad_student_logits": grad,
        "hyper": {"conf_thresh": 0.6, "cons_weight": 0.3, "cons_loss_fn": "var", "ict_alpha": 0.1},
    }  # fmt: skip


@variant("colouraug_aug_consistency")
def colouraug_aug(d: Draw) -> dict[str, Any]:
    theta = np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1)) + d.normal(3, 2, 3, scale=0.2)
    t, z, valid_t = d.logits(3, 4, 9, 14), d.logits(3, 4, 9, 14), np.float32(d.uniform(3, 1, 9, 14) > 0.1)
    own = np.float32(d.uniform(3, 1, 9, 14) > 0.1)
    grid = F.affine_grid(exact(theta)[0], (3, 1, 9, 14), align_corners=True)
    target, shown = (F.grid_sample(x, grid, align_corners=True) for x in (exact(t)[0].softmax(1), exact(valid_t)[0]))
    shown = shown * exact(own)[0]
    rate = (target.amax(1) >= 0.5).double().mean()
    loss, grad = gradients(lambda z: 2.0 * ((z.softmax(1) - target).square().sum(1) * shown[:, 0]).mean() * rate, z)
    return {
        "in_theta": theta, "in_valid_teacher": valid_t, "in_valid_student": own, "in_teacher_logits": t,
        "in_student_logits": z, "out_teacher_prob_warped": target, "out_valid_warped": shown, "out_conf_rate": rate,
        "out_loss": loss, "out_grad_student_logits": grad,
        "hyper": {"conf_thresh": 0.5, "cons_weight": 2.0, "cons_loss_fn": "var", "align_corners": True},
    }  # fmt: skip


@variant("classmix_unsup")
def classmix_unsup(d: Draw) -> dict[str, Any]:
    t, z, mask, step = d.logits(3, 6, 9, 14), d.logits(3, 6, 9, 14), d.box(3, 9, 14), 12_345
    q = exact(t)[0].softmax(1)
    q = mixed(exact(mask)[0], q, q.roll(-1, 0))
    c, y = q.max(1)
    sure = (c >= 0.8).double()
    weight = {"uniform": sure.mean(), "pixel": sure, "sigmoid": exp(-5 * (1 - min(1, step / 10_000)) ** 2), "none": 1.0}
    answers: dict[str, Any] = {"out_prob_mixed": q, "out_pseudo_label": y, "out_confident_fraction": sure.mean()}
    for name, w in weight.items():
        loss, grad = gradients(lambda z, w=w: 0.6 * (w * ce_of(z, y)).mean(), z)
        answers |= {f"out_loss_{name}": loss, f"out_grad_student_logits_{name}": grad}
    loss, grad = gradients(lambda z: 0.6 * sure.mean() * (z.softmax(1) - q).square().mean(), z)
    return answers | {
        "in_teacher_logits": t, "in_mask": mask, "in_student_logits": z, "out_loss_mse": loss,
        "out_grad_student_logits_mse": grad,
        "hyper": {"threshold": 0.8, "consistency_weight": 0.6, "iteration": step},
    }  # fmt: skip


@variant("revisiting_loss")
def revisiting_loss(d: Draw) -> dict[str, Any]:
    z, t, mask = d.logits(3, 4, 9, 14), d.logits(3, 4, 9, 14), np.float32(np.minimum(1, 1.6 * d.uniform(3, 9, 14)))
    counts = (exact(mask)[0] >= 1 - 1e-6).double()
    q = exact(t)[0].softmax(1)
    sure = (q.amax(1) >= 0.65).double()
    answers: dict[str, Any] = {"in_student_logits": z, "in_teacher_logits": t, "in_mask": mask}
    for name, far in (
        ("kl", lambda z: (q * (q.log() - z.log_softmax(1))).sum(1)),
        ("l2_conf", lambda z: (z.softmax(1) - q).square().sum(1) * sure),
    ):
        total, grad = gradients(lambda z, far=far: 0.75 + 0.2 * (far(z) * counts).sum() / counts.sum(), z)
        answers |= {f"out_total_{name}": total, f"out_loss_u_{name}": (total - 0.75) / 0.2, f"out_grad_{name}": grad}
    said = {"out_total_kl": "0.75 (a stand-in supervised loss) + alpha*loss_u"}
    return answers | {"hyper": {"alpha": 0.2, "conf_thresh": 0.65}, "arrays": said}


@variant("pseudoseg_fusion")
def pseudoseg_fusion(d: Draw) -> dict[str, Any]:
    a, b, z, valid = (
        d.logits(3, 4, 9, 14),
        d.logits(3, 4, 9, 14),
        d.logits(3, 4, 9, 14),
        np.float32(d.uniform(3, 9, 14) > 0.2),
    )
    da, db, v = exact(a, b, valid)
    scale = 1 / torch.sqrt(torch.cat([da.flatten(), db.flatten()]).square().mean() + 1e-8)
    mean = ((scale * da).softmax(1) + (scale * db).softmax(1)) / 2
    sharp = mean ** (1 / 0.7)
    sharp = sharp / sharp.sum(1, keepdim=True)
    loss, grad = gradients(lambda z: 1.5 * (-(sharp * z.log_softmax(1)).sum(1) * v).sum() / v.sum(), z)
    return {
        "in_decoder_logits": a, "in_attention_logits": b, "in_student_logits": z, "in_valid": valid,
        "out_scaled_decoder_logits": scale * da, "out_mean_prob": mean, "out_pseudo_label": sharp, "out_loss": loss,
        "out_grad_student_logits": grad, "hyper": {"temperature": 0.7, "unlabeled_weight": 1.5},
    }  # fmt: skip


@variant("cct_consistency")
def cct_consistency(d: Draw) -> dict[str, Any]:
    z, q = d.logits(3, 5, 9, 14), exact(d.logits(3, 5, 9, 14))[0].softmax(1).float().numpy()
    t = exact(q)[0]
    keep = (t.amax(1) > 0.75).double()

    def pointwise(z: Tensor, target: Tensor) -> Tensor:
        return target * (target.log() - z.log_softmax(1))

    def js(z: Tensor) -> Tensor:
        p = z.softmax(1)
        m = (p + t) / 2
        return 0.5 * ((m * (m.log() - p.log())).mean() + (m * (m.log() - (t + 1e-5).log())).mean())

    answers: dict[str, Any] = {"in_aux_logits": z, "in_target_prob": q, "hyper": {"threshold": 0.75}}
    for name, far in (
        ("mse", lambda z: (z.softmax(1) - t).square().mean()),
        ("mse_conf", lambda z: ((z.softmax(1) - t).square().mean(1) * keep).sum() / keep.sum()),
        ("kl", lambda z: pointwise(z, t).mean()),
        ("kl_conf", lambda z: (pointwise(z, t).sum(1) * keep).sum() / keep.numel()),
        ("js", js),
    ):
        answers[f"out_loss_{name}"], answers[f"out_grad_{name}"] = gradients(far, z)
    return answers


@variant("cct_pairwise")
def cct_pairwise(d: Draw) -> dict[str, Any]:
    z = d.logits(7, 3, 5, 6, 11)
    p = exact(z)[0].softmax(2)
    return {"in_outputs": z, "out_loss": (p - p.mean(0)).square().mean(0).sum(1).mean(), "hyper": {"K": 7}}


@variant("cct_abce")
def cct_abce(d: Draw) -> dict[str, Any]:
    z, y = d.logits(3, 4, 9, 14), d.label(4, 3, 9, 14)
    t, end = 5 * 13 + 4, 0.4 * 45 * 13
    tau = (1 - exp(-5 * t / end)) * (0.9 - 1 / 4) + 1 / 4
    known = torch.from_numpy(y != VOID)
    p = exact(z)[0].softmax(1).gather(1, whole(np.where(y == VOID, 0, y))[0][:, None])[:, 0].masked_fill(~known, 2)
    limit = max(tau, float(p.flatten().sort().values[2 * 3]))
    keep = known & (p < limit)
    loss, grad = gradients(lambda z: (ce_of(z, y) * keep).sum() / keep.sum(), z)
    hyper = {"epoch": 5, "iter": 4, "iters_per_epoch": 13, "epochs": 45, "min_kept": 2, "ignore_index": VOID}
    return {
        "in_logits": z, "in_label": y, "out_loss": loss, "out_grad_logits": grad, "out_threshold": np.float64(tau),
        "hyper": hyper,
    }  # fmt: skip


@variant("ael_consistency")
def ael_consistency(d: Draw) -> dict[str, Any]:
    z, t, bank, rand = d.logits(3, 4, 9, 14), d.logits(3, 4, 9, 14), d.uniform(4), d.uniform(4, 9, 14)
    c, y = exact(t)[0].softmax(1).max(1)
    label = torch.where(c >= 0.6, y, VOID)
    q, u = exact(bank, rand)
    rate = ((1 - q) / (1 - q).max()) ** 3
    says = exact(z)[0].argmax(1)
    keep = torch.zeros(3, 9, 14, dtype=torch.float64)
    for b, i, j in np.ndindex(3, 9, 14):
        k = says[b, i, j]
        keep[b, i, j] = float(u[k, i, j] > 1 - rate[k])
    answers: dict[str, Any] = {}
    for name, weight in (("sampled", c**1.5 * keep), ("plain", c**1.5)):
        loss, grad = gradients(lambda z, w=weight: (w * ce_of(z, label)).sum() / w.sum(), z)
        answers |= {f"out_loss_{name}": loss, f"out_grad_{name}": grad}
    return answers | {
        "in_student_logits": z, "in_teacher_logits": t, "in_bank": bank, "in_rand": rand, "out_pseudo_label": label,
        "out_confidence": c, "out_keep_rate": rate,
        "hyper": {"gamma": 1.5, "gamma2": 3, "threshold": 0.6, "ignore_index": VOID},
    }  # fmt: skip


@variant("rrn_selection")
def rrn_selection(d: Draw) -> dict[str, Any]:
    z, score, y = d.logits(3, 4, 9, 14), np.array([[0.2], [0.5], [0.45]], np.float32), d.label(4, 3, 9, 14)
    keep = [1, 2]
    loss, grad = gradients(lambda z: ce_of(z[keep], z[keep].argmax(1)).mean(), z)
    onehot = np.stack([y == k for k in range(4)], 1)
    return {
        "in_logits": z, "in_d_out": score, "in_mask": y, "out_count": np.uint8(2), "out_loss_st": loss,
        "out_grad_logits": grad, "out_onehot": onehot, "hyper": {"threshold_st": 0.4, "ignore_index": VOID},
    }  # fmt: skip


@variant("ddfp_gmm")
def ddfp_gmm(d: Draw) -> dict[str, Any]:
    means, z, logdet, y = d.normal(3, 5), d.normal(23, 5), d.normal(23), d.classes(3, 23)
    y[::4] = 77
    m, x, j = exact(means, z, logdet)

    def of_components(x: Tensor) -> Tensor:
        return -0.5 * (x[:, None] - m).square().sum(2) - 2.5 * log(2 * pi)

    def logprob(x: Tensor, y: np.ndarray) -> Tensor:
        found = of_components(x)
        mixture = (found - log(3)).logsumexp(1)
        own = found.gather(1, whole(np.where(y == 77, 0, y))[0][:, None])[:, 0]
        return torch.where(torch.from_numpy(y == 77), mixture, own)

    nll, grad = gradients(lambda x: -(logprob(x, y) + j).mean(), z)
    return {
        "in_means": means, "in_z": z, "in_logdet": logdet, "in_y": y, "out_component_logprob": of_components(x),
        "out_logprob": logprob(x, y), "out_nll": nll, "out_grad_z": grad,
        "out_nll_unlabelled": -(logprob(x, np.full(23, 77)) + j).mean(),
        "hyper": {"K": 3, "D": 5, "unlabelled_code": 77},
    }  # fmt: skip
