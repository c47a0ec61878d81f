"""Class maps before a critic: which predictions pass for a human's, and what a network and its critic learn from that
(s4GAN, Mittal et al., TPAMI 2021, arXiv 1908.05724)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...nets import Critic
from .losses import ce_map, pixel_mean


def human(label: Tensor, classes: int) -> Tensor:
    """(B, H, W) labels as class maps (B, K, H, W) of 0 and 1; all 0 where the label is void."""
    return (label[:, None] == torch.arange(classes, device=label.device)[:, None, None]).float()


def accepted(score: Tensor, tau: float, size: torch.Size) -> Tensor:
    """(B, H, W) 1 where the critic's probability (B, h, w) is above `tau`, a cell for all the pixels below it."""
    return F.interpolate((score > tau)[:, None].float(), tuple(size), mode="nearest")[:, 0]


def sharpening(logits: Tensor, kept: Tensor) -> Tensor:
    """Cross entropy with the own argmax, the mean over the pixels that are kept; 0 where there is none."""
    return pixel_mean(ce_map(logits, logits.argmax(1)), kept, torch.ones_like(kept), over="kept")


def traits_apart(real: Tensor, fake: Tensor) -> Tensor:
    """Feature matching: L1 distance of the means over the batch of a critic's traits (B, F), a mean over traits."""
    return (real.mean(0) - fake.mean(0)).abs().mean()


def judging(critic: Critic, fake: Tensor, seen: Tensor, real: Tensor, image: Tensor) -> Tensor:
    """What the critic learns: a network's class maps `fake` (B, C, H, W) on the images `seen` (B, 3, H, W) are to score
    0, human ones 1. A scalar."""
    of_fake, of_real = critic(fake, seen).score, critic(real, image).score
    return (F.softplus(of_fake).mean() + F.softplus(-of_real).mean()) / 2
