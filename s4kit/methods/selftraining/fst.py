"""FST: the teacher averages students of the near future, who then never were.

From the release: in its first epoch the teacher is overwritten by the student before every evaluation, and shares its
memory. Its projection head, which gets no gradient, is left out. 100 drops the largest entropy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import SegNet, copy_of, ema, make, warm
from ...views import Batch, Stream, ViewPlan, Views, half_box, paste, weak
from ..base import Card, Clock, Losses, PseudoLabels, Update
from ..parts.draws import by_coin
from ..parts.losses import Criterion, ce, criterion, entropy, upweighted_ce
from ..parts.quantile import percentiles
from ..parts.teachers import JudgedTeacher

PSP = "resnet101c(output_stride=8, multi_grid=(4, 8, 16), decoder='psp', align_corners=False)"  # of the example
NET = "resnet101c(output_stride=8, multi_grid=(4, 8, 16), aspp_rates=(12, 24, 36), dropout=0.1, aux=True)"
DIFFERS = [
    "pad_label: 0 there, 255 here: padding is not taught as background",
    "the release's first epoch, in which its teacher shares the student's memory, is not followed",
]


class FST(JudgedTeacher):
    """Learning from future (Du et al., NeurIPS 2022, arXiv 2209.06993).

    Idea: a mean teacher averages students of the past. Let the student take a few steps ahead, give these to the
    teacher, put the student back, and take the real step with the labels of the better teacher. What it adds to a mean
    teacher (`mean_teacher`; in the release that of `u2pl` without contrast): the steps ahead.

    Equations; t the teacher, s the student, E: t <- a t + (1 - a) s with a = min(1 - 1/(i+1), decay), parameters only;
    G: one optimiser step on L:
        deep: keep s; K times (E, G) on the batch of the step; E; s back; G; E.        K + 2 averages
        wide: keep s; for k = 1 .. K: s back, G on a batch of its own, s_k = s;  t <- a t + (1 - a) mean of s_k;
              s back; G on the batch of the step; E.                                    2 averages
        y = argmax t(w(u)) in eval mode;  h = entropy of t in train mode, on what the student sees
        kept where h is below its percentile `drop` in the batch;   n of N pixels
        L = CE(s(w(x)), y_x) + N / n mean over the kept pixels of CE(s(w(u)), y)
    Each evaluation makes its labels anew, as the teacher changes. With probability `mixing` u is mixed with its
    neighbour in the batch by a half-area box.

    What the steps ahead have put into the optimiser's momentum and the student's BN statistics stays there, as released
    (the paper speaks of virtual gradients). Padding takes part in L_u, as released.

    Cost: K + 1 forward and backward passes a step, one more copy of the parameters; wide: K + 1 times the images.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; an auxiliary head (`aux=True`) is trained with weight `aux`.
        ahead: K. wide: whether the steps ahead are side by side, on batches of their own.
        decay: of the teacher. drop: percentile of the entropy from which a pixel is dropped.
        mixing: probability that a step mixes its unlabelled images.
        aux: weight of the auxiliary head's term.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="Learning from Future: A Novel Self-Training Framework for Semantic Segmentation",
        venue="NeurIPS",
        year=2022,
        authors="Du et al.",
        arxiv="2209.06993",
        code="https://github.com/usr922/FST",
        extends=("mean_teacher", "u2pl"),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},
        "voc": {
            "task": {"crop": 513},
            "method": {"net": PSP},
            "fit": {"epochs": 40, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                *DIFFERS,
                "scored on a centre crop of 513 there, on whole images here",
            ],
        },
        "cityscapes": {
            "task": {"crop": 769},
            "method": {
                "net": NET,
                "drop": 100.0,
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-2, "head": 10.0, "weight_decay": 5e-4},
            "processes": 8,
            "evaluation": "cityscapes/u2pl",
            "differs": [*DIFFERS, "scored on a centre crop of 769 there, in windows of 769 here"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        ahead: int = 3,
        wide: bool = False,
        decay: float = 0.99,
        drop: float = 80.0,
        mixing: float = 0.0,
        aux: float = 0.4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it labels
        self.ahead, self.wide, self.decay, self.drop, self.mixing = ahead, wide, decay, drop, mixing
        self.aux, self.supervised = aux, criterion(supervised)
        view = weak(pad="mean", centred=True, halves=True)
        box = (half_box(),) if mixing else ()
        self.views = ViewPlan(
            **{f"{name}{k or ''}": stream for k in range(1 + (ahead if wide else 0)) for name, stream in (
                ("x", Stream("labelled", view)), ("u", Stream("unlabelled", view, masks=box)),
            )}
        )  # fmt: skip

    # ---- the order of the steps is the method ----

    def step(self, update: Update, clock: Clock) -> None:
        a, now = warm(self.decay, clock.step), [p.detach().clone() for p in self.student.parameters()]
        if self.wide:
            future = self.side_by_side(update, now)
            put(self.student, future)
        else:
            for _ in range(self.ahead):
                ema(self.teacher, self.student, a, buffers="none")
                update(self.losses)
        if self.ahead:
            ema(self.teacher, self.student, a, buffers="none")
        put(self.student, now)
        update(self.losses)
        ema(self.teacher, self.student, a, buffers="none")

    def side_by_side(self, update: Update, now: list[Tensor]) -> list[Tensor]:
        """The mean of the students after one step on each batch of the future."""
        total = [torch.zeros_like(p) for p in now]
        for k in range(1, self.ahead + 1):
            put(self.student, now)
            update(self.on_batch(k))
            torch._foreach_add_(total, [p.detach() for p in self.student.parameters()])
        return list(torch._foreach_div(total, float(self.ahead))) if self.ahead else now

    def on_batch(self, k: int) -> Callable[[Batch, Clock], Losses]:
        """The losses of step k of the future, which learns from the streams x<k> and u<k>."""
        return lambda batch, clock: self.losses(Batch(x=batch[f"x{k}"], u=batch[f"u{k}"]), clock)

    # ---- one evaluation ----

    def judge(self, logits: Tensor) -> Tensor:
        return entropy(logits)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        """Evidence: the logits that say the label, and the entropy that judges it; in training of two forwards."""
        logits, h = evidence
        confidence, label = logits.softmax(1).max(1)
        (tau,) = percentiles(h, [self.drop], view.valid > 0)
        return PseudoLabels(label, confidence, (h < tau).float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        logits, _ = self.teach(u)
        mixed = u.weak
        if self.mixing:
            box = by_coin(u.masks[0], self.mixing)
            mixed, logits = (paste(box, t.roll(-1, 0), t) for t in (u.weak, logits))
        both, n = torch.cat([x.weak, mixed]), len(x)
        z, hint = self.through(self.student, both)
        with torch.no_grad():
            judged, _ = self.through(self.teacher, both)
        everything = replace(u, valid=torch.ones_like(u.valid))
        target = self.pseudo_labels((logits, entropy(judged[n:])), everything, clock)
        losses = Losses(x=self.supervised(z[:n], x.label), u=upweighted_ce(z[n:], target))
        if hint is not None:
            losses.add("x_aux", self.supervised(hint[:n], x.label), self.aux)
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z[n:])

    def through(self, net: SegNet, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits at the image's size, and those of the auxiliary head where there is one."""
        features, size = net.encode(image), image.shape[-2:]
        return net.decode(features, size).logits, None if net.aux is None else net.auxiliary(features, size)


@torch.no_grad()
def put(net: nn.Module, values: Iterable[Tensor]) -> None:
    """Write a network's parameters."""
    torch._foreach_copy_([p.detach() for p in net.parameters()], list(values))
