"""A neural process in place of a classifier (NP-SemiSeg, arXiv 2308.02866)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .segnet import SegNet, resize


class Gaussian(NamedTuple):
    """A diagonal one for each image: `mean`, `spread` (B, d); the spread is at least 0.1."""

    mean: Tensor
    spread: Tensor


class NeuralProcessHead(nn.Module):
    """From a fused map and what two memories know of the classes to several predictions.

    A pixel is described by how near it is, channel by channel, to each class's centre; the mean description of an
    image, by the one memory, is a Gaussian from which a latent vector is drawn for each prediction, and by the other
    memory a second vector, always the same. The map itself gets no gradient from this side.

    Args:
        inputs: channels of the map. classes: K. dim: of descriptions, d. hidden: of the decoder's 3x3 convolutions.
    """

    def __init__(self, inputs: int, classes: int, dim: int = 32, hidden: int = 256) -> None:
        super().__init__()
        self.describe = nn.Sequential(
            nn.Conv2d(inputs, dim, 1), nn.InstanceNorm2d(dim), nn.ReLU(),
            nn.Conv2d(dim, dim, 1), nn.InstanceNorm2d(dim), nn.ReLU(), nn.Conv2d(dim, dim, 1),
        )  # fmt: skip
        self.moments = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 2 * dim))
        self.decoder = nn.Sequential(
            nn.Conv2d(inputs + 2 * dim, hidden, 3, padding=1), nn.InstanceNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1), nn.InstanceNorm2d(hidden), nn.ReLU(),
            nn.Conv2d(hidden, classes, 1),
        )  # fmt: skip
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(part.weight)

    def forward(self, map: Tensor, latent: Tensor, fixed: Tensor, noise: Tensor) -> tuple[Tensor, Gaussian, Gaussian]:
        """(T, B, K, h, w) float32 logits, and the Gaussians by the first and by the second memory.

        Args:
            map: (B, inputs, h, w). latent, fixed: (K, d), centres of the classes in either memory. noise: (T, B, d).
        """
        u = self.describe(map.detach()).float()
        by_latent, by_fixed = self.gaussian(nearness(u, latent)), nearness(u, fixed)
        z = by_latent.mean + by_latent.spread * noise
        size, count = map.shape[-2:], len(noise)
        drawn = z[..., None, None].expand(-1, -1, -1, *size).to(map.dtype)
        same = by_fixed[None, ..., None, None].expand(count, -1, -1, *size).to(map.dtype)
        whole = torch.cat([drawn, map[None].expand(count, *map.shape), same], 2)
        logits = self.decoder(whole.flatten(0, 1)).unflatten(0, (count, -1)).float()
        return logits, by_latent, self.gaussian(by_fixed)

    def gaussian(self, description: Tensor) -> Gaussian:
        """Of (B, d)."""
        mean, raw = self.moments(description).float().chunk(2, 1)
        return Gaussian(mean, 0.1 + 0.9 * F.softplus(raw))


def nearness(u: Tensor, centres: Tensor) -> Tensor:
    """(B, d): the mean over pixels of sum over c of w_c M_c, w the softmax over classes of -(u - M_c)^2, for every
    channel by itself.

    Args:
        u: (B, d, h, w). centres: (K, d), M.
    """
    flat = u.flatten(2)[:, None]  # (B, 1, d, P)
    weights = -(flat - centres[..., None]).square()
    return (weights.softmax(1) * centres[..., None]).sum(1).mean(2)


def divergence(one: Gaussian, other: Gaussian) -> Tensor:
    """(B,) KL(one || other) where the spreads are variances."""
    logs = (other.spread / one.spread).log().sum(1) - one.mean.shape[1]
    return 0.5 * (logs + (one.spread / other.spread).sum(1) + ((other.mean - one.mean).square() / other.spread).sum(1))


class Sampled(nn.Module):
    """A network with a `NeuralProcessHead` in `heads["process"]`, as one network from image to logits: the logarithm of
    the mean probability over samples.

    Args:
        centres: (2, K, d), of both memories. noise: (T, d), the same for every image.
    """

    def __init__(self, net: SegNet, centres: Tensor, noise: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        map = self.net.fuse(self.net.encode(image)).map
        noise = self.noise[:, None].expand(-1, len(image), -1)
        z, _, _ = self.net.heads["process"](map, *self.centres, noise)
        p = resize(z.softmax(2).mean(0), image.shape[-2:], self.net.decoder.align_corners)
        return p.clamp(min=1e-8).log()
