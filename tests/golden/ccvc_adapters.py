"""CCVC against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.methods import PseudoLabels
from s4kit.methods.cotraining import ccvc
from s4kit.nets import Decoded, Features
from s4kit.views import Batch, paste


class Seen(Recorded):
    """A network that answers with recorded logits and the fused maps that go with them."""

    def __init__(self, answers: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__([logits for logits, _ in answers])
        self.maps, self.decoder = [fused for _, fused in answers], nn.Conv2d(1, 1, 1)
        self.decoder.fused_channels = self.decoder.embedding_channels = 1
        self.decoder.align_corners = True

    def decode(self, features: Features, size: Any = None) -> Decoded:
        logits = super().decode(features, size).logits
        fused = self.maps.pop(0)
        return Decoded(logits, fused, fused)


def build(r: Recording, answers: dict[str, list[tuple[Tensor, Tensor]]], strong: bool) -> ccvc.CCVC:
    h, nets = r.hyper, iter(Seen(answers[k]) for k in "12")
    return ccvc.CCVC(
        task_of(h["classes"]), net=lambda **_: next(nets), strong=strong, tau=h["conf_threshold"],
        confident=h["w_confident"], supervised_weight=h["w_CE"], weight=h["w_con"], apart=h["w_dis"],
    )  # fmt: skip


def other_weighting(r: Recording) -> dict[str, str]:
    mode = r.hyper["mode_confident"]
    why = f"the kit has the weighting of the released scripts alone, not {mode}"
    return {} if mode == "vote_threshold" else dict.fromkeys(r.expected, why)


def common(losses: Any) -> dict[str, Any]:
    losses.total.backward()
    weighted = {name: weight * value for name, (value, weight) in losses.items()}
    return {
        "out_loss": losses.total,
        "out_loss_CE": weighted["x1"] + weighted["x2"],
        "out_loss_con": weighted["con"],
        "out_loss_dis": weighted["dis"],
    }


@adapter("ccvc", "conflict_masks")
def conflict_masks(r: Recording) -> dict[str, Any]:
    logits = (r.tensor("logits1"), r.tensor("logits2"))
    nothing = Seen([])
    method = ccvc.CCVC(
        task_of(logits[0].shape[1]), net=lambda **_: nothing, strong=False, tau=r.hyper["threshold"], confident=2.0
    )
    view = views(torch.zeros(len(logits[0]), 3, *logits[0].shape[2:]), torch.ones_like(logits[0][:, 0]))
    found = list(method.pseudo_labels(logits, view, START).values())
    answers = {}
    for k, labels in enumerate(found, 1):
        answers |= {f"out_conflict_confident{k}": labels.weight == 2, f"out_rest{k}": labels.weight == 1}
    return answers


@adapter("ccvc", "losses_noaug", skip=other_weighting)
def losses_noaug(r: Recording) -> dict[str, Any]:
    leaves = {
        f"{part}{kind}{k}": r.tensor(f"{part}{kind}{k}", grad=True)
        for part in ("lab", "unl") for kind in ("", "_feat") for k in "12"
    }  # fmt: skip
    answers = {k: [(leaves[f"{part}{k}"], leaves[f"{part}_feat{k}"]) for part in ("lab", "unl")] for k in "12"}
    method = build(r, answers, strong=False)
    label, blank = r.label("label"), torch.zeros(len(r.inputs["in_label"]), 3, *r.inputs["in_label"].shape[1:])
    valid = r.tensor("ignore_mask") != r.hyper["ignore_value_unlabelled"]
    losses = method.losses(Batch(x=views(blank, label != VOID, label), u=views(blank, valid)), START)
    return common(losses) | {f"out_grad_{name}": grad_of(leaf) for name, leaf in leaves.items()}


@adapter("ccvc", "losses_aug", skip=other_weighting)
def losses_aug(r: Recording) -> dict[str, Any]:
    parts = ("lab", "raw", "mix")
    leaves = {
        f"{part}{kind}{k}": r.tensor(f"{part}{kind}{k}", grad=True)
        for part in parts for kind in ("", "_feat") for k in "12"
    }  # fmt: skip
    taught = {k: r.tensor(f"eval{k}") for k in "12"}
    answers = {
        k: [(taught[k], taught[k]), *((leaves[f"{part}{k}"], leaves[f"{part}_feat{k}"]) for part in parts)]
        for k in "12"
    }
    method = build(r, answers, strong=True)
    label, m = r.label("label"), r.tensor("box") == 1
    blank, ignored = torch.zeros(len(m), 3, *m.shape[1:]), r.hyper["ignore_value_unlabelled"]
    u = views(blank, r.tensor("ignore_mask") != ignored, strong=[r.tensor("img_aug")], masks=[m])

    def unmixed(mask: Tensor, inside: Any, outside: Any) -> Any:
        """The release weighs the mixed view by the conflicts of the unmixed one."""
        pasted = paste(mask, inside, outside)
        if isinstance(pasted, PseudoLabels):
            pasted.weight = outside.weight
        return pasted

    ccvc.paste, original = unmixed, ccvc.paste
    try:
        losses = method.losses(Batch(x=views(blank, label != VOID, label), u=u), START)
    finally:
        ccvc.paste = original
    assert method.net1.modes == method.net2.modes == [0, 1, 1, 1], "labels in eval mode, all else in train mode"
    target = losses.seen["1 teaches 2/target"]
    mixed, raw = terms(method, r, losses, leaves)
    return common(losses) | {
        "out_img_mixed": losses.seen["mixed"],
        "out_ignore_mixed": torch.where(target.valid > 0, 0, ignored),
        "out_pseudo1_mixed": target.label,
        "out_loss_con_mix": mixed,
        "out_loss_con_raw": raw,
        **{f"out_grad_{name}": grad_of(leaf) for name, leaf in leaves.items()},
    }


def terms(method: ccvc.CCVC, r: Recording, losses: Any, leaves: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the mixed and the weak view add to L_con, their mean."""
    of = {
        part: [Decoded(leaves[f"{part}{k}"], *2 * [leaves[f"{part}_feat{k}"]]) for k in "12"] for part in ("mix", "raw")
    }
    view = views(torch.zeros(1), r.tensor("ignore_mask") != r.hyper["ignore_value_unlabelled"])
    own = method.pseudo_labels(tuple(d.logits.detach() for d in of["raw"]), view, START)
    pasted = {name: losses.seen[f"{name}/target"] for name in ccvc.NAMES}
    return tuple(method.weight * method.consistency(of[part], y) / 2 for part, y in (("mix", pasted), ("raw", own)))
