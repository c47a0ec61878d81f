"""A network that judges class maps: does this one look like a human's, on this image?"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Judgement(NamedTuple):
    """`score`: (B, h, w) float32 logits, positive = a human's; h = w = 1 where a map has one score. `traits`: (B, F)
    float32, the mean over the map of what is scored, for feature matching."""

    score: Tensor
    traits: Tensor


class Critic(nn.Module):
    """Four 4x4 convolutions of stride 2 and a linear score: the discriminator of s4GAN (Mittal et al., TPAMI 2021,
    arXiv 1908.05724), which pools before the score.

    Args:
        classes: channels K of a class map. channels: of the image.
        width: channels behind the first convolution; the others have 2, 4 and 8 times as many.
        cells: score each cell of 16 pixels, instead of their mean: the same parameters, many answers.
        dropout: channel dropout behind the first three convolutions.
    """

    def __init__(
        self, classes: int, channels: int = 3, width: int = 64, cells: bool = False, dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths, layers = [classes + channels, width, 2 * width, 4 * width, 8 * width], []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Dropout2d(dropout)]
        self.body, self.score, self.cells = nn.Sequential(*layers[:-1]), nn.Conv2d(8 * width, 1, 1), cells

    def forward(self, classes: Tensor, image: Tensor) -> Judgement:
        """Class probabilities (B, K, H, W) and the image (B, 3, H, W) in [0, 1], of at least 16 pixels."""
        x = self.body(torch.cat([classes, image], 1))
        pooled = x.mean((2, 3), keepdim=True)
        score = self.score(x if self.cells else pooled)
        return Judgement(score[:, 0].float(), pooled[:, :, 0, 0].float())
