"""Our own recordings of ALS4GAN and S4AL; see `other_recordings`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import Draw, exact, gradients, variant
from torch import Tensor

NDF, UP, CLASSES, IMAGES = 3, 4, 4, 3


def as_grown(x: Tensor) -> Tensor:
    return x.repeat_interleave(UP, -1).repeat_interleave(UP, -2)


def convolved(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution of 4 x 4 with stride 2 and a border of one pixel, by unfolding."""
    columns = F.unfold(x, 4, padding=1, stride=2)
    out = torch.einsum("ok,bkn->bon", weight.flatten(1), columns) + bias[:, None]
    return out.view(len(x), -1, x.shape[2] // 2, x.shape[3] // 2)


def judged(given: dict[str, np.ndarray], maps: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """(probability (B, 1), traits (B, F)) of the critic: the release pools 20 x 20 cells, here as many as there are."""
    x = torch.cat([maps, image], 1)
    for k in range(1, 5):
        x = convolved(x, *exact(given[f"in_d_conv{k}_weight"], given[f"in_d_conv{k}_bias"]))
        x = torch.where(x > 0, x, 0.2 * x)
    traits = x.flatten(2).mean(2)
    weight, bias = exact(given["in_d_fc_weight"], given["in_d_fc_bias"])
    return torch.sigmoid(traits @ weight.T + bias), traits


@variant("als4gan_s4gan")
def als4gan_s4gan(d: Draw) -> dict[str, Any]:
    """Some labels are void; the images are neither square nor in [0, 1]."""
    size, widths = (8, 12), [CLASSES + 3, NDF, 2 * NDF, 4 * NDF, 8 * NDF]
    given = {f"in_d_conv{k}_weight": d.normal(b, a, 4, 4, scale=0.3) for k, (a, b) in enumerate(pairwise(widths), 1)}
    given |= {f"in_d_conv{k}_bias": d.normal(b, scale=0.3) for k, b in enumerate(widths[1:], 1)}
    given |= {"in_d_fc_weight": d.normal(1, widths[-1]), "in_d_fc_bias": d.normal(1)}
    given |= {f"in_image_{k}": d.normal(IMAGES, 3, *size) for k in ("unlabelled", "gt", "labelled")}
    given |= {"in_pred": d.logits(IMAGES, CLASSES, *size), "in_gt": d.label(CLASSES, IMAGES, *size, void=255)}
    u, g, x = (exact(given[f"in_image_{k}"])[0] for k in ("unlabelled", "gt", "labelled"))
    u, g = as_grown((u - u.min()) / (u.max() - u.min())), as_grown((g - g.min()) / (x.max() - x.min()))
    real = torch.zeros(IMAGES, CLASSES, *size, dtype=torch.double)
    for b, i, j in np.ndindex(IMAGES, *size):
        if given["in_gt"][b, i, j] != 255:
            real[b, given["in_gt"][b, i, j], i, j] = 1
    d_real, of_real = judged(given, as_grown(real), g)

    def apart(z: Tensor) -> Tensor:
        _, of_fake = judged(given, as_grown(z).softmax(1), u)
        return sum((of_real[:, k].sum() / IMAGES - of_fake[:, k].sum() / IMAGES).abs() for k in range(8 * NDF)) / (
            8 * NDF
        )

    matched, gradient = gradients(apart, given["in_pred"])
    z = exact(given["in_pred"])[0]
    d_fake, of_fake = judged(given, as_grown(z).softmax(1), u)
    tau = float(d_fake.sort(0).values[0] + d_fake.sort(0).values[1]) / 2  # two of three pass
    passed = [b for b in range(IMAGES) if d_fake[b] > tau]
    own = torch.stack([-z[b].log_softmax(0).max(0).values for b in passed]).mean()
    return given | {
        "out_d_fake": d_fake, "out_feat_fake": of_fake, "out_d_real": d_real, "out_feat_real": of_real,
        "out_fm": matched, "out_grad_pred": gradient, "out_st": own,
        "out_selected": np.array([b in passed for b in range(IMAGES)], np.int32),
        "out_d_loss": -((1 - d_fake).log().mean() + d_real.log().mean()) / 2,
        "hyper": {"upsample": UP, "ndf": NDF, "threshold": tau},
    }  # fmt: skip


@variant("s4al_acquisition")
def s4al_acquisition(d: Draw) -> dict[str, Any]:
    """A grid of 3 x 5 cells in three images, one with fewer doubtful cells than are asked for, by loops."""
    side, count, logit = 5, 3, d.logits(3, 4, 6, 9)
    given, size = {"in_logit": logit}, (15, 25)
    known = np.zeros((3, *size), np.int32)
    known[0, :7, :11], known[1] = 1, 1
    known[1, :5, :5] = 0
    large = F.interpolate(exact(logit)[0], size, mode="bilinear", align_corners=True).softmax(1).numpy()
    score, asked = np.zeros((3, 3, 5)), known.copy()
    for b, i, j in np.ndindex(score.shape):
        total = 0.0
        for y, x in np.ndindex(side, side):
            y, x = i * side + y, j * side + x
            total -= 0 if known[b, y, x] else sum(p * np.log(p) for p in large[b, :, y, x])
        score[b, i, j] = total / side**2
    for b in (0, 2):
        for k in np.argsort(-score[b].ravel())[:count]:
            i, j = divmod(int(k), 5)
            asked[b, i * side : (i + 1) * side, j * side : (j + 1) * side] = 1
    asked, score, known, given["in_logit"] = asked[::2], score[::2], known[::2], logit[::2]
    return given | {
        "in_labelled_mask": known, "out_labelled_mask": asked, "out_region_score": score,
        "hyper": {"region_size": side, "num_regions": count},
    }  # fmt: skip


@variant("s4al_unsup_loss")
def s4al_unsup_loss(d: Draw) -> dict[str, Any]:
    """Three images, the second wholly asked, some asked pixels void; pixel by pixel."""
    size, tau = (7, 10), 0.8
    teacher, pred = d.logits(3, 4, *size), d.logits(3, 4, *size)
    gt, asked = d.label(4, 3, *size, void=-1), (d.uniform(3, *size) < 0.3).astype(np.int32)
    asked[1] = 1
    p = exact(teacher)[0].softmax(1).numpy()
    label, conf = p.argmax(1), p.max(1)
    label, conf = np.where(asked == 1, gt, label), np.where(asked == 1, 1.0, conf)
    label[:, :, :2] = -1
    share = [(conf[b] >= tau).sum() / (label[b] >= 0).sum() for b in range(3)]

    def loss(weigh: bool) -> Any:
        def of(z: Tensor) -> Tensor:
            log_p, total, count = z.log_softmax(1), torch.zeros((), dtype=torch.double), 0
            for b, y, x in np.ndindex(label.shape):
                if label[b, y, x] >= 0:
                    total = total - share[b] * (conf[b, y, x] if weigh else 1.0) * log_p[b, label[b, y, x], y, x]
                    count += 1
            return total / count

        return of

    (l_0, g_0), (l_1, g_1) = (gradients(loss(weigh), pred) for weigh in (False, True))
    return {
        "in_teacher_logit": teacher, "in_pred": pred, "in_gt": gt, "in_region_mask": asked, "out_label": label,
        "out_conf": conf, "out_loss_w0": l_0, "out_grad_w0": g_0, "out_loss_w1": l_1, "out_grad_w1": g_1,
        "hyper": {"strong_threshold": tau},
    }  # fmt: skip


@variant("s4al_biased_mix")
def s4al_biased_mix(d: Draw) -> dict[str, Any]:
    """Three pairs of images, some void pixels, one donor of which nothing is chosen."""
    size, classes = (6, 9), 5
    given = {
        "in_img": d.normal(6, 3, *size),
        "in_label": d.label(classes, 6, *size, void=-1),
        "in_conf": d.uniform(6, *size),
    }
    chosen = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 1, 1, 0, 1]], np.int32)
    found = {key: given[f"in_{key}"][:3].copy() for key in ("img", "label", "conf")}
    for b, y, x in np.ndindex(3, *size):
        label = given["in_label"][3 + b, y, x]
        if label >= 0 and chosen[b, label]:
            found["img"][b, :, y, x] = given["in_img"][3 + b, :, y, x]
            found["label"][b, y, x], found["conf"][b, y, x] = label, given["in_conf"][3 + b, y, x]
    return given | {"in_chosen": chosen} | {f"out_{key}": value for key, value in found.items()}
