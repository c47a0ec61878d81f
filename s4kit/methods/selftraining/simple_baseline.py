"""SimpleBaseline: strong augmentation with batch statistics of its own, and a loss that bears wrong labels.

From the release: its weight map has one axis too many, so that with several pseudo-labelled images on a GPU each
image is weighted by all of their maps; here each by its own. The second term's weight is 0.5 by its code, 1 by its
configuration and here. Its 17 strong operations are `STRONG` here, which also draws colours and blur.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.task import VOID, Evaluation
from ...nets import first_domain, make, second_from_first, split_after, with_two_domains
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, PseudoLabels, Stage
from ..lengths import Length
from ..parts.corrected import corrected_map, trust
from ..parts.losses import Criterion, ce, criterion
from ..parts.rounds import KEPT, NOW, Rounds, believed, kept_of


class SimpleBaseline(Rounds):
    """A simple baseline with strong data augmentation (Yuan et al., ICCV 2021, arXiv 2104.07256).

    Idea: retraining on one's own labels needs strong augmentation, but that shifts what batch norm remembers, and the
    network is tested on images that were never changed so. So each batch norm is two: one for the weakly augmented half
    of a batch, which is the one of the test, and one for the strong half. And labels of one's own are wrong here and
    there: where the network is sure the cross entropy gives way to the reverse one, which a wrong label moves little.
    What it adds to self-training as `st` has it: the two domains, and the loss.

    Equations; the list is labelled and unlabelled images, of which a draw x is seen weakly, another one u strongly:
        z = f([w(x); s(u)]) in one forward, the norms of x and u apart
        L_clean = mean over labelled pixels of human-labelled images of CE
        w = max softmax z, 1 where above switch, no gradient;   RCE = -log(1e-4) (1 - p of the label)
        L_noisy = alpha mean (1 - w) CE + beta mean w RCE,   means over all pixels of the other images
        L = L_clean + L_noisy
    Which loss an image has is said by its label, not by the half it is in. Stages: labels alone, then `rounds` times:
    label all unlabelled images, over scales and mirrored, and train on. The network goes on; the second domain begins
    as a copy of the first.

    Norms that are frozen, or of groups of channels, know no domain and stay one. Unlabelled pixels without a label
    (padding) have no loss and count in the mean, in the release they are an error.

    Args:
        task: the data.
        net: network spec, see `nets.make`.
        alpha, beta: weights of the cross entropy and of the reverse one. switch: confidence from which only the latter
            counts.
        rounds: how often the unlabelled images are labelled.
        start: length of the stage of labels alone, per step of a round; or passes, see `lengths`.
        scales: at which an image is labelled, mirrored as well.
        supervised: criterion of the human-labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="A Simple Baseline for Semi-supervised Semantic Segmentation with Strong Data Augmentation",
        venue="ICCV",
        year=2021,
        authors="Yuan et al.",
        arxiv="2104.07256",
        code="https://github.com/jianlong-yuan/SimpleBaseline",
        extends=("st",),
        parity="golden",
    )
    views = ViewPlan(
        x=Stream("all", maps=("label",)), u=Stream("all", strong=(STRONG,), maps=("label",))
    )  # both halves from the one list
    recipes: ClassVar = {
        "cityscapes": {
            "task": {"crop": 769},
            "method": {"net": "resnet101c", "start": 1.0},
            "fit": {"steps": 40000, "batch": 16, "lr": 2e-3, "head": 10.0, "weight_decay": 0.0},
            "processes": 8,
            "evaluation": "cityscapes/whole",
            "differs": [
                "backbone: xception65 there, resnet101 here",
                "length: 20000 steps there, from a supervised model of its own, 40000 here: half of them supervised",
                "strong colours: three of 17 operations at one magnitude there, jitter, grey and blur here",
                "unsure: schedule: not read in the release",
                "unsure: which scales it labels at; here those of ST",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        alpha: float = 1.0,
        beta: float = 1.0,
        switch: float = 0.8,
        rounds: int = 1,
        start: Length = 1.0,
        scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5, 2.0),
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = with_two_domains(make(net, task)), task.num_classes
        self.alpha, self.beta, self.switch = alpha, beta, switch
        self.rounds, self.start, self.supervised = rounds, start, criterion(supervised)
        self.how = Evaluation(scales=tuple(scales), flip=True, corners=True)
        self.register_buffer("fresh", torch.tensor(True))  # the second domain has not begun

    def stages(self) -> list[Stage]:
        alone = ViewPlan(x=Stream("labelled", batch=2.0))
        first = Stage("labels alone", self.start, self.labels_alone, alone, train=first_domain(self.student))
        return [first, *(Stage(f"round {k}", prepare=self.label) for k in range(1, self.rounds + 1))]

    def label(self, sweep: Any) -> None:
        """Keep the student's classes of all unlabelled images; once the second domain begins as the first."""
        for row, view in sweep.over("unlabelled"):
            sweep.keep("label", row, sweep.scores(self.student, view, self.how).argmax(1)[0])
        if self.fresh:
            second_from_first(self.student)
            self.fresh.fill_(False)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        """What the network says now, and what was kept, of images without a human label."""
        confidence, label = evidence[0].softmax(1).max(1)
        now = PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)
        return {NOW: now, KEPT: self.of_network(evidence[1], view)}

    def of_network(self, label: Tensor, view: Views) -> PseudoLabels:
        """Kept labels of the images that nobody has labelled."""
        kept = believed(label, view)
        return replace(kept, weight=kept.weight * ~view.labelled[:, None, None])

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: the student learns from human labels."""
        return Losses(x=self.supervised(self.student(batch.x.weak), batch.x.label))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        with split_after(self.student, len(x)):
            z_x, z_u = self.student.joint(x.weak, u.strong[0])
        z = torch.cat([z_x.logits, z_u.logits])
        human = torch.cat([view.label.where(view.labelled[:, None, None], VOID) for view in (x, u)])
        target = [self.of_network(kept_of(view), view) for view in (x, u)]
        own = torch.cat([t.label.where(t.weight * t.valid > 0, VOID) for t in target])
        noisy = ~torch.cat([x.labelled, u.labelled])
        loss = corrected_map(z, own, trust(z, self.switch), self.alpha, self.beta)
        l_u = loss.sum() / (noisy.sum() * loss[0].numel()).clamp(min=1)
        losses = Losses(x=self.supervised(z, human), u=l_u)
        return losses.see(weak=u.weak, mixed=u.strong[0]).see(KEPT, target=target[1], loss=loss[len(x) :])
