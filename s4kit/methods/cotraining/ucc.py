"""UCC: two heads on one encoder teach each other from weak to strong views, with rare classes pasted into both sets.

Read in the sources: shared encoder, weak teaches strong crosswise, weak labelled images, that classes with low
confidence are pasted into both sets, that doubtful labels count less. Chosen here: the form of Var and its gradient
(`uncertainty`; that of Zheng and Yang, IJCV 2021, in which a classifier and its auxiliary disagree); how much the
heads share (`heads`); the pasting (`pasted`, `chance`, `momentum`, `exclude`; class confidence and softmax as in
`ael`), with unlabelled images no donors, q from 0, and no doubt of true labels; strong views, CutMix and its
partner; that padding does not count; `weight`, from CPS; `ramp`. With uncertainty="none", pasted=0, cutmix=False,
ramp=0 and equal views it is `cps` on a shared encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...errors import S4Error
from ...nets import Features, SegNet, evaluating, make
from ...nets.layers import fresh
from ...nets.segnet import resize
from ...views import STRONG, Batch, Stream, ViewPlan, Views, paste, three_boxes, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..consistency.ael import class_confidence, cut_probabilities
from ..consistency.augseg import known
from ..parts.distances import kl
from ..parts.draws import by_weight
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_mean
from ..parts.precision import float32
from ..parts.schedules import sigmoid_ramp
from .cps import NAMES, PAPER_NET, SCALES

STRONG_VIEW = ("strong", "constant")  # whose Var is that of the strong predictions
UNCERTAINTY = (*STRONG_VIEW, "weak", "none")
HEADS = ("decoder", "classifier")
STANDS_IN = {
    "source": "the kit's reading: CPS's figures, the paper's are not known",
    "differs": ["unsure: the set-up: the paper's text was not at hand; that of CPS, on which it builds, stands in"],
}
Pair = tuple[Tensor, Tensor]


class OwnDecoder(nn.Module):
    """A second decoder on an encoder: features to float32 logits of `size` (H, W)."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = fresh(decoder)

    def forward(self, features: Features, size: Sequence[int]) -> Tensor:
        logits, _ = self.decoder.classify(self.decoder.fuse(features).map)
        return resize(logits.float(), size, self.decoder.align_corners)


def answers(net: SegNet, image: Tensor) -> Pair:
    """Logits of both heads for images (B, 3, H, W), at their size; the encoder runs once."""
    features, size, second = net.encode(image), image.shape[-2:], net.heads["second"]
    fused = net.fuse(features).map
    other = second(features, size) if isinstance(second, OwnDecoder) else net.branch("second", fused, size)
    return net.classify(fused, size).logits, other


