"""n-CPS: any number of networks teach each other, and vote at the end.

Simplified: with sliding windows the networks vote in each window, there on the joined logits of all windows. A
threshold that keeps nothing gives 0, there 0/0. Its third ensemble, hard voting, reshapes wrongly and is not used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import S4Error
from ...nets import Ensemble, evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, paste, three_boxes, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_ce
from .cps import PAPER_NET, SCALES, START


class NCPS(Method):
    """n-CPS: Generalising Cross Pseudo Supervision to n Networks (Filipiak, arXiv 2112.07528).

    Idea: what two networks can do for each other, n can: each is trained on the hard labels of every other one, and at
    test time they answer together. What it adds to `cps` is the number of networks and the ensemble.

    Equations, f_1 .. f_n the networks, CE the mean over the pixels that are kept, padded ones included:
        Y_j = argmax f_j;   a pixel of it is kept where max softmax f_j > tau (tau = 0: everywhere)
        L_cps = 1 / (n - 1) * sum over i != j of CE(f_i, Y_j)
        L = sum over i of CE(f_i(x), y) + weight * L_cps
    on labelled and unlabelled images together, or with `cutmix` on the mixed images alone, whose labels come from their
    unmixed parts. With n = 2 and tau = 0 this is `cps`, to the last bit. The supervised terms are summed, and the
    factor 1 / (n - 1) leaves L_cps n times one network's: a third network makes the whole loss half as large again.
    `constant` takes that out (2 / n), as an option of the release does that its runs leave off.

    At test time, on the logits of all networks: soft voting sums the probabilities, "most confident" takes the largest
    one of each class. Every forward of the training is in train mode; there is one SGD for all.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built `n` times.
        n: number of networks, at least 2; the paper's tables have 2 and 3.
        cutmix: mix two unlabelled batches (the paper's best results) or not.
        tau: confidence that a taught pixel must exceed; without CutMix only. All published runs have 0.
        weight: of L_cps.
        constant: L_cps * 2 / n, so that it does not grow with n.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function; L_cps is always plain CE.

    Raises:
        S4Error: n < 2, or a threshold with CutMix.
    """

    card = Card(
        family="cotraining",
        title="n-CPS: Generalising Cross Pseudo Supervision to n Networks for Semi-Supervised Semantic Segmentation",
        venue="arXiv",
        year=2021,
        authors="Filipiak et al.",
        arxiv="2112.07528",
        code="https://github.com/AI-Clearing/n-cps",
        extends=("cps",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET, "n": 3},
            "fit": {"epochs": 34, "batch": 8, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 4,
            "divided": "all",
            "epochs": {"1_16": 32, "1_8": 34, "1_4": 40, "1_2": 60},
            "evaluation": "voc/cps",
            "differs": [
                START,
                "unsure: lr, batch: the file with them (voc.env) is not in the release; taken from CPS, whose "
                "losses are divided as here",
                "unsure: selection: all epochs are scored, which one is reported is not said",
            ],
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": SCALES},
            "method": {"net": PAPER_NET, "n": 3, "weight": 6.0, "supervised": "ohem(thresh=0.7, per_image=50000)"},
            "fit": {"epochs": 137, "batch": 8, "lr": 2e-2, "head": 1.0, "decay_norms": False},
            "processes": 8,
            "divided": "all",
            "epochs": {"1_16": 128, "1_8": 137, "1_4": 160, "1_2": 240},
            "evaluation": "cityscapes/cps",
            "differs": [START, "unsure: selection: which epoch is reported is not said"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        n: int = 3,
        cutmix: bool = True,
        tau: float = 0.0,
        weight: float = 1.5,
        constant: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        if n < 2:
            raise S4Error(f"ncps(n={n}): at least two networks teach each other; n=1 is `pseudo_label`.")
        if cutmix and tau > 0:
            raise S4Error(f"ncps(tau={tau}): a threshold is for cutmix=False, as in the release.")
        for k in range(n):
            setattr(self, f"net{k + 1}", make(net, task))
        self.n, self.cutmix, self.tau = n, cutmix, tau
        self.weight = weight * (2 / n if constant else 1.0)
        self.supervised = criterion(supervised)
        view = weak(pad="mean", centred=True)
        u = Stream("unlabelled", view, masks=(three_boxes(),) if cutmix else ())
        self.views = ViewPlan(x=Stream("labelled", view), u=u)
        if cutmix:
            self.views["v"] = Stream("unlabelled", view)

    @property
    def networks(self) -> list[nn.Module]:
        """All n of them, which are trained alike."""
        return [getattr(self, f"net{k + 1}") for k in range(self.n)]

    @property
    def names(self) -> list[str]:
        """Of the pseudo-labels: "1 teaches 2 and 3", ..."""
        others = ([str(i + 1) for i in range(self.n) if i != j] for j in range(self.n))
        return [f"{j + 1} teaches {' and '.join(learners)}" for j, learners in enumerate(others)]

    def teach(self, view: Views) -> list[Tensor]:
        with evaluating(*self.networks):
            return [net(view.weak) for net in self.networks]

    def pseudo_labels(self, evidence: Sequence[Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found = []
        for logits in evidence:
            confidence, label = logits.softmax(1).max(1)
            found.append(PseudoLabels(label, confidence, (confidence > self.tau).float(), view.valid))
        return dict(zip(self.names, found))

    def probabilities(self, evidence: Sequence[Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(self.names, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, nets = batch.x, batch.u, self.networks
        if self.cutmix:
            v, m = batch.v, u.masks[0]
            with torch.no_grad():  # in train mode, so these forwards count in the BN statistics
                of_u, of_v = ([net(w.weak) for net in nets] for w in (u, v))
            y_u, y_v = self.pseudo_labels(of_u, u, clock), self.pseudo_labels(of_v, v, clock)
            seen, target = paste(m, v.weak, u.weak), [paste(m, y_v[name], y_u[name]) for name in self.names]
            s = [net(seen) for net in nets]
            z = [net(x.weak) for net in nets]
        else:
            z = [net(x.weak) for net in nets]
            seen = torch.cat([x.weak, u.weak])
            s = [torch.cat([z_i, net(u.weak)]) for z_i, net in zip(z, nets)]
            both = replace(u, valid=torch.cat([x.valid, u.valid]))
            target = list(self.pseudo_labels([s_i.detach() for s_i in s], both, clock).values())
        y = [replace(y_j, valid=torch.ones_like(y_j.valid)) for y_j in target]  # padding takes part, as released
        pairs = [(i, j) for j in range(self.n) for i in range(self.n) if i != j]
        l_cps = sum(pixel_ce(s[i], y[j], over="kept") for i, j in pairs) / (self.n - 1)
        losses = Losses(**{f"x{i + 1}": self.supervised(z[i], x.label) for i in range(self.n)})
        losses.add("cps", l_cps, self.weight).see(weak=u.weak if self.cutmix else seen, mixed=seen)
        for j, name in enumerate(self.names):
            with torch.no_grad():
                cost = sum(ce_map(s[i], y[j].label) for i in range(self.n) if i != j) / (self.n - 1)
            losses.see(name, target=y[j], loss=cost * y[j].weight)
        return losses

    def predictors(self) -> dict[str, nn.Module]:
        nets = self.networks
        single = {f"net {k + 1}": net for k, net in enumerate(nets)}
        return {
            "soft voting": Ensemble(*nets, combine="vote"),
            "most confident": Ensemble(*nets, combine="confident"),
        } | single
