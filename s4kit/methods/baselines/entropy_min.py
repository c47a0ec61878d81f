"""Entropy minimisation: be sure of something, on unlabelled pixels too."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...nets import evaluating, make
from ...views import Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, entropy, pixel_mean


class EntropyMin(Method):
    """Semi-supervised learning by entropy minimization (Grandvalet and Bengio, NeurIPS 2004), for pixels.

    Idea: a decision boundary should not run through dense data, so unlabelled pixels are asked for low-entropy
    predictions, whatever the class. What it adds to `supervised` is the second term.

    Equations, with N the valid (not padded) unlabelled pixels of the batch:
        p = softmax(f(w(u)));   H(p) = -sum_c p_c log p_c
        L = CE(f(w(x)), y_x) + weight / N * sum over valid pixels of H(p)
    The gradient goes through both factors of p log p; it is zero at the uniform and at the one-hot prediction, so
    pixels in between move most. A large `weight` collapses the rare classes into their neighbours.

    There are no pseudo-labels: `pseudo_labels` shows what the term pulls towards (the argmax of every pixel).

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        weight: factor of the entropy, in nats; the kit's choice, 0.01.
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="baselines",
        title="Semi-supervised Learning by Entropy Minimization",
        venue="NeurIPS",
        year=2004,
        authors="Grandvalet and Bengio",
        extends=("supervised",),
    )
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled"))

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        weight: float = 0.01,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.weight, self.supervised = weight, criterion(supervised)

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, confidence.new_ones(confidence.shape), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        z_x, z_u = self.student(x.weak), self.student(u.weak)
        h = entropy(z_u)
        l_u = pixel_mean(h, h.new_ones(h.shape), u.valid, over="valid")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=u.weak, loss=h * u.valid)
