"""Each class over the training: how many of its pixels are kept, and how many of the kept are right."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import S4Error
from ...report.pictures import VOID_COLOUR
from ...report.plots import Picture, dress, figure, ink
from .training import named

WRITTEN = 12  # snapshots, at most, whose cells have their number written in them
PANELS = {
    "precision": "precision: right, of the kept labels of the class",
    "coverage": "coverage: kept, of the true pixels of the class",
}


def classes_over_time(runs: Any, classes: Any = None) -> Picture:
    """Precision and coverage of the pseudo-labels of every class on the watched images, over the training.

    A row of cells for each class, from dark (0) to light (100 %); striped where there was nothing to judge: no kept
    label of the class, or none of its pixels. A class that starves is a row that stays dark on the right.

    Args:
        runs: as in `curves`; of several seeds the first is drawn, of several pseudo-labels each.
        classes: names of those to draw, in this order; default all.

    Raises:
        S4Error: no pseudo-labels were recorded, or there is no such class.
    """
    found = {}
    for name, of in named(runs).items():
        rows = of[0].pseudo()
        tracks = list(dict.fromkeys(row["name"] for row in rows))
        for track in tracks:
            title = name if len(tracks) == 1 else f"{name}, {track}"
            found[title] = [row for row in rows if row["name"] == track]
    if not any(found.values()):
        raise S4Error("None of these runs recorded pseudo-labels: they were trained with probes=0.")
    names = _chosen(found, classes)
    tall = max(1.4, 0.24 * len(names) + 0.75)
    fig = figure((10.5, tall * len(found)))
    axes = fig.subplots(len(found), 2, squeeze=False)
    for line, (title, rows) in zip(axes, found.items()):
        for axis, column in zip(line, PANELS):
            shown = _cells(axis, rows, names, column)
            axis.set_title(f"{title} · {PANELS[column]}" if len(found) > 1 else PANELS[column], fontsize=10, wrap=True)
        line[1].set_yticklabels([])
    axes[-1][0].set_xlabel("step")
    axes[-1][1].set_xlabel("step")
    bar = fig.colorbar(shown, ax=axes, fraction=0.025, pad=0.01, aspect=30, ticks=[0, 50, 100])
    bar.set_label("%", rotation=0)
    return fig


def _chosen(found: dict[str, list[dict[str, Any]]], classes: Any) -> list[str]:
    first = next(iter(PANELS)) + "_"
    columns = dict.fromkeys(column for rows in found.values() for row in rows for column in row)
    there = [column.removeprefix(first) for column in columns if column.startswith(first)]
    if classes is None:
        return there
    for name in classes:
        if name not in there:
            raise S4Error(f"There is no class {name!r} in these runs; there are {', '.join(there)}.")
    return list(classes)


def _cells(axis: Any, rows: list[dict[str, Any]], names: list[str], column: str) -> Any:
    """One panel; returns what a colour bar needs."""
    values = [[r.get(f"{column}_{name}") for r in rows] for name in names]
    shares = 100 * np.array([[np.nan if v is None else v for v in line] for line in values], float)
    dress(axis)
    axis.grid(False)
    axis.patch.set(facecolor=[level / 255 for level in VOID_COLOUR], hatch="////", edgecolor="#b8b8be")
    shown = axis.imshow(np.ma.masked_invalid(shares), cmap="cividis", vmin=0, vmax=100, aspect="auto")
    axis.set_yticks(range(len(names)), names, fontsize=8.5)
    for label in axis.get_yticklabels():
        label.set_parse_math(False)
    ticks = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 6)).round().astype(int))
    axis.set_xticks(ticks, [str(rows[k]["step"] + 1) for k in ticks], fontsize=8.5)
    axis.tick_params(length=2, colors=ink(False))
    if len(rows) <= WRITTEN:
        for (y, x), share in np.ndenumerate(shares):
            if share == share:
                axis.text(x, y, f"{share:.0f}", ha="center", va="center", fontsize=7.5, color=_ink(share))
    return shown


def _ink(share: float) -> str:
    return "#ffffff" if share < 50 else "#1c1c22"
