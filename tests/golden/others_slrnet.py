"""Our own recordings of SLRNet; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from other_recordings import Draw, exact, gradients, resized, variant
from torch import Tensor

EPS = 1e-6


def length_one(t: Tensor) -> Tensor:
    return t / (EPS + t.square().sum(-1, keepdim=True).sqrt())


def start(x: Tensor, a: Tensor) -> Tensor:
    """(K, D) class means of one image's features (N, D) by logits (K, N)."""
    e = a.exp()
    p = e / e.sum(0)
    return torch.stack([(row[:, None] * x).sum(0) / (row.sum() + EPS) for row in p])


def factorised(x: Tensor, d: Tensor, w: dict[str, Tensor], steps: int, temperature: float) -> tuple[Tensor, ...]:
    """(rebuilt, coding, atoms) of one image."""
    y, atoms = x @ w["w1"].T + w["b1"], length_one(d @ w["w1"].T + w["b1"])
    for _ in range(steps):
        e = (torch.stack([y @ atom for atom in atoms]) / temperature).exp()
        c = e / e.sum(0)
        atoms = length_one(torch.stack([((row + EPS)[:, None] * y).sum(0) / (row + EPS).sum() for row in c]))
    mixed = sum(c[k][:, None] * atoms[k] for k in range(len(atoms))).clamp(min=0)
    return (x + mixed @ w["w2"].T + w["b2"]).clamp(min=0), c, atoms


def weights(d: Draw, width: int) -> dict[str, np.ndarray]:
    return {key: d.normal(*shape, scale=0.6) for key, shape in
            {"w1": (width, width), "b1": (width,), "w2": (width, width), "b2": (width,)}.items()}  # fmt: skip


@variant("slrnet_lowrank")
def lowrank(d: Draw) -> dict[str, Any]:
    """Three images, three rounds, a cold softmax."""
    x, p, cotangent, w = d.normal(3, 35, 5), d.logits(3, 4, 5, 7), d.normal(3, 35, 5), weights(d, 5)
    x64, p64, c64 = exact(x, p, cotangent)
    starts = [start(a, b.flatten(1)) for a, b in zip(x64, p64)]

    def run(x: Tensor, w1: Tensor) -> list[tuple[Tensor, ...]]:
        given = dict(zip(w, exact(*w.values()))) | {"w1": w1}
        return [factorised(a, b, given, 3, 0.4) for a, b in zip(x, starts)]

    _, grad_x, grad_w1 = gradients(lambda x, w1: sum((a[0] * b).sum() for a, b in zip(run(x, w1), c64)), x, w["w1"])
    recon, coding, atoms = (torch.stack(t) for t in zip(*run(x64, *exact(w["w1"]))))
    return {
        "in_x": x, "in_p": p, "in_cotangent": cotangent, **{f"in_{key}": value for key, value in w.items()},
        "out_dict_init": torch.stack(starts).mT, "out_recon": recon, "out_coding": coding, "out_dictionary": atoms,
        "out_grad_x": grad_x, "out_grad_w1": grad_w1, "hyper": {"num_iters": 3, "temperature": 0.4},
    }  # fmt: skip


def smoothed(image: Tensor, mask: Tensor, rounds: int, dilations: list[int]) -> Tensor:
    """PAMR of one image (3, H, W) and mask (K, H, W), pixel by pixel."""
    _, height, width = image.shape
    trust: dict[tuple[int, int], list[tuple[int, int, Tensor]]] = {}
    for y in range(height):
        for x in range(width):
            places = [
                (min(max(y + i * k, 0), height - 1), min(max(x + j * k, 0), width - 1), i or j)
                for k in dilations for i in (-1, 0, 1) for j in (-1, 0, 1)
            ]  # fmt: skip
            window = torch.stack([image[:, a, b] for a, b, _ in places])
            spread = ((window - window.mean(0)).square().sum(0) / (len(window) - 1)).sqrt()
            near = [(a, b) for a, b, other in places if other]
            like = [-((image[:, y, x] - image[:, a, b]).abs() / (1e-8 + 0.1 * spread)).mean() for a, b in near]
            e = torch.stack(like).exp()
            trust[y, x] = [(a, b, share) for (a, b), share in zip(near, e / e.sum())]
    for _ in range(rounds):
        made = torch.empty_like(mask)
        for (y, x), near in trust.items():
            made[:, y, x] = sum(share * mask[:, a, b] for a, b, share in near)
        mask = made
    return mask


@variant("slrnet_pamr")
def pamr(d: Draw) -> dict[str, Any]:
    """A dilation that leaves the image; an image that is as small as the mask in one direction."""
    image, z = d.uniform(2, 3, 7, 9), d.logits(2, 3, 7, 5)
    (i64,), m64 = exact(image), exact(z)[0].softmax(1)
    large = resized(m64, (7, 9))
    made = torch.stack([smoothed(a, b, 3, [1, 8]) for a, b in zip(i64, large)])
    return {
        "in_image": image, "in_mask": m64.float(), "out_mask": made, "hyper": {"num_iter": 3, "dilations": [1, 8]}
    }  # fmt: skip


