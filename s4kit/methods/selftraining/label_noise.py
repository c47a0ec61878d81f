"""Label noise: labels made of tags are checked by a network that knows masks, and mended along superpixels.

Reconstructed: of the paper its abstract and summaries were at hand, and there is no code. They say: labels of
activation maps, a clean model of strong labels, clean labels by cross entropy, a graph of superpixels by place and
likeness, attention taught by the clean labels. All figures, SLIC's details and the widths are this kit's.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID
from ...nets import GraphClassifier, Tagger, evaluating, grad_cam, make
from ...nets.segnet import resize
from ...views import Batch, Stream, ViewPlan, Views, weak
from ..base import Card, Clock, Losses, Method, PseudoLabels, Stage
from ..lengths import Length
from ..parts.losses import Criterion, ce, criterion, pixel_ce
from ..parts.present import allowed, located, tag_loss, within
from ..parts.rounds import KEPT, believed, hard, kept_of
from ..parts.superpixels import node_means, painted, region_graph, superpixels, votes

NOISY = "noisy labels"


class Nodes(NamedTuple):
    """The superpixels of some images as graphs.

    Attributes:
        index: (B, H, W) superpixel of each pixel. features: (B, N, D). edges: (B, N, N) bool.
        label: (B, N) long, that of most of its pixels, 255 where none has one. clean: (B, N) bool.
    """

    index: Tensor
    features: Tensor
    edges: Tensor
    label: Tensor
    clean: Tensor


class LabelNoise(Method):
    """Learning from pixel-level label noise (Yi et al., IEEE TIP 2022, arXiv 2103.14242). WEAK LABELS: it is told which
    classes are in each unlabelled image.

    Idea: where a classifier of tags looks gives masks, many of whose pixels are wrong. A network that has learned from
    the few human masks alone cannot have learned these errors: where it gives a label little chance, that is noise. The
    clean ones teach a graph network, which mends the others by superpixels that touch or look alike. What it adds
    to `one_weird_trick`: masks of the classifier; to `st`: labels that are not the network's own.

    Equations; f the network of human masks, M_k the activation maps of the classifier for the tags t of u, in [0, 1]:
        n(u) = argmax over t of M_k, the background where all are below `activation`
        clean pixel: CE(f(u), n) < -log `level`;   clean superpixel: most of its pixels are clean
        node i: mean feature x_i of f, label n_i of most pixels, edges to those that touch and to the `alike` likest
        h_i = sum_j a_ij W x_j,   a_ij = softmax over edges of LeakyReLU(u . [W x_i; W x_j]),   two layers, g_i = logits
        L_graph = mean over the clean nodes of CE(g_i, n_i)
        label of a superpixel: n_i if clean, else argmax over t of g_i
        L = CE(s(x), y) + CE(s(u), label),    s the student, each a mean over the pixels with a label
    Stages: f and the classifier; the graph network, on crops; the student. f gets no gradient from the graph.

    Cost: a network and a classifier, a small graph network, a student; two passes over the unlabelled images.

    Args:
        task: the data.
        net: network spec, see `nets.make`; built twice. classifier: whose backbone the classifier has; None = like it.
        activation: of a map, below which a pixel is background. level: chance of a label from which it is clean.
        nodes: superpixels of an image, about. alike: edges by likeness. hidden, heads: of the graph network.
        background: whether class 0 is what is left: always there, and not asked for.
        start, mending: lengths of the first two stages, per step of the last; or passes, see `lengths`.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="selftraining",
        title="Learning from Pixel-Level Label Noise: A New Perspective for Semi-Supervised Semantic Segmentation",
        venue="IEEE TIP",
        year=2022,
        authors="Yi et al.",
        arxiv="2103.14242",
        extends=("st",),
        parity="reconstruction",
        note="weak labels: tags of all images",
    )
    specs = ("net", "classifier")
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", maps=("label",)))
    recipes: ClassVar = {name: {"method": {"background": False}} for name in ("cityscapes", "camvid", "ade20k")}

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        classifier: str | None = None,
        activation: float = 0.3,
        level: float = 0.5,
        nodes: int = 300,
        alike: int = 5,
        hidden: int = 16,
        heads: int = 4,
        background: bool = True,
        start: Length = 1.0,
        mending: Length = 0.25,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student, self.clean, self.classes = make(net, task), make(net, task), task.num_classes
        self.classifier = Tagger(make(classifier or net, task), self.classes - background)
        self.graph = GraphClassifier(self.clean.decoder.embedding_channels, self.classes, hidden, heads)
        self.activation, self.level, self.nodes, self.alike = activation, level, nodes, alike
        self.background, self.start, self.mending = background, start, mending
        self.supervised = criterion(supervised)

    def stages(self) -> list[Stage]:
        first = ViewPlan(x=self.views["x"], c=Stream("all", weak(scale=(0.5, 1.0)), reveal="tags"))
        second = ViewPlan(u=Stream("unlabelled", maps=("noisy",), reveal="tags"))
        return [
            Stage("masks and tags", self.start, self.masks_and_tags, first, train=(self.clean, self.classifier)),
            Stage("graph", self.mending, self.mend, second, train=(self.graph,), prepare=self.localise),
            Stage("student", train=(self.student,), prepare=self.label),
        ]

    def masks_and_tags(self, batch: Batch, clock: Clock) -> Losses:
        """The terms of the first stage: masks for the clean network, the tags of all images for the classifier."""
        x, c = batch.x, batch.c
        l_tags = tag_loss(self.classifier(c.weak), c.tags[:, int(self.background) :])
        return Losses(x=self.supervised(self.clean(x.weak), x.label), tags=l_tags)

    # ---- noisy labels ----

    def localise(self, sweep: Any) -> None:
        """Keep the labels of `located` of all unlabelled images as "noisy"."""
        for row, view in sweep.over("unlabelled", reveal="tags"):
            sweep.keep("noisy", row, self.located(view)[0])

    def located(self, view: Views) -> Tensor:
        """(B, H, W) labels by where the classifier looks for the tags; 255 where it looks for none of any class."""
        there = allowed(view, self.classes, self.background)[:, int(self.background) :]
        with evaluating(self.classifier):
            maps = grad_cam(self.classifier.encode(view.weak), self.classifier.last.weight.flatten(1), there.float())
        return located(resize(maps, view.weak.shape[-2:], True), self.activation, self.background)

    def judged(self, z: Tensor, noisy: Tensor, view: Views) -> PseudoLabels:
        """Noisy labels (B, H, W), of which the clean ones, by the logits of the network of masks, are trusted."""
        known = noisy != VOID
        label = noisy.where(known, 0)
        chance = z.detach().softmax(1).gather(1, label[:, None])[:, 0]
        return PseudoLabels(label, chance, (known & (chance > self.level)).float(), view.valid)

    # ---- the graph ----

    @torch.no_grad()
    def nodes_of(self, view: Views) -> tuple[Nodes, PseudoLabels]:
        """The graphs of some images, and their labels pixel by pixel."""
        with evaluating(self.clean):
            of = self.clean.decoded(view.weak)
        noisy = kept_of(view, "noisy")
        target = self.judged(of.logits, noisy, view)
        index, count = superpixels(view.weak, self.nodes)
        counted = votes(noisy, index, count, self.classes, view.valid)
        share, size = node_means(target.weight[:, None], index, count, view.valid)
        features, seen = node_means(of.embedding, index, count)
        most, label = counted.max(2)
        edges = region_graph(index, features, (size > 0) & (seen > 0), self.alike)
        label = label.where(most > 0, VOID)
        clean = (share[..., 0] > 0.5) & (label != VOID)
        return Nodes(index, features, edges, label, clean), target

    def mend(self, batch: Batch, clock: Clock) -> Losses:
        """The term of the second stage: the graph learns the clean ones of the nodes' labels."""
        u = batch.u
        nodes, target = self.nodes_of(u)
        z = self.graph(nodes.features, nodes.edges)
        cost = F.cross_entropy(z.mT, nodes.label.where(nodes.clean, VOID), ignore_index=VOID, reduction="none")
        losses = Losses(graph=cost.sum() / nodes.clean.sum().clamp(min=1)).see(weak=u.weak, mixed=u.weak)
        return losses.see(NOISY, target=target, loss=painted(cost[..., None], nodes.index)[:, 0] * u.valid)

    def corrected(self, view: Views) -> Tensor:
        """(B, H, W) labels: those of clean superpixels, and what the graph says of the others among the tags."""
        nodes, _ = self.nodes_of(view)
        with evaluating(self.graph):
            z = self.graph(nodes.features, nodes.edges)
        said = within(z.mT, allowed(view, self.classes, self.background)).argmax(1)
        return painted(nodes.label.where(nodes.clean, said)[..., None], nodes.index)[:, 0]

    def label(self, sweep: Any) -> None:
        """Keep the labels of `corrected` of all unlabelled images."""
        for row, view in sweep.over("unlabelled", maps=("noisy",), reveal="tags"):
            sweep.keep("label", row, self.corrected(view)[0])

    # ---- the student ----

    def teach(self, view: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the network of masks, the noisy labels, and the mended ones; 255 where none are kept."""
        with evaluating(self.clean):
            return self.clean(view.weak), kept_of(view, "noisy"), kept_of(view)

    def pseudo_labels(self, evidence: tuple[Tensor, Tensor, Tensor], view: Views, clock: Clock) -> dict:
        """The noisy labels with the clean ones trusted, and the mended ones."""
        z, noisy, kept = evidence
        return {NOISY: self.judged(z, noisy, view), KEPT: believed(kept, view)}

    def probabilities(self, evidence: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        return {NOISY: hard(evidence[1], self.classes), KEPT: hard(evidence[2], self.classes)}

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        z_x, z_u = (part.logits for part in self.student.joint(x.weak, u.weak))
        target = believed(kept_of(u), u)
        losses = Losses(x=self.supervised(z_x, x.label), u=pixel_ce(z_u, target, over="kept"))
        return losses.see(weak=u.weak, mixed=u.weak).see(KEPT, target=target, student=z_u)
