"""Our own recordings of networks that teach each other; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from other_recordings import Draw, ce_of, exact, gradients, mean_ce, mixed, variant, whole
from torch import Tensor


def regions(f: Tensor, cells: int) -> list[Tensor]:
    """The means of the cells of a map (D, h, w), row by row; neighbouring cells may share pixels."""
    height, width = f.shape[1:]
    return [
        f[:, i * height // cells : -(-(i + 1) * height // cells), j * width // cells : -(-(j + 1) * width // cells)]
        .flatten(1).mean(1)
        for i in range(cells) for j in range(cells)
    ]  # fmt: skip


@variant("mgd_losses")
def mgd_losses(d: Draw) -> dict[str, Any]:
    """Three images, teachers' features of another width and size than the student's, odd regions."""
    batch, classes, size, lambda_1, lambda_2, cells = 3, 5, (9, 14), 0.03, 7.0, 3
    parts = ("u0", "u1", "mix", "sup")
    given = {
        f"in_{net}_{part}": d.logits(batch, classes, *size)
        for net in ("student", "wide_teacher", "deep_teacher") for part in parts
    }  # fmt: skip
    given |= {"in_label": d.label(classes, batch, *size, void=255), "in_mask": d.box(batch, *size)[:, None]}
    given |= {"in_student_feat": d.normal(batch, 6, 8, 11), "in_wide_teacher_feat": d.normal(batch, 4, 10, 7)}
    of = {key.removeprefix("in_"): exact(value)[0] for key, value in given.items()}
    label, m = whole(given["in_label"])[0], of["mask"]
    y = {
        net: mixed(m, of[f"{net}_u1"], of[f"{net}_u0"]).argmax(1) for net in ("student", "wide_teacher", "deep_teacher")
    }

    def terms(s: Tensor, z: Tensor, f: Tensor) -> tuple[Tensor, ...]:
        consist = 0.0
        for teacher in ("wide_teacher", "deep_teacher"):
            consist = consist + ce_of(s, y[teacher]).mean() + ce_of(of[f"{teacher}_mix"], y["student"]).mean()
            consist = consist + ce_of(z, of[f"{teacher}_sup"].argmax(1)).mean()
            consist = consist + ce_of(of[f"{teacher}_sup"], z.argmax(1)).mean()
        semantic = lambda_1 * sum(
            (s[b, c].mean() - of["deep_teacher_mix"][b, c].mean()).abs() for b in range(batch) for c in range(classes)
        )
        content = 0.0
        for own, theirs in zip(f, of["wide_teacher_feat"]):
            a, b = regions(own, cells), regions(theirs, cells)
            for i in range(len(a)):
                for j in range(len(a)):
                    apart = torch.cosine_similarity(a[i], a[j], dim=0) - torch.cosine_similarity(b[i], b[j], dim=0)
                    content = content + lambda_2 * apart**2 / (batch * len(a) ** 2)
        return mean_ce(z, label, 255), consist, semantic, content

    teachers = sum(mean_ce(of[f"{teacher}_sup"], label, 255) for teacher in ("wide_teacher", "deep_teacher"))
    names = ("student_mix", "student_sup", "student_feat")
    leaves = [given[f"in_{name}"] for name in names]
    total, *grads = gradients(lambda s, z, f: sum(terms(s, z, f)) + teachers, *leaves)
    answers = dict(zip(("loss_sup_student", "consist", "semantic", "content"), terms(*exact(*leaves))))
    return {
        **given,
        **{f"out_{name}": value for name, value in answers.items()},
        "out_loss": total,
        **{f"out_grad_{name}": grad for name, grad in zip(names, grads)},
        "hyper": {"classes": classes, "lambda_1": lambda_1, "lambda_2": lambda_2, "pool": cells},
    }


@variant("ads_dgw_warp")
def ads_dgw_warp(d: Draw) -> dict[str, Any]:
    """The spline of r by its equations, the sampling by loops, in float64; the release's grid, axes exchanged."""
    side, batch, channels, blocks, apart, move = 16, 3, 2, 3, 0.15, 0.25
    image, cotangent = d.normal(batch, side, side, channels), d.normal(batch, channels, side, side)
    draws, block, last = d.normal(4, blocks**2), side // blocks, side - 1
    corners = [(0, 0), (last, last), (0, last), (last, 0)]
    centres = [(int((i + 0.5) * block), int((j + 0.5) * block)) for i in range(blocks) for j in range(blocks)]

    def moved(point: tuple[int, int], drawn: np.ndarray, share: float) -> tuple[int, int]:
        return tuple(int(min(max(at + share * block * by, 0), last)) for at, by in zip(point, drawn))

    inner = [moved(centre, draws[:2, k], apart) for k, centre in enumerate(centres)]
    source = np.array(corners + inner, float)
    to = np.array(corners + [moved(point, draws[2:, k], move) for k, point in enumerate(inner)], float)
    n = len(to)
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = np.linalg.norm(to[:, None] - to[None], axis=2)
    system[:n, n:], system[n:, :n] = np.c_[to, np.ones(n)], np.c_[to, np.ones(n)].T
    weight = np.linalg.solve(system, np.r_[to - source, np.zeros((3, 2))])
    flow = np.zeros((side, side, 2))
    for row in range(side):
        for column in range(side):
            far = np.linalg.norm(to - [row, column], axis=1)
            flow[row, column] = np.r_[far, row, column, 1] @ weight
    x = exact(image)[0].requires_grad_()

    def read(y: float, at: float) -> Tensor:
        """(B, C) the images at a place, zero outside."""
        found = torch.zeros(batch, channels, dtype=torch.double)
        for i in (int(np.floor(y)), int(np.floor(y)) + 1):
            for j in (int(np.floor(at)), int(np.floor(at)) + 1):
                if 0 <= i < side and 0 <= j < side:
                    found = found + (1 - abs(y - i)) * (1 - abs(at - j)) * x[:, i, j]
        return found

    out = {}
    for name in ("true", "false"):
        rows = []
        for row in range(side):
            line = []
            for column in range(side):
                across, down = column - flow[row, column, 0], row - flow[row, column, 1]
                if name == "false":  # -1 and 1 are the outer borders of the outermost pixels
                    across, down = (p * side / last - 0.5 for p in (across, down))
                line.append(read(down, across))
            rows.append(torch.stack(line, 2))
        out[name] = torch.stack(rows, 2)
    (out["false"] * exact(cotangent)[0]).sum().backward()
    return {
        "in_image": image, "in_cotangent": cotangent, "in_centres": np.array(corners + centres), "in_randn": draws,
        "out_source": source[None], "out_dest": to[None], "out_flow": flow[None],
        "out_warped_align_true": out["true"], "out_warped_align_false": out["false"],
        "out_grad_image_align_false": x.grad,
        "hyper": {"num_split": blocks, "fix_corner": True, "interpolation_order": 1, "img": side,
                  "src_rand_range": apart, "dst_rand_range": move},
    }  # fmt: skip