class Mean(nn.Module):
    """The mean of both heads' logits."""

    def __init__(self, net: SegNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        return sum(answers(self.net, image)) / 2


def draw_donors(q: Tensor, targets: Tensor, label: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """(number,) classes, each drawn by softmax(1 - q) over `targets`, and for each the place of an image that shows it.

    Args:
        q: (C,) confidences. targets: (T,) classes that may be drawn.
        label: (P, H, W) of the donors, 255 = void; where none shows the class, any of them.
    """
    k = targets[cut_probabilities(q[targets]).multinomial(number, replacement=True)]
    shown = torch.zeros(len(label), len(q) + 1, device=label.device)
    shown.scatter_(1, label.flatten(1).clamp(max=len(q)), 1.0)
    showing = shown[:, k].T
    return k, by_weight(torch.where(showing.any(1, keepdim=True), showing, 1.0))


def draw_donor_mask(label: Tensor, k: Tensor, chance: float) -> Tensor:
    """(B, H, W) bool, True = the image's own pixels: all, or with probability `chance` all but where the donor's
    `label` (B, H, W) is the class `k` (B,)."""
    pasted = torch.rand(len(label), 1, 1, device=label.device) < chance
    return ~((label == k[:, None, None]) & pasted)


@float32
def doubted(far: Tensor, doubt: Tensor, target: PseudoLabels, through: bool) -> tuple[Tensor, Tensor]:
    """Mean over the valid pixels of exp(-Var) CE + Var, and (B, H, W) what each pixel's label costs, exp(-Var) CE.

    Args:
        far: (B, H, W) CE. doubt: (B, H, W) Var, non-negative.
        through: let gradient pass through Var; otherwise it is a constant, and + Var is left out.
    """
    cost = torch.exp(-(doubt if through else doubt.detach())) * far
    term = pixel_mean(cost + doubt if through else cost, target.weight, target.valid, over="valid")
    return term, cost.detach() * target.weight * target.valid


class UCC(Method):
    """Uncertainty guided cross-head co-training (Fan et al., CVPR 2022, arXiv 2205.10334).

    A reconstruction from abstract and overview figure: there is no code, and the method section was not at hand.

    Idea: `cps` with one encoder under two heads, and weak-to-strong at once: what one head says of the weak view
    teaches the other one on the strong view. Rare classes are pasted into labelled and unlabelled images alike from the
    same labelled donors (dynamic cross-set copy-paste), and a pixel counts less the more the heads differ on it
    (uncertainty guided re-weighting). What it adds to `cps`: strong views, the pasting, the weights; half of the
    encoders less.

    Equations; heads f_1, f_2 on the encoder, q_k a running confidence per class, N the valid pixels:
        k_i ~ softmax over the classes of 1 - q;   p_j(i) one of the labelled donors p that shows k_i (any if none does)
        D_i = with probability `chance` where p_j(i) is of class k_i, else nowhere;   `pasted` times per image
        x, y <- D ? p_j : x, label likewise;      Y_k = argmax f_k(u), every pixel, in train mode without gradient
        s <- D ? strong(p_j) : (m ? strong(u_n) : strong(u)),  n = B-1-i;   Y_k likewise, the donors' true label in D
        Var_a = KL(softmax f_b(s) || softmax f_a(s)), 0 in D;   b the other head, which labels
        L_a = 1/N sum (exp(-Var_a) CE(f_a(s), Y_b) + Var_a);   nothing is detached: both heads learn through Var
        L   = CE(f_1(x), y) + CE(f_2(x), y) + weight ramp (L_1 + L_2),   ramp(t) = exp(-5 (1 - t / ramp)^2)
        q_k <- momentum q_k + (1 - momentum) * mean probability of k over x's pixels of class k, of both heads, if any
    Without + Var the heads would be paid for disagreeing. One optimiser. Head 1 is evaluated; "mean" is the mean of
    both. A step takes three forwards of the encoder and six of a head (`cps` with CutMix: eight networks'), of which
    the labelling third is without gradient.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; with a second head.
        uncertainty: whose disagreement Var is: "strong", as above; "constant", the same without gradient and + Var;
            "weak", of the labelling forward, likewise a constant; "none", 0.
        heads: what each has of its own, the whole "decoder" (ASPP too) or the "classifier" behind the fused map.
        pasted: classes that are pasted into an image, one after the other; 0 = no pasting, no second labelled batch.
        chance: probability of each pasting.
        momentum: of q.
        exclude: classes that are not pasted.
        cutmix: mix the strong view or not.
        weight: of L_1 + L_2; 1.5 on VOC, 6 on Cityscapes, those of `cps` without CutMix.
        ramp: share of the training over which that weight rises: heads on one encoder make the same mistakes, and at
            first they label nothing but these.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.

    Raises:
        S4Error: unknown `uncertainty` or `heads`, or `exclude` leaves no class.
    """

    card = Card(
        family="cotraining",
        title="UCC: Uncertainty guided Cross-head Co-training for Semi-Supervised Semantic Segmentation",
        venue="CVPR",
        year=2022,
        authors="Fan et al.",
        arxiv="2205.10334",
        extends=("cps", "fixmatch", "ael"),
        parity="reconstruction",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET, "exclude": (0,)},
            "fit": {"epochs": 34, "batch": 8, "lr": 1e-2, "head": 1.0, "decay_norms": False},
            "processes": 4,
            "divided": "all",
            "epochs": {"1_16": 32, "1_8": 34, "1_4": 40, "1_2": 60},
            "evaluation": "voc/cps",
            **STANDS_IN,
        },
        "cityscapes": {
            "task": {"crop": 800, "scale": SCALES},
            "method": {
                **{"net": PAPER_NET, "weight": 6.0, "exclude": (0, 1, 2, 8, 10)},
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 137, "batch": 8, "lr": 2e-2, "head": 1.0, "decay_norms": False},
            "processes": 8,
            "divided": "all",
            "epochs": {"1_16": 128, "1_8": 137, "1_4": 160, "1_2": 240},
            "evaluation": "cityscapes/cps",
            **STANDS_IN,
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        uncertainty: str = "strong",
        heads: str = "decoder",
        pasted: int = 1,
        chance: float = 0.5,
        momentum: float = 0.999,
        exclude: Sequence[int] = (),
        cutmix: bool = True,
        weight: float = 1.5,
        ramp: float = 0.3,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        for name, value, known_values in (("uncertainty", uncertainty, UNCERTAINTY), ("heads", heads, HEADS)):
            if value not in known_values:
                raise S4Error(f"ucc({name}={value!r}): choose one of {', '.join(known_values)}.")
        targets = [c for c in range(task.num_classes) if c not in exclude]
        if not targets:
            raise S4Error(f"exclude={tuple(exclude)} leaves no class that may be pasted.")
        self.student = make(net, task)
        decoder = self.student.decoder
        self.student.heads["second"] = OwnDecoder(decoder) if heads == "decoder" else decoder.branch()
        self.uncertainty, self.pasted, self.chance, self.momentum = uncertainty, pasted, chance, momentum
        self.weight, self.ramp, self.supervised = weight, ramp, criterion(supervised)
        self.register_buffer("targets", torch.tensor(targets), persistent=False)
        self.register_buffer("q", torch.zeros(task.num_classes))
        view = weak(pad="mean", centred=True)
        u = Stream("unlabelled", view, strong=(STRONG,), masks=(three_boxes(),) if cutmix else ())
        self.views = ViewPlan(x=Stream("labelled", view), u=u)
        if pasted:
            self.views["p"] = Stream("labelled", view, strong=(STRONG,))

    def teach(self, view: Views) -> Pair:
        with evaluating(self.student):
            return answers(self.student, view.weak)

    def pseudo_labels(self, evidence: Pair, view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        found = {}
        for name, logits, learner in zip(NAMES, evidence, reversed(evidence)):
            confidence, label = logits.softmax(1).max(1)
            weight = torch.ones_like(confidence)
            if self.uncertainty == "weak":
                weight = torch.exp(-kl(learner, logits))
            found[name] = PseudoLabels(label, confidence, weight, view.valid)
        return found

    def probabilities(self, evidence: Pair) -> dict[str, Tensor]:
        return {name: logits.softmax(1) for name, logits in zip(NAMES, evidence)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        with torch.no_grad():  # in train mode, so this forward counts in the BN statistics
            target = self.pseudo_labels(answers(self.student, u.weak), u, clock)
        image, label, mixed = x.weak, x.label, u.strong[0]
        for m in u.masks:
            mixed = paste(m, mixed.flip(0), mixed)
            target = {name: paste(m, y.map(lambda t: t.flip(0)), y) for name, y in target.items()}
        own = torch.ones_like(u.valid, dtype=torch.bool)
        for _ in range(self.pasted):
            p, n = batch.p, len(x)
            k, j = draw_donors(self.q, self.targets, p.label, max(n, len(u)))
            keep = draw_donor_mask(p.label[j], k, self.chance)
            image, label = paste(keep[:n], image, p.weak[j[:n]]), paste(keep[:n], label, p.label[j[:n]])
            keep, j = keep[: len(u)], j[: len(u)]
            truth = known(p.label[j])
            mixed = paste(keep, mixed, p.strong[0][j])
            target, own = {name: paste(keep, y, truth) for name, y in target.items()}, own & keep

        z = answers(self.student, image)
        s = answers(self.student, mixed)
        self.remember(z, label)
        losses = Losses(x1=self.supervised(z[0], label), x2=self.supervised(z[1], label)).see(weak=u.weak, mixed=mixed)
        weight = self.weight * sigmoid_ramp(clock.progress, self.ramp)
        for name, taught, other in zip(NAMES, reversed(s), s):
            y = target[name]
            far = ce_map(taught, y.label)
            doubt = kl(taught, other) * own if self.uncertainty in STRONG_VIEW else torch.zeros_like(far)
            term, cost = doubted(far, doubt, y, self.uncertainty == "strong")
            losses.add(f"by{name[0]}", term, weight).see(name, target=y, loss=cost)
        return losses

    @torch.no_grad()
    def remember(self, z: Pair, label: Tensor) -> None:
        """Move the confidences q of the classes that (B, H, W) labels show."""
        found = class_confidence(torch.cat(z), torch.cat([label, label]))
        moved = self.momentum * self.q + (1 - self.momentum) * found
        self.q.copy_(torch.where(found > 0, moved, self.q))  # a class that is not shown has none

    def predictors(self) -> dict[str, nn.Module]:
        return {"head 1": self.student, "mean": Mean(self.student)}
