"""The tiles of an idea picture, and the figure of them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...data.task import VOID, Task
from ...report.pictures import colour
from ...report.plots import Picture

TILE, GAP, TOP, SIDE = 1.12, 0.07, 0.24, 1.06  # inches: a tile, between tiles, above them, left of them for names
GREY = np.uint8((214, 216, 222))  # not trained on
PASTED = "#ff2d95"
PLOT = "weight"  # kind of the cell that is a plot
LETTERS, LINE = 21, 0.13  # in a line of a title; inches of a further line


@dataclass(frozen=True)
class Cell:
    """One tile: what it shows in words, and an image (H, W, 3), a share (H, W) in [0, 1], or points to plot.

    `outline` (H, W) bool is drawn around; `kind` is "" or PLOT.
    """

    title: str
    pixels: np.ndarray
    outline: np.ndarray | None = None
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """One path through the step."""

    name: str
    cells: list[Cell]


def picture(image: Tensor) -> np.ndarray:
    """(H, W, 3) uint8 of an image (3, H, W) in [0, 1]."""
    return (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def indices(label: Tensor) -> np.ndarray:
    """Classes, of any shape, as uint8."""
    return label.to(torch.uint8).cpu().numpy()


def taught(target: Any, k: int, task: Task) -> np.ndarray:
    """(H, W, 3) uint8: the labels of image k of pseudo-labels, the paler the less they weigh; grey where they do not
    count."""
    weight = (target.weight[k] * (target.valid[k] > 0)).float()
    share = (weight / target.weight.max().clamp(min=1e-12)).clamp(0, 1).cpu().numpy()[..., None]
    shade = np.where(share > 0, 0.25 + 0.75 * share, 0)
    label = np.where(target.valid[k].cpu().numpy() > 0, indices(target.label[k]), VOID)
    return (shade * colour(label, task.palette) + (1 - shade) * GREY).astype(np.uint8)


def cost(path: dict[str, Any], k: int) -> np.ndarray | None:
    """(H, W) in [0, 1], what each pixel of image k of a path costs, the dearest 1; None where it is not known."""
    if "loss" in path:
        loss = path["loss"][k]
        loss = (loss.mean(0) if loss.dim() == 3 else loss).float()
    elif "student" in path:
        target = path["target"]
        loss = F.cross_entropy(path["student"][k : k + 1].float(), target.label[k : k + 1], reduction="none")[0]
        loss = loss * target.weight[k] * target.valid[k]
    else:
        return None
    return (loss / loss.max().clamp(min=1e-12)).clamp(0, 1).cpu().numpy()


def points(target: Any, most: int = 900) -> np.ndarray:
    """(n, 2) confidence and weight of valid pixels."""
    valid = target.valid > 0
    pairs = torch.stack([target.confidence[valid], target.weight[valid]], 1).float().cpu().numpy()
    return pairs[:: max(1, len(pairs) // most)]


def mosaic(maps: Tensor, scale: Tensor, lost: Tensor | None = None) -> np.ndarray:
    """Channels (n, h, w) beside each other, each on the scale of its own values in `scale`; grey where `lost`."""
    from matplotlib import colormaps

    low, high = (f(scale.flatten(1), 1).values[:, None, None] for f in (torch.min, torch.max))
    shares = ((maps - low) / (high - low).clamp(min=1e-12)).clamp(0, 1).cpu().numpy()
    pixels = (colormaps["cividis"](shares)[..., :3] * 255).astype(np.uint8)
    if lost is not None:
        pixels[lost.cpu().numpy()] = GREY
    return _tiled(pixels)


def added(change: Tensor) -> np.ndarray:
    """What is added to features (D, h, w), channel by channel: red and blue, the largest change the darkest."""
    from matplotlib import colormaps

    most = float(change.abs().max().clamp(min=1e-12))
    return _tiled((colormaps["RdBu_r"](((change / most + 1) / 2).cpu().numpy())[..., :3] * 255).astype(np.uint8))


def _tiled(maps: np.ndarray) -> np.ndarray:
    """(n, h, w, 3) in a square of white-framed fields."""
    side = int(np.ceil(np.sqrt(len(maps))))
    maps = maps.repeat(3, 1).repeat(3, 2)
    maps = np.pad(maps, ((0, side * side - len(maps)), (1, 1), (1, 1), (0, 0)), constant_values=255)
    h, w, c = maps.shape[1:]
    return maps.reshape(side, side, h, w, c).transpose(0, 2, 1, 3, 4).reshape(side * h, side * w, c)


# ---- the figure ----


def draw(found: list[Row]) -> Picture:
    """Rows of tiles with their titles; a line's name stands at its left."""
    columns = max(len(row.cells) for row in found)
    named = any(row.name for row in found)
    left = SIDE if named else GAP
    wide, tall = left + columns * (TILE + GAP), sum(map(_height, found))
    fig = Picture(figsize=(wide, tall), facecolor="white", dpi=100)
    for line, row in enumerate(found):
        bottom = tall - sum(map(_height, found[: line + 1])) + GAP
        if row.name:
            words = textwrap.fill(row.name, 12)
            fig.text(
                (left - 0.08) / wide,
                (bottom + TILE / 2) / tall,
                words,
                ha="right",
                va="center",
                fontsize=8.5,
                weight="bold",
            )
        for place, cell in enumerate(row.cells):
            if line and place < len(found[line - 1].cells) and _same(cell, found[line - 1].cells[place]):
                continue  # as above
            at = (left + place * (TILE + GAP), bottom)
            inset = 0.17 if cell.kind == PLOT else 0.0
            axis = fig.add_axes(
                [(at[0] + inset) / wide, (at[1] + inset) / tall, (TILE - inset) / wide, (TILE - inset) / tall]
            )
            _paint(axis, cell)
            axis.set_title(textwrap.fill(cell.title, LETTERS), fontsize=7.6, pad=3, x=0.5 - inset / 2)
    return fig


def _height(row: Row) -> float:
    """Inches of a row: its tiles, and above them the longest of their titles."""
    lines = max((len(textwrap.wrap(cell.title, LETTERS)) for cell in row.cells), default=1)
    return TILE + TOP + LINE * (lines - 1) + GAP


def _same(one: Cell, two: Cell) -> bool:
    return (one.title, one.kind) == (two.title, two.kind) and np.array_equal(one.pixels, two.pixels)


def _paint(axis: Any, cell: Cell) -> None:
    if cell.kind == PLOT:
        axis.plot(*cell.pixels.T, ".", ms=2.2, color="#0072B2", alpha=0.5, mew=0)
        top = max(1.0, float(cell.pixels[:, 1].max(initial=0)))
        axis.set(xlim=(0, 1.03), ylim=(-0.06 * top, 1.08 * top), xticks=[0, 1], yticks=[0, round(top, 1)])
        axis.tick_params(labelsize=6, length=2, pad=1)
        axis.spines[["top", "right"]].set_visible(False)
        return
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color="#999", linewidth=0.6)
    axis.imshow(cell.pixels, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    if cell.outline is not None and cell.outline.any():
        framed = np.pad(cell.outline, 1).astype(float)
        grid = np.arange(-1, cell.outline.shape[0] + 1), np.arange(-1, cell.outline.shape[1] + 1)
        axis.contour(grid[1], grid[0], framed, [0.5], colors=PASTED, linewidths=1.1)
        axis.set(xlim=(-0.5, cell.outline.shape[1] - 0.5), ylim=(cell.outline.shape[0] - 0.5, -0.5))
