"""Online hard pseudo-labels: the network teaches itself what it is sure of."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...nets import evaluating, make
from ...views import STRONG, Batch, Stream, ViewPlan, Views
from ..base import Card, Clock, Losses, Method, PseudoLabels
from ..parts.losses import Criterion, ce, criterion, pixel_ce


class PseudoLabel(Method):
    """Pseudo-Label: the simple and efficient semi-supervised method (Lee, ICML workshop 2013), for pixels and online.

    Idea: the most likely class of a confident unlabelled pixel is used as if it were its label. With the same view on
    both sides this only sharpens what the network believes already (entropy minimisation in another dress); what it
    adds to `supervised` is the second term, and what `fixmatch` adds to it is the strong, mixed view on the student's
    side.

    Equations, with N the valid (not padded) unlabelled pixels of the batch:
        p = softmax(f(w(u))) in eval mode without gradient;   y = argmax p;   kept = [max p > tau]
        L = CE(f(w(x)), y_x) + weight / N * sum over valid pixels of kept * CE(f(w(u)), y)
    The divisor is N, not the number of kept pixels: the term starts near zero and grows as pixels pass the threshold.

    The label forward is in eval mode, so it never writes BN statistics; labelled and unlabelled images go through the
    student one after the other, so that with `weight` 0 its parameters are those of `supervised`, bit for bit.

    Args:
        task: the data, or anything with `num_classes`.
        net: network spec, see `nets.make`.
        tau: a pixel is kept above this confidence; 1 keeps nothing.
        weight: factor of the unlabelled term.
        strong: the student sees the strong view of u instead of the weak one (off in the plain baseline).
        supervised: criterion of the labelled images, "ce", "ohem(...)" or a function.
    """

    card = Card(
        family="baselines",
        title="Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks",
        venue="ICML Workshops",
        year=2013,
        authors="Lee",
        extends=("supervised",),
    )

    def __init__(
        self,
        task: Any,
        net: str = "efficientnet_lite0",
        tau: float = 0.95,
        weight: float = 1.0,
        strong: bool = False,
        supervised: str | Criterion = ce,
    ) -> None:
        super().__init__()
        self.student = make(net, task)
        self.tau, self.weight, self.supervised = tau, weight, criterion(supervised)
        self.views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", strong=(STRONG,) if strong else ()))

    def teach(self, view: Views) -> Tensor:
        with evaluating(self.student):
            return self.student(view.weak)

    def pseudo_labels(self, logits: Tensor, view: Views, clock: Clock) -> PseudoLabels:
        confidence, label = logits.softmax(1).max(1)
        return PseudoLabels(label, confidence, (confidence > self.tau).float(), view.valid)

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x, u = batch.x, batch.u
        target = self.pseudo_labels(self.teach(u), u, clock)
        seen = u.strong[0] if u.strong else u.weak
        z_x, z_u = self.student(x.weak), self.student(seen)
        l_u = pixel_ce(z_u, target, over="valid")
        losses = Losses(x=self.supervised(z_x, x.label), u=(l_u, self.weight))
        return losses.see(weak=u.weak, mixed=seen, target=target, student=z_u)
