"""Recordings of our own, of the names that the adapters answer: other sizes than the official ones, maps that are not
square, three images, odd numbers, the void label 250, other options.

Their answers come from plain loops and equations, written from the cards alone in `others_*.py`; nothing of the kit is
called there, or a mistake would be its own proof. A variant is a function of a `Draw` that returns what a file holds:
`in_*`, `out_*`, `hyper`, and under `arrays` or `description` the texts that an adapter reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from harness import Recording
from torch import Tensor

VOID = 250  # not the kit's own

VARIANTS: dict[str, Callable[[Draw], dict[str, Any]]] = {}


def variant(*names: str) -> Callable:
    """Register a function for one name or several; of several it gets the name behind the draws."""

    def register(make: Callable) -> Callable:
        for name in names:
            VARIANTS[name] = make if len(names) == 1 else lambda d, name=name: make(d, name)
        return make

    return register


def recording(name: str) -> Recording:
    """The recording of our own of this name."""
    given = VARIANTS[name](Draw(sum(map(ord, name))))
    spec = {"hyper": given.pop("hyper", {}), "arrays": given.pop("arrays", {}), "description": given.pop("said", "")}
    arrays = {k: v.detach().numpy() if isinstance(v, Tensor) else np.asarray(v) for k, v in given.items()}
    inputs = {key: value for key, value in arrays.items() if key.startswith("in_")}
    return Recording(name, inputs, {k: v for k, v in arrays.items() if k.startswith("out_")}, spec)


class Draw:
    """Random arrays, always the same ones."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def uniform(self, *shape: int) -> np.ndarray:
        return self.rng.random(shape, np.float32)

    def logits(self, *shape: int) -> np.ndarray:
        """Some pixels sure and some not."""
        return self.normal(*shape, scale=3.0)

    def classes(self, number: int, *shape: int) -> np.ndarray:
        return self.rng.integers(0, number, shape)

    def label(self, number: int, *shape: int, void: int = VOID) -> np.ndarray:
        """A tenth of the pixels is void."""
        return np.where(self.rng.random(shape) < 0.1, void, self.classes(number, *shape))

    def box(self, batch: int, height: int, width: int) -> np.ndarray:
        """(B, H, W) of 0 and 1, one box per image that the last one lacks."""
        mask = np.zeros((batch, height, width), np.float32)
        for image in mask[:-1]:
            top, left = self.rng.integers(0, height - 3), self.rng.integers(0, width - 4)
            image[top : top + 1 + height // 2, left : left + 1 + width // 2] = 1
        return mask

    def padding(self, batch: int, height: int, width: int) -> np.ndarray:
        """(B, H, W) of 0 and 255, padded below and at the right, but for the first image."""
        mask = np.zeros((batch, height, width), np.uint8)
        for image in mask[1:]:
            image[height - self.rng.integers(1, 3) :] = 255
            image[:, width - self.rng.integers(1, 4) :] = 255
        return mask


def exact(*arrays: Any) -> tuple[Tensor, ...]:
    """float64 copies."""
    return tuple(torch.as_tensor(np.asarray(a)).double() for a in arrays)


def whole(*arrays: Any) -> tuple[Tensor, ...]:
    """int64 copies."""
    return tuple(torch.as_tensor(np.asarray(a)).long() for a in arrays)


def gradients(function: Callable[..., Tensor], *arrays: np.ndarray) -> tuple[Tensor, ...]:
    """(value, one gradient per array) of a scalar function in float64; zeros where none arrives."""
    leaves = [a.requires_grad_() for a in exact(*arrays)]
    value = function(*leaves)
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), *(torch.zeros_like(a) if g is None else g for a, g in zip(leaves, found))


def ce_of(z: Tensor, y: Any, void: int = VOID) -> Tensor:
    """(B, H, W) cross entropy, 0 at void pixels."""
    y = torch.as_tensor(y).long()
    picked = z.log_softmax(1).gather(1, torch.where(y == void, 0, y)[:, None])[:, 0]
    return torch.where(y == void, 0.0, -picked)


def mean_ce(z: Tensor, y: Any, void: int = VOID) -> Tensor:
    return ce_of(z, y, void).sum() / (torch.as_tensor(y) != void).sum()


def hard_ce(z: Tensor, y: Any, thresh: float, fewest: int, void: int = VOID) -> Tensor:
    """Cross entropy of the pixels whose class has a probability of at most the larger of `thresh` and the `fewest`-th
    smallest one, void pixels counting as sure; of all where fewer than `fewest` are known, or it is 0."""
    y = torch.as_tensor(y).long()
    known, p = y != void, z.detach().softmax(1)
    true = p.gather(1, torch.where(known, y, 0)[:, None])[:, 0].masked_fill(~known, 1.0)
    keep = known
    if 0 < fewest <= int(known.sum()):
        at = true.flatten().sort().values[min(true.numel(), fewest) - 1]
        keep = known & (true <= max(float(at), thresh))
    return ce_of(z, torch.where(keep, y, void), void).sum() / keep.sum()


def mixed(mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """`inside` where the mask (B, H, W) is 1."""
    mask = mask.reshape(len(mask), *(1,) * (inside.dim() - 3), *mask.shape[-2:])
    return torch.where(mask > 0.5, inside, outside)


def resized(x: Tensor, size: Any) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)
