"""One Weird Trick: a classifier of whole images forbids the classes that are surely not there.

Reconstructed: there is no official code, and the threshold, the classifier's depth and its crops are this kit's.
The paper also uses filtered predictions as labels of other methods; that is not here.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...nets import Tagger, evaluating, make
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion
from ..parts.present import Filter, tag_loss, within


class OneWeirdTrick(Method):
    """One weird trick to improve your semi-weakly supervised semantic segmentation model (Bae et al., IJCAI 2022, arXiv
    2205.01233). WEAK LABELS: it is told which classes are in each unlabelled image.

    Idea: a network that has seen few masks takes a horse's leg for a cow's, since it looks at the leg; a classifier
    that has seen many tagged images knows that there is no cow in the picture. So, instead of making masks of tags,
    forbid in each image the classes that the classifier is sure of not seeing, and take the next likely one. What it
    adds to `supervised`: the classifier, and one threshold.

    Equations; f the logits of the segmentation network, g those of the classifier for the classes but the background:
        L = CE(f(x), y) + BCE(g(c), t),   c a crop of any training image, t the tags of the whole one, a mean over both
        A(image) = {background} and all k with sigmoid g_k(image) > tau
        prediction(p) = argmax over A of f(p)
    The two networks share nothing; no term has both. The filter is of the whole image, behind all scales, windows and
    mirror images (`finish`): the classes of a window need not be those of the image. Where no class is the background
    the likeliest one of the classifier is always allowed. It needs tags in training alone.

    Where an image has most of the classes there is little to forbid, as in street scenes.

    Cost: a second backbone, in training and in evaluation.

    Args:
        task: the data.
        net: network spec, see `nets.make`. classifier: whose backbone the classifier has; None = like the student.
        tau: probability above which a class may be there; a low one forbids only what is surely absent.
        background: whether class 0 is what is left: always there, and not asked for.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="One Weird Trick to Improve Your Semi-Weakly Supervised Semantic Segmentation Model",
        venue="IJCAI",
        year=2022,
        authors="Bae et al.",
        arxiv="2205.01233",
        extends=("supervised",),
        parity="reconstruction",
        note="weak labels: tags of all images",
    )
    specs = ("net", "classifier")
    views = ViewPlan(x=Stream("labelled"), c=Stream("all", weak(scale=(0.5, 1.0)), reveal="tags"))
    recipes: ClassVar = {name: {"method": {"background": False}} for name in ("cityscapes", "camvid", "ade20k")}

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        classifier: str | None = None,
        tau: float = 0.1,
        background: bool = True,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.classifier = Tagger(make(classifier or net, task), task.num_classes - background)
        self.tau, self.background, self.supervised = tau, background, criterion(supervised)

    def allowed(self, tags: Tensor) -> Tensor:
        """(B, C) bool: the classes that may be in images, by the classifier's logits of them."""
        found = tags.sigmoid() > self.tau
        if self.background:
            return torch.cat([torch.ones_like(found[:, :1]), found], 1)
        return found | (tags == tags.amax(1, keepdim=True))

    def teach(self, view: Views) -> Tensor:
        """Logits, -inf for what is forbidden in the view."""
        with evaluating(self.student, self.classifier):
            return within(self.student(view.weak), self.allowed(self.classifier(view.weak)))

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        """The filtered prediction; nothing is trained on it."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, c = batch.x, batch.c
        l_tags = tag_loss(self.classifier(c.weak), c.tags[:, int(self.background) :])
        return Losses(x=self.supervised(self.student(x.weak), x.label), tags=l_tags)

    def predictors(self) -> dict[str, nn.Module]:
        last_word = Filter(self.student, lambda image: self.allowed(self.classifier(image)), self.classifier)
        return {"filtered": last_word, "student": self.student}
