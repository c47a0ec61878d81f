"""A look at a data set as one picture: a contact sheet of images with their labels, and the classes' shares."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ...data.task import VOID, Sample
from ..pictures import legend
from ..plots import figure as empty
from ..plots import ink
from .looked import Looked

COLUMNS = 4
SIDE = 420  # of a picture, in pixels
STRIPES = (150, 150, 150), (235, 235, 235)


def overlaid(image: np.ndarray, label: np.ndarray, palette: Any, strength: float = 0.62) -> np.ndarray:
    """(H, W, 3) uint8: the label's colours over the greyed image, edges of regions light, void in stripes."""
    lookup = np.zeros((256, 3), np.float32)
    lookup[: len(palette)] = palette
    grey = image.mean(2, keepdims=True) * 0.85 + 20
    out = (1 - strength) * grey + strength * lookup[label]
    y, x = np.indices(label.shape)
    width = max(2, min(label.shape) // 70)
    stripe = np.where((x + y) // width % 3 == 0, STRIPES[0][0], STRIPES[1][0])[..., None]
    out = np.where((label == VOID)[..., None], 0.25 * grey + 0.75 * stripe, out)
    edge = np.zeros(label.shape, bool)
    edge[:, 1:] |= label[:, 1:] != label[:, :-1]
    edge[1:] |= label[1:] != label[:-1]
    out[edge] = 0.25 * out[edge] + 0.75 * 255
    return out.clip(0, 255).astype(np.uint8)


def shown(sample: Sample, palette: Any, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """(image, label over the image), both (h, w, 3) uint8 with a long side of `side`: small ones are enlarged."""
    image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    label = Image.fromarray(sample.label.numpy())
    size = tuple(max(1, round(n * side / max(image.size))) for n in image.size)
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    return pixels, overlaid(pixels, np.asarray(label.resize(size, Image.Resampling.NEAREST)), palette)


def figure(look: Looked, dark: bool = False) -> Any:
    """Pairs of image and label, and a bar for each class; the legend says what the colours are."""
    task = look.task
    rows = -(-len(look.samples) // COLUMNS)
    ratio = float(np.median([s.image.shape[1] / s.image.shape[2] for _, s in look.samples]))
    wide = 12.5 / (2 * COLUMNS)
    tall, bars = wide * min(1.6, ratio) + 0.26, 0.4 + 0.27 * task.num_classes
    lines = -(-(task.num_classes + 1) // 9)
    fig = empty((12.5, rows * tall + bars + 0.28 * lines + 0.5), dark)
    sheet, below = fig.subfigures(2, 1, height_ratios=(rows * tall, bars))
    axes = sheet.subplots(rows, 2 * COLUMNS, squeeze=False)
    for axis in axes.ravel():
        axis.axis("off")
    for number, (name, sample) in enumerate(look.samples):
        image, label = shown(sample, task.palette, SIDE // 2)
        left = axes[number // COLUMNS][2 * (number % COLUMNS)]
        right = axes[number // COLUMNS][2 * (number % COLUMNS) + 1]
        left.imshow(image)
        right.imshow(label)
        left.set_title(f"{sample.id}", fontsize=7, color=ink(dark), loc="left", pad=2)
        right.set_title(name, fontsize=7, color=ink(dark), loc="right", pad=2)
    axis = below.subplots()
    places = np.arange(task.num_classes)
    many = len(look.parts)
    for k, (name, part) in enumerate(look.parts.items()):
        offset = (k - (many - 1) / 2) * 0.8 / many
        shares = 100 * part.shares[: task.num_classes]
        colours = [np.array(c) / 255 for c in task.palette]
        kind = {"color": "none", "edgecolor": colours, "linewidth": 1.2} if name == "val" else {"color": colours}
        axis.barh(places + offset, shares, 0.72 / many, alpha=0.45 if name in task.more else None, **kind)
        for at, share in zip(places + offset, shares):
            axis.text(share + 0.4, at, f"{share:.1f}", va="center", fontsize=6.5, color=ink(dark))
    axis.set_yticks(places, task.classes, fontsize=8, color=ink(dark))
    axis.invert_yaxis()
    pale = f", pale: {', '.join(task.more)}" if task.more else ""
    words = f"% of the pixels with a class; filled: labelled{pale}, outlined: val"
    axis.set_xlabel(words, fontsize=8, color=ink(dark))
    axis.tick_params(colors=ink(dark), labelsize=8, length=0)
    axis.set_facecolor("none")
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    legend(fig, task, lines, dark)
    return fig
