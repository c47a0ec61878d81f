"""Perturbations of features."""

from __future__ import annotations

import torch
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


def complementary(drawn: Tensor, kept: Tensor) -> Tensor:
    """Channel factors of two views of the same images, which share the channels between them (UniMatch V2).

    Args:
        drawn: (B, D) of 0 and 1, the channels that the first view keeps. kept: (B,) bool, images without dropout.

    Returns:
        (2 B, D): 2 drawn for the first views, 2 - 2 drawn for the second ones; 1 where `kept`.
    """
    factors = torch.cat([2 * drawn, 2 - 2 * drawn])
    return torch.where(kept.repeat(2)[:, None], 1.0, factors)


def complementary_dropout(features: Features, drawn: dict[int, Tensor], kept: Tensor) -> Features:
    """Features of 2 B images, first views before second ones, times their `complementary` factors.

    Args:
        drawn: (B, D) draws by width D of the levels: levels of one width, all of a transformer, share one.
        kept: (B,) bool.
    """
    factors = {width: complementary(draw, kept) for width, draw in drawn.items()}
    return features.map(lambda x: x * factors[x.shape[1]].to(x.dtype)[:, :, None, None])


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


def shift_statistics(map: Tensor, noise: Tensor, strength: Tensor) -> Tensor:
    """(B, F, h, w) whose channels get another mean and spread, as uncertain as these are over the batch.

    With m and s the mean and standard deviation of a channel over an image, S_m and S_s the deviations of these over
    the batch, n the noise and r the strength:   map + r n_s S_s / s (map - m) + r n_m S_m.
    Its channels have the mean m + r n_m S_m and the deviation s + r n_s S_s. S_m and S_s are constants to the gradient,
    and 0 where the batch is one image, which then stays as it is, as with r = 0, to the last bit (Li et al.,
    "Uncertainty modeling for out-of-distribution generalization", ICLR 2022, arXiv 2202.03958).

    Args:
        noise: (2, B, F) normal draws n_m, n_s. strength: (B,) r of each image.
    """
    x = map.float()
    m = x.mean((2, 3), keepdim=True)
    s = (x.var((2, 3), correction=0, keepdim=True) + 1e-6).sqrt()
    with torch.no_grad():
        n_m, n_s = (noise.float() * strength[:, None])[..., None, None]
        by, to = n_s * s.std(0, correction=0), n_m * m.std(0, correction=0)
    return (x + by / s * (x - m) + to).to(map.dtype)


def draw_statistics(map: Tensor, strength: float, chance: float) -> Tensor:
    """`shift_statistics` of maps (B, D, h, w) with fresh draws; each image is left alone with probability 1 -
    `chance`."""
    batch, width = map.shape[:2]
    chosen = torch.rand(batch, device=map.device) < chance
    return shift_statistics(map, torch.randn(2, batch, width, device=map.device), strength * chosen)
