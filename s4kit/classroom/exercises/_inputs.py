"""Seeded inputs that the exercises share: small enough to be drawn, mean enough to find mistakes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

VOID = 255


def logits(rng: Generator, batch: int = 2, classes: int = 4, side: int = 6, sharp: float = 3.0) -> Tensor:
    """(B, C, H, W) float32 logits; the larger `sharp`, the more pixels are confident."""
    return sharp * torch.randn(batch, classes, side, side, generator=rng)


def sure(rng: Generator, batch: int = 2, classes: int = 4, side: int = 6, share: float = 0.5) -> Tensor:
    """(B, C, H, W) float32 logits; a share of the pixels is sure to exactly 1.0 however softmax is computed."""
    one_hot = torch.nn.functional.one_hot(labels(rng, batch, classes, side), classes).movedim(-1, 1)
    return torch.where(mask(rng, batch, side, share)[:, None], 150.0 * one_hot, logits(rng, batch, classes, side, 1.0))


def eighths(rng: Generator, *shape: int) -> Tensor:
    """Float32 numbers 0, 1/8, ... 1: some equal a threshold that is one of them."""
    return (8 * torch.rand(*shape, generator=rng)).round() / 8


def two_logits(rng: Generator, **how: Any) -> dict[str, Tensor]:
    """Those of two networks, by the names `logits_1` and `logits_2`."""
    return {"logits_1": logits(rng, **how), "logits_2": logits(rng, **how)}


def labels(rng: Generator, batch: int = 2, classes: int = 4, side: int = 6, void: float = 0.0) -> Tensor:
    """(B, H, W) long class indices; a share `void` of the pixels is 255."""
    label = torch.randint(classes, (batch, side, side), generator=rng)
    return torch.where(torch.rand(label.shape, generator=rng) < void, VOID, label)


def shares(rng: Generator, *shape: int) -> Tensor:
    """Float32 numbers in [0, 1)."""
    return torch.rand(*shape, generator=rng)


def mask(rng: Generator, batch: int = 2, side: int = 6, share: float = 0.5) -> Tensor:
    """(B, H, W) bool."""
    return torch.rand(batch, side, side, generator=rng) < share


def padding(batch: int = 2, side: int = 6, columns: int = 2) -> Tensor:
    """(B, H, W) float32 validity: 0 in the last columns of the first image, else 1."""
    valid = torch.ones(batch, side, side)
    valid[0, :, side - columns :] = 0
    return valid


def seeded(rng: Generator) -> Generator:
    """A generator for answers that draw."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, (1,), generator=rng)))
