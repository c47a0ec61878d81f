"""Perturbations of features."""

from __future__ import annotations

import torch.nn.functional as F

from .segnet import Features


def feature_dropout(features: Features, p: float = 0.5) -> Features:
    """Channel dropout of the two levels that the decoder reads, whatever the mode of the net.

    Drawn independently per image, level and channel; kept channels are scaled by 1/(1-p). The feature perturbation of
    UniMatch (arXiv 2208.09910, section 3.2), whose code makes the dropout module inside the forward: always active.
    """
    low, *between, high = features.levels
    drop = [F.dropout2d(x, p, training=True) for x in (low, high)]
    return Features((drop[0], *between, drop[1]), features.extra)
