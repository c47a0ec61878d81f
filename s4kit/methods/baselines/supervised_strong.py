"""Supervised training with the strong views of the semi-supervised methods: how much of their gain is augmentation."""

from __future__ import annotations

from ...views import STRONG, Batch, Stream, ViewPlan
from ..base import Card, Clock, Losses
from .supervised import Supervised


class SupervisedStrong(Supervised):
    """As `supervised`, but the network sees the labelled images through colour jitter, grey and blur.

    Equation: L = mean over non-void pixels of CE(f(s(w(x))), y), with the strong view s of ST++, FixMatch and UniMatch.

    The fair control for them: with few labels most of the gain of a method with strong views comes from the views, and
    only the difference to this baseline is owed to the unlabelled images. One view in twelve stays as it is (every
    operation has its own probability), so the clean image is never strange to the network.
    """

    card = Card(
        family="baselines",
        title="ST++: Make Self-training Work Better for Semi-supervised Semantic Segmentation (its strong views)",
        venue="CVPR",
        year=2022,
        authors="Yang et al.",
        arxiv="2106.05095",
        code="https://github.com/LiheYoung/ST-PlusPlus",
        extends=("supervised",),
    )
    views = ViewPlan(x=Stream("labelled", strong=(STRONG,)))

    def losses(self, batch: Batch, clock: Clock) -> Losses:
        x = batch.x
        z_x = self.student(x.strong[0])
        return Losses(x=self.supervised(z_x, x.label)).see(mixed=x.strong[0])