def claims(m: Tensor, foreground: float, behind: float, low: float) -> Tensor:
    """(K, H, W) of 0 and 1 for one image."""
    g = torch.stack([
        (c > max((foreground if k else behind) * float(c.max()), low)).double() for k, c in enumerate(m)
    ])  # fmt: skip
    return g * (g.sum(0) == 1)


def seg_loss(z: Tensor, g: Tensor, tags: Tensor | None) -> Tensor:
    """Of one image: logits (K, h, w), claims (K, H, W)."""
    z, total, loss = resized(z[None], g.shape[1:])[0], g.sum(), 0.0
    for k in range(len(g)):
        loss = loss + (total - g[k].sum()) / (1 + total) * (g[k] * (z.logsumexp(0) - z[k])).sum()
    found = sum(int(c.sum() > 0) for c in g)
    return loss / g[0].numel() * (1.0 if tags is None or found == int(tags.sum()) + 1 else 0.0)


def score(z: Tensor) -> Tensor:
    """(K - 1,) of the classes of one image."""
    m, found = z.softmax(0), []
    for k in range(1, len(z)):
        size = m[k].mean()
        found.append((z[k] * m[k]).sum() / (1 + m[k].sum()) + (1 - size) ** 3 * (0.01 + size).log())
    return torch.stack(found)


@variant("slrnet_pseudo")
def pseudo(d: Draw) -> dict[str, Any]:
    """Three images; a tag that is not found, an image without any."""
    z, logits, features = d.logits(3, 4, 7, 9), d.logits(3, 4, 4, 5), d.logits(3, 4, 4, 5)
    z[0, 3] -= 20
    tags = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], np.float32)
    m, (t64, f64) = exact(z)[0].softmax(1).float(), exact(tags, features)
    said: dict[str, Any] = {"in_mask": m, "in_tags": tags, "in_logits": logits, "in_features": features}
    hyper = {}
    for name, (top, behind, low) in {"tags": (0.5, 0.8, 0.3), "notags": (0.7, 0.6, 0.4)}.items():
        masked = m.double()
        if name == "tags":
            masked = torch.cat([masked[:, :1], masked[:, 1:] * t64[:, :, None, None]], 1)
        g = torch.stack([claims(image, top, behind, low) for image in masked])
        named = list(t64) if name == "tags" else [None] * 3

        def losses(z: Tensor, g: Tensor = g, named: list = named) -> Tensor:
            return torch.stack([seg_loss(*each) for each in zip(z, g, named)])

        _, grad = gradients(lambda z, losses=losses: losses(z).sum(), logits)
        said |= {f"out_pseudo_{name}": g, f"out_loss_{name}": losses(*exact(logits)), f"out_grad_{name}": grad}
        hyper[name] = {"cutoff_top": top, "bg_factor": behind, "cutoff_low": low}
    assert said["out_loss_tags"][0] == 0 < said["out_loss_tags"][1]
    return said | {"out_cls": torch.stack([score(z) for z in f64]), "hyper": hyper}


def single(z: Tensor) -> Tensor:
    """(K - 1, h, w) with the background's logit, 1, in front."""
    return torch.cat([torch.ones_like(z[:1]), z])


