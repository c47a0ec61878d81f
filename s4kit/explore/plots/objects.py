"""Single objects: the true and the found ones on their image, and precision over recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.task import PER_CLASS, VOID, Task
from ...report.plots import Picture, dress, figure, style
from ..rim import rim
from .images import grid

FILLED = 0.55  # strength of an object's colour on its pixels


def objects(task: Task, rows: Sequence[int], net: Any = None, part: str = "train", least: float = 0.5) -> Picture:
    """Images, their true objects and those that a network finds, each object in a colour of its own.

    Args:
        task: with objects. rows: of the source `part`, "train" or "val".
        net: (1, 3, H, W) in [0, 1] -> a list of `nets.objects.Objects`; None = not shown.
        least: score from which a found object is shown.

    Raises:
        S4Error: the objects of an image are not known.
    """
    source = getattr(task, part)
    images = [source.read(row).image for row in rows]
    ids = [source.objects(row) for row in rows]
    shown = {"image": images, "true": [painted(image, one) for image, one in zip(images, ids)]}
    if net is not None:
        shown["found"] = [painted(image, found(net, image, least)) for image in images]
    return grid(list(shown.values()), task, titles=[source.ids[row] for row in rows], notes=list(shown))


@torch.no_grad()
def found(net: Any, image: Tensor, least: float = 0.5) -> Tensor:
    """(H, W) ids of what a network finds in an image (3, H, W) uint8, of those with so high a score."""
    from ...nets import evaluating
    from ...nets.objects import paint

    with evaluating(net):
        (every,) = net(image[None].float() / 255)
    return paint(every[every.scores >= least], net.classes).ids


def painted(image: Tensor, ids: Tensor) -> np.ndarray:
    """(H, W, 3) in [0, 1]: an image (3, H, W) uint8 under its objects; void is grey, a rim parts neighbours."""
    pixels, ids = image.permute(1, 2, 0).numpy() / 255, ids.numpy()
    pixels = np.where((ids == VOID)[..., None], 0.5, pixels)
    inside, edge = ids >= PER_CLASS, rim(ids)
    _, number = np.unique(ids, return_inverse=True)
    hues = distinct_hues(number.max() + 1)[number.reshape(ids.shape)]
    filled = np.where(inside[..., None], (1 - FILLED) * pixels + FILLED * hues, pixels)
    return np.where((edge & inside)[..., None], hues, filled)


def distinct_hues(count: int) -> np.ndarray:
    """(n, 3) colours that neighbours in the list can be told apart by."""
    import colorsys

    return np.array([colorsys.hsv_to_rgb(k * 0.618034 % 1, 0.85, 0.95 - 0.25 * (k % 2)) for k in range(count)])


def precision_recall(scores: Any, iou: float = 0.5) -> Picture:
    """Precision over recall of each class where a mask is right from this IoU on; the area below a line is its AP.

    Args:
        scores: of `run.evaluate()`, a `MaskScores`, or several by name: then one panel each.
        iou: one of 0.5, 0.55, ... 0.95.
    """
    from ...engine.scores.masks import IOUS

    several = scores if isinstance(scores, Mapping) else {"": scores}
    fig = figure((4.2 * len(several), 3.4))
    for axis, (name, one) in zip(np.atleast_1d(fig.subplots(1, len(several), sharey=True)), several.items()):
        lines = one.precision[IOUS.index(iou)].T
        for line, label in zip(lines, one.classes):
            if not line.isnan().any():
                colour = style(label, list(one.classes))["color"]
                axis.plot(np.linspace(0, 1, 101), line, label=f"{label} {100 * line.mean():.0f}", color=colour)
        axis.set(xlabel="recall", title=name, xlim=(0, 1), ylim=(0, 1.02))
        dress(axis)
        axis.legend(fontsize=7, frameon=False, title=f"AP at IoU {iou:g}, %", title_fontsize=7)
    fig.axes[0].set_ylabel("precision")
    return fig
