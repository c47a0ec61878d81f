"""GCT: a detector of flaws says, pixel by pixel, which of two networks may teach the other.

From the release (PixelSSL): its handler zeroes negative flaws in place, in the tensor of which L_F is taken next,
whose gradient passes as if nothing had happened; here L_F sees the detector's own answer. Its supervised mean has
void pixels in the divisor, and its padding is taught as background. TorchSemiSeg's rerun, which the recipes follow,
has neither; its detector's rate is scheduled but never set, so it is constant here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...nets import FlawDetector, evaluating, frozen, make
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..parts.flaws import flaw_target, handled
from ..parts.losses import Criterion, ce, criterion
from ..parts.precision import float32
from ..parts.schedules import constant, sigmoid_ramp
from .cps import PAPER_NET, SCALES, START

NAMES = ("2 teaches 1", "1 teaches 2")


class Exchange(NamedTuple):
    """What each network is to say, and where both are flawed.

    Attributes:
        p1, p2: (B, C, H, W) probabilities, each network's own or the other's.
        by2, by1: (B, 1, H, W) bool, where network 1 takes those of 2, and the other way round.
        both: (B, 1, H, W) bool, both flaws above the threshold.
    """

    p1: Tensor
    p2: Tensor
    by2: Tensor
    by1: Tensor
    both: Tensor


def exchange(p1: Tensor, p2: Tensor, flaw1: Tensor, flaw2: Tensor, xi: float) -> Exchange:
    """The one with the smaller flaw teaches; flaws above `xi` count as 1, and equal ones leave both alone.

    Args:
        p1, p2: (B, C, H, W) probabilities. flaw1, flaw2: (B, 1, H, W) in [0, 1], see `parts.flaws.handled`.
    """
    a1, a2 = (torch.where(flaw > xi, 1.0, flaw) for flaw in (flaw1, flaw2))
    by2, by1 = a2 < a1, a1 < a2
    return Exchange(
        torch.where(by2, p2, p1), torch.where(by1, p1, p2), by2, by1, (flaw1 > xi) & (flaw2 > xi)
    )  # fmt: skip


@float32
def mean_square(a: Tensor, b: Tensor | float = 0.0, where: Tensor | float = 1.0) -> Tensor:
    """Mean of (a - b)^2 over all elements of any shape, those outside of `where` counting as 0."""
    return ((a - b).square() * where).mean()


class GCT(Method):
    """Guided collaborative training (Ke et al., ECCV 2020, arXiv 2008.05258).

    Idea: a third network learns, on the labelled images, to see how wrong a prediction is. Per pixel the network with
    the smaller flaw then teaches the other one (dynamic consistency), and where both are flawed each is pushed to make
    its own flaw smaller (flaw correction), through the detector. What `cps` leaves to chance, who is right, is learned.

    Equations; networks f1, f2, P_k = softmax f_k, detector F, H = `handled`, N all pixels, C classes, all images:
        A_k = H(F(P_k)), those above xi count as 1;   T_1 = P_2 where A_2 < A_1, P_1 elsewhere;   T_2 the mirror image
        L_dc = sum over k of mean (P_k - T_k)^2;   ramp = exp(-5 (1 - t / ramp)^2)
        L_fc = sum over k of mean 1[H(F(P_1)) > xi and H(F(P_2)) > xi] F(P_k)^2
        L    = CE(f1(x), y) + CE(f2(x), y) + ramp * dc * L_dc + fc * L_fc                  the detector stands still
        L_F  = detector * (mean (F(sg P_1) - D_1)^2 + mean (F(sg P_2) - D_2)^2) / 2,  labelled images, D = `flaw_target`
    A_k and T_k come of forwards without gradient before those that learn; all, the detector's too, are in train mode.
    The gradient of L_fc reaches f_k through the detector. L and L_F go through one backward, then each of the three has
    a step of its own: the two networks by SGD, the detector by Adam.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        xi: flaw above which a prediction counts as wholly wrong.
        ramp: share of the training over which the weight of L_dc rises.
        dc, fc, detector: weights of L_dc, L_fc and L_F.
        mu, nu: of `flaw_target`.
        width: of the detector, see `nets.FlawDetector`.
        detector_lr: constant learning rate of the detector's Adam.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="cotraining",
        title="Guided Collaborative Training for Pixel-wise Semi-Supervised Learning",
        venue="ECCV",
        year=2020,
        authors="Ke et al.",
        arxiv="2008.05258",
        code="https://github.com/ZHKKKe/PixelSSL",
        extends=("pseudo_label",),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"width": 16}},  # the light network beside a detector that costs less than it does
        "camvid": {"method": {"width": 16}},
        "folder": {"method": {"width": 16}},
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET, "ramp": "3 epochs", "detector_lr": 4e-4},
            "fit": {"epochs": 34, "batch": 8, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 4,
            "divided": "all",
            "epochs": {"1_16": 32, "1_8": 34, "1_4": 40, "1_2": 60},
            "evaluation": "voc/cps",
            "source": "rerun in charlesCXK/TorchSemiSeg, exp.voc/voc8.res50v3+.GCT: config.py, script.sh, train.py",
            "differs": [
                START,
                "the authors' own runs have DeepLabV2 and PSPNet, for which see PixelSSL's README",
                "unsure: selection: the epochs from the 20th on are scored, which one is reported is not said",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        xi: float = 0.6,
        ramp: float | str = 0.1,
        dc: float = 100.0,
        fc: float = 1.0,
        detector: float = 10.0,
        mu: float = 0.5,
        nu: int = 1,
        width: int = 64,
        detector_lr: float = 1e-4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.net1, self.net2 = make(net, task), make(net, task)
        self.detector = FlawDetector(task.num_classes, width=width)
        self.xi, self.ramp, self.mu, self.nu, self.detector_lr = xi, ramp, mu, nu, detector_lr
        self.dc, self.fc, self.detector_weight = dc, fc, detector
        self.supervised = criterion(supervised)
        view = weak(pad="mean", centred=True)
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view))

    def flaws(self, image: Tensor, p: Tensor) -> Tensor:
        """(B, 1, H, W) the detector's answer for (B, C, H, W) probabilities on images in [0, 1]."""
        return self.detector(self.net1.normalise(image), p)

    def judged(self, image: Tensor) -> Exchange:
        """Who teaches whom, by the networks as they are."""
        p1, p2 = (net(image).softmax(1) for net in (self.net1, self.net2))
        side = max(image.shape[-2:])
        return exchange(p1, p2, *(handled(self.flaws(image, p), side) for p in (p1, p2)), self.xi)

    def teach(self, view: Views) -> Exchange:
        with evaluating(self.net1, self.net2, self.detector):
            return self.judged(view.weak)

    def pseudo_labels(self, evidence: Exchange, view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found = []
        for p, taken in ((evidence.p1, evidence.by2), (evidence.p2, evidence.by1)):
            confidence, label = p.max(1)
            found.append(PseudoLabels(label, confidence, taken[:, 0].float(), view.valid, p))
        return dict(zip(NAMES, found))

    def probabilities(self, evidence: Exchange) -> dict[str, Tensor]:
        return dict(zip(NAMES, (evidence.p1, evidence.p2)))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, n = batch.x, batch.u, len(batch.x)
        image = torch.cat([x.weak, u.weak])
        with torch.no_grad():  # in train mode, so these forwards count in the BN statistics
            says = self.judged(image)
        losses, taught = Losses(), self.pseudo_labels(says, replace(u, valid=torch.cat([x.valid, u.valid])), clock)
        side, l_dc, l_fc, l_f = max(image.shape[-2:]), 0.0, 0.0, 0.0
        for k, (net, target) in enumerate(zip((self.net1, self.net2), (says.p1, says.p2)), 1):
            z = net(image)
            p = z.softmax(1)
            losses.add(f"x{k}", self.supervised(z[:n], x.label))
            l_dc = l_dc + mean_square(p, target)
            with frozen(self.detector):
                l_fc = l_fc + mean_square(self.flaws(image, p), where=says.both)
            found = flaw_target(p.detach()[:n], x.label, side, self.mu, self.nu)
            l_f = l_f + mean_square(self.flaws(image, p.detach())[:n], found) / 2
            cost = (p.detach() - target).square().mean(1)
            losses.see(NAMES[k - 1], weak=u.weak, mixed=u.weak, target=taught[NAMES[k - 1]][n:], loss=cost[n:])
        ramp = sigmoid_ramp(clock.step, clock.steps_of(self.ramp))
        losses.add("dc", l_dc, ramp * self.dc).add("fc", l_fc, self.fc)
        return losses.add("detector", l_f, self.detector_weight)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        adam = replace(
            recipe, nets=[self.detector], lr=self.detector_lr, head=1.0, kind="adam", weight_decay=0.0,
            betas=(0.9, 0.99), schedule=constant,
        )  # fmt: skip
        nets = {"net1": self.net1, "net2": self.net2}
        return {name: replace(recipe, nets=[net]) for name, net in nets.items()} | {"detector": adam}

    def predictors(self) -> dict[str, nn.Module]:
        return {"net 1": self.net1, "net 2": self.net2}
