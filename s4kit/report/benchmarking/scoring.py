"""How long an image takes to be scored: read and seen one by one, and as `evaluate` does it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from ...data.palettes import distinct
from ...data.sources import FileSource
from ...data.task import Evaluation, Task
from ...engine import evaluate
from ...engine.device import autocast, pick_precision
from ...engine.scores import count, to_image
from ...engine.windows import predict
from ...nets import evaluating, make, place
from ..photos import CLASSES, write_photo

NET = "resnet50(weights='none')"
SIZE, WINDOW = (1024, 2048), 801  # Cityscapes
SMALL, SMALL_WINDOW = (256, 512), 201  # where no GPU computes
PHOTOS = 2


def scoring(device: str, quick: bool, turns: Callable[..., dict[str, float]]) -> dict[str, Any]:
    """Milliseconds of an image through a sliding window, both ways, and whether they count alike.

    Args:
        turns: measures both sides in turns, see `bench.take_turns`.
    """
    large = device == "cuda"
    size, window, amount = (SIZE, WINDOW, 32) if large else ((64, 128), 49, 2) if quick else (SMALL, SMALL_WINDOW, 4)
    how, precision = Evaluation("sliding", window), pick_precision("auto", torch.device(device))
    with tempfile.TemporaryDirectory() as folder:
        task = _photos(Path(folder), size, amount)
        net = place(make("tiny" if quick else NET, task), device)
        sides = {
            "plain": lambda _: one_by_one(net, task, how, device, precision),
            "kit": lambda _: evaluate(net, task, how, precision=precision).confusion,
        }
        apart = (sides["plain"](0) - sides["kit"](0)).abs().sum() / 2
        times = turns(sides, 1 if quick else 3, device)
    return {
        "scored_size": f"{size[1]} x {size[0]}",
        "one_by_one_ms": times["plain"] / amount,
        "scored_ms": times["kit"] / amount,
        "scored_ratio": times["kit"] / times["plain"],
        "pixels_apart": float(apart) / (amount * size[0] * size[1]),
    }


def one_by_one(net: nn.Module, task: Task, how: Evaluation, device: str, precision: str) -> torch.Tensor:
    """(C, C) counts: each image is read, seen and counted before the next is opened."""
    where = torch.device(device)
    confusion = torch.zeros(task.num_classes, task.num_classes, dtype=torch.long, device=where)
    with evaluating(net):
        for row in range(len(task.val)):
            sample = task.val.read(row)
            with autocast(where, precision):
                scores = predict(net, to_image(sample, where), how)
            confusion += count(scores.argmax(1)[0], sample.label.to(where).long(), task.num_classes)
    return confusion.cpu()


def _photos(folder: Path, size: tuple[int, int], amount: int) -> Task:
    """A task whose validation images are PNGs of that size, the same two over and over."""
    rng = np.random.default_rng(0)
    for k in range(PHOTOS):
        write_photo(folder, str(k), rng, size)
        with Image.open(folder / f"{k}.jpg") as photo:
            photo.save(folder / f"photo_{k}.png", compress_level=3)
    files = [k % PHOTOS for k in range(amount)]
    images, labels = [f"photo_{k}.png" for k in files], [f"{k}.png" for k in files]
    source = FileSource([str(row) for row in range(amount)], images, labels, str(folder), CLASSES)
    names, palette = tuple(f"class {k}" for k in range(CLASSES)), distinct(CLASSES)
    return Task("photos", names, palette, source, (0,), (1,), source, crop=WINDOW)
