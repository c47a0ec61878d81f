"""Photographs that are made up, as files: what a host's work on images is measured with."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

from ..data.sources import FileSource
from ..data.task import Task

CLASSES = 21
TILE = 512  # pixels: what is larger is made of tiles


def write_photos(folder: Path, amount: int, size: tuple[int, int] = (375, 500)) -> Task:
    """Write `amount` JPEGs of about 80 kB at 500 x 375 with label maps, and return the task over them.

    The content is noise with the spectrum of photographs (power falls with frequency) with large regions as classes.
    """
    rng = np.random.default_rng(0)
    for i in range(amount):
        write_photo(folder, str(i), rng, size)
    names = [str(i) for i in range(amount)]
    source = FileSource(names, [f"{n}.jpg" for n in names], [f"{n}.png" for n in names], str(folder), CLASSES)
    classes, palette = tuple(f"class {i}" for i in range(CLASSES)), tuple((i, i, i) for i in range(CLASSES))
    labelled, unlabelled = tuple(range(amount // 2)), tuple(range(amount // 2, amount))
    return Task("photos", classes, palette, source, labelled, unlabelled, source, crop=321)


def write_photo(folder: Path, name: str, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """NAME.jpg and its label map NAME.png."""
    photo, label = _photo(rng, size)
    Image.fromarray(photo).save(folder / f"{name}.jpg", quality=90)
    Image.fromarray(label).save(folder / f"{name}.png")


def _photo(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    if max(size) > TILE:  # the spectrum of a photo from a part of its size, again and again
        repeats = [math.ceil(side / TILE) for side in size]
        photo, label = _photo(rng, tuple(min(side, TILE) for side in size))
        return np.tile(photo, (*repeats, 1))[: size[0], : size[1]], np.tile(label, repeats)[: size[0], : size[1]]
    height, width = size
    total = rng.normal(scale=0.35, size=(height, width, 1)) * np.ones(3)
    for cell in (4, 8, 16, 32, 64, 128):
        coarse = rng.normal(size=(height // cell + 3, width // cell + 3, 3))
        layers = [Image.fromarray(coarse[..., c].astype(np.float32)) for c in range(3)]
        up = np.stack([np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) for layer in layers], -1)
        total += up * cell**0.5 / 2
    label = np.digitize(up[..., 0], np.linspace(-1.5, 1.5, CLASSES - 1)).astype(np.uint8)
    low, high = np.percentile(total, (1, 99))
    return ((total - low) / (high - low) * 255).clip(0, 255).astype(np.uint8), label