@variant("ads_stabilization")
def ads_stabilization(d: Draw) -> dict[str, Any]:
    """Pixel by pixel; half of them are sure, some of the answers are equal both ways."""
    batch, classes, size, tau, con, stab = 3, 4, (7, 10), 0.6, 4.0, 30.0
    given = {f"in_{k}_warped_input": d.logits(batch, classes, *size) for k in "lr"}
    for k in "lr":
        noise = d.normal(batch, classes, *size, scale=4.0)
        given[f"in_{k}_warped_output"] = given[f"in_{k}_warped_input"] + noise * (d.uniform(*noise.shape) < 0.3)
    a, b = (dict(zip("lr", exact(*(given[f"in_{k}_warped_{what}"] for k in "lr")))) for what in ("input", "output"))
    goal = {k: a[k].clone() for k in "lr"}
    for i, y, x in np.ndindex(batch, *size):
        steady, apart = {}, {}
        for k in "lr":
            p, q = (z[k][i, :, y, x].softmax(0) for z in (a, b))
            steady[k] = bool(p.argmax() == q.argmax() and max(p.max(), q.max()) > tau)
            apart[k] = float((a[k][i, :, y, x] - b[k][i, :, y, x]).square().mean())
        for own, other in ("lr", "rl"):
            if steady[other] and (not steady[own] or apart[other] <= apart[own]):
                goal[own][i, :, y, x] = a[other][i, :, y, x]

    def square(z: Tensor, t: Tensor) -> Tensor:
        return ((z.softmax(1) - t.softmax(1)) ** 2).mean()

    out = {}
    for k in "lr":
        leaf = given[f"in_{k}_warped_input"]
        out[f"out_{k}_consistency"], by_con = gradients(lambda z, k=k: con * square(z, b[k]), leaf)
        out[f"out_{k}_stabilization"], by_stab = gradients(lambda z, k=k: stab * square(z, goal[k]), leaf)
        out |= {f"out_grad_{k}": by_con + by_stab, f"out_target_for_{k}": goal[k]}
    hyper = {"consistency_weight": con, "stabilization_weight": stab, "stable_threshold": tau}
    return {**given, **out, "hyper": hyper}


