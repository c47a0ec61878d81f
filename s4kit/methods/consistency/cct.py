"""CCT: many small decoders read damaged features and must agree with the one that reads them whole.

From the release: it takes the plain CE; its xi of 1e-6 makes "vat" a no-op, here the trial step is 1 % of the
features' norm and the radius a share of it (2 there, below 1 %); the pair-wise loss is added after the total was
formed, so that nothing learns from it, here it does; class 0 is the background, so on Cityscapes the road: here the
classes are given. Padding counts there. Regions are joined in the mask, not by OpenCV's contours. Deviation: by
default one decoder per kind instead of 30, and heads of the kit's DeepLabV3+ on its fused features; the recipes have
the paper's numbers and its PSP decoder with pixel shuffles.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nets import bn_untouched, evaluating, make
from ...nets.perturb import drop_active, hide, scale_noise
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.adversary import adversarial_noise, length
from ..parts.components import windows
from ..parts.distances import distance as distance_of
from ..parts.losses import Criterion, ce, criterion, ohem, pixel_mean
from ..parts.schedules import linear, log_ramp, sigmoid_ramp

PAPER_NET = "resnet50c(output_stride=8, decoder='psp', align_corners=False)"
PAPER_COUNTS = {"vat": 2, "dropout": 6, "cutout": 6, "context": 2, "objects": 2, "drop": 6, "noise": 6}
STUFF = {"cityscapes": list(range(11)), "camvid": [0, 1, 3, 4, 5]}  # the ground on which things stand


def spread(probs: Tensor) -> Tensor:
    """Variance of the class probabilities over K decoders (K, B, C, H, W), summed over classes: (B, H, W)."""
    return probs.var(0, correction=0).sum(1)


class CCT(Method):
    """Semi-supervised semantic segmentation with cross-consistency training (Ouali et al., CVPR 2020).

    Idea: for pixels, classes are apart in feature space rather than in the space of colours, so damage the features;
    auxiliary decoders g_k, one per kind of damage, must agree with the main decoder g that reads them whole. What it
    adds to `mean_teacher`: no second network, but K decoders on one encoder, and damage that is more than noise.

    Equations, e the shared encoder (all before the classifier), K decoders, N the pixels that count, C classes:
        f = e(u);   q = softmax(g(f)) without gradient;   p_k = softmax(g_k(damage_k(f)))
        L_u = 1/K sum over k of 1/(N C) sum over pixels and classes of (p_k - q)^2
        L = CE(g(e(x)), y_x) + weight * ramp(progress) * L_u,   ramp(r) = exp(-5 (1 - min(r / ramp_up, 1))^2)
    The encoder learns from both terms, the main decoder from the labels alone. The mean over classes, too, makes L_u
    small: hence the weight of 30. One weak view for all, no colours, no mixing.

    The damage: "dropout" of half the channels; "drop" of the most active places (factor U(0.7, 0.9) of the largest
    mean over channels); "noise" f (1 + n), n ~ U(-0.3, 0.3), one draw for the batch; "context" and "objects" hide what
    the main decoder takes for background, and the rest; "cutout" hides a window of 0.4 x 0.4 in the box of every large
    object; "vat" adds the noise of length `radius` that the decoder feels most.
    The paper's supervised term (`annealed`) leaves out pixels whose true class is already likelier than a threshold,
    which rises to 0.9 within 40 % of the training.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; the paper's is `PAPER_NET`.
        counts: decoders per kind of damage, by the names above; None = one of each.
        weight: of L_u after the ramp-up.
        ramp_up: share of the training over which L_u rises.
        radius: of "vat", as a share of the features' norm.
        background: classes that "context", "objects" and "cutout" take for background.
        tau: only pixels whose target is more confident count (0 = all, the paper).
        pairwise: weight of the decoders' variance around their mean, at most 8 of them (0 = off, the paper).
        distance: "squared" (the paper), "kl" or "js", see `parts.distances`; divided by C.
        annealed: the paper's threshold on the supervised term, instead of `supervised`.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="Semi-Supervised Semantic Segmentation with Cross-Consistency Training",
        venue="CVPR",
        year=2020,
        authors="Ouali et al.",
        arxiv="2003.09005",
        code="https://github.com/yassouali/CCT",
        extends=("mean_teacher",),
        parity="golden",
    )
    recipes: ClassVar = {
        "camvid": {"method": {"background": STUFF["camvid"]}},
        "voc": {
            "task": {"crop": 320, "scale": (0.4, 1.6)},  # 0.5 to 2 times 400, of longer sides of 500
            "method": {
                "net": PAPER_NET,
                "counts": PAPER_COUNTS,
                "annealed": True,
            },
            "fit": {"epochs": 80, "batch": 10, "lr": 1e-3, "head": 10.0},
            "processes": 1,
            "evaluation": "voc",
            "differs": [
                "scored images are padded by reflection to multiples of 8 there, not here",
                "annealed: no there (plain cross entropy), yes here, as in the paper",
                "it stops early after 10 evaluations without gain, one in 5 epochs",
                "its main result has the 1464 images labelled; other lists are later papers'",
            ],
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {
                "net": PAPER_NET,
                "counts": PAPER_COUNTS,
                "background": STUFF["cityscapes"],
                "annealed": True,
                "supervised": "ce",
            },
            "fit": {"epochs": 80, "batch": 10, "lr": 1e-3, "head": 10.0},
            "evaluation": "cityscapes",
            "differs": ["the code has no Cityscapes: the figures of VOC, with the usual crop"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        counts: dict[str, int] | None = None,
        weight: float = 30.0,
        ramp_up: float = 0.1,
        radius: float = 0.1,
        background: tuple[int, ...] = (0,),
        tau: float = 0.0,
        pairwise: float = 0.0,
        distance: str = "squared",
        annealed: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.kinds = {
            f"{kind}{i}": kind for kind, n in (counts or dict.fromkeys(PAPER_COUNTS, 1)).items() for i in range(n)
        }
        self.student.heads.update({name: self.student.decoder.branch() for name in self.kinds})
        self.weight, self.ramp_up, self.radius, self.tau, self.pairwise = weight, ramp_up, radius, tau, pairwise
        self.distance, self.annealed, self.supervised = distance_of(distance), annealed, criterion(supervised)
        view = weak(pad="mean")
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view))
        ground = [c in background for c in range(self.student.classes)]
        self.register_buffer("ground", torch.tensor(ground), persistent=False)

    def damage(self, name: str, f: Tensor, label: Tensor) -> Tensor:
        """Features (B, F, h, w) as the decoder `name` gets them; `label` (B, H, W) is the main decoder's answer."""
        kind, thing = self.kinds[name], ~self.ground[label]
        if kind == "dropout":
            return F.dropout2d(f, 0.5)
        if kind == "drop":
            return drop_active(f, torch.empty((), device=f.device).uniform_(0.7, 0.9))
        if kind == "noise":
            return scale_noise(f, torch.empty_like(f[0]).uniform_(-0.3, 0.3))
        if kind == "context":
            return hide(f, thing)
        if kind == "objects":
            return hide(f, ~thing)
        if kind == "cutout":
            height, width = label.shape[-2:]
            where = torch.rand(len(f), height * width + 1, 2, device=f.device)
            return hide(f, ~windows(thing, where, share=0.4, min_edge=50 / 320 * width))
        with bn_untouched(self.student.heads[name]):
            size = length(f.detach())
            noise = torch.rand_like(f) - 0.5
            return f + adversarial_noise(self.student.heads[name], f, noise, 0.01 * size, self.radius * size)

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        q = logits.softmax(1)
        confidence, label = q.max(1)
        return PseudoLabels(label, confidence, (confidence > self.tau).float(), view.valid, soft=q)

    def threshold(self, clock: Clock) -> float:
        """From 1/C to almost 0.9: labelled pixels above it are left out of the annealed supervised term."""
        return linear(1 / self.student.classes, 0.9, log_ramp(clock.progress, 0.4))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        size = u.weak.shape[-2:]
        z_x = self.student(x.weak)
        f = self.student.fuse(self.student.encode(u.weak)).map
        with torch.no_grad():
            t_u = self.student.classify(f, size).logits
        target = self.pseudo_labels(t_u, u, clock)
        z = [self.student.branch(name, self.damage(name, f, target.label), size) for name in self.kinds]
        far = torch.stack([self.distance(z_k, t_u) for z_k in z]).mean(0) / t_u.shape[1]
        l_u = pixel_mean(far, target.weight, target.valid, over="kept")
        labelled = ohem(self.threshold(clock), per_image=1) if self.annealed else self.supervised
        losses = Losses(x=labelled(z_x, x.label), u=(l_u, self.weight * sigmoid_ramp(clock.progress, self.ramp_up)))
        if self.pairwise:
            some = [z[i] for i in torch.randperm(len(z)).tolist()[:8]]
            apart = spread(torch.stack(some).softmax(2))
            losses.add("pairwise", pixel_mean(apart, target.valid, target.valid, over="valid"), self.pairwise)
        return losses.see(weak=u.weak, mixed=u.weak, target=target, loss=far * target.weight * target.valid)
