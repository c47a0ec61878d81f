"""DARS: thresholds per class give pseudo-labels the classes' true shares; chance decides among the equally sure.

From the release: the class shares are tables of the authors' lists, here they are counted on the labelled images.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.task import VOID, Evaluation
from ...nets import make
from ...views import Batch, Stream, Strong, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, PseudoLabels, Stage
from ..lengths import Length
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.quotas import BINS, above, confident, quotas, tally, thinned, thresholds
from ..parts.rounds import KEPT, NOW, Rounds, believed

BLUR = Strong(jitter=0.0, grey=0.0, blur=0.5, sigma=(1.1, 1.1))  # OpenCV's of 5 x 5 pixels
NET = "resnet50c(output_stride=8, aspp_rates=(12, 24, 36), dropout=0.1, aux=True)"
DIFFERS = [
    "head: PSPNet there, DeepLabV3+ here",
    "rotation: by up to 10 degrees of every second image there, none here",
    "the images that are labelled are resized to a longer side of {0} there, as they are stored here",
    "unsure: evaluation: windows of the crop's size there, their stride is not known, {1} here",
    "unsure: selection: which epoch of the last round is reported is not said",
]


class DARS(Rounds):
    """Re-distributing biased pseudo-labels: a baseline (He et al., ICCV 2021, arXiv 2107.11279).

    Idea: one threshold for all keeps what a network is sure of: the frequent, easy classes. DARS turns it round: each
    class keeps so many pixels of the unlabelled images as its share among the labelled ones says, whatever confidence
    that takes. What it adds to self-training as `st` has it: thresholds per class, set once for all images; and where
    more pixels than wanted have the same highest confidence, chance decides among them.

    Equations; over all unlabelled images with P pixels, class shares p_j of the labelled pixels, r the round's share:
        wanted_j = floor(r p_j P);   t_j = the wanted_j-th largest confidence of pixels that are taken for j
        s_j = min(1, wanted_j / pixels of j with confidence >= t_j)
        label kept where confidence >= t_j; of the n_j that an image then has, int(n_j - n_j s_j) are dropped at random
        L = CE(f(x), y) + CE(f(u), kept),   each a mean over its own labelled pixels [+ aux CE of the auxiliary head]
    Rounds: labels alone; with r = shares[0]; with r = shares[1] and a wider range of scales. The network, its optimiser
    and the fall of the rate go on: round k begins at the rate of a schedule over k + 1 rounds. Labelled and unlabelled
    images are seen alike, nothing is strongly augmented, and both forwards have batch norm statistics of their own.

    Confidences are in half precision, here as there: that makes many pixels equally sure, and the chance matters.
    A class that is predicted less often than wanted keeps all its pixels, right or wrong.

    Cost: per round one training and two passes over the unlabelled images (one counts, one labels); the release keeps
    the logits of all images on the disk instead.

    Args:
        task: the data.
        net: network spec, see `nets.make`; an auxiliary head (`aux=True`) is trained with weight `aux`.
        shares: of the pixels that are labelled, round by round; their number is that of the rounds.
        wider: range of the random resize in the last round; None = as before.
        start: length of the round of labels alone, per step of a later one; or passes, see `lengths`.
        window: side of the windows in which images are labelled, two thirds of which is their step; None = whole.
        aux: weight of the auxiliary head's terms.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="Re-distributing Biased Pseudo Labels for Semi-supervised Semantic Segmentation: A Baseline "
        "Investigation",
        venue="ICCV",
        year=2021,
        authors="He et al.",
        arxiv="2107.11279",
        code="https://github.com/CVMI-Lab/DARS",
        extends=("supervised",),
        parity="golden",
    )
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321, "scale": (0.5, 1.5)},
            "method": {"net": NET, "shares": (0.4, 0.5), "wider": (0.5, 2.0), "window": 321},
            "fit": {"epochs": 150, "batch": 8, "lr": 1e-2, "head": 10.0},
            "processes": 4,
            "evaluation": "voc",
            "differs": [s.format(400, "whole images") for s in DIFFERS]
            + ["length: 50 epochs a round (100 and 150 count on) there, 150 here: the sum of three rounds"],
        },
        "cityscapes": {
            "task": {"crop": 713},
            "method": {"net": NET, "shares": (0.4, 0.65), "wider": (0.5, 3.0), "window": 713},
            "fit": {"epochs": 600, "batch": 8, "lr": 1e-2, "head": 10.0},
            "processes": 4,
            "evaluation": "cityscapes/u2pl",
            "differs": [s.format(2048, "of 769 pixels") for s in DIFFERS]
            + ["length: 200 epochs a round (400 and 600 count on) there, 600 here: the sum of three rounds"],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        shares: tuple[float, ...] = (0.4, 0.5),
        wider: tuple[float, float] | None = None,
        start: Length = 1.0,
        window: int | None = None,
        aux: float = 0.4,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.classes = make(net, task), task.num_classes
        self.shares, self.wider, self.start, self.aux = tuple(shares), wider, start, aux
        self.supervised = criterion(supervised)
        flip = {"flip": True, "combine": "logits"}
        self.how = Evaluation("sliding", window, border="shift", overlap="mean", pad="mean", **flip) if window else (
            Evaluation(**flip)
        )  # fmt: skip
        self.views = self.plan(self.wider)
        self.register_buffer("threshold", torch.ones(self.classes))
        self.register_buffer("kept_share", torch.ones(self.classes, dtype=torch.double))

    def plan(self, scale: tuple[float, float] | None) -> ViewPlan:
        """The streams of a round, the images resized by factors in this range, None = the task's."""
        view = weak(scale=scale, pad="mean", centred=True)
        x, u = (Stream(source, view, strong=(BLUR,)) for source in ("labelled", "unlabelled"))
        return ViewPlan(x=x, u=Stream(u.source, view, u.strong, maps=("label",)))

    def stages(self) -> list[Stage]:
        alone = Stream("labelled", weak(pad="mean", centred=True), strong=(BLUR,), batch=2.0)
        rounds = [Stage("labels alone", self.start, self.labels_alone, ViewPlan(x=alone))]
        for k, share in enumerate(self.shares, 1):
            rounds.append(
                Stage(
                    f"round {k}",
                    views=self.plan(self.wider if k == len(self.shares) else None),
                    schedule=lambda clock, k=k: ((1 - clock.progress) / (k + 1)) ** 0.9,
                    prepare=lambda sweep, share=share: self.label(sweep, share),
                    fresh=False,
                )
            )
        return rounds

    # ---- between the rounds ----

    def label(self, sweep: Any, share: float) -> None:
        """Count how sure each pixel of all images is; then keep the quota of each class."""
        counts = self.threshold.new_zeros(self.classes, BINS, dtype=torch.long)
        for _, view in sweep.over("unlabelled"):
            counts += tally(*confident(sweep.scores(self.student, view, self.how)), self.classes)
        counts = sweep.sum(counts)
        prior = sweep.task.class_pixels.double()
        wanted = quotas(share, prior / prior.sum(), int(counts.sum())).to(counts.device)
        level, kept = thresholds(counts, wanted)
        self.threshold.copy_(level)
        self.kept_share.copy_(kept)
        for row, view in sweep.over("unlabelled"):
            found, confidence = confident(sweep.scores(self.student, view, self.how))
            found = found.where(above(found, confidence, self.threshold), VOID)
            sweep.keep("label", row, thinned(found[0], self.kept_share))

    # ---- training ----

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor], view: Views, clock: Clock) -> dict[str, PseudoLabels]:
        """What the network would keep now by the thresholds of the round, before chance; and what was kept."""
        label, confidence = confident(evidence[0])
        sure = above(label, confidence, self.threshold).float()
        now = PseudoLabels(label, confidence.float(), sure, view.valid)
        return {NOW: now, KEPT: believed(evidence[1], view)}

    def both_heads(self, image: Tensor) -> list[Tensor]:
        """Logits of the network, and of its auxiliary head where it has one."""
        features, size = self.student.encode(image), image.shape[-2:]
        hint = [self.student.auxiliary(features, size)] if self.student.aux is not None else []
        return [self.student.decode(features, size).logits, *hint]

    def labels_alone(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: human labels, for both heads."""
        z, *hint = self.both_heads(batch.x.strong[0])
        losses = Losses(x=self.supervised(z, batch.x.label))
        for h in hint:
            losses.add("x_aux", self.supervised(h, batch.x.label), self.aux)
        return losses

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        u, losses = batch.u, self.labels_alone(batch, clock)
        target = believed(u.maps["label"], u)
        z, *hint = self.both_heads(u.strong[0])
        losses.add("u", pixel_ce(z, target, over="kept"))
        for h in hint:
            losses.add("u_aux", pixel_ce(h, target, over="kept"), self.aux)
        return losses.see(weak=u.weak, mixed=u.strong[0]).see(KEPT, target=target, student=z)
