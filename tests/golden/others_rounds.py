"""Our own recordings of ST, Three-Stage, DARS and SimpleBaseline; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import VOID, Draw, ce_of, exact, gradients, mean_ce, variant, whole
from torch import Tensor

DROPPED = 255  # what DARS writes

# ---- ST and Three-Stage ----


@variant("st_reliability")
def reliability(d: Draw) -> dict[str, Any]:
    """Four checkpoints, five images of which the k-th has k + 2 classes."""
    classes, last = 6, d.classes(6, 5, 9, 13)
    earlier = [np.where(d.uniform(5, 9, 13) < 0.3, d.classes(6, 5, 9, 13), last) for _ in range(3)]
    found = np.stack([*earlier, last]) % np.arange(2, 7)[:, None, None]
    iou = np.full((5, 3, classes), np.nan)
    for n, k, c in np.ndindex(iou.shape):
        a, b = found[k, n] == c, found[-1, n] == c
        if (a | b).any():
            iou[n, k, c] = (a & b).sum() / (a | b).sum()
    means = np.array([[np.mean([v for v in row if v == v]) for row in image] for image in iou])
    order = np.argsort(-means.mean(1))
    return {
        "in_preds": found.astype(np.uint8), "out_iou": iou, "out_miou": means, "out_reliability": means.mean(1),
        "out_reliable_order": order[:2], "out_unreliable_order": order[2:], "hyper": {"num_classes": classes},
    }  # fmt: skip


@variant("st_tta")
def tta(d: Draw) -> dict[str, Any]:
    """Other scales, sides that are rounded, corners that are not aligned, two images."""
    x, weight, bias, scales = d.uniform(2, 3, 13, 18), d.normal(4, 3, 3, 3), d.normal(4), (0.7, 1.0, 1.3)
    x64, w64, b64 = exact(x, weight, bias)

    def resized(maps: Tensor, size: Any) -> Tensor:
        return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)

    def logits(image: Tensor) -> Tensor:
        return resized(F.conv2d(image, w64, b64, stride=2, padding=1), image.shape[-2:])

    total = torch.zeros(2, 4, 13, 18, dtype=torch.float64)
    for scale in scales:
        small = resized(x64, [round(side * scale) for side in (13, 18)])
        for image, back in ((small, lambda p: p), (small.flip(3), lambda p: p.flip(3))):
            total = total + resized(back(logits(image).softmax(1)), (13, 18))
    hyper = {"scales": scales, "flip": True, "align_corners": False, "size_rule": "round(side*scale)"}
    return {
        "in_x": x, "in_weight": weight, "in_bias": bias, "out_sum": total, "out_label": total.argmax(1),
        "out_plain_logits": logits(x64), "hyper": hyper,
    }  # fmt: skip


@variant("three_stage_losses")
def three_stage(d: Draw) -> dict[str, Any]:
    """Two labelled images, other weights."""
    c, n, size = 4, 2, (7, 9)
    given = {
        "in_teacher_logits": d.logits(4, c, *size), "in_student_logits": d.logits(4, c, *size),
        "in_student_logits2": d.logits(4, c + 1, *size), "in_label": d.label(c, n, *size),
        "in_pseudo_mask": d.label(c, 4, *size), "in_row": d.classes(7, 2, *size), "in_col": d.classes(9, 2, *size),
        "in_valid": (d.uniform(2, *size) < 0.8).astype(np.uint8),
    }  # fmt: skip
    target = given["in_teacher_logits"].argmax(1)
    said = target.copy()
    for k, i, j in np.ndindex(2, *size):
        at = (given["in_row"][k, i, j], given["in_col"][k, i, j])
        target[n + k, i, j] = said[n + k][at] if given["in_valid"][k, i, j] else VOID

    def parts(z: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        human = mean_ce(z[:n], given["in_label"])
        return human, (mean_ce(z, target) + mean_ce(second, given["in_pseudo_mask"])) / 2

    z, second = given["in_student_logits"], given["in_student_logits2"]
    total, *grads = gradients(lambda *pair: 0.7 * parts(*pair)[0] + 0.4 * parts(*pair)[1], z, second)
    on_x, on_all = parts(*exact(z, second))
    hyper = {
        "num_classes": c, "supervised_weight": 0.7, "consistency_weight": 0.4, "labelled_in_batch": n,
        "unlabelled_in_batch": 2, "ignore_index": VOID,
    }  # fmt: skip
    answers = {"out_target": target, "out_sup_loss": on_x, "out_pl_loss": on_all, "out_total": total}
    return given | answers | {"out_grad_logits": grads[0], "out_grad_logits2": grads[1], "hyper": hyper}


# ---- DARS ----


@variant("dars_thresholds")
def thresholds(d: Draw) -> dict[str, Any]:
    """Five classes: nothing is wanted of one, of another more than there is, and ties."""
    counts = np.array([90, 40, 7, 300, 25])
    sure = (0.2 + 0.8 * np.round(64 * d.uniform(counts.sum())) / 64).astype(np.float16).astype(np.float32)
    prior, known, pixels, images, share = np.array([30.0, 0.0, 25.0, 20.0, 13.0]), 88.0, 777, 3, 0.03
    wanted = np.array([int(share * p / known * pixels * images) for p in prior])
    level, kept = np.zeros(5), np.zeros(5)
    for c, part in enumerate(np.split(sure, counts.cumsum()[:-1])):
        ordered = sorted(part.tolist(), reverse=True)
        level[c] = ordered[wanted[c] - 1] if wanted[c] <= counts[c] else ordered[-1]
        kept[c] = min(1.0, wanted[c] / (part >= level[c]).sum())
    assert wanted[1] == 0 and wanted[2] > counts[2] and (kept[[0, 3]] < 1).any()
    return {
        "in_confidence": sure, "in_class_counts": counts, "in_prior_percent": prior,
        "in_valid_percent": np.array(known), "in_pixels_per_image": np.array(pixels), "in_num_images": np.array(images),
        "in_labeling_ratio": np.array(share), "out_target_count": wanted, "out_threshold": level,
        "out_sampling_ratio": kept,
    }  # fmt: skip


@variant("dars_pseudo_label")
def thinned(d: Draw) -> dict[str, Any]:
    """A temperature; each threshold stands in a gap, so that half precision decides nothing."""
    c, z = 4, d.logits(3, 9, 14, 4)
    z = z + 0.5 * (z == z.max(3, keepdims=True))
    z = z.astype(np.float16).astype(np.float32)
    (p,) = exact(z / 2)
    sure, label = (t.numpy() for t in p.softmax(3).max(3))
    threshold, ratio = np.zeros(c, np.float32), np.array([0.3, 0.8, 1.0, 0.55], np.float32)
    for k in range(c):
        ordered = np.sort(sure[label == k])
        gap = np.diff(ordered)[: len(ordered) // 2].argmax()
        threshold[k] = (ordered[gap] + ordered[gap + 1]) / 2
    kept = np.where(sure >= threshold[label], label, DROPPED)
    left, counts = kept.copy(), np.zeros((2, 3, c), int)
    for n, k in np.ndindex(3, c):
        rows, columns = np.nonzero(kept[n] == k)
        away = int(len(rows) - len(rows) * float(ratio[k]))
        counts[:, n, k] = len(rows), len(rows) - away
        gone = d.rng.permutation(len(rows))[:away]
        left[n, rows[gone], columns[gone]] = DROPPED
    return {
        "in_logits": z, "in_threshold": threshold, "in_sampling_ratio": ratio, "out_thresholded": kept,
        "out_count_thresholded": counts[0], "out_count_sampled": counts[1], "out_example_sampled": left,
        "hyper": {"temperature": 2.0, "num_classes": c},
    }  # fmt: skip


# ---- SimpleBaseline ----


@variant("simple_baseline_sce", "simple_baseline_sce_batch")
def corrected(d: Draw, name: str) -> dict[str, Any]:
    """Other weights and another switch; of several pseudo-labelled images each has the mean of their maps."""
    c, alpha, beta, switch = 4, 0.7, 0.3, 0.6
    noisy = np.array([1, 0, 0] if name.endswith("sce") else [1, 0, 1])
    z, y = d.logits(3, c, 6, 11), d.label(c, 3, 6, 11)
    y[noisy == 1] = d.classes(c, noisy.sum(), 6, 11)
    known = F.one_hot(whole(y[noisy == 1])[0], c).movedim(3, 1).double()

    def of_noisy(z: Tensor, dynamic: bool) -> Tensor:
        own = z[noisy == 1]
        sure = own.detach().softmax(1).amax(1)
        w = torch.where(sure > switch, 1.0, sure).mean(0) if dynamic else 0.5
        reverse = -(own.softmax(1) * known.clamp(min=1e-4).log()).sum(1)
        return (alpha * (1 - w) * ce_of(own, y[noisy == 1]) + beta * w * reverse).mean()

    def clean(z: Tensor) -> Tensor:
        return mean_ce(z[noisy == 0], y[noisy == 0])

    answers: dict[str, Any] = {"out_noisy_dyn": of_noisy(exact(z)[0], True), "out_clean": clean(exact(z)[0])}
    for key, dynamic in (("dyn", True), ("half", False)):
        loss, grad = gradients(lambda z, dynamic=dynamic: of_noisy(z, dynamic) + clean(z), z)
        answers |= {f"out_loss_{key}": loss, f"out_grad_{key}": grad}
    given = {"in_pred": z, "in_label": y, "in_is_noisy": noisy.astype(np.float32)}
    return given | answers | {"hyper": {"alpha": alpha, "beta": beta, "switch": switch, "ignore_index": VOID}}


@variant("simple_baseline_dsbn")
def dsbn(d: Draw) -> dict[str, Any]:
    """Three images of one domain and two of the other, another momentum."""
    first, eps, momentum = 3, (1e-3, 1e-4), 0.3
    given = {"in_x": d.normal(5, 2, 10, 12), "in_conv0_weight": d.normal(4, 2, 3, 3), "in_conv0_bias": d.normal(4)}
    given |= {"in_conv3_weight": d.normal(4, 4, 1, 1), "in_conv3_bias": d.normal(4)}
    for name in ("bn1", "bn4"):
        given |= {f"in_{name}_weight": 1 + 0.3 * d.normal(4), f"in_{name}_bias": d.normal(4)}
        given |= {f"in_{name}_running_mean": d.normal(4), f"in_{name}_running_var": 0.5 + d.uniform(4)}
    of = {key[3:]: exact(value)[0] for key, value in given.items()}
    moved: dict[str, Tensor] = {}

    def norm(x: Tensor, name: str, eps: float, weights: list[Tensor]) -> Tensor:
        done = []
        for branch, part, weight in zip(("main", "aux"), (x[:first], x[first:]), weights):
            mean = part.mean((0, 2, 3))
            square = (part - mean[:, None, None]).square().mean((0, 2, 3))
            n = part.numel() / part.shape[1]
            for key, value in (("running_mean", mean), ("running_var", square * n / (n - 1))):
                moved[f"{name}_{branch}_{key}"] = ((1 - momentum) * of[f"{name}_{key}"] + momentum * value).detach()
            scale = (weight / (square + eps).sqrt())[:, None, None]
            done.append((part - mean[:, None, None]) * scale + of[f"{name}_bias"][:, None, None])
        return torch.cat(done)

    def out(x: Tensor, *weights: Tensor) -> Tensor:
        x = norm(F.conv2d(x, of["conv0_weight"], of["conv0_bias"], padding=1), "bn1", eps[0], weights[:2])
        return norm(F.conv2d(x.clamp(min=0), of["conv3_weight"], of["conv3_bias"]), "bn4", eps[1], weights[2:])

    def later(x: Tensor, name: str, eps: float) -> Tensor:
        mean, square = (moved[f"{name}_main_{key}"][:, None, None] for key in ("running_mean", "running_var"))
        weight, bias = (of[f"{name}_{key}"][:, None, None] for key in ("weight", "bias"))
        return (x - mean) / (square + eps).sqrt() * weight + bias

    weights = [given[f"in_{name}_weight"] for name in ("bn1", "bn1", "bn4", "bn4")]
    _, on_x, *on_weights = gradients(lambda *given: out(*given).square().mean(), given["in_x"], *weights)
    answers = {"out_train": out(of["x"], *exact(*weights)), "out_grad_x": on_x}
    names = [f"{name}_{branch}" for name in ("bn1", "bn4") for branch in ("main", "aux")]
    answers |= {f"out_grad_{name}_weight": grad for name, grad in zip(names, on_weights)}
    x = later(F.conv2d(of["x"], of["conv0_weight"], of["conv0_bias"], padding=1), "bn1", eps[0]).clamp(min=0)
    answers["out_eval"] = later(F.conv2d(x, of["conv3_weight"], of["conv3_bias"]), "bn4", eps[1])
    answers |= {f"out_{key}": value for key, value in moved.items()}
    return given | answers | {"hyper": {"dsbn_size": first, "eps": eps, "momentum": momentum}}
