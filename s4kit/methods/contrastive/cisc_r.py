"""CISC-R: a labelled image that shares a class is asked which pixels of an unlabelled one to believe.

Simplified: the release has six stages. It writes pseudo-labels of several scales to disk, ranks labelled and
unlabelled images by such maps, retrains on the better half, labels the rest anew, retrains on all, and passes
on the model that is best on the VALIDATION set. Here are the first training and the last, in one run: labels are
made as they are needed, the query goes to the batch, not to lists by class, and nothing is selected. s_a is of the
weak view here, there of the recoloured one.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...data.task import VOID
from ...nets import Decoded, SegNet, evaluating, make
from ...nets.segnet import resize
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..parts.losses import Criterion, ce, ce_map, criterion
from ..parts.precision import float32

NET = "resnet101(output_stride=8, aspp_rates=(12, 24, 36), dropout=(0.5, 0.0, 0.0, 0.1), dropout_kind='element')"
DIFFERS = [
    "length: 80 there for each of three trainings, 160 here for both stages together",
    "dropout: 0.5 and 0.1 there, 0.5, 0 and 0.1 here: behind the ASPP and before the classifier in both",
    "dropout_kind: channel, then element there, element here",
    "its six stages with selected halves are two here, see the class",
]


class Query(NamedTuple):
    """For each image the partner's index (B,), and the binary maps of the shared class in the image and in the partner,
    (B, H, W) each; empty where they share none."""

    partner: Tensor
    own: Tensor
    theirs: Tensor


@float32
def class_vectors(features: Tensor, map: Tensor) -> Tensor:
    """(B, D) mean features over a binary map (B, H, W), to whose size (B, D, h, w) are enlarged; 0 for an empty one."""
    up = resize(features, map.shape[-2:], False)
    area = map.sum((1, 2))[:, None]
    return torch.einsum("bdhw,bhw->bd", up, map) / (area + 5e-4)


@float32
def similarity(features: Tensor, vector: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W) in [0, 1], cosines of features that are not negative with each image's vector, enlarged to `size`."""
    cosine = F.cosine_similarity(features, vector[:, :, None, None], dim=1)
    return resize(cosine[:, None], size, False)[:, 0].clamp(0, 1)


@float32
def consistency(
    features: Tensor, other: Tensor, own: Tensor, theirs: Tensor, label: Tensor, other_label: Tensor
) -> Tensor:
    """Binary cross entropy of either image's similarity to the other's class vector, with its map of that class; means
    over the pixels that are not void."""

    def one_way(f: Tensor, vector: Tensor, map: Tensor, y: Tensor) -> Tensor:
        s, known = similarity(f, vector, map.shape[-2:]), (y != VOID).to(map.dtype)
        return (F.binary_cross_entropy(s, map, reduction="none") * known).sum() / known.sum().clamp(min=1)

    there, here = class_vectors(other, theirs), class_vectors(features, own)
    return one_way(features, there, own, label) + one_way(other, here, theirs, other_label)


@float32
def rectified(logits: Tensor, label: Tensor, map: Tensor, s: Tensor) -> Tensor:
    """(B, H, W) cross entropy times 1 - |map - s|; 0 where the label is 255."""
    return (1 - (map - s).abs()) * ce_map(logits, label)


