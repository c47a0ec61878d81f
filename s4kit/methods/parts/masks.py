"""Mixing masks that a prediction decides: True = keep the image's own pixels, False = take the partner's.

The draws are arguments (uniforms), so that recorded ones can be fed in; `draw_*` makes them.
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...data.task import VOID
from ...views.boxes import area_boxes, rasterise


def class_mask(label: Tensor, uniform: Tensor) -> Tensor:
    """Pixels of half of the classes of each image (ClassMix, arXiv 2007.07936): of n classes floor(n / 2).

    Args:
        label: (B, H, W) long; labels of C and more (void) belong to no class.
        uniform: (B, C) draws in [0, 1); the classes with the smallest are chosen.

    Returns:
        (B, H, W) bool.
    """
    batch, classes = uniform.shape
    index = label.flatten(1).clamp(max=classes)
    present = torch.zeros(batch, classes + 1, dtype=torch.bool, device=label.device).scatter_(1, index, True)
    present = present[:, :classes]
    place = torch.where(present, uniform, 2.0).argsort(1).argsort(1)
    chosen = present & (place < present.sum(1, keepdim=True) // 2)
    none = torch.zeros_like(chosen[:, :1])
    return torch.cat([chosen, none], 1).gather(1, index).view_as(label)


def draw_class_mask(label: Tensor, classes: int) -> Tensor:
    """`class_mask` of labels (B, H, W) with fresh draws."""
    return class_mask(label, torch.rand(len(label), classes, device=label.device))


def chosen_mask(label: Tensor, chosen: Tensor) -> Tensor:
    """(B, H, W) bool: the pixels of the classes that are chosen for each image, (B, C) bool; of void none."""
    none = torch.zeros_like(chosen[:, :1])
    return torch.cat([chosen, none], 1).gather(1, label.flatten(1).clamp(max=chosen.shape[1])).view_as(label)


def draw_biased_mask(label: Tensor, head: Tensor, counts: tuple[int, int]) -> Tensor:
    """`chosen_mask` of some head classes and some of the others, drawn for each image whether they are in it or not.

    Args:
        head: (C,) bool, the classes that are seen often. counts: how many of them, and of the others.
    """
    chosen = torch.zeros(len(label), len(head), dtype=torch.bool, device=label.device)
    for among, count in zip((head, ~head), counts):
        drawn = torch.rand(chosen.shape, device=label.device).masked_fill(~among, -1.0)
        places = drawn.topk(min(count, len(head)), dim=1)
        chosen = chosen.scatter(1, places.indices, chosen.gather(1, places.indices) | (places.values >= 0))
    return chosen_mask(label, chosen)


def block_mask(label: Tensor, blocks: int, by_class: Tensor, uniform: Tensor, boxes: Tensor) -> Tensor:
    """A mask of its own in each block of a regular grid: half of the block's classes, or a box (ComplexMix).

    Args:
        label: (B, H, W) long.
        blocks: k, blocks along each side; n = B k k, image by image, row by row. Where k does not divide the side the
            last blocks are smaller.
        by_class: (n,) bool, which blocks follow their classes; the others get their box.
        uniform: (n, C) draws of `class_mask`. boxes: (n, 1, 4) as for `rasterise`.

    Returns:
        (B, H, W) bool.
    """
    batch, height, width = label.shape
    h, w = -(-height // blocks), -(-width // blocks)
    padded = F.pad(label, (0, w * blocks - width, 0, h * blocks - height), value=VOID)
    each = rearrange(padded, "b (i h) (j w) -> (b i j) h w", i=blocks, j=blocks)
    mask = torch.where(by_class.view(-1, 1, 1), class_mask(each, uniform), rasterise(boxes, (h, w)))
    whole = rearrange(mask, "(b i j) h w -> b (i h) (j w)", b=batch, i=blocks, j=blocks)
    return whole[:, :height, :width]


def draw_block_mask(label: Tensor, classes: int, blocks: int) -> Tensor:
    """`block_mask` of labels (B, H, W) with fresh draws: every block is a coin's choice between its classes and a box
    of half its area."""
    number, device = len(label) * blocks**2, label.device
    rng = np.random.default_rng(random.getrandbits(63))
    size = tuple(-(-side // blocks) for side in label.shape[-2:])
    area, aspect, corner = rng.random((number, 1)), rng.random((number, 1)), rng.random((number, 1, 2))
    boxes = torch.from_numpy(area_boxes(area, aspect, corner, size, (0.5, 0.5))).to(device, non_blocking=True)
    uniform = torch.rand(number, classes, device=device)
    return block_mask(label, blocks, torch.rand(number, device=device) < 0.5, uniform, boxes)