@variant("slrnet_step_tags", "slrnet_step_notags")
def step(d: Draw, name: str) -> dict[str, Any]:
    """Three images, the labelled ones not in front, other weights, two rounds of factors."""
    tags, classes, width, size = name.endswith("step_tags"), 4, 5, (9, 13)
    c0, c1, c2, c3, low = 0.7, 1.5, 2.5, 0.4, 0.25
    arrays = {
        "img": d.normal(3, 3, *size), "raw": d.uniform(3, 3, *size), "labelled": np.array([0, 1, 1], np.float32),
        "tags": np.array([[1, 0, 1], [1, 0, 0], [1, 1, 0]], np.float32),
        "w_enc": d.normal(width, 3, 3, 3, scale=0.4), "b_enc": d.normal(width, scale=0.3),
        "w_aux": d.normal(classes - tags, width, 1, 1), "b_aux": d.normal(classes - tags, scale=0.3),
        "w_seg": d.normal(classes - tags, width, 1, 1), "b_seg": d.normal(classes - tags, scale=0.3),
        **weights(d, width),
    }  # fmt: skip
    label = np.stack([d.classes(classes, *size), 1 * (d.uniform(*size) < 0.4), d.classes(2, *size) + 1])
    label[2, :3] = 0
    truth = np.moveaxis(np.eye(classes, dtype=np.float32)[label], -1, 1)
    truth[1, :, 4:6] = 0  # nobody knows
    given = dict(zip(arrays, exact(*arrays.values())))
    (truth64,) = exact(truth)

    def encode(image: Tensor, w: dict[str, Tensor]) -> Tensor:
        return F.conv2d(image, w["w_enc"], w["b_enc"], stride=2, padding=1).clamp(min=0)

    def head(f: Tensor, w: dict[str, Tensor], of: str) -> Tensor:
        return torch.einsum("kd,dhw->khw", w[f"w_{of}"][:, :, 0, 0], f) + w[f"b_{of}"][:, None, None]

    def image(i: int, w: dict[str, Tensor]) -> dict[str, Tensor]:
        f1, f2 = encode(w["img"][i : i + 1], w)[0], encode(resized(w["img"][i : i + 1], (6, 9)), w)[0]
        a = head(f1, w, "aux")
        a = torch.cat([1 - a.max(0, keepdim=True).values, a]) if tags else a
        rows = [f.flatten(1).T for f in (f1, f2)]
        first = start(rows[0], a.flatten(1)).detach()
        made, coding, _ = factorised(torch.cat(rows), first, w, 2, 0.8)
        n, sizes = len(rows[0]), (f1.shape[1:], f2.shape[1:])
        maps = [part.T.reshape(width, *s) for part, s in zip((made[:n], made[n:]), sizes)]
        codes = [part.reshape(classes, *s) for part, s in zip((coding[:, :n], coding[:, n:]), sizes)]
        z1, z2 = (single(head(map, w, "seg")) if tags else head(map, w, "seg") for map in maps)
        up = lambda t: resized(t[None], sizes[0])[0]  # noqa: E731
        m1, m2 = z1.softmax(0), up(z2.softmax(0))
        t = torch.cat([torch.ones(1).double(), w["tags"][i]]) if tags else torch.ones(classes).double()
        m = ((m1 + m2) / 2).detach()
        m = m if tags else torch.cat([m[:1] ** 3, m[1:]])
        small = resized(w["raw"][i : i + 1], sizes[0])[0]
        m = resized(smoothed(small, m, 2, [1, 3])[None], size)[0] * t[:, None, None]
        g = truth64[i] if w["labelled"][i] else claims(m, 0.55, 0.75, low)
        named = w["tags"][i] if tags else None
        seg = seg_loss(z1, g, named) + seg_loss(up(z2), g, named) + 0.4 * seg_loss(a, g, named)
        of_tags = torch.zeros(()).double()
        if tags:
            for z, weight in ((z1, 1.0), (z2, 1.0), (a, 0.4)):
                p = 1 / (1 + (-score(z)).exp())
                of_tags = of_tags - weight * (named * p.log() + (1 - named) * (1 - p).log()).mean()
        top = lambda c: torch.where(c == c.max(0, keepdim=True).values, c, 0.0)  # noqa: E731
        return {
            "seg": seg, "cls": seg if w["labelled"][i] else of_tags, "g": g,
            "reg": ((m1 - m2).abs() * t[:, None, None])[1:].mean(),
            "code": (top(codes[0]) - top(up(codes[1]))).abs().mean(),
        }  # fmt: skip

    def total(w: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        found = [image(i, w) for i in range(3)]
        seen = {key: torch.stack([one[key] for one in found]) for key in found[0]}
        strong = (seen["seg"] * w["labelled"]).sum() / w["labelled"].sum()
        sums = c0 * seen["cls"].mean() + c1 * seen["reg"].mean() + c2 * seen["code"].mean() + c3 * strong
        return sums + c3 * seen["seg"].mean(), seen

    learned = ("w_enc", "w_seg", "w1")
    loss, *grads = gradients(
        lambda *leaves: total(given | dict(zip(learned, leaves)))[0], *(arrays[key] for key in learned)
    )
    seen = total(given)[1]
    assert seen["g"][0].sum() > 5
    return {
        **{f"in_{key}": value for key, value in arrays.items()}, "in_seg": truth,
        "out_cls_loss": seen["cls"], "out_seg_loss": seen["seg"], "out_reg_loss": seen["reg"].mean()[None],
        "out_code_loss": seen["code"].mean()[None], "out_pseudo": seen["g"], "out_total": loss,
        **{f"out_grad_{key}": grad for key, grad in zip(learned, grads)},
        "arrays": {"out_total": f"{c0}*cls.mean + {c1}*reg + {c2}*code + {c3}*seg[labelled].mean + {c3}*seg.mean"},
        "hyper": {
            "scale_factor": 0.7, "num_iters": 2, "temperature": 0.8, "pamr_iter": 2, "pamr_dilations": [1, 3],
            "pseudo": f"cutoff_top 0.55, cutoff_low {low}, background factor 0.75",
        },
    }  # fmt: skip
