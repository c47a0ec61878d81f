"""CPS: two networks that differ only in their start teach each other.

Deviations: new layers start as PyTorch's do, not Kaiming normal; lists are endless permutations (the release
repeats whole copies in order, then a random rest). The paper's net is
`resnet50c(multi_grid=(2, 4, 8), aspp='cps')`, with one BN over all ASPP branches; other nets have one in each.

A bug of the release: its unlabelled samplers are never told the epoch, so every epoch has the same order, and with
several GPUs both loaders deliver the same image, which is mixed with another crop of itself. The author meant two
images; u and v are two streams here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, paste, three_boxes, weak
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_ce

SCALES = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0)  # no 1.25
NAMES = ("1 teaches 2", "2 teaches 1")
SOURCE = "official code, charlesCXK/TorchSemiSeg: config.py and script.sh of the CPS+CutMix folders, getting_started.md"
START = "new layers start Kaiming normal there, as PyTorch's do here"
PAPER_NET = "resnet50c(multi_grid=(2, 4, 8), aspp='cps')"


class CPS(Method):
    """Semi-supervised semantic segmentation with cross pseudo supervision (Chen et al., CVPR 2021).

    Idea: two networks of one architecture with different random heads make different mistakes; so each is trained on
    the other's hard labels, on every pixel, without threshold or average. What it adds to `pseudo_label` is the second
    network, and with `cutmix` a mixed image whose labels come from its unmixed parts.

    Equations, f1 and f2 the networks, m the mask, CE the mean over all pixels, padded ones included:
        plain    Y_k = argmax f_k over labelled and unlabelled images
                 L_cps = CE(f1, Y_2) + CE(f2, Y_1), on labelled and unlabelled images together
        CutMix   Y_k = argmax of f_k(v) where m, of f_k(u) elsewhere;   s = v where m, u elsewhere
                 L_cps = CE(f1(s), Y_2) + CE(f2(s), Y_1), on the mixed images alone
        L = CE(f1(x), y) + CE(f2(x), y) + weight * L_cps, the supervised means over non-void pixels
    argmax stops the gradient by itself. Every forward is in train mode, the labelling ones of CutMix too (without
    gradient): they move the BN statistics. One backward; each network has its own SGD. Network 1 is evaluated.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        cutmix: mix two unlabelled batches (the paper's best results) or not.
        weight: of L_cps; None = the release's for VOC, 1 with CutMix and 1.5 without (Cityscapes: 5 and 6).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function; L_cps is always plain CE.
    """

    card = Card(
        family="cotraining",
        title="Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision",
        venue="CVPR",
        year=2021,
        authors="Chen et al.",
        arxiv="2106.01226",
        code="https://github.com/charlesCXK/TorchSemiSeg",
        extends=("pseudo_label",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET},
            "fit": {"epochs": 34, "batch": 8, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 4,
            "divided": "all",
            "epochs": {"1_16": 32, "1_8": 34, "1_4": 40, "1_2": 60},
            "evaluation": "voc/cps",
            "source": SOURCE,
            "differs": [START],
        },
        "voc/classic": {  # 10582 images x 60 epochs / batch 16: the steps of all its trainings
            "method": {"net": PAPER_NET.replace("resnet50c", "resnet101c")},
            "fit": {"steps": 39_682},
            "differs": [
                "no script for the classic lists is released: that of the blended ones, with ResNet-101 as in the "
                "paper's table, at the 39.7k steps to which it holds all its trainings",
                "its numbers are for the lists .._pseudoseg, where only the rest of the 1464 images is unlabelled",
            ],
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": SCALES},
            "method": {"net": PAPER_NET, "weight": 5.0, "supervised": "ohem(thresh=0.7, per_image=50000)"},
            "fit": {"epochs": 137, "batch": 8, "lr": 2e-2, "head": 1.0, "decay_norms": False},
            "processes": 8,
            "divided": "all",
            "epochs": {"1_16": 128, "1_8": 137, "1_4": 160, "1_2": 240},
            "evaluation": "cityscapes/cps",
            "source": SOURCE,
            "differs": [START],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        cutmix: bool = True,
        weight: float | None = None,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.net1, self.net2 = make(net, task), make(net, task)
        self.cutmix, self.weight = cutmix, weight if weight is not None else (1.0 if cutmix else 1.5)
        self.supervised = criterion(supervised)
        view = weak(pad="mean", centred=True)
        u = Stream("unlabelled", view, masks=(three_boxes(),) if cutmix else ())
        self.views = ViewPlan(x=Stream("labelled", view), u=u)
        if cutmix:
            self.views["v"] = Stream("unlabelled", view)

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(self.net1, self.net2):
            return self.net1(view.weak), self.net2(view.weak)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found = []
        for logits in evidence:
            confidence, label = logits.softmax(1).max(1)
            found.append(PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid))
        return dict(zip(NAMES, found))

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        if self.cutmix:
            v, m = batch.v, u.masks[0]
            with torch.no_grad():  # in train mode, so these forwards count in the BN statistics
                of_u, of_v = ((self.net1(w.weak), self.net2(w.weak)) for w in (u, v))
            y_u, y_v = self.pseudo_labels(of_u, u, clock), self.pseudo_labels(of_v, v, clock)
            seen, target = paste(m, v.weak, u.weak), {name: paste(m, y_v[name], y_u[name]) for name in y_u}
            s1, s2 = self.net1(seen), self.net2(seen)
            z1, z2 = self.net1(x.weak), self.net2(x.weak)
        else:
            z1, z2 = self.net1(x.weak), self.net2(x.weak)
            seen = torch.cat([x.weak, u.weak])
            s1, s2 = torch.cat([z1, self.net1(u.weak)]), torch.cat([z2, self.net2(u.weak)])
            both = replace(u, valid=torch.cat([x.valid, u.valid]))
            target = self.pseudo_labels((s1.detach(), s2.detach()), both, clock)
        y1, y2 = (replace(target[name], valid=torch.ones_like(target[name].valid)) for name in NAMES)
        l_cps = pixel_ce(s1, y2, over="all") + pixel_ce(s2, y1, over="all")  # padding takes part, as released
        losses = Losses(x1=self.supervised(z1, x.label), x2=self.supervised(z2, x.label), cps=(l_cps, self.weight))
        losses.see(weak=u.weak if self.cutmix else seen, mixed=seen)
        return losses.see(NAMES[0], target=y1, student=s2).see(NAMES[1], target=y2, student=s1)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        return {"net1": replace(recipe, nets=[self.net1]), "net2": replace(recipe, nets=[self.net2])}

    def predictors(self) -> dict[str, nn.Module]:
        return {"net 1": self.net1, "net 2": self.net2}
