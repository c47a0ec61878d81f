"""Two splits of one data set as bars."""

from __future__ import annotations

import numpy as np

from ...errors import S4Error
from ...report.plots import COLOURS, Picture, dress, figure
from ...report.splits import MANY, Comparison


def presence(found: Comparison) -> Picture:
    """Share of the labelled images that show each class, and each class's share of their pixels, of two splits.

    Of more than 30 classes those that differ most are drawn.

    Args:
        found: of `s4.splits.compare`.

    Raises:
        S4Error: the class balance of the two is unknown.
    """
    if not found.classes:
        raise S4Error(f"The class balance of {' and '.join(found.names)} is unknown: {found.counted}.")
    order = found.by_difference()[:MANY] if len(found.classes) > MANY else range(len(found.classes))
    fig = figure((10.5, 1.3 + 0.3 * len(order)))
    left, right = fig.subplots(1, 2, sharey=True)
    for k, (name, colour) in enumerate(zip(found.names, COLOURS)):
        at = np.arange(len(order)) + 0.4 * (k - 0.5)
        images = [100 * found.images[k][c] / found.labelled[k] for c in order]
        pixels = [100 * found.pixels[k][c] for c in order]
        look = {"color": colour, "hatch": "" if k == 0 else "////", "edgecolor": "white", "lw": 0}
        for axis, values, label in ((left, images, f"{name} ({found.labelled[k]} labelled)"), (right, pixels, None)):
            bars = axis.barh(at, values, 0.38, label=label, **look)
            axis.bar_label(bars, [f"{value:.1f}" for value in values], padding=2, fontsize=7)
    left.set_yticks(range(len(order)), [found.classes[c] for c in order])
    left.set(xlim=(0, 110), xlabel="labelled images that show it, %")
    right.set(xscale="log", xlabel="share of the labelled pixels, % (log scale)")
    right.set_xlim(right=200)
    left.invert_yaxis()
    for axis in (left, right):
        dress(axis)
        axis.grid(visible=False, axis="y")
    shared = f"{found.shared} labelled images in both; {found.counted}"
    fig.suptitle(shared, fontsize=10)
    fig.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return fig
