"""Pseudo-label noise suppression: a fixed teacher labels, the student that learns says what is likely noise.

From the release: the symmetric cross entropy of its configuration is built and never called, so its loss is the one
above. It hands on the average of the best evaluation, here the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import copy_of, ema, evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, paste, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.cow import draw_cow_mask
from ..parts.losses import Criterion, criterion, pixel_ce

SIGMAS = (13, 15, 17, 19, 21, 23, 25)


def over_all(logits: Tensor, label: Tensor) -> Tensor:
    """Cross entropy summed over the labelled pixels, divided by all pixels, as released."""
    return pixel_ce(logits, label, over="all")


class SSLDenoising(Method):
    """Pseudo-label noise suppression techniques (Scherer et al., BMVC 2022, arXiv 2210.10426).

    Idea: which label of a fixed teacher is wrong is known best by the student that has begun to learn otherwise. Each
    pixel counts as much as the student itself believes its label: little at first, so that the loss ramps itself up,
    and never for a label that the student goes on to disbelieve. What it adds to self-training as `st` has it: that
    weight in place of trust or of a threshold, labels made in each step, and cow masks.

    Equations; g the average that the iteration before has left, which stands still, f the student, m a cow mask:
        y = argmax g(w(u)) in eval mode;   w = f(w(u))[y], no gradient, in train mode
        mixed = m ? w(u) : w(v);   y, w likewise
        supervised step:    L = 1/N sum over labelled pixels of CE(f(w(x)), y_x)
        unsupervised step:  L = 1/N sum over all pixels of w CE(f(mixed), y)
        after each step: e <- decay e + (1 - decay) f, BN statistics included
    One step in `every` is supervised, the others are not. Iterations: labels alone; then `iterations` times a new
    student from the ImageNet weights, with e as the next g. What is evaluated is e. N counts padding in both steps, and
    padding of unlabelled images has labels, too.

    Its third finding is that a threshold on the teacher's confidence adds little to this; there is none.

    Cost: an unsupervised step has one forward of the teacher and two of the student; each iteration is a training.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        iterations: after the first training.
        start: its length, per step of an iteration; or passes, see `lengths`.
        every: of so many steps the first is supervised.
        decay: of the average.
        sigmas: of the masks, in pixels of an image of 513.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="Pseudo-Label Noise Suppression Techniques for Semi-Supervised Semantic Segmentation",
        venue="BMVC",
        year=2022,
        authors="Scherer et al.",
        arxiv="2210.10426",
        code="https://github.com/ChristmasFan/SSL_Denoising_Segmentation",
        extends=("st",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("labelled", weak(pad="mean", halves=True)),
        u=Stream("unlabelled", weak(pad="mean", halves=True)),
        v=Stream("unlabelled", weak(pad="mean", halves=True)),
    )
    recipes: ClassVar = {
        "scenes": {"method": {"decay": 0.98}},
        "voc": {
            "task": {"crop": 513},
            "method": {
                "net": "resnet101(output_stride=8, low_channels=0, decoder_convs=1, dropout=(0.5, 0), "
                "align_corners=False)",
                "start": 5 / 14,
            },
            "fit": {
                "steps": 190000,
                "batch": 8,
                "lr": 1e-3,
                "head": 1.0,
                "schedule": "constant",
                "nesterov": True,
                "clip": 5.0,
            },
            "processes": 1,
            "evaluation": "voc",
            "differs": [
                "length: 140000 steps an iteration there, behind 50000 of labels alone, 190000 here: both",
                "head: DeepLabV3 (torchvision) there, DeepLabV3+ without low-level features here: the same",
                "pad_label: 0 there, 255 here, which both leave out of the supervised sum",
                "scored on centre crops of 513 there, on whole images here",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        iterations: int = 1,
        start: Length = 0.5,
        every: int = 4,
        decay: float = 0.998,
        sigmas: tuple[float, ...] = SIGMAS,
        supervised: str | Criterion = over_all,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.average, self.teacher = copy_of(self.student), copy_of(self.student)
        self.iterations, self.start, self.every, self.decay = iterations, start, every, decay
        self.sigmas, self.supervised = tuple(sigmas), criterion(supervised)

    def stages(self) -> list[Stage]:
        again = (self.student, self.average)
        first = Stage("labels alone", self.start, self.labels_alone, ViewPlan(x=self.views["x"]))
        rounds = range(1, self.iterations + 1)
        return [first, *(Stage(f"iteration {k}", prepare=self.hand_over, restart=again) for k in rounds)]

    def hand_over(self, sweep: Any) -> None:
        """The average of the iteration before is the teacher of the next."""
        ema(self.teacher, self.average, 0.0, buffers="copy")

    def teach(self, view: Views) -> tuple[Tensor, Tensor]:
        with evaluating(self.teacher, self.student):
            return self.teacher(view.weak), self.student(view.weak)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        """The teacher's labels, weighted with what the student makes of them (in training: in train mode)."""
        confidence, label = evidence[0].softmax(1).max(1)
        believed = evidence[1].softmax(1).gather(1, label[:, None])[:, 0]
        return PseudoLabels(label, confidence, believed, view.valid)

    def probabilities(self, evidence: tuple[Tensor, Tensor]) -> Tensor:
        return evidence[0].softmax(1)

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from human labels."""
        return Losses(x=self.supervised(self.student(batch.x.weak), batch.x.label))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        return self.labels_alone(batch, clock) if clock.step % self.every == 0 else self.unsupervised(batch, clock)

    def unsupervised(self, batch: Batch, clock: Clock) -> Losses:
        """The term of mixed unlabelled images; padding counts."""
        u, v = (replace(view, valid=torch.ones_like(view.valid)) for view in (batch.u, batch.v))
        with evaluating(self.teacher):
            says = [self.teacher(view.weak) for view in (u, v)]
        with torch.no_grad():
            believes = [z.logits for z in self.student.joint(u.weak, v.weak)]
        own, other = (self.pseudo_labels(pair, view, clock) for pair, view in zip(zip(says, believes), (u, v)))
        m = draw_cow_mask(u.label, self.sigmas)
        mixed, target = paste(m, u.weak, v.weak), paste(m, own, other)
        z = self.student(mixed)
        losses = Losses(u=pixel_ce(z, target, over="all"))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z)

    def after_step(self, clock: Clock) -> None:
        ema(self.average, self.student, self.decay, buffers="average")

    def predictors(self) -> dict[str, nn.Module]:
        return {"average": self.average, "student": self.student}
