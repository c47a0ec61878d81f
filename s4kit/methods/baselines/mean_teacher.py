"""Mean teacher: agree with the average of your own past."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from ...nets import copy_of, ema, make, warm
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, PseudoLabels
from ..parts.distances import squared
from ..parts.losses import Criterion, ce, criterion, pixel_mean
from ..parts.schedules import sigmoid_ramp
from ..parts.teachers import AveragedTeacher

SOURCE = "official code of FST, usr922/FST: semi_seg/experiments/*/*/*mt/config.yaml, its plain mean teachers"
DIFFERS = [
    "the unlabelled loss: hard labels of the teacher, times all pixels over the kept ones, there; the squared error of "
    "probabilities, as in the paper, here",
    "scale: random scales are as often below as above 1 there, uniform here; pad_image: mean colour, centred, there, "
    "black, right and below, here (the views are those of `supervised`)",
    "pad_label: 0 there, 255 (ignored) here: padding is not taught as background",
    "unsure: ramp of the unlabelled loss: not read in the release; none here",
]
PAPER_NET = (
    "resnet101c(output_stride=8, multi_grid=(4, 8, 16), aspp_rates=(12, 24, 36), aspp_kernel=3, low_channels=256, "
    "dropout=0.1)"
)


class MeanTeacher(AveragedTeacher):
    """Mean teachers are better role models (Tarvainen and Valpola, NeurIPS 2017), for pixels.

    Idea: the average of a network's past weights is a better network; so ask the student to agree with it on unlabelled
    images. What it adds to `supervised` is the teacher t and the second term.

    Equations, with N the valid (not padded) unlabelled pixels of the batch and C classes:
        q = softmax(t(w(u))) in eval mode without gradient;   p = softmax(f(w(u)))
        L = CE(f(w(x)), y_x) + weight * ramp(progress) / (N C) * sum over valid pixels and classes of (p - q)^2
        after each step i (0-based): t <- a t + (1 - a) f,   a = min(1 - 1/(i + 1), decay)
        ramp(r) = exp(-5 (1 - min(r / ramp_up, 1))^2)
    The first step copies the student (a = 0), so the teacher's random head never counts.

    Where implementations differ, and what this one does: soft targets and squared error of probabilities (the paper;
    PixelSSL compares logits, which is weak early and grows with them; U2PL and FST use hard labels); the teacher's BN
    statistics are averaged like its weights and it labels in eval mode (PixelSSL, U2PL and FST let its own train-mode
    forwards write them). The release of FST copies the student into the teacher by assigning `.data`, which shares the
    memory: for the whole first epoch teacher and student are one network.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        decay: of the teacher's average, 0.99 to 0.999; 1 freezes it.
        weight: factor of the consistency term after the ramp-up.
        ramp_up: share of the training over which the term rises.
        strong: the student sees the strong view of u instead of the weak one (off in the plain baseline).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="baselines",
        title="Mean teachers are better role models",
        venue="NeurIPS",
        year=2017,
        authors="Tarvainen and Valpola",
        arxiv="1703.01780",
        code="https://github.com/CuriousAI/mean-teacher",
        extends=("supervised",),
        parity="reference",
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},  # a short run forgets faster
        "voc": {
            "task": {"crop": 513},
            "method": {
                "net": "resnet101c(output_stride=8, multi_grid=(4, 8, 16), decoder='psp', align_corners=False)",
                "ramp_up": 0.0,
            },
            "fit": {"epochs": 40, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "voc/u2pl",
            "source": SOURCE,
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 769},
            "method": {
                "net": PAPER_NET,
                "ramp_up": 0.0,
                "supervised": "ohem(thresh=0.7, per_image=50000)",
            },
            "fit": {"epochs": 80, "batch": 16, "lr": 1e-2, "head": 10.0, "weight_decay": 5e-4},
            "processes": 8,
            "evaluation": "cityscapes/u2pl",
            "source": SOURCE,
            "differs": [
                *DIFFERS,
                "aux: an auxiliary head of weight 0.4 there, none here",
                "evaluation: one centre crop of 769 an image there, sliding windows of 769 here",
                "unsure: low_channels: not read in the release; U2PL's 256, whose code it is",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        decay: float = 0.99,
        weight: float = 1.0,
        ramp_up: float = 0.1,
        strong: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.teacher = copy_of(self.student)
        self.decay, self.weight, self.ramp_up, self.supervised = decay, weight, ramp_up, criterion(supervised)
        self.views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,) if strong else ()))

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        q = logits.softmax(1)
        confidence, label = q.max(1)
        return PseudoLabels(label, confidence, confidence.new_ones(confidence.shape), view.valid, soft=q)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        t_u = self.teach(u)
        target = self.pseudo_labels(t_u, u, clock)
        seen = u.strong[0] if u.strong else u.weak
        z_x, z_u = self.student(x.weak), self.student(seen)
        apart = squared(z_u, t_u) / z_u.shape[1]
        l_u = pixel_mean(apart, target.weight, target.valid, over="valid")
        ramp = sigmoid_ramp(clock.progress, self.ramp_up)
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight * ramp))
        return losses.see(weak=u.weak, mixed=seen, target=target, loss=apart * target.weight * target.valid)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, clock.step), buffers="average")
