"""Our own recordings of distillations; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import torch
from other_recordings import VOID, Draw, ce_of, exact, gradients, hard_ce, mean_ce, resized, variant
from torch import Tensor

SIZE = (9, 14)
WHO, SETS = ("tiny", "cnn", "vit"), ("sup", "unsup")


def waves(side: int) -> Tensor:
    """(side, side) complex: row k is the wave that turns k - side // 2 times."""
    turns = torch.outer(torch.arange(side) - side // 2, torch.arange(side)).double()
    return torch.exp(-2j * torch.pi * turns / side)


def filtered(x: Tensor, radius: float, low: bool) -> Tensor:
    """The spectrum as a product with all waves, lowest frequency in the middle, and back by the conjugate ones."""
    h, w = x.shape[-2:]
    a, b = waves(h), waves(w)
    spectrum = a @ x.to(a.dtype) @ b.mT
    far = (torch.arange(h)[:, None] - (h - 1) // 2) ** 2 + (torch.arange(w) - (w - 1) // 2) ** 2
    keep = torch.exp(-far.double() / (2 * radius**2))
    found = a.conj().mT @ (spectrum * (keep if low else 1 - keep)) @ b.conj() / (h * w)
    return (found.real.square() + found.imag.square()).sqrt()


@variant("tri_kd_frequency_select")
def frequency_select(d: Draw) -> dict[str, Any]:
    """One side odd, one even; another radius."""
    given = {"x": d.normal(3, 4, *SIZE), "w_atten": d.normal(4, 4, 1, 1), "w_conv": d.normal(3, 4, 1, 1)}
    cotangent, radius, answers = d.normal(3, 3, *SIZE), 3.0, {}
    _, atten, conv = (t[:, :, 0, 0] if k else t for k, t in enumerate(exact(*given.values())))

    for name, low in (("low", True), ("high", False)):

        def y(x: Tensor, low: bool = low) -> Tensor:
            a = (filtered(x, radius, low).mean((2, 3)) @ atten.mT).sigmoid()
            return torch.einsum("oc,bchw->bohw", conv, x * (1 + a[:, :, None, None]))

        _, grad = gradients(lambda x, y=y: (y(x) * exact(cotangent)[0]).sum(), given["x"])
        x = exact(given["x"])[0]
        answers |= {f"out_filtered_{name}": filtered(x, radius, low), f"out_y_{name}": y(x), f"out_grad_x_{name}": grad}
    return {f"in_{k}": v for k, v in given.items()} | answers | {"in_cotangent": cotangent, "hyper": {"D0": radius}}


@variant("tri_kd_losses")
def losses(d: Draw) -> dict[str, Any]:
    """Maps that are not square, attention of another form, weights of their own for the networks."""
    given = {f"{kind}_{who}": d.logits(3, 4, *SIZE) for kind in SETS for who in WHO}
    given |= {f"feat_{kind}_{who}": d.normal(3, 5, 4, 7) for kind in SETS for who in ("tiny", "cnn")}
    given |= {f"attn_{kind}_{who}": d.normal(3, 2, n, n) for kind in SETS for who, n in (("tiny", 4), ("vit", 11))}
    label, keys = d.label(4, 3, *SIZE), list(given)
    hyper = {
        "cps_weight": 0.3, "low_weight": 0.7, "high_weight": 0.2, "net_weights": [1, 0.5, 2], "ohem_thresh": 0.6,
        "ohem_min_kept": 50, "ignore_index": VOID,
    }  # fmt: skip

    def parts(*leaves: Tensor) -> dict[str, Tensor]:
        of = dict(zip(keys, leaves))
        hard = {who: hard_ce(of[f"sup_{who}"], label, 0.6, 50) for who in ("tiny", "cnn")}
        z = {who: of[f"unsup_{who}"] for who in WHO}
        cps = {a: sum(ce_of(z[a], z[b].argmax(1), -1).mean() for b in WHO if b != a) for a in WHO}
        feats = {who: torch.cat([of[f"feat_{kind}_{who}"] for kind in SETS]) for who in ("tiny", "cnn")}
        attn = {who: torch.cat([of[f"attn_{kind}_{who}"] for kind in SETS]) for who in ("tiny", "vit")}
        q, p = resized(attn["tiny"], (11, 11)).log_softmax(-1), attn["vit"].detach().softmax(-1)
        return {
            **{f"loss_sup_{who}": value for who, value in hard.items()},
            "loss_sup_vit": mean_ce(of["sup_vit"], label),
            **{f"cps_{who}": value for who, value in cps.items()},
            "low_mse": (feats["tiny"] - feats["cnn"].detach()).square().mean(),
            "high_kl": (p * (p.log() - q)).mean(),
        }

    def total(*leaves: Tensor) -> Tensor:
        found = parts(*leaves)
        sup = sum(w * found[f"loss_sup_{who}"] for w, who in zip(hyper["net_weights"], WHO))
        cps = sum(found[f"cps_{who}"] for who in WHO)
        return sup + 0.3 * cps + 0.7 * found["low_mse"] + 0.2 * found["high_kl"]

    value, *grads = gradients(total, *given.values())
    return {
        **{f"in_{key}": array for key, array in given.items()},
        "in_label": label,
        **{f"out_{key}": term for key, term in parts(*exact(*given.values())).items()},
        "out_loss": value,
        **{f"out_grad_{key}": grad for key, grad in zip(keys, grads)},
        "hyper": hyper,
    }
