"""DAW: UniMatch with the threshold at which right and wrong predictions are equally likely.

From the release: its data set returns no map of the void labelled pixels while its loop asks for one, so that it does
not run as published; here it is the label's own 255. Its two ranks average their variances and never share a and b;
here all sums run over the processes before anything is averaged. The root is taken in the form without cancellation
(2C / (-B - sqrt(D)) for B > 0). It keeps none of these figures in a checkpoint; here they are buffers.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import Features, copy_of, ema, feature_dropout, warm
from ...views import Batch, Views, paste
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.losses import Criterion, ce, pixel_ce
from ..parts.precision import float32
from ..parts.processes import over_processes
from .unimatch import UniMatch

FEWEST = 10  # pixels of a group from which its mean and variance are believed


class DAW(UniMatch):
    """DAW: exploring the better weighting function (Sun et al., NeurIPS 2023).

    Idea: a threshold loses right pseudo-labels below it and lets wrong ones in above it; if the confidences of right
    and of wrong predictions are two Gaussians, the best step is where their densities cross. Labelled pixels tell which
    predictions are right. What it adds to `unimatch`: this threshold, and probabilities of unlabelled pixels that are
    aligned, class by class, with how confident the network is on labelled ones.

    Equations; c the largest probability of a pixel, <- an average that keeps the share `momentum`:
        a_k, b_k <- mean of c over the pixels predicted as k, of x and of w(u), w(v); absent classes keep theirs
        q = p a / b, divided by its sum over the classes;   y, c_q = argmax, max of q, for w(u) and for w(v)
        mu+, s+^2 <- mean and variance of c over x's pixels with argmax f(x) = y_x;   mu-, s-^2 of the others
        tau: the root of A t^2 + B t + C = 0, clamped to [1/K, 1], with
             A = s+^2 - s-^2,   B = 2 (mu+ s-^2 - mu- s+^2),
             C = (mu- s+)^2 - (mu+ s-)^2 + 2 (s+ s-)^2 ln(s- / (alpha s+)),   t = (-B + sqrt(B^2 - 4 A C)) / 2A
        L as in `unimatch` with 1[c_q >= tau];   after each step: t <- d t + (1 - d) f, d = min(1 - 1/(i + 1), decay)
    The averaged network t is only evaluated; the paper reports the better of the two. Labels come from f.

    At the start both Gaussians are the same and tau sits at its lower clamp: every pixel is used. A group with fewer
    than ten pixels keeps its figures; where there is no real root tau stays.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: threshold until the first root. momentum: of the statistics. alpha: weight of the wrong group's density.
        drop: probability that a feature channel is dropped.
        decay: of the averaged network.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="consistency",
        title="DAW: Exploring the Better Weighting Function for Semi-supervised Semantic Segmentation",
        venue="NeurIPS",
        year=2023,
        authors="Sun et al.",
        code="https://github.com/yuisuen/DAW",
        extends=("unimatch",),
        parity="golden",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 513},
            "method": {"net": "resnet101c"},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "voc",
            "differs": [
                "unsure: crop and batch are of the released yaml; the paper's table was not at hand",
            ],
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {"net": "resnet101c", "supervised": "ohem(thresh=0.7, per_image=100000)"},
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0, "schedule": "poly_after"},
            "processes": 4,
            "evaluation": "cityscapes",
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        momentum: float = 0.99,
        alpha: float = 1.0,
        drop: float = 0.5,
        decay: float = 0.999,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__(task, net, tau, drop, supervised)
        self.classes = task.num_classes
        self.average = copy_of(self.student)
        self.momentum, self.alpha, self.decay = momentum, alpha, decay
        even = 1 / self.classes
        self.register_buffer("threshold", torch.tensor(float(tau)))  # tau, as the last step left it
        self.register_buffer("seen_x", torch.full((self.classes,), even))  # a
        self.register_buffer("seen_u", torch.full((self.classes,), even))  # b
        self.register_buffer("mean", torch.full((2,), even))  # of right, of wrong predictions
        self.register_buffer("variance", torch.full((2,), 0.5))

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = self.probabilities(logits).max(1)
        return PseudoLabels(label, confidence, (confidence >= self.threshold).float(), view.valid)

    def probabilities(self, evidence: Tensor) -> Tensor:
        """q: the probabilities, aligned."""
        q = evidence.softmax(1) * (self.seen_x / self.seen_u)[:, None, None]
        return q / q.sum(1, keepdim=True)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u, v = batch.x, batch.u, batch.v
        z_v = self.teach(v)
        e = self.student.encode(torch.cat([x.weak, u.weak])).ends
        both = self.student.decode(Features.cat([e, feature_dropout(e, self.drop)]), u.weak.shape[-2:])
        of_x, of_w, _, of_fp = both.split(len(x), len(u), len(x), len(u))
        z_x, z_w, z_fp = of_x.logits, of_w.logits, of_fp.logits
        self.compare_confidence(z_x, x.label, torch.cat([z_w, z_v]), torch.cat([u.valid, v.valid]))
        self.move_threshold(z_x, x.label)

        partner, own = self.pseudo_labels(z_v, v, clock), self.pseudo_labels(z_w.detach(), u, clock)
        mixed = [paste(m, s_v, s_u) for m, s_v, s_u in zip(u.masks, v.strong, u.strong)]
        target = [paste(m, partner, own) for m in u.masks]
        z_1, z_2 = (part.logits for part in self.student.joint(*mixed))
        l_1, l_2 = (pixel_ce(z, t, over="valid") for z, t in zip((z_1, z_2), target))
        l_fp = pixel_ce(z_fp, own, over="valid")
        losses = Losses(x=(self.supervised(z_x, x.label), 0.5), s1=(l_1, 0.125), s2=(l_2, 0.125), fp=(l_fp, 0.25))
        losses.see(weak=u.weak, mixed=mixed[0], target=target[0], student=z_1)
        losses.see("second view", mixed=mixed[1], target=target[1], student=z_2)
        return losses.see("dropped features", mixed=u.weak, target=own, student=z_fp)

    @torch.no_grad()
    def compare_confidence(self, z_x: Tensor, label: Tensor, z_u: Tensor, valid_u: Tensor) -> None:
        """Average a and b, how confident the network is per predicted class on labelled and unlabelled pixels."""
        for seen, z, valid in ((self.seen_x, z_x, label != VOID), (self.seen_u, z_u, valid_u > 0)):
            confidence, predicted = z.softmax(1).max(1)
            sums = z.new_zeros(2, self.classes)
            sums[0].scatter_add_(0, predicted.flatten(), (confidence * valid).flatten())
            sums[1].scatter_add_(0, predicted.flatten(), valid.flatten().to(z.dtype))
            total, number = over_processes(sums)
            self._average(seen, total / number.clamp(min=1), number > 0)

    @torch.no_grad()
    def move_threshold(self, z_x: Tensor, label: Tensor) -> None:
        """Average mean and variance of the confidence of right and of wrong labelled pixels; tau is their crossing."""
        confidence, predicted = z_x.softmax(1).max(1)
        right, known = predicted == label, label != VOID
        groups = torch.stack([right & known, ~right & known]).flatten(1).to(confidence.dtype)
        c = confidence.flatten()
        number, total = over_processes(torch.stack([groups.sum(1), (groups * c).sum(1)]))
        mean = torch.where(number >= FEWEST, total / number.clamp(min=1), self.mean)
        squares = over_processes((groups * (c - mean[:, None]).square()).sum(1))
        self._average(self.mean, mean, number >= FEWEST)
        self._average(self.variance, squares / (number - 1).clamp(min=1), number >= FEWEST)
        self.threshold.copy_(crossing(self.mean, self.variance, self.alpha, self.threshold).clamp(1 / self.classes, 1))

    def _average(self, state: Tensor, new: Tensor, where: Tensor) -> None:
        state.copy_(torch.where(where, self.momentum * state + (1 - self.momentum) * new, state))

    def after_step(self, clock: Clock) -> None:
        ema(self.average, self.student, warm(self.decay, clock.step), buffers="average")

    def predictors(self) -> dict[str, nn.Module]:
        return {"average": self.average, "student": self.student}


@float32
def crossing(mean: Tensor, variance: Tensor, alpha: float, otherwise: Tensor) -> Tensor:
    """Where the density of the first Gaussian equals alpha times that of the second: of two roots the one of +sqrt(D).

    Args:
        mean, variance: (2,) of right and wrong. alpha: factor of the wrong ones. otherwise: where there is no root.
    """
    (m_p, m_n), (v_p, v_n) = mean, variance
    a, b = v_p - v_n, 2 * (m_p * v_n - m_n * v_p)
    c = m_n**2 * v_p - m_p**2 * v_n + 2 * v_p * v_n * torch.log((v_n / v_p).sqrt() / alpha + 1e-8)
    d = b**2 - 4 * a * c
    q = -(b + torch.where(b > 0, 1.0, -1.0) * d.clamp(min=0).sqrt()) / 2
    return torch.where(d > 0, torch.where(b > 0, c / q, q / (a + 1e-10)), otherwise)
