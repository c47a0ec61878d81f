"""RRN: two networks teach each other, and critics say which regions of an answer may teach their own network.

From the release: its critic pools 20 x 20 cells of the 32 x 32 that a crop of 512 has, so the right and lower parts
of an image are never looked at (the layer was made for crops of 320); here the mean is over all cells. It stretches
the images of a batch to [0, 1] by their own minimum and maximum, here they are in [0, 1] from the start. Its warm-up
ends with a jump down to the polynomial decay, here as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import Critic, Ensemble, evaluating, frozen, make
from ...views import Batch, Stream, ViewPlan, Views, paste, three_boxes, weak
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..cotraining.cps import NAMES, PAPER_NET, SCALES
from ..parts.judging import accepted, human, judging, sharpening, traits_apart
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_ce
from ..parts.schedules import constant

OWN = ("1 teaches itself", "2 teaches itself")
Evidence = tuple[Tensor, Tensor, Tensor, Tensor]


class RRN(Method):
    """Semi-supervised semantic segmentation with region relevance (Chen et al., ICME 2023, arXiv 2304.11539).

    Idea: a pseudo-label map is seldom good or bad as a whole, so a critic that has learnt how human label maps look
    says region by region which predictions are worth being trusted; as two networks make different mistakes, each one
    is judged by the other's critic as well. What it adds to `cps` with CutMix: the two critics, and the training of a
    network on those of its own predictions that pass for a human's.

    Equations; networks f1, f2, the mixed image s, labels Y_1, Y_2 as in `cps`; critics D1, D2, which give scores d in
    (0, 1) and traits phi; s_k = f_k(s), fake_k = (softmax s_k, s), real = (one-hot y, x); j = 1, 2:
        L_cps  = CE(s_1, Y_2) + CE(s_2, Y_1)
        M_kj   = 1[d_j(fake_k) > tau], per region, from the second epoch on
        L_self = sum over k, j of the mean of CE(s_k, argmax s_k) over M_kj
        L_fm   = sum over k of mean over traits |mean over x of phi_k(real) - mean over s of phi_k(fake_k)|
        L      = CE(f1(x), y) + CE(f2(x), y) + weight L_cps + match L_fm + own L_self        the critics stand still
        L_Dk   = (BCE(d_k(sg fake_k), 0) + BCE(d_k(real), 1)) / 2                              the networks stand still
    M is no function of the gradient; that of L_fm reaches f_k through the critic. L and L_D go through one backward,
    then each of the four has a step of its own. L_self falls as the network gets surer, like an entropy. All forwards
    are in train mode, those that select included, so the critics' dropout takes part. The mean of both logits is
    evaluated. The explorer has four kinds of labels: of each network for the other, and those for itself, whose weight
    is the share of the critics that accept.

    The paper is about regions; the release has one score per image, M_kj for all of its pixels. `regions` says which:
    by default the critic, the same network but for the pooling before its last layer, scores each cell of 16 pixels.
    How the paper cuts regions, and how it corrects their loss by the networks' diversity, was not at hand: here, as in
    the release, a region counts once for each critic that accepts it. The golden vector is of the selection, which is
    the same rule for one cell as for many. The abstract has the loss of the selected regions inside the consistency
    term; in the release, and here, it is a term of its own.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        tau: score from which a region passes for a human's; 1 = no self-training.
        regions: a score for each cell of 16 pixels; False = one per image, as released.
        weight: of L_cps. match: of L_fm. own: of L_self.
        width: of the critics, see `nets.Critic`.
        critic_lr: constant learning rate of the critics' Adam.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Semi-Supervised Semantic Segmentation With Region Relevance",
        venue="ICME",
        year=2023,
        authors="Chen et al.",
        arxiv="2304.11539",
        code="https://github.com/NUST-Machine-Intelligence-Laboratory/TorchSemiSeg2",
        extends=("cps",),
        parity="golden",
        note="its regions are reconstructed",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"width": 16}},  # the light network beside critics that cost less than it does
        "camvid": {"method": {"width": 16}},
        "folder": {"method": {"width": 16}},
        "voc": {
            "task": {"crop": 512, "scale": SCALES},
            "method": {"net": PAPER_NET, "regions": False},
            "fit": {"epochs": 32, "batch": 6, "lr": 2.5e-3, "head": 1.0, "decay_norms": False, "warmup": 16_530},
            "processes": 1,
            "evaluation": "voc/cps",
            "differs": [
                "its script is for 1/16 of the labels, other lists have its length here; its warm-up is 10 epochs, "
                "given here in steps of that list",
                "new layers start Kaiming normal there, as PyTorch's do here",
                "its script scores the epochs from the 20th on; which of them the paper reports is not said",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.6,
        regions: bool = True,
        weight: float = 1.0,
        match: float = 0.1,
        own: float = 1.0,
        width: int = 64,
        critic_lr: float = 1e-4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.net1, self.net2 = make(net, task), make(net, task)
        self.critic1, self.critic2 = (Critic(task.num_classes, width=width, cells=regions) for _ in NAMES)
        self.tau, self.weight, self.match, self.own, self.critic_lr = tau, weight, match, own, critic_lr
        self.supervised = criterion(supervised)
        view = weak(pad="mean", centred=True)
        self.views = ViewPlan(
            x=Stream("labelled", view),
            u=Stream("unlabelled", view, masks=(three_boxes(),)),
            v=Stream("unlabelled", view),
        )

    def teach(self, view: Views) -> Evidence:
        """Logits of both networks, and what both critics score them, each (B, 2, h, w)."""
        with evaluating(self.net1, self.net2, self.critic1, self.critic2):
            z = [net(view.weak) for net in (self.net1, self.net2)]
            maps = [logits.softmax(1) for logits in z]
            d = [torch.stack([c(p, view.weak).score.sigmoid() for c in (self.critic1, self.critic2)], 1) for p in maps]
        return (*z, *d)

    def pseudo_labels(self, evidence: Evidence, view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        z1, z2, d1, d2 = evidence
        found = [self.labels(z, torch.ones_like(view.valid), view.valid) for z in (z1, z2)]
        for z, d in ((z1, d1), (z2, d2)):
            found.append(self.labels(z, self.passing(d, z.shape[-2:], clock).mean(0), view.valid))
        return dict(zip(NAMES + OWN, found))

    def labels(self, logits: Tensor, weight: Tensor, valid: Tensor) -> PseudoLabels:
        """The likeliest class of each pixel of (B, K, H, W) logits, with (B, H, W) weights."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, weight, valid)

    def passing(self, d: Tensor, size: torch.Size, clock: Clock) -> Tensor:
        """(2, B, H, W) M_kj, of scores (B, 2, h, w) of one network's answers; nothing in the first epoch."""
        return torch.stack([accepted(d_j, self.tau, size) for d_j in d.unbind(1)]) * float(clock.epoch > 0)

    def probabilities(self, evidence: Evidence) -> dict[str, Tensor]:
        p1, p2 = (logits.softmax(1) for logits in evidence[:2])
        return dict(zip(NAMES + OWN, (p1, p2, p1, p2)))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v, m = batch.x, batch.u, batch.v, batch.u.masks[0]
        everywhere, size = torch.ones_like(u.valid), u.weak.shape[-2:]  # padding takes part, as released
        with torch.no_grad():  # in train mode, so these forwards count in the BN statistics
            t1, t2 = (paste(m, net(v.weak), net(u.weak)) for net in (self.net1, self.net2))
        y1, y2 = (self.labels(t, everywhere, everywhere) for t in (t1, t2))
        seen = paste(m, v.weak, u.weak)
        s1, s2 = self.net1(seen), self.net2(seen)
        z1, z2 = self.net1(x.weak), self.net2(x.weak)
        l_cps = pixel_ce(s1, y2, over="all") + pixel_ce(s2, y1, over="all")
        losses = Losses(x1=self.supervised(z1, x.label), x2=self.supervised(z2, x.label), cps=(l_cps, self.weight))
        losses.see(weak=u.weak, mixed=seen)
        losses.see(NAMES[0], target=y1, student=s2).see(NAMES[1], target=y2, student=s1)

        real, critics, l_fm, l_self = human(x.label, s1.shape[1]), (self.critic1, self.critic2), 0.0, 0.0
        for k, s in enumerate((s1, s2)):
            fake, judge = s.softmax(1), critics[k]
            with frozen(judge):
                by_k = judge(fake, seen)
            with torch.no_grad():
                by_other, of_real = critics[1 - k](fake, seen), judge(real, x.weak)
            l_fm = l_fm + traits_apart(of_real.traits, by_k.traits)
            d = torch.stack([by_k.score, by_other.score] if k == 0 else [by_other.score, by_k.score], 1)
            kept = self.passing(d.detach().sigmoid(), size, clock)
            l_self = l_self + sum(sharpening(s, kept_j) for kept_j in kept)
            target = self.labels(s.detach(), kept.mean(0), everywhere)
            losses.see(OWN[k], target=target, loss=ce_map(s, target.label) * target.weight)
            losses.add(f"critic{k + 1}", judging(judge, fake.detach(), seen, real, x.weak))
        return losses.add("match", l_fm, self.match).add("self", l_self, self.own)

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        adam = replace(
            recipe, lr=self.critic_lr, head=1.0, kind="adam", weight_decay=0.0, betas=(0.9, 0.99), schedule=constant
        )
        nets, critics = {"net1": self.net1, "net2": self.net2}, {"critic1": self.critic1, "critic2": self.critic2}
        found = {name: replace(recipe, nets=[net]) for name, net in nets.items()}
        return found | {name: replace(adam, nets=[critic]) for name, critic in critics.items()}

    def predictors(self) -> dict[str, nn.Module]:
        return {"mean": Ensemble(self.net1, self.net2), "net 1": self.net1, "net 2": self.net2}
