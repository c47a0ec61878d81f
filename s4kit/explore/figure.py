"""The explorer's state as a matplotlib figure: one row per track, the numbers below it, for papers and for saved
notebooks."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.task import VOID
from ..report import plots
from ..report.pictures import VOID_COLOUR, colour
from .outcomes import outcomes
from .rim import rim

REJECTED = {"rejected, right": (226, 226, 226), "rejected, wrong": (112, 112, 120)}
MARK = (240, 0, 220)  # the selection


def colours_of(palette: Any) -> dict[str, tuple[int, int, int]]:
    """The colour of each outcome beside a palette, as in the browser."""
    found = outcomes(palette)
    return {"kept, right": found["right"], "kept, wrong": found["wrong"]} | REJECTED


@dataclass
class Row:
    """One track at one snapshot of one image.

    Attributes:
        title, caption: above and below the row.
        image: (h, w, 3) uint8. truth, label: (h, w) uint8, truth 255 where unknown. confidence: (h, w) uint8.
        valid, kept: (h, w) bool. shown: (h, w) bool, False where the pseudo-label's class is hidden.
        marked: (h, w) bool, the selected pixels; None without a selection.
        objects: (h, w) uint8 numbers of single objects, 0 = none; None where none were recorded.
    """

    title: str
    caption: str
    image: np.ndarray
    truth: np.ndarray
    valid: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    kept: np.ndarray
    shown: np.ndarray
    marked: np.ndarray | None = None
    objects: np.ndarray | None = None


def draw(rows: Sequence[Row], classes: Sequence[str], palette: Any, kept_title: str, dark: bool = False) -> Any:
    """The figure of the rows: image, truth where it is known, pseudo-label, objects where they were recorded,
    confidence, kept, errors."""
    known, single = any((row.truth != VOID).any() for row in rows), any(row.objects is not None for row in rows)
    columns = ["image", "truth", "pseudo-label", "objects", "confidence", kept_title, "errors"]
    left_out = (() if known else ("truth", "errors")) + (() if single else ("objects",))
    columns = [name for name in columns if name not in left_out]
    height, width = rows[0].label.shape
    present = _present(rows, len(classes))
    marks = _legend_marks(classes, palette, present, known, dark)
    wide = 1.85
    lines = -(-len(marks) // max(3, int(len(columns) * wide / 1.25)))
    size = (len(columns) * wide + 0.5, len(rows) * (wide * height / width + 0.62) + 0.25 * lines + 0.15)
    fig = plots.figure(size, dark)
    parts = fig.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for number, (part, row) in enumerate(zip(parts, rows)):
        part.set_facecolor(fig.get_facecolor())
        axes = part.subplots(1, len(columns), squeeze=False)[0]
        for axis, name in zip(axes, columns):
            scale = _panel(axis, row, name, palette)
            axis.set(xticks=[], yticks=[])
            axis.set_frame_on(False)
            _mark(axis, row)
            if number == 0:
                _write(axis.set_title, name, 9, dark)
            if scale is not None:
                bar = part.colorbar(scale, ax=axis, fraction=0.046, pad=0.02, ticks=[0, 0.5, 1])
                bar.ax.tick_params(labelsize=7, colors=plots.ink(dark))
                bar.outline.set_visible(False)
        _write(part.suptitle, row.title, 10, dark, x=0.01, ha="left", weight="bold")
        _write(part.supxlabel, row.caption, 8.5, dark, x=0.01, ha="left")
    legend = fig.legend(
        handles=marks, loc="outside lower center", ncols=-(-len(marks) // lines), fontsize=8, frameon=False,
        labelcolor=plots.ink(dark),
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    return fig


def _write(put: Any, words: str, size: float, dark: bool, **how: Any) -> None:
    """Text in which dollar signs are dollar signs: names come from files."""
    put(words, fontsize=size, color=plots.ink(dark), **how).set_parse_math(False)


def _panel(axis: Any, row: Row, name: str, palette: Any) -> Any:
    """Draw one panel; returns what a colour bar needs, or None."""
    if name == "confidence":
        shown = np.where(row.valid, row.confidence / 255, np.nan)
        return axis.imshow(shown, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    if name == "image":
        pixels = row.image
    elif name == "truth":
        pixels = colour(row.truth, palette)
    elif name == "pseudo-label":
        pixels = colour(np.where(row.valid & row.shown, row.label, VOID), palette)
    elif name == "errors":
        pixels = errors(row, palette)
    elif name == "objects":
        pixels = outlined(row, palette)
    else:
        pixels = np.where((row.kept & row.shown)[..., None], colour(row.label, palette), _grey(row))
    axis.imshow(pixels, interpolation="nearest")
    return None


def _grey(row: Row) -> np.ndarray:
    """(h, w, 3) uint8, the image as a ground for colours."""
    return np.repeat(row.image.mean(2, keepdims=True) * 0.35 + 150, 3, 2).astype(np.uint8)


def outlined(row: Row, palette: Any) -> np.ndarray:
    """(h, w, 3) uint8: single objects by their confidence, in the colours of its panel, each with a rim in the colour
    of its class."""
    from matplotlib import colormaps

    if row.objects is None:
        return _grey(row)
    inside = (row.objects > 0) & row.valid & row.shown
    filled = np.where(inside[..., None], colormaps["cividis"](row.confidence, bytes=True)[..., :3], _grey(row))
    return np.where((inside & rim(row.objects))[..., None], colour(row.label, palette), filled)


def errors(row: Row, palette: Any) -> np.ndarray:
    """(h, w, 3) uint8: each pixel kept or rejected, right or wrong; void where the truth is unknown."""
    colours = np.array(list(colours_of(palette).values()), np.uint8)
    known = (row.truth != VOID) & row.valid & row.shown
    return np.where(
        known[..., None],
        colours[2 * ~row.kept + (row.label != row.truth)],
        colour(np.full_like(row.label, VOID), ((0, 0, 0),)),
    )


def _mark(axis: Any, row: Row) -> None:
    """Ring a selected pixel, or outline the selected area."""
    if row.marked is None or not row.marked.any():
        return
    y, x = np.nonzero(row.marked)
    shade = [v / 255 for v in MARK]
    if len(y) == 1:
        axis.plot(x, y, "o", ms=9, mfc="none", mec=shade, mew=1.6)
    else:
        axis.contour(row.marked, levels=[0.5], colors=[shade], linewidths=0.8)


def _present(rows: Sequence[Row], classes: int) -> list[int]:
    """The classes that the legend names: all of a short list, of a long one those that can be seen."""
    if classes <= 12:
        return list(range(classes))
    seen = np.unique(np.concatenate([np.unique(a) for row in rows for a in (row.truth, row.label)]))
    return [int(c) for c in seen if c < classes]


def _legend_marks(classes: Sequence[str], palette: Any, present: list[int], known: bool, dark: bool) -> list[Any]:
    from matplotlib.patches import Patch

    def patch(rgb: Sequence[int], name: str, **extra: Any) -> Patch:
        return Patch(facecolor=[v / 255 for v in rgb], edgecolor=plots.ink(dark), linewidth=0.4, label=name, **extra)

    marks = [patch(palette[c], _visible(classes[c])) for c in present]
    if known:
        marks += [patch(rgb, f"errors: {name}") for name, rgb in colours_of(palette).items()]
    return [*marks, patch(VOID_COLOUR, "unknown or hidden", hatch="////")]


def _visible(name: str) -> str:
    """matplotlib leaves labels out of a legend that begin with an underscore."""
    return f"\u200a{name}" if name.startswith("_") else name


def png(fig: Any, dpi: int = 90) -> bytes:
    """A figure as a PNG of few kilobytes: at most 256 colours, chosen so that no colour moves far (rare classes)."""
    from PIL import Image

    raw, small = io.BytesIO(), io.BytesIO()
    fig.savefig(raw, format="png", dpi=dpi, facecolor=fig.get_facecolor())
    few = Image.open(raw).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return small.getvalue()
