"""ADS: two students teach each other where they are stable under a bend, and critics pick whole maps to train on.

From the release: its sampling grid exchanges rows and columns of the flow and measures both in the width, so the
images are bent smoothly, but not as the control points say; here they are. Its grids were written for the corner
alignment of PyTorch before 1.3, which is the one here. It stretches the critics' images by the minimum and maximum of
a batch (in one place of two batches); here images are in [0, 1] from the start. Its human maps are another draw of
labelled images; here those of the step. The paper has 0.7 for `trust`, the code 0.6.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from ...nets import Critic, evaluating, frozen, make
from ...views import Batch, Stream, ViewPlan, Views, weak
from ...views.blocks import control_points, draw_noise, warped, warping
from ...views.spline import bend
from ..base import Card, Clock, Losses, Method, Optim, PseudoLabels
from ..parts.judging import accepted, human, judging, sharpening, traits_apart
from ..parts.losses import Criterion, ce, ce_map, criterion
from ..parts.precision import float32
from ..parts.schedules import sigmoid_ramp
from .gct import mean_square

BENT = ("1 teaches 1 bent", "2 teaches 2 bent")
NAMES = ("1 teaches 2", "2 teaches 1")
OWN = ("1 teaches itself", "2 teaches itself")
SCALES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)
NET = "resnet101(output_stride=8, freeze_bn='affine')"
COCO_DEEPLABV2 = "the network is DeepLabV2 there, pretrained on COCO; DeepLabV3+ on ImageNet's ResNet-101 here"
Evidence = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class Exchange(NamedTuple):
    """What each student is to say of the warped images.

    Attributes:
        t1, t2: (B, C, H, W) logits, each student's own or the other's.
        by1, by2: (B, 1, H, W) bool, where student 2 takes those of 1, and the other way round.
    """

    t1: Tensor
    t2: Tensor
    by1: Tensor
    by2: Tensor


@float32
def stable(a: Tensor, b: Tensor, tau: float) -> Tensor:
    """(B, 1, H, W) where two logits of one student have the same class, and one of them is surer of it than `tau`."""
    (sure_a, class_a), (sure_b, class_b) = (z.softmax(1).max(1, keepdim=True) for z in (a, b))
    return (class_a == class_b) & (torch.maximum(sure_a, sure_b) > tau)


@float32
@torch.no_grad()
def exchange(a1: Tensor, b1: Tensor, a2: Tensor, b2: Tensor, tau: float) -> Exchange:
    """A stable student teaches an unstable one; of two stable ones that teaches whose two logits are closer.

    Args:
        a1, a2: (B, C, H, W) logits on the warped images. b1, b2: warped logits of the images.
    """
    stable1, stable2 = stable(a1, b1, tau), stable(a2, b2, tau)
    apart1, apart2 = ((a - b).square().mean(1, keepdim=True) for a, b in ((a1, b1), (a2, b2)))
    by1 = stable1 & (~stable2 | (apart1 <= apart2))
    by2 = stable2 & (~stable1 | (apart2 <= apart1))
    return Exchange(torch.where(by2, a2, a1), torch.where(by1, a1, a2), by1, by2)


class ADS(Method):
    """Adversarial dual-student with differentiable spatial warping (Cao et al., IEEE TCSVT 2022, arXiv 2203.02792).

    Idea: a bend of the image plane is a perturbation that segmentation must follow: the answer for the bent image is
    the bent answer. Two students learn that each by itself, and where one has learned it, its answer being the same
    both ways and sure, it teaches the other one that has not. What `gct` asks a detector of flaws, who may teach whom,
    is asked of the answers' stability. As in `rrn`, critics that know how human label maps look pick whole predictions
    on which a student trains itself.

    Equations; students f1, f2, one warp W for the batch, images u, critics D1, D2 with scores d and traits phi:
        a_k = f_k(W u),  b_k = sg W f_k(u),  both logits;   apart_k = mean over classes of (a_k - b_k)^2
        k is stable where argmax a_k = argmax b_k and the larger of their confidences > tau
        T_2 = a_1 where 1 is stable and (2 is not, or apart_1 <= apart_2), a_2 elsewhere;   T_1 the mirror image
        L_con  = sum over k of mean (softmax a_k - softmax b_k)^2
        L_stab = sum over k of mean (softmax a_k - softmax sg T_k)^2
        L_self = sum over k of CE(f_k(u), argmax f_k(u)), the mean over the images with d_k(softmax f_k(u), u) > trust
        L_fm   = sum over k of mean over traits |mean over x of phi_k(one-hot y, x) - mean over u of phi_k(softmax, u)|
        ramp   = exp(-5 (1 - t / ramp)^2)
        L = CE(f1(x), y) + CE(f2(x), y) + ramp (con L_con + stab L_stab) + own L_self + match L_fm   the critics fixed
        L_Dk = (BCE(d_k(softmax sg f_k(u), u), 0) + BCE(d_k(one-hot y, x), 1)) / 2,                   the students fixed
    Means without a subject are over all elements, padding and what W brings in from outside included. The warp: each of
    3 x 3 blocks has a control point, at its centre but for 0.1 N(0, 1) blocks, that moves by 0.2 N(0, 1) blocks; the
    corners stay; a spline of r bends the plane between them. All forwards are in train mode, those that select as well,
    so the critics' dropout takes part. One backward, then each of the four has a step of its own: the students by SGD,
    the critics by Adam, whose rate follows the students' schedule. Either student may be evaluated; 1 stands first.

    The explorer's rule is asked with one fixed warp, its answers bent back; training draws a new one for each step.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        tau: confidence that a stable student has.
        trust: score above which a whole prediction passes for a human's; 1 = no self-training.
        ramp: share of the training over which L_con and L_stab rise; or passes, see `lengths`.
        con, stab, own, match: weights of L_con, L_stab, L_self and L_fm.
        width: of the critics, see `nets.Critic`.
        critic_lr: learning rate of the critics' Adam.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="cotraining",
        title="Adversarial Dual-Student with Differentiable Spatial Warping for Semi-Supervised Semantic Segmentation",
        venue="IEEE TCSVT",
        year=2022,
        authors="Cao et al.",
        arxiv="2203.02792",
        code="https://github.com/cao-cong/ADS-SemiSeg",
        extends=("gct", "revisiting"),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"width": 16, "ramp": 0.1}},  # critics that cost less than the light network
        "camvid": {"method": {"width": 16, "ramp": 0.1}},
        "folder": {"method": {"width": 16, "ramp": 0.1}},
        "voc": {
            "task": {"crop": 321, "scale": SCALES},
            "method": {"net": NET, "ramp": 800 / 90_000},
            "fit": {"steps": 90_000, "batch": 5, "lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4},
            "processes": 1,
            "evaluation": "voc",
            "selection": "last",
            "differs": [
                COCO_DEEPLABV2,
                "its lists are its own, none of the published ones",
                "evaluation: whole images padded to 505 with the mean colour there, without padding here",
            ],
        },
        "cityscapes": {  # images at half resolution
            "task": {"crop": 256, "size": 0.5, "scale": (1.0, 1.0)},
            "method": {"net": NET, "ramp": 800 / 80_000, "trust": 0.9, "critic_lr": 1e-5, "supervised": "ce"},
            "fit": {"steps": 80_000, "batch": 4, "lr": 2.5e-4, "head": 10.0, "weight_decay": 5e-4},
            "processes": 1,
            "evaluation": "cityscapes/whole",
            "selection": "last",
            "differs": [
                COCO_DEEPLABV2,
                "crop: 256 x 512 there, 256 x 256 here",
                "its lists are its own, none of the published ones",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.8,
        trust: float = 0.6,
        ramp: float | str = 0.01,
        con: float = 10.0,
        stab: float = 100.0,
        own: float = 1.0,
        match: float = 0.1,
        width: int = 64,
        critic_lr: float = 1e-4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.net1, self.net2 = make(net, task), make(net, task)
        self.critic1, self.critic2 = (Critic(task.num_classes, width=width) for _ in NAMES)
        self.tau, self.trust, self.ramp, self.con, self.stab = tau, trust, ramp, con, stab
        self.own, self.match, self.critic_lr = own, match, critic_lr
        self.supervised = criterion(supervised)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.register_buffer("fixed", draw_noise(torch.zeros(1)), persistent=False)  # the explorer's warp
        view = weak(pad="mean")
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view))

    def teach(self, view: Views) -> Evidence:
        """Of both students: logits on the warped image, bent back, and on the image; then their critics' scores."""
        size, image = view.weak.shape[-2:], view.weak
        source, to = control_points(self.fixed, size)
        there, back = warping(source, to, size), warping(to, source, size)
        with evaluating(self.net1, self.net2, self.critic1, self.critic2):
            bent = warped(image, there, self.net1.mean)
            a1, a2 = (warped(net(bent), back) for net in (self.net1, self.net2))
            w1, w2 = self.net1(image), self.net2(image)
            d1, d2 = (
                critic(w.softmax(1), image).score.sigmoid() for critic, w in ((self.critic1, w1), (self.critic2, w2))
            )
        return a1, w1, a2, w2, d1, d2

    def pseudo_labels(self, evidence: Evidence, view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        a1, b1, a2, b2, d1, d2 = evidence
        says, every = exchange(a1, b1, a2, b2, self.tau), torch.ones_like(view.valid)
        given = [(b1, every), (b2, every), (a1, says.by1[:, 0].float()), (a2, says.by2[:, 0].float())]
        given += [(b, accepted(d, self.trust, b.shape[-2:])) for b, d in ((b1, d1), (b2, d2))]
        return {name: labels(z, weight, view.valid) for name, (z, weight) in zip(BENT + NAMES + OWN, given)}

    def probabilities(self, evidence: Evidence) -> dict[str, Tensor]:
        a1, b1, a2, b2 = (z.softmax(1) for z in evidence[:4])
        return dict(zip(BENT + NAMES + OWN, (b1, b2, a1, a2, b1, b2)))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, nets, size = batch.x, batch.u, (self.net1, self.net2), batch.u.weak.shape[-2:]
        grid = warping(*control_points(draw_noise(u.weak), size), size)
        seen = warped(u.weak, grid, self.net1.mean)
        z, w, a = ([net(image) for net in nets] for image in (x.weak, u.weak, seen))
        b = [warped(w_k.detach(), grid) for w_k in w]
        says = exchange(a[0], b[0], a[1], b[1], self.tau)
        l_con = sum(mean_square(a_k.softmax(1), b_k.softmax(1)) for a_k, b_k in zip(a, b))
        l_stab = sum(mean_square(a_k.softmax(1), t_k.softmax(1)) for a_k, t_k in zip(a, (says.t1, says.t2)))
        ramp = sigmoid_ramp(clock.step, clock.steps_of(self.ramp))
        losses = Losses(x1=self.supervised(z[0], x.label), x2=self.supervised(z[1], x.label))
        losses.add("con", l_con, ramp * self.con).add("stab", l_stab, ramp * self.stab)

        real, l_self, l_fm, kept = human(x.label, w[0].shape[1]), 0.0, 0.0, []
        for k, critic in enumerate((self.critic1, self.critic2)):
            fake = w[k].softmax(1)
            with frozen(critic):
                of_fake = critic(fake, u.weak)
            with torch.no_grad():
                of_real = critic(real, x.weak)
            kept.append(accepted(of_fake.score.detach().sigmoid(), self.trust, size))
            l_self = l_self + sharpening(w[k], kept[k])
            l_fm = l_fm + traits_apart(of_real.traits, of_fake.traits)
            losses.add(f"critic{k + 1}", judging(critic, fake.detach(), u.weak, real, x.weak))
        losses.add("self", l_self, self.own).add("match", l_fm, self.match)
        return self.shown(losses, u, seen, bend(u.valid, grid.expand(len(u), -1, -1, -1)), w, a, b, says, kept)

    @torch.no_grad()
    def shown(
        self, losses: Losses, u: Views, seen: Tensor, valid: Tensor, w: Any, a: Any, b: Any, says: Exchange, kept: Any
    ) -> Losses:
        """The six paths of the step handed out; the squared errors are means over classes."""
        losses.see(weak=u.weak, mixed=seen)
        for k, name in enumerate(BENT):
            target = labels(b[k], torch.ones_like(valid), valid)
            losses.see(name, target=target, loss=(a[k].softmax(1) - b[k].softmax(1)).square().mean(1))
        for name, k, goal, by in ((NAMES[0], 0, says.t2, says.by1), (NAMES[1], 1, says.t1, says.by2)):
            target = labels(a[k], by[:, 0].float(), valid)
            losses.see(name, target=target, loss=(a[1 - k].softmax(1) - goal.softmax(1)).square().mean(1))
        for k, name in enumerate(OWN):
            target = labels(w[k], kept[k], u.valid)
            losses.see(name, mixed=u.weak, target=target, loss=ce_map(w[k], target.label) * kept[k])
        return losses

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        adam = replace(recipe, lr=self.critic_lr, head=1.0, kind="adam", weight_decay=0.0, betas=(0.9, 0.99))
        nets, critics = {"net1": self.net1, "net2": self.net2}, {"critic1": self.critic1, "critic2": self.critic2}
        found = {name: replace(recipe, nets=[net]) for name, net in nets.items()}
        return found | {name: replace(adam, nets=[critic]) for name, critic in critics.items()}

    def predictors(self) -> dict[str, nn.Module]:
        return {"student 1": self.net1, "student 2": self.net2}


def labels(logits: Tensor, weight: Tensor, valid: Tensor) -> PseudoLabels:
    """The likeliest class of each pixel of (B, K, H, W) logits, with (B, H, W) weights."""
    confidence, label = logits.softmax(1).max(1)
    return PseudoLabels(label, confidence, weight, valid)
