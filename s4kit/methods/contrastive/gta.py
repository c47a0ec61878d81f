"""GTA-Seg: pseudo-labels teach an assistant; what it has learned to see, but not how it judges, reaches the student.

As released: the schedule is the student's alone, the assistant keeps its first rate; padding takes part in L_a. Not
as released: in the first pass behind the warm-up it lets a and t share the student's memory, so that in this pass
pseudo-labels do train the student, classifier included; values are copied here. The coin that says whether images
are mixed is thrown again for the student's batch. Its head of representations, which nothing trains, is left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import copy_of, ema, make, warm
from ...views import Batch, Stream, ViewPlan, Views, half_box, paste, weak
from ..base import Card, Clock, Losses, Optim, PseudoLabels, Update, zero_of
from ..lengths import Length
from ..parts.draws import by_coin
from ..parts.losses import Criterion, ce, ce_map, criterion, pixel_mean
from ..parts.quantile import percentiles
from ..parts.schedules import constant
from ..parts.teachers import JudgedTeacher
from .u2pl import PAPER_NET


class GTASeg(JudgedTeacher):
    """Semi-supervised semantic segmentation via gentle teaching assistant (Jin et al., NeurIPS 2022).

    Idea: wrong labels spoil the classifier at once and the features hardly. So no pseudo-label ever trains the network
    that is used: it trains an assistant, whose features, but not its classifier, flow into the student as a moving
    average; the student's classifier knows human labels alone. What it adds to `mean_teacher`: the third network, the
    percentile, CutMix.

    Equations; f the student, a the assistant, t the teacher, k = steps since the warm-up, in the order of a step:
        y = argmax t(u) in eval mode; in half of the steps image and label get a box of the next image, u becomes m
        c = max softmax t(m), of a second forward;   kept: c above its percentile 100 - keep
        L_a = sum over kept of (1 + c) CE(a(m), y)  /  sum over all pixels of (1 + c, or 1 where not kept)
        a takes its step
        f <- d f + (1 - d) a, all parameters but those of the classifier,   d = min(1 - 1/(k+1), transmit)
        L_f = CE(f(x), y_x);   f takes its step
        t <- d' t + (1 - d') f, all parameters,   d' = min(1 - 1/(k+1), decay)
    With equal confidences and nothing dropped L_a is the mean cross entropy. Until the warm-up is over f learns from
    labels alone; for `follow` after it a and t begin every step as f. The classifier is what turns the fused map into
    logits, its 3x3 convolutions included.

    Modes: all three networks see labelled and mixed images as one batch in train mode, each with BN statistics of its
    own, which are never transferred; the labelled half of a's batch and the mixed half of f's have no other use.
    The order matters: `step` takes it; `losses`, which explorer and planner call, has both terms at once.

    Cost: two networks are trained, one after the other, so the memory is that of one step; a third only forwards.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        keep: percentage of pixels that the assistant is taught.
        decay: of the teacher. transmit: of the student towards the assistant.
        warmup: share of the training, or passes, with labels alone.
        follow: how long after it assistant and teacher begin every step as the student; one step at least.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Semi-Supervised Semantic Segmentation via Gentle Teaching Assistant",
        venue="NeurIPS",
        year=2022,
        authors="Jin et al.",
        arxiv="2301.07340",
        code="https://github.com/Jin-Ying/GTA-Seg",
        extends=("mean_teacher", "cutmix"),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513},
            "method": {"net": PAPER_NET.format("")},
            "fit": {"epochs": 80, "batch": 12, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "voc/u2pl",
            "differs": [
                "pad_label: 0 there, 255 (ignored) here: padding is not taught as background",
                "unsure: batch: 3 images for each process in its configuration, whose comment speaks of 4 processes",
            ],
        },
        "scenes": {"method": {"decay": 0.98, "transmit": 0.98, "warmup": 0.2}},  # a short run forgets faster
        "camvid": {"method": {"decay": 0.99, "transmit": 0.99, "warmup": 0.1}},
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        keep: float = 80.0,
        decay: float = 0.999,
        transmit: float = 0.999,
        warmup: Length = 1 / 80,
        follow: Length = 1 / 80,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.assistant = make(net, task), make(net, task)
        self.teacher = copy_of(self.student).train()  # keeps this mode; `evaluating` says where it labels
        self.judging = tuple(f"decoder.{name}" for name in self.student.decoder.classifies)
        self.keep, self.decay, self.transmit, self.warmup, self.follow = keep, decay, transmit, warmup, follow
        self.supervised = criterion(supervised)
        view = weak(pad="mean", centred=True, halves=True)
        self.views = ViewPlan(x=Stream("labelled", view), u=Stream("unlabelled", view, masks=(half_box(),)))

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> PseudoLabels:
        """Evidence: the logits that say the label, and those that judge it; in training of two forwards."""
        says, judges = evidence
        confidence = judges.softmax(1).amax(1)
        (least,) = percentiles(confidence, [100 - self.keep], view.valid > 0)
        kept = (confidence > least).float()
        return PseudoLabels(says.argmax(1), confidence, kept * (1 + confidence), view.valid)

    def step(self, update: Update, clock: Clock) -> None:
        """The assistant, its features to the student, the student; then the teacher."""
        since = clock.since(self.warmup)
        if since < 0:
            update(self.losses, only="student")
        else:
            if since < max(1, clock.steps_of(self.follow)):
                for net in (self.assistant, self.teacher):
                    ema(net, self.student, 0.0, buffers="none")
            update(self.assist, only="assistant")
            self.pass_on(since)
            update(self.study, only="student")
        self.after_step(clock)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        if clock.since(self.warmup) < 0:
            with torch.no_grad():
                self.teacher(batch.x.weak)  # feeds its BN statistics, and so does the assistant's forward
            own = Losses(x=self.supervised(self.student(batch.x.weak), batch.x.label))
            return own.add("u", zero_of(self.assistant(batch.x.weak)))
        taught = self.assist(batch, clock)
        taught.update(self.study(batch, clock))
        return taught

    def assist(self, batch: Batch, clock: Clock) -> Losses:
        """What the assistant learns."""
        x, u = batch.x, batch.u
        labels, _ = self.teach(u)
        mixed, labels = self.mix(u, u.weak, labels)
        _, z = self.assistant.joint(x.weak, mixed)
        with torch.no_grad():
            _, judges = self.teacher.joint(x.weak, mixed)
        u = replace(u, valid=torch.ones_like(u.valid))  # padding takes part, as released
        target = self.pseudo_labels((labels, judges.logits), u, clock)
        losses = Losses(u=self.unsupervised(z.logits, target))
        return losses.see(weak=u.weak, mixed=mixed, target=target, student=z.logits)

    def study(self, batch: Batch, clock: Clock) -> Losses:
        """What the student learns: labels alone; mixed images only feed its BN statistics."""
        z, _ = self.student.joint(batch.x.weak, *self.mix(batch.u, batch.u.weak))
        return Losses(x=self.supervised(z.logits, batch.x.label))

    @staticmethod
    def mix(u: Views, *maps: Tensor) -> list[Tensor]:
        """Each map with a box of the next image of the batch pasted in, the same boxes for all maps; or all as they
        are, by one coin."""
        box = by_coin(u.masks[0])
        return [paste(box, t.roll(-1, 0), t) for t in maps]

    @staticmethod
    def unsupervised(logits: Tensor, target: PseudoLabels) -> Tensor:
        """L_a."""
        whole = torch.where(target.weight > 0, target.weight, 1.0).where(target.valid > 0, 1 + target.confidence)
        mean = pixel_mean(ce_map(logits, target.label), target.weight, target.valid, over="all")
        return mean * whole.numel() / whole.sum()

    def pass_on(self, since: int) -> None:
        """f <- d f + (1 - d) a, all parameters but those of the classifier."""
        ema(self.student, self.assistant, warm(self.transmit, since), buffers="none", but=self.judging)

    def after_step(self, clock: Clock) -> None:
        ema(self.teacher, self.student, warm(self.decay, max(0, clock.since(self.warmup))), buffers="none")

    def predictors(self) -> dict[str, nn.Module]:
        return super().predictors() | {"assistant": self.assistant}

    def optimisers(self, recipe: Optim) -> dict[str, Optim]:
        assistant = replace(recipe, nets=[self.assistant], schedule=constant)
        return {"student": replace(recipe, nets=[self.student]), "assistant": assistant}