@variant("ads_discriminator")
def ads_discriminator(d: Draw) -> dict[str, Any]:
    """Every convolution as a product with the patches of the map."""
    width, size = 3, (37, 21)
    given = {"in_x": d.uniform(3, 8, *size)}
    inputs = 8
    for k in range(4):
        outputs = width * 2**k
        given[f"in_w_conv{k + 1}__weight"] = d.normal(outputs, inputs, 4, 4, scale=0.15)
        given[f"in_w_conv{k + 1}__bias"], inputs = d.normal(outputs, scale=0.1), outputs
    given |= {"in_w_fc__weight": d.normal(1, inputs), "in_w_fc__bias": d.normal(1)}
    w = {key.removeprefix("in_w_"): exact(value)[0] for key, value in given.items() if key != "in_x"}

    def features(x: Tensor) -> Tensor:
        for k in range(1, 5):
            high, wide = (x.shape[2] - 2) // 2 + 1, (x.shape[3] - 2) // 2 + 1
            patches = torch.nn.functional.unfold(x, 4, padding=1, stride=2)
            x = torch.einsum("of,bfn->bon", w[f"conv{k}__weight"].flatten(1), patches) + w[f"conv{k}__bias"][:, None]
            x = torch.maximum(x, 0.2 * x).view(len(x), -1, high, wide)
        return x.mean((2, 3))

    def p(x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-(features(x) @ w["fc__weight"].T + w["fc__bias"])))

    x = exact(given["in_x"])[0]
    _, grad = gradients(lambda x: p(x).sum(), given["in_x"])
    hyper = {"ndf": width, "real_ndf": 64, "leaky_slope": 0.2}
    return {
        **given, "out_prob": p(x), "out_feature": features(x)[:, :, None, None], "out_grad_x": grad, "hyper": hyper
    }  # fmt: skip


@variant("ads_selftrain_fm")
def ads_selftrain_fm(d: Draw) -> dict[str, Any]:
    z, score = d.logits(3, 6, 8, 5), np.array([[0.75], [0.7], [0.9]], np.float32)
    real, fake = d.normal(3, 7, 1, 1), d.normal(3, 7, 1, 1)
    keep, lambda_st, lambda_fm = [0, 2], 0.5, 3.0
    own, by_z = gradients(lambda z: lambda_st * ce_of(z[keep], z[keep].argmax(1)).mean(), z)
    r = exact(real)[0]
    matching, by_fake = gradients(lambda f: lambda_fm * (r.mean(0) - f.mean(0)).abs().sum() / 7, fake)
    return {
        "in_logits": z, "in_d_score": score, "in_d_feature_real": real, "in_d_feature_pred": fake,
        "out_n_selected": np.int64(2), "out_selftrain_loss": own, "out_grad_logits": by_z, "out_fm_loss": matching,
        "out_grad_d_feature_pred": by_fake,
        "hyper": {"lambda_st": lambda_st, "lambda_fm": lambda_fm, "threshold_st": 0.72},
    }  # fmt: skip
