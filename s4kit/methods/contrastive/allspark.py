"""AllSpark: labelled features are rebuilt of unlabelled channels, so that few labels are learned from many images.

From the release: padding of unlabelled images counts in L; classes are told by raw logits. Not from it: it shows
images of an evaluation batch to each other, so that scores depend on the batch; pseudo-labels, too. Its memory knows
one size of crop; here other ones are resized. With several processes all write into the memory here, there the first
alone.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import Spark, Sparked, evaluating, make
from ...nets.segnet import Features
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..lengths import Length
from ..parts.channels import ChannelMemory
from ..parts.losses import Criterion, ce, ce_map, criterion


class AllSpark(Method):
    """AllSpark, reborn labelled features from unlabelled in transformer (Wang et al., CVPR 2024).

    Idea: a transformer learns a few labelled images by heart, since nothing else ever passes through it with a label.
    So behind the last stage labelled features are thrown away and put together again of unlabelled channels: what the
    labels then teach is a way to use those. A memory by class sees to it that the channels of all classes are there.
    What it adds to `pseudo_label`: this block and its memory.

    Equations; e, d encoder and decoder, X, U tokens (N positions x C channels) of labelled and unlabelled images:
        y = argmax f(u) in eval mode, every pixel
        A(Q, K) = softmax over rows of IN(Q^T K), channels against channels, IN the instance norm of the whole map
        unlabelled: each image and head by itself, A(U Wq, U Wk) (U Wv)^T
        labelled: A(X Wq', S Wk') (S Wv')^T, the channels of all of S side by side;   S = the batch's U, or from `start`
            on the memory
        memory: every channel of U follows the class whose logits f(u) it is most like, by the cosine over positions,
            and replaces the oldest of that class
        L = (CE(f(x), y_x) + CE(f(u), y)) / 2, the second over all pixels
    To both halves their tokens are added behind the attention. In eval mode an image is rebuilt of its own channels.
    While S is the batch, labels teach the unlabelled half of it, too; the memory has no gradient.

    Cost: a labelled image meets the memory in a map of C h x K C h, 88 MB for 512 channels, 21 classes, 2 heads. The
    memory holds K C N floats, 12 MB.

    Args:
        task: the data; `crop` says how many positions the memory has.
        net: network spec, see `nets.make`.
        heads, dropout: of the attention.
        start: share of the training, or passes, after which the memory is used; it is filled from the first step on.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="AllSpark: Reborn Labeled Features from Unlabeled in Transformer for Semi-Supervised Semantic "
        "Segmentation",
        venue="CVPR",
        year=2024,
        authors="Wang et al.",
        arxiv="2403.01818",
        code="https://github.com/xmed-lab/AllSpark",
        extends=("pseudo_label",),
        parity="golden",
    )
    views = ViewPlan(x=Stream("labelled", strong=(STRONG,)), u=Stream("unlabelled"))
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 513},
            "method": {"net": "mit_b5", "start": "5 epochs"},
            "fit": {"epochs": 80, "batch": 8, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "voc",
        },
        "cityscapes": {
            "task": {"crop": 801},
            "method": {
                "net": "mit_b5", "start": "15 epochs", "supervised": "ohem(thresh=0.7, per_image=100000)"
            },
            "fit": {"epochs": 240, "batch": 8, "lr": 5e-3, "head": 1.0},
            "processes": 4,
            "evaluation": "cityscapes",
        },
        "coco": {
            "task": {"crop": 513},
            "method": {"net": "mit_b5", "start": 1 / 16},
            "fit": {"epochs": 10, "batch": 16, "lr": 1e-3, "head": 10.0},
            "processes": 4,
            "evaluation": "coco",
            "differs": ["unsure: start: not read; a sixteenth of the training, as on VOC"],
        },
    }  # fmt: skip

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        heads: int = 2,
        dropout: float = 0.1,
        start: Length = 1 / 16,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        channels = self.student.backbone.channels[-1]
        self.student.heads["spark"] = Spark(channels, heads, dropout)
        side = getattr(task, "crop", 32)
        with evaluating(self.student):
            size = self.student.encode(torch.zeros(1, self.student.mean.shape[1], side, side)).high.shape[-2:]
        self.memory = ChannelMemory(task.num_classes, channels, tuple(size))
        self.start, self.supervised = start, criterion(supervised)

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return Sparked(self.student)(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        ones = torch.ones_like(confidence)
        return PseudoLabels(label, confidence, ones, ones)  # padding takes part, as released

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        says = self.teach(u)
        target = self.pseudo_labels(says, u, clock)
        features = self.student.encode(torch.cat([x.strong[0], u.weak]))
        high = self.reborn(features.high, len(x), says, clock.since(self.start) >= 0)
        z = self.student.decode(Features((*features.levels[:-1], high), features.extra), x.label.shape[-2:]).logits
        z_x, z_u = z.split([len(x), len(u)])
        loss_map = ce_map(z_u, target.label)
        losses = Losses(x=(self.supervised(z_x, x.label), 0.5), u=(loss_map.mean(), 0.5))
        return losses.see(weak=u.weak, mixed=u.weak, target=target, student=z_u)

    def reborn(self, high: Tensor, n: int, logits: Tensor, remembered: bool) -> Tensor:
        """The last level, of which the first n images are labelled, behind the block; writes the memory.

        Args: logits (B - n, K, H, W) of the unlabelled images. remembered: whether the memory takes their place.
        """
        spark, size = self.student.heads["spark"], tuple(high.shape[-2:])
        plain, t = spark.tokens(high)
        own, theirs = t[:n], t[n:]
        self.memory.write(theirs.detach(), logits, size)
        source = self.memory.tokens(size).clone() if remembered else theirs
        return spark.restore(plain, torch.cat([spark.across(own, source), spark.among(theirs)]), high)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": Sparked(self.student)}
