"""Our own recordings of ALS4GAN; see `other_recordings`."""

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