class CISCR(Method):
    """Querying labeled for unlabeled, cross-image semantic consistency guided segmentation (Wu et al., TPAMI 2023).

    Idea: whether a pseudo-label is right can be asked of a labelled image that has the same class. The mean feature of
    the class there, held against every pixel here, gives a map; where it agrees with the pseudo-label's map of the
    class, the label is believed, and where not, it counts little. So that such maps are sharp, they are trained on
    pairs of labelled images first. What it adds to `pseudo_label`: this training, the query, the weight.

    Equations; t and f two networks, e the embedding before the classifier (a ReLU's, so cosines lie in [0, 1]), m_a and
    m_b binary maps of a class c that images a and b share, drawn from those that fill `area` of a at least:
        v_b = sum of e_b over m_b / (|m_b| + 0.0005);   s_a = cos(e_a, v_b), enlarged;   s_b likewise
        stage 1 ("labels"), pairs of a batch:  L = CE(t(x), y) + BCE(s_a, m_a) + BCE(s_b, m_b), over what is not void
        stage 2 ("rectify"), t frozen, a unlabelled with y = argmax t(u), b a labelled image of the batch:
            L = CE(f(x), y_x) + weight * mean over all pixels of (1 - |m_a - s_a|) CE(f(s(u)), y)
    Inside the map a pixel weighs s_a, outside 1 - s_a, which says nothing of its own class; where nothing is shared
    all weigh 1. Gradients of stage 1 reach the features of both images.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`; built twice.
        weight: of the unlabelled term.
        area: least share of an image that the shared class has. first: classes from this one on are shared; 1 leaves
            the background out.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="contrastive",
        title="Querying Labeled for Unlabeled: Cross-Image Semantic Consistency Guided Semi-Supervised Semantic "
        "Segmentation",
        venue="TPAMI",
        year=2023,
        authors="Wu et al.",
        code="https://github.com/Luffy03/CISC-R",
        extends=("pseudo_label",),
        parity="golden",
        note="two of its six stages",
    )
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,)))
    recipes: ClassVar = {
        "voc": {
            "task": {"crop": 321},
            "method": {"net": NET, "first": 1},
            "fit": {"epochs": 160, "batch": 32, "lr": 1e-3, "head": 10.0},
            "evaluation": "voc",
            "differs": DIFFERS,
        },
        "cityscapes": {
            "task": {"crop": 721},
            "method": {"net": NET, "supervised": "ce"},
            "fit": {"epochs": 320, "batch": 32, "lr": 4e-3, "head": 10.0},
            "evaluation": "cityscapes",
            "differs": [
                "length: 160 there for each of three trainings, 320 here for both stages together",
                *DIFFERS[1:],
                "unsure: evaluation: how Cityscapes is scored was not read",
            ],
        },
    }

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        weight: float = 1.0,
        area: float = 0.03,
        first: int = 0,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.teacher, self.classes = make(net, task), make(net, task), task.num_classes
        self.weight, self.area, self.first, self.supervised = weight, area, first, criterion(supervised)

    def stages(self) -> list[Stage]:
        labels = ViewPlan(x=Stream("labelled"))
        before = Stage("labels", losses=self.learn_labels, views=labels, train=(self.teacher,))
        return [before, Stage("rectify", train=(self.student,))]

    def learn_labels(self, batch: Batch, clock: Clock) -> Losses:
        """Stage 1."""
        x = batch.x
        t = self.through(self.teacher, x.weak)
        q, e = self.query(x.label, x.label, itself=False), t.embedding
        l_c = consistency(e, e[q.partner], q.own, q.theirs, x.label, x.label[q.partner])
        return Losses(x=self.supervised(t.logits, x.label), x_cisc=l_c)

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.teacher):
            return self.teacher(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        """All pixels; how much each counts depends on the image that is queried, see the loss."""
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, torch.ones_like(confidence), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        with evaluating(self.teacher):
            t_x, t_u = (self.through(self.teacher, view.weak) for view in (x, u))
        target = self.pseudo_labels(t_u.logits, u, clock)
        known = target.label.where(u.valid > 0, VOID)
        q = self.query(known, x.label)
        s = similarity(t_u.embedding, class_vectors(t_x.embedding[q.partner], q.theirs), known.shape[-2:])
        z_x, z_u = (self.student(image) for image in (x.weak, u.strong[0]))
        each = rectified(z_u, known, q.own, s)
        losses = Losses(x=self.supervised(z_x, x.label), u=(each.mean(), self.weight))
        return losses.see(weak=u.weak, mixed=u.strong[0], target=target, loss=each)

    @staticmethod
    def through(net: SegNet, image: Tensor) -> Decoded:
        """Logits and embedding of a network, the logits at the size of the image."""
        return net.decode(net.encode(image), image.shape[-2:])

    @torch.no_grad()
    def query(self, label: Tensor, labelled: Tensor, itself: bool = True) -> Query:
        """A labelled image of the batch for each image, and a class of both, drawn among all that fit.

        Args:
            label: (A, H, W), labelled: (B, H, W), 255 = void. itself: whether image i may ask labelled image i.
        """
        mine, theirs = self.holds(label), self.holds(labelled)
        fits = mine[:, None] & theirs  # (A, B, C)
        if not itself:
            fits = fits & ~torch.eye(len(label), dtype=torch.bool, device=label.device)[..., None]
        drawn = torch.where(fits, torch.rand(fits.shape, device=label.device), -1.0).flatten(1)
        best = drawn.argmax(1)
        partner, c = best // self.classes, best % self.classes
        shared = fits.flatten(1).any(1)[:, None, None]
        maps = ((t == c[:, None, None]) & shared for t in (label, labelled[partner]))
        return Query(partner, *(m.float() for m in maps))

    def holds(self, label: Tensor) -> Tensor:
        """(B, C) bool: classes from `first` on that fill `area` of each image."""
        ids = torch.arange(self.classes, device=label.device)
        share = (label[..., None] == ids).float().mean((1, 2))
        return (share >= self.area) & (ids >= self.first)

    def predictors(self) -> dict[str, nn.Module]:
        return {"student": self.student, "teacher": self.teacher}
