"""Mask branches of a detector: Mask R-CNN's own, and the noise-tolerant one of Noisy Boundaries."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Logits = dict[str, Tensor]
Target = Callable[[int], Tensor]


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True))


def _started(module: nn.Module, *classifiers: nn.Module) -> None:
    """Weights as He et al. begin with them, no bias; those of classifiers so small that no class is likelier."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(part.bias)
    for part in classifiers:
        nn.init.normal_(part.weight, std=0.01)


class PlainMasks(nn.Module):
    """Four convolutions on 14 x 14, one that doubles the side, a classifier; the mean cross entropy of all pixels."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_conv(channels, channels) for _ in range(4)))
        self.up = nn.Sequential(nn.ConvTranspose2d(channels, channels, 2, 2), nn.ReLU(inplace=True))
        self.classifier = nn.Conv2d(channels, classes, 1)
        _started(self, self.classifier)

    def forward(self, x: Tensor) -> Logits:
        """(R, D, 14, 14) -> "final" (R, C, 28, 28)."""
        return {"final": self.classifier(self.up(self.layers(x)))}

    def loss(self, logits: Logits, target: Target) -> dict[str, Tensor]:
        """{"mask": mean cross entropy}; 0 without regions. `target(side)` gives the true masks at a side in pixels."""
        z = logits["final"]
        terms = F.binary_cross_entropy_with_logits(z, target(z.shape[-1]), reduction="none")
        return {"mask": terms.sum() / max(1, terms.numel())}


class TolerantMasks(nn.Module):
    """Noisy Boundaries' head: a coarse branch, which noise at a boundary hardly reaches, and a fine one, joined.

    Three convolutions on 14 x 14 are shared. Coarse: two more, a classifier ("coarse"), each class by itself enlarged
    to 28 x 28. Fine: one more, one that doubles the side, a 3x3 classifier. "final" is a 1x1 convolution of both.

    Args:
        term: (logits (R, s, s), targets (R, s, s)) -> (R, s, s), what each pixel adds to the mean, of both outputs.
        weight: of both.

    Attributes:
        last: the terms of the pixels of "final" in the last step, for those who look at it.
    """

    def __init__(
        self, channels: int, classes: int, term: Callable[[Tensor, Tensor], Tensor], weight: float = 1.0
    ) -> None:
        super().__init__()
        self.term, self.weight = term, weight
        self.shared = nn.Sequential(*(_conv(channels, channels) for _ in range(3)))
        self.coarse = nn.Sequential(
            _conv(channels, channels), _conv(channels, channels), nn.Conv2d(channels, classes, 1)
        )
        self.fine = nn.Sequential(
            _conv(channels, channels), nn.ConvTranspose2d(channels, channels, 2, 2), nn.ReLU(inplace=True),
            nn.Conv2d(channels, classes, 3, padding=1),
        )  # fmt: skip
        self.up = nn.ConvTranspose2d(classes, classes, 2, 2, groups=classes)
        self.join = nn.Conv2d(2 * classes, classes, 1)
        _started(self, self.coarse[-1], self.fine[-1])
        with (
            torch.no_grad()
        ):  # a plain enlargement, and the mean of both: either branch is heard from the first step on
            self.up.weight.fill_(1)
            both = torch.eye(classes).repeat(1, 2) / 2
            self.join.weight.copy_(both[..., None, None])

    def forward(self, x: Tensor) -> Logits:
        """(R, D, 14, 14) -> "final" (R, C, 28, 28) and "coarse" (R, C, 14, 14)."""
        shared = self.shared(x)
        coarse = self.coarse(shared)
        return {"final": self.join(torch.cat([self.up(coarse), self.fine(shared)], 1)), "coarse": coarse}

    def loss(self, logits: Logits, target: Target) -> dict[str, Tensor]:
        """{"mask", "coarse_mask"}: means of `term`, times `weight`; 0 without regions. `target(side)` gives the true
        masks."""
        terms = {name: self.term(z, target(z.shape[-1])) for name, z in logits.items()}
        self.last = terms["final"].detach()
        means = {name: self.weight * t.sum() / max(1, t.numel()) for name, t in terms.items()}
        return {"mask": means["final"], "coarse_mask": means["coarse"]}
