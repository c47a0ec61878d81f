"""Our own recordings of AdvCAM; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import Draw, exact, variant
from torch import Tensor


@variant("advcam_pieces")
def pieces(d: Draw) -> dict[str, Any]:
    """Another step, which leaves the range of the images."""
    grads, maps = d.normal(2, 5, 4, 7), d.uniform(2, 5, 4, 7)
    image, upward = d.normal(2, 3, 4, 7), d.normal(2, 3, 4, 7)
    eps, share = 1.7, 0.6
    g, f, x, up = exact(grads, maps, image, upward)
    positive = sum(1 for value in g.flatten().tolist() if value > 0)
    weights = torch.stack([torch.stack([g[i, k].sum() / positive for k in range(5)]) for i in range(2)])
    cam = torch.stack([sum(weights[i, k] * f[i, k] for k in range(5)) for i in range(2)]).clamp(min=0)
    moved = (x + eps * up / up.abs().max()).clamp(float(x.min()), float(x.max()))
    assert (moved == x.max()).sum() > 1
    return {
        "in_grads": grads, "in_fmaps": maps, "in_image": image, "in_image_grad": upward,
        "out_weights": weights[:, :, None, None], "out_gradcam": cam[:, None], "out_next_image": moved,
        "out_mask": (cam[:1] / cam[0].max() > share).double(), "hyper": {"eps": eps, "score_th": share},
    }  # fmt: skip


@variant("advcam_random_walk")
def random_walk(d: Draw) -> dict[str, Any]:
    """Another radius and power, step by step instead of squared; a wall."""
    height, width, radius, power, doublings = 5, 9, 3, 4, 3
    cam, edge = d.uniform(2, height, width), 0.8 * d.uniform(1, height, width)
    edge[0, :, 4] = 1
    maps, (e,) = exact(cam, edge)
    places = [(y, x) for y in range(height) for x in range(width)]
    close = torch.eye(len(places)).double()
    for i, (ya, xa) in enumerate(places):
        for j, (yb, xb) in enumerate(places):
            dy, dx = yb - ya, xb - xa
            if 0 < dy * dy + dx * dx < radius * radius:
                way = [
                    e[y, x] for y, x in places
                    if min(ya, yb) <= y <= max(ya, yb) and min(xa, xb) <= x <= max(xa, xb)
                    and abs(dy * (x - xa) - dx * (y - ya)) < np.hypot(dy, dx)
                ]  # fmt: skip
                close[i, j] = (1 - max(way)) ** power
    step = close / close.sum(0)
    found = (maps * (1 - e)).flatten(1)
    for _ in range(2**doublings):
        found = found @ step
    return {
        "in_cam": cam, "in_edge": edge, "out_rw": found.reshape(2, 1, height, width),
        "hyper": {"radius": radius, "beta": power, "exp_times": doublings},
    }  # fmt: skip


@variant("advcam_climb")
def climb(d: Draw) -> dict[str, Any]:
    """Few steps, which a small scale makes as many of, three tags, each climbing by itself; other figures."""
    steps, weight, size, share, side, classes = 5, 3.0, 0.2, 0.3, 12, 4
    arrays: dict[str, np.ndarray] = {"label": np.array([1, 0, 1, 1], np.float32)}
    for name, scale in (("05", 0.5), ("10", 1), ("15", 1.5), ("20", 2)):
        image = d.normal(1, 3, int(side * scale), int(side * scale))
        arrays[f"img_{name}"] = np.concatenate([image, image[..., ::-1]])
    arrays |= {
        "w_conv1": d.normal(5, 3, 3, 3, scale=0.3), "b_conv1": d.normal(5, scale=0.2),
        "w_stage4": d.normal(6, 5, 3, 3, scale=0.3), "b_stage4": d.normal(6, scale=0.2) + 0.1,
        "w_classifier": d.normal(classes, 6, 1, 1) + 0.6,
    }  # fmt: skip
    w = dict(zip(arrays, exact(*arrays.values())))

    def features(x: Tensor) -> Tensor:
        x = F.conv2d(x, w["w_conv1"], w["b_conv1"], 2, 1).clamp(min=0)
        return F.conv2d(x, w["w_stage4"], w["b_stage4"], 2, 1).clamp(min=0)

    def look(x: Tensor, c: int) -> tuple[Tensor, Tensor]:
        """(2, h, w) attribution, whose channel weights are held, and (2, K) means of the positive class maps."""
        held = features(x.detach()).detach().requires_grad_()
        (g,) = torch.autograd.grad(F.conv2d(held, w["w_classifier"])[:, c].clamp(min=0).sum(), held)
        f = features(x)
        seen = (f * (g.sum((2, 3), keepdim=True) / (g > 0).sum())).sum(1).clamp(min=0)
        return seen, F.conv2d(f, w["w_classifier"]).clamp(min=0).mean((2, 3))

    answers: dict[str, Any] = {}
    sums = []
    for name in ("05", "10", "15", "20"):
        of_tags = []
        for c in w["label"].nonzero()[:, 0].tolist():
            x, total, first = w[f"img_{name}"], 0.0, None
            for t in range(steps):
                x = x.detach().requires_grad_()
                seen, score = look(x, c)
                a = seen[0] + seen[1].flip(-1)
                first = a.detach() if first is None else first
                m = (a / a.max() > share).double()
                others = sum(score[:, k].sum() for k in range(classes) if k != c)
                objective = score[:, c].sum() - others - weight * ((a - first).abs() * m).sum()
                (up,) = torch.autograd.grad(objective, x)
                total = total + a.detach()
                x = x.detach()
                moved = (x + size * up / up.abs().max()).clamp(float(x.min()), float(x.max()))
                if name == "10" and not of_tags and t == 0:
                    answers |= {
                        "out_first_grad": up,
                        "out_first_step": moved,
                        "out_regions_first": seen.detach()[:, None],
                    }
                x = moved
            if name == "10" and not of_tags:
                answers |= {"out_last_image": x, "out_regions_last": seen.detach()[:, None]}
            assert total.max() > 0
            of_tags.append(total)
        sums.append(torch.stack(of_tags)[None])
    for key, n in (("out_cam", side // 4), ("out_high_res", side)):
        map = sum(F.interpolate(s, (n, n), mode="bilinear", align_corners=False) for s in sums)[0]
        answers[key] = map / (map.amax((1, 2), keepdim=True) + 1e-5)
    hyper = {"adv_iter": steps, "AD_coeff": weight, "AD_stepsize": size, "score_th": share}
    answers["out_steps"] = np.array([steps] * 4)
    return {f"in_{key}": value for key, value in arrays.items()} | answers | {"hyper": hyper}
