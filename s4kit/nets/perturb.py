"""Perturbations of features."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .segnet import Features


def feature_dropout(features: Features, p: float = 0.5) -> Features:
    """Channel dropout of the two levels that the decoder reads, whatever the mode of the net.

    Drawn independently per image, level and channel; kept channels are scaled by 1/(1-p). The feature perturbation of
    UniMatch (arXiv 2208.09910, section 3.2), whose code makes the dropout module inside the forward: always active.
    """
    low, *between, high = features.levels
    drop = [F.dropout2d(x, p, training=True) for x in (low, high)]
    return Features((drop[0], *between, drop[1]), features.extra)


def drop_active(map: Tensor, factor: Tensor) -> Tensor:
    """(B, F, h, w) without its most active places: kept where the mean over channels is below `factor` times the
    image's largest (F-Drop of CCT, arXiv 2003.09005; `models/decoders.py`)."""
    activity = map.detach().mean(1, keepdim=True)
    return map * (activity < factor * activity.amax((2, 3), keepdim=True))


def scale_noise(map: Tensor, noise: Tensor) -> Tensor:
    """map * (1 + noise) with noise (F, h, w), one draw for the whole batch (F-Noise of CCT)."""
    return map * noise + map


def hide(map: Tensor, keep: Tensor) -> Tensor:
    """(B, F, h, w) with zeros where `keep` (B, H, W) bool, brought to its size by nearest neighbour, is False."""
    return map * F.interpolate(keep[:, None].to(map.dtype), map.shape[-2:], mode="nearest")
