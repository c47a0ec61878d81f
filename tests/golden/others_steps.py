"""Our own recordings of whole steps; see `other_recordings`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from other_recordings import Draw, ce_of, exact, gradients, hard_ce, mean_ce, mixed, variant
from torch import Tensor

SIZE = (9, 14)
KEYS = ("x", "u_w", "u_w_mix", "u_s1", "u_s2", "u_w_fp")


def weak_to_strong(d: Draw, keys: tuple[str, ...], classes: int = 4, batch: int = 3) -> dict[str, np.ndarray]:
    """Inputs of a step of FixMatch and its successors."""
    streams = ("",) if "u_s" in keys else ("1", "2")
    return {
        **{f"in_logits_{key}": d.logits(batch, classes, *SIZE) for key in keys},
        "in_mask_x": d.label(classes, batch, *SIZE, void=255),
        **{f"in_ignore_mask{mix}": d.padding(batch, *SIZE) for mix in ("", "_mix")},
        **{f"in_cutmix_box{k}": d.box(batch, *SIZE) for k in streams},
    }


def sure_ce(z: Tensor, target: Tensor, sure: Tensor, counts: Tensor) -> Tensor:
    """Sum over sure pixels that count, divided by the number of those that count."""
    return (ce_of(z, target, 255) * sure * counts).sum() / counts.sum()


class Pasted:
    """Confidence, label and what counts of the unlabelled images: their own, and with the box of stream k."""

    def __init__(self, given: dict[str, np.ndarray], p_w: Tensor, p_mix: Tensor | None, names: tuple[str, ...]) -> None:
        self.c, self.y = p_w.max(1)
        self.counts = torch.from_numpy(given["in_ignore_mask"] != 255).double()
        self.of: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        for name in names:
            box = exact(given[f"in_cutmix_box{name}"])[0]
            if p_mix is None:  # the partner is the mirrored batch
                other = (self.c.flip(0), self.y.flip(0), self.counts.flip(0))
            else:
                other = (*p_mix.max(1), torch.from_numpy(given["in_ignore_mask_mix"] != 255).double())
            self.of[name] = tuple(mixed(box, o, own) for o, own in zip(other, (self.c, self.y, self.counts)))


def criterion(z: Tensor, y: Any, hyper: dict[str, Any]) -> Tensor:
    spec = hyper["labelled_criterion"]
    return hard_ce(z, y, spec["thresh"], spec["min_kept"], 255) if isinstance(spec, dict) else mean_ce(z, y, 255)


def hyper_of(name: str, tau: float) -> dict[str, Any]:
    """Of a step with the plain or with the hard cross entropy."""
    hard = {"name": "ProbOhemCrossEntropy2d", "thresh": 0.4, "min_kept": 70}
    plain = "CrossEntropyLoss(ignore_index=255), mean over valid pixels"
    return {"conf_thresh": tau, "labelled_criterion": hard if name.endswith("ohem") else plain}


@variant("fixmatch_step", "fixmatch_step_ohem")
def fixmatch_step(d: Draw, name: str) -> dict[str, Any]:
    given, hyper = weak_to_strong(d, ("x", "u_w", "u_w_mix", "u_s")), hyper_of(name, 0.7)
    given |= {"in_img_u_s": d.normal(3, 3, *SIZE), "in_img_u_s_mix": d.normal(3, 3, *SIZE)}
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("",))
    c, y, counts = own.of[""]
    l_s = lambda z: sure_ce(z, y, c >= 0.7, counts)  # noqa: E731
    l_x = lambda z: criterion(z, given["in_mask_x"], hyper)  # noqa: E731
    total, g_x, g_s = gradients(lambda x, s: (l_x(x) + l_s(s)) / 2, given["in_logits_x"], given["in_logits_u_s"])
    return given | {
        "out_loss": total, "out_loss_x": l_x(exact(given["in_logits_x"])[0]),
        "out_loss_u_s": l_s(exact(given["in_logits_u_s"])[0]),
        "out_mask_ratio": ((own.c >= 0.7) * own.counts).sum() / own.counts.sum(),
        "out_img_u_s_mixed": mixed(*exact(given["in_cutmix_box"], given["in_img_u_s_mix"], given["in_img_u_s"])),
        "out_target": y, "out_conf": c, "out_ignore": 255 * (1 - counts), "out_grad_logits_x": g_x,
        "out_grad_logits_u_w": torch.zeros_like(g_x), "out_grad_logits_u_s": g_s,
        "out_forward_modes": np.array([0, 1, 1], np.uint8), "hyper": hyper,
    }  # fmt: skip


def standard(given: dict[str, np.ndarray], own: Pasted, tau: Any) -> list[Any]:
    """The three terms of UniMatch, each a function of its logits."""
    (c_1, y_1, n_1), (c_2, y_2, n_2) = own.of["1"], own.of["2"]
    return [
        lambda z: sure_ce(z, y_1, c_1 >= tau, n_1),
        lambda z: sure_ce(z, y_2, c_2 >= tau, n_2),
        lambda z: sure_ce(z, own.y, own.c >= tau, own.counts),
    ]


@variant("unimatch_step", "unimatch_step_ohem")
def unimatch_step(d: Draw, name: str) -> dict[str, Any]:
    given, hyper = weak_to_strong(d, KEYS, classes=6), hyper_of(name, 0.6)
    given |= {"in_img_u_s1": d.normal(3, 3, *SIZE), "in_img_u_s1_mix": d.normal(3, 3, *SIZE)}
    p_w, p_mix = (exact(given[f"in_logits_{k}"])[0].softmax(1) for k in ("u_w", "u_w_mix"))
    own = Pasted(given, p_w, p_mix, ("1", "2"))
    terms = [lambda z: criterion(z, given["in_mask_x"], hyper), *standard(given, own, 0.6)]
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{key}"] for key in names]
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip((0.5, 0.125, 0.125, 0.25), terms, z)), *leaves)
    return given | {
        "out_loss": total, **{f"out_loss_{k}": f(*exact(z)) for k, f, z in zip(names, terms, leaves)},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)},
        "out_grad_logits_u_w": torch.zeros_like(grads[0]),
        "out_mask_ratio": ((own.c >= 0.6) * own.counts).sum() / own.counts.sum(),
        "out_img_u_s1_mixed": mixed(*exact(given["in_cutmix_box1"], given["in_img_u_s1_mix"], given["in_img_u_s1"])),
        "out_target1": own.of["1"][1], "out_target2": own.of["2"][1], "out_conf1": own.of["1"][0],
        "out_ignore2": 255 * (1 - own.of["2"][2]), "out_forward_modes": np.array([0, 1, 1], np.uint8), "hyper": hyper,
    }  # fmt: skip


@variant("unimatch_v2_step")
def unimatch_v2_step(d: Draw) -> dict[str, Any]:
    """Five images: the partner of the middle one is itself."""
    given = weak_to_strong(d, ("x", "u_w", "u_s1", "u_s2"), batch=5)
    del given["in_ignore_mask_mix"]
    given |= {f"in_img_u_s{k}": d.normal(5, 3, *SIZE) for k in "12"}
    own = Pasted(given, exact(given["in_logits_u_w"])[0].softmax(1), None, ("1", "2"))
    terms = [lambda z: mean_ce(z, given["in_mask_x"], 255), *standard(given, own, 0.75)[:2]]
    names = ("x", "u_s1", "u_s2")
    leaves = [given[f"in_logits_{key}"] for key in names]
    total, *grads = gradients(lambda *z: sum(w * f(a) for w, f, a in zip((0.5, 0.25, 0.25), terms, z)), *leaves)
    images = {k: exact(given[f"in_img_u_s{k}"])[0] for k in "12"}
    return given | {
        "out_loss": total, **{f"out_loss_{k}": f(*exact(z)) for k, f, z in zip(names, terms, leaves)},
        **{f"out_grad_logits_{k}": g for k, g in zip(names, grads)},
        "out_grad_logits_u_w": torch.zeros_like(grads[0]),
        **{f"out_img_u_s{k}_mixed": mixed(*exact(given[f"in_cutmix_box{k}"]), x.flip(0), x) for k, x in images.items()},
        "out_target1": own.of["1"][1], "out_target2": own.of["2"][1], "out_conf1": own.of["1"][0],
        "out_ignore1": 255 * (1 - own.of["1"][2]),
        "out_mask_ratio": ((own.c >= 0.75) * own.counts).sum() / own.counts.sum(), "hyper": {"conf_thresh": 0.75},
    }  # fmt: skip


@variant("prevmatch_step", "prevmatch_step_pixelavg")
def prevmatch_step(d: Draw, name: str) -> dict[str, Any]:
    """An odd number of epochs, of which the second half is longer."""
    average, epoch, epochs = name.endswith("avg"), 9, 13
    strength = 1 - (epoch - 6) / 7
    given, k = weak_to_strong(d, KEYS), 2
    given |= {"in_img_u_s1": d.normal(3, 3, *SIZE), "in_img_u_s1_mix": d.normal(3, 3, *SIZE)}
    given |= {"in_logits_prev": d.logits(k, 6, 4, *SIZE), "in_prev_weights": np.float32([0.3, 0.7])}
    given |= {"in_idx_selected": np.array([3, 1]), "in_num_drawn": np.uint8(4), "in_lambda": np.float32(strength)}
    e = sum(w * z for w, z in zip((0.3, 0.7), exact(given["in_logits_prev"])[0]))
    p_w, p_mix = (exact(given[f"in_logits_{key}"])[0].softmax(1) for key in ("u_w", "u_w_mix"))
    own, past = Pasted(given, p_w, p_mix, ("1", "2")), Pasted(given, e[:3].softmax(1), e[3:].softmax(1), ("1", "2"))
    guided = standard(given, past, 0.8)
    if average:  # the whole batch's loss times the sum of the images' mean confidences

        def averaged(c: Tensor, y: Tensor, n: Tensor) -> Any:
            share = ((c * n).sum((1, 2)) / n.sum((1, 2))).sum()
            return lambda z: ce_of(z, y, 255).sum() * share / n.sum()

        guided = [averaged(*past.of["1"]), averaged(*past.of["2"]), averaged(past.c, past.y, past.counts)]
    usual, weights = standard(given, own, 0.9), (0.25, 0.25, 0.5)
    names = ("x", "u_s1", "u_s2", "u_w_fp")
    leaves = [given[f"in_logits_{key}"] for key in names]

    def sum_of(terms: list[Any], z: tuple[Tensor, ...]) -> Tensor:
        return sum(w * f(a) for w, f, a in zip(weights, terms, z))

    def loss(x: Tensor, *z: Tensor) -> Tensor:
        first = mean_ce(x, given["in_mask_x"], 255) + sum_of(usual, z)
        return (first + strength * sum_of(guided, z)) / (2 + strength)

    total, *grads = gradients(loss, *leaves)
    x, *z = exact(*leaves)
    return given | {
        "out_loss": total, "out_loss_x": mean_ce(x, given["in_mask_x"], 255), "out_loss_standard": sum_of(usual, z),
        **{f"out_loss_{key}_prev": f(a) for key, f, a in zip(names[1:], guided, z)}, "out_logits_prev_ensemble": e[:3],
        "out_target1_prev": past.of["1"][1], "out_conf1_prev": past.of["1"][0], "out_conf_prev": past.c,
        "out_img_u_s1_mixed": mixed(*exact(given["in_cutmix_box1"], given["in_img_u_s1_mix"], given["in_img_u_s1"])),
        **{f"out_grad_logits_{key}": g for key, g in zip(names, grads)},
        "hyper": {
            "conf_thresh": 0.9, "prev_conf_thresh": 0.8, "prev_conf_mode": "pixelavg" if average else "pixelwise",
            "K": 4, "list_len": 6, "epoch": epoch, "total_epochs": epochs,
        },
    }  # fmt: skip
