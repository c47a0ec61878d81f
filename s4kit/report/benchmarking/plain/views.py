"""Views of one sample at a time, with Pillow and torchvision on whole images, as public loaders make them.

All choices come from Python's and PyTorch's global generators.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision.transforms import ColorJitter, RandomGrayscale
from torchvision.transforms.functional import to_tensor

_colour, _grey = ColorJitter(0.5, 0.5, 0.5, 0.25), RandomGrayscale(0.2)


def geometry(
    image: Image.Image, label: Image.Image, crop: int, scale: tuple[float, float] = (0.5, 2.0)
) -> tuple[Image.Image, Image.Image]:
    """Random resize of the longer side, padding at the right and at the bottom (black; label 255), crop and flip."""
    longer = random.randint(int(max(image.size) * scale[0]), int(max(image.size) * scale[1]))
    width, height = (int(side * longer / max(image.size) + 0.5) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    label = label.resize((width, height), Image.Resampling.NEAREST)
    border = (0, 0, max(0, crop - width), max(0, crop - height))
    image, label = ImageOps.expand(image, border, fill=0), ImageOps.expand(label, border, fill=255)
    left, top = (random.randint(0, side - crop) for side in image.size)
    image, label = (part.crop((left, top, left + crop, top + crop)) for part in (image, label))
    if random.random() < 0.5:
        image, label = (part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for part in (image, label))
    return image, label


def strong(image: Image.Image) -> Image.Image:
    """Colour jitter, grey and blur, each with its probability (FixMatch, UniMatch)."""
    if random.random() < 0.8:
        image = _colour(image)
    image = _grey(image)
    if random.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
    return image


def unimatch_box(side: int) -> Tensor:
    """(side, side) bool, True inside the box of FixMatch and UniMatch: none in half of the cases."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    if random.random() < 0.5:
        return mask
    area = random.uniform(0.02, 0.4) * side * side
    while True:
        ratio = random.uniform(0.3, 1 / 0.3)
        width, height = int((area / ratio) ** 0.5), int((area * ratio) ** 0.5)
        left, top = random.randrange(side), random.randrange(side)
        if left + width <= side and top + height <= side:
            mask[top : top + height, left : left + width] = True
            return mask


def half_area_box(side: int) -> Tensor:
    """(side, side) bool, True inside the box of CutMix-Seg: half of the area, any aspect, always inside."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    share = 0.5 ** random.random()
    height, width = round(side * share), round(side * 0.5 / share)
    top, left = random.randint(0, side - height), random.randint(0, side - width)
    mask[top : top + height, left : left + width] = True
    return mask


def three_boxes(side: int) -> Tensor:
    """(side, side) bool, the mask of CPS: three boxes of a quarter to half of the area, each flips what it covers."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    area = random.uniform(0.25, 0.5)
    for _ in range(3):
        share = area ** random.random()
        height, width = round(side * share / 3**0.5), round(side * area / share / 3**0.5)
        top, left = random.randint(0, side - height), random.randint(0, side - width)
        mask[top : top + height, left : left + width] ^= True
    return mask


def labelled_sample(sample: Any, crop: int, scale: tuple[float, float]) -> dict[str, Tensor]:
    """ "image" (3, S, S) in [0, 1], as the network takes it, and "label" (S, S) long, 255 = void."""
    image, label = geometry(_image(sample), Image.fromarray(sample.label.numpy()), crop, scale)
    return {"image": to_tensor(image), "label": torch.from_numpy(np.array(label)).long()}


def unlabelled_sample(
    sample: Any, crop: int, scale: tuple[float, float], strong_views: int, box: Callable[[int], Tensor]
) -> dict[str, Tensor]:
    """ "image" (3, S, S), the weak view; "ignored" (S, S) bool, the padding; for each strong view k, and once where
    there is none, "strong<k>" (3, S, S) and "box<k>" (S, S) bool."""
    picture = _image(sample)
    image, padding = geometry(picture, Image.new("L", picture.size), crop, scale)
    views = {"image": to_tensor(image), "ignored": torch.from_numpy(np.array(padding)) == 255}
    views |= {f"strong{k}": to_tensor(strong(image)) for k in range(1, strong_views + 1)}
    return views | {f"box{k}": box(crop) for k in range(1, max(1, strong_views) + 1)}


def _image(sample: Any) -> Image.Image:
    return Image.fromarray(sample.image.permute(1, 2, 0).numpy())
