"""n-CPS against recordings of its official code."""

from __future__ import annotations

from typing import Any

import torch
from consistency_adapters import START, views
from harness import Recorded, Recording, adapter, grad_of, task_of
from torch import nn

from s4kit.methods.cotraining.ncps import NCPS
from s4kit.nets import Ensemble
from s4kit.views import Batch


@adapter("ncps", "plain_loss")
def plain_loss(r: Recording) -> dict[str, Any]:
    h, label = r.hyper, r.label("label")
    parts = {part: [t.detach().requires_grad_() for t in r.tensor(part)] for part in ("sup", "unsup")}
    nets = iter([Recorded(list(answers)) for answers in zip(parts["sup"], parts["unsup"])])
    method = NCPS(
        task_of(parts["sup"][0].shape[1]), net=lambda **_: next(nets), n=h["n"], cutmix=False, tau=h["threshold"],
        weight=h["cps_weight"], constant=bool(h["normalising_const"]),
    )  # fmt: skip
    blank, known = torch.zeros(len(label), 3, *label.shape[1:]), torch.ones(label.shape)
    losses = method.losses(Batch(x=views(blank, known, label), u=views(blank, known)), START)
    losses.total.backward()
    return {
        "out_loss": losses.total,
        "out_loss_cps": losses["cps"][0],
        "out_loss_sup": sum(losses[f"x{k + 1}"][0] for k in range(h["n"])),
        **{f"out_grad_{part}": torch.stack([grad_of(leaf) for leaf in leaves]) for part, leaves in parts.items()},
    }


class Answer(nn.Module):
    """A network that answers with recorded logits."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits


@adapter(
    "ncps",
    "ensemble",
    skip={"out_max_confidence": "the largest logit of each class; the release's evaluation takes probabilities"},
)
def ensemble(r: Recording) -> dict[str, Any]:
    nets = [Answer(logits) for logits in r.tensor("logits")]
    image = torch.zeros(nets[0].logits.shape[0], 3, *nets[0].logits.shape[2:])
    return {
        "out_single": nets[0](image),
        "out_soft_voting": Ensemble(*nets, combine="vote")(image).exp() * len(nets),  # there the sum
        "out_max_confidence_softmax": Ensemble(*nets, combine="confident")(image).exp(),
    }
