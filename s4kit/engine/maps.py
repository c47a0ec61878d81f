"""From a method's tensors to the uint8 maps that are stored and shown."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..methods.base import PseudoLabels

TOP = 3  # classes of each pixel that are stored with their probability
LEVELS = 255
SMOOTH = ("confidence", "prob", "entropy")  # maps that pack better as differences
Arrays = dict[str, np.ndarray]


Box = int | tuple[int, int]  # what pictures must fit into: their longest side, or (rows, columns)


def beliefs(labels: PseudoLabels, probabilities: Tensor, box: Box) -> list[Arrays]:
    """The stored arrays of a pseudo-label, one dict per image, at picked pixels.

    Args:
        labels: of B images. probabilities: (B, C, H, W) behind them. box: see `picked`.

    Returns:
        label (h, w), exact; weight (h, w), 0 = rejected, else 255 * weight rounded up; confidence (h, w), the rule's
        own, 255 * c; top (3, h, w) classes by falling probability, 255 where there are fewer; prob (3, h, w), 255 * p;
        entropy (h, w), 255 * H / log C; where single objects are believed in, object (h, w), see `numbered`. All uint8.
    """
    classes = probabilities.shape[1]
    p = picked(probabilities, box).float()
    prob, top = p.topk(min(TOP, classes), dim=1)
    entropy = -torch.xlogy(p, p).sum(1) / math.log(max(2, classes))
    missing = (0, 0, 0, 0, 0, TOP - prob.shape[1])
    maps = {
        "label": picked(labels.label, box),
        "weight": (picked(labels.weight, box).clamp(0, 1) * LEVELS).ceil(),
        "confidence": levels(picked(labels.confidence, box)),
        "top": F.pad(top, missing, value=LEVELS),
        "prob": F.pad(levels(prob), missing),
        "entropy": levels(entropy),
    }
    if labels.ids is not None:
        maps["object"] = numbered(picked(labels.ids, box))
    whole = {name: values.to(torch.uint8).cpu().numpy() for name, values in maps.items()}
    return [{name: values[k] for name, values in whole.items()} for k in range(len(p))]


def numbered(ids: Tensor) -> Tensor:
    """The objects of each map of ids (B, h, w) by numbers from 1 on, 0 = none; the 256th has number 1 again."""
    found = []
    for image in ids:
        there, place = image.unique(return_inverse=True)
        number = place + (there[0] != 0)  # 0, where there is any, is the first
        found.append(torch.where(number > 0, (number - 1) % LEVELS + 1, 0))
    return torch.stack(found)


def fitted(height: int, width: int, box: Box) -> tuple[int, int]:
    """(rows, columns) of an image that is made to fit into a box; never more than it has."""
    rows, columns = (box, box) if isinstance(box, int) else box
    scale = min(1, rows / height, columns / width)
    return max(1, round(scale * height)), max(1, round(scale * width))


def picked(maps: Tensor, box: Box) -> Tensor:
    """(..., h, w) of (..., H, W): the middle pixel of each cell of a grid that fits into a box. Values stay exact,
    where an average would blur."""
    size, small = maps.shape[-2:], fitted(*maps.shape[-2:], box)
    if tuple(size) == small:
        return maps
    rows, columns = (
        torch.div((2 * torch.arange(n, device=maps.device) + 1) * of, 2 * n, rounding_mode="floor")
        for n, of in zip(small, size)
    )
    return maps[..., rows[:, None], columns]


def pictures(images: Tensor, box: Box) -> np.ndarray:
    """(B, h, w, 3) uint8 of (B, 3, H, W) in [0, 1], averaged over cells: for the eye alone."""
    small = fitted(*images.shape[-2:], box)
    images = images.float()
    images = F.adaptive_avg_pool2d(images, small) if tuple(images.shape[-2:]) != small else images
    return levels(images).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def levels(values: Tensor) -> Tensor:
    """Values of [0, 1], of any shape, in steps of 1/255: whole numbers 0 to 255."""
    return (values.clamp(0, 1) * LEVELS).round()


def differences(maps: np.ndarray) -> np.ndarray:
    """Each pixel of (..., h, w) uint8 less its neighbours above and before, modulo 256: smooth maps pack better so."""
    for axis in (-2, -1):
        maps = np.diff(maps, axis=axis, prepend=np.zeros_like(maps.take([0], axis)))
    return maps


def sums(maps: np.ndarray) -> np.ndarray:
    """(..., H, W) uint8: what `differences` was made of."""
    return maps.cumsum(-1, dtype=np.uint8).cumsum(-2, dtype=np.uint8)
