"""Clips: a film strip with the motion in it, and how what a network says gets worse away from the labelled frame."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
import torch

from ...data.gathered import Gathered
from ...data.task import Task
from ...errors import S4Error
from ...report.plots import Picture, dress, figure, style
from .images import grid

LEAST = 10  # points that the axis of mIoU shows at least: small differences look small
FAST = 6.0  # pixels: motion of so much or more is drawn in full colour


def clip(task: Task, row: int, net: Any = None) -> Picture:
    """The frames of a clip, their truth, what a network says, and the motion between them.

    The motion is that from image `row`: its direction is a hue (to the right red, down yellow-green), its length the
    strength of the colour, full from 6 pixels on. "seen" is white where the surface of a pixel is seen in that frame.

    Args:
        task: of a data set with clips. row: of `task.train`, such as one of `task.labelled`.
        net: image (1, 3, H, W) in [0, 1] -> logits; None = not shown.

    Raises:
        S4Error: the image is of no clip.
    """
    source, rows = task.train, list(task.train.clip(row))
    if len(rows) < 2:
        raise S4Error(f"{source.ids[row]} of {task.name} is in no clip: there is one frame to show.")
    frames = [source.read(k) for k in rows]
    shown = {"image": [frame.image for frame in frames], "truth": [frame.label for frame in frames]}
    if net is not None:
        shown["said"] = [_said(net, frame.image) for frame in frames]
    try:
        moved = [source.flow(row, k) for k in rows]
    except S4Error:  # of a film nobody knows the motion
        moved = []
    if moved:
        shown["motion"] = [motion(flow.numpy()) for flow, _ in moved]
        shown["seen"] = [seen.numpy() for _, seen in moved]
    shown = {name: cells for name, cells in shown.items() if any(cell is not None for cell in cells)}
    titles = ["labelled" if k in task.labelled_rows else "" if k == row else f"{k - row:+d}" for k in rows]
    return grid(list(shown.values()), task, titles=titles, notes=list(shown))


@torch.no_grad()
def _said(net: Any, image: torch.Tensor) -> np.ndarray:
    from ...nets import evaluating

    with evaluating(net):
        return net(image[None].float() / 255).argmax(1)[0].numpy()


def motion(flow: np.ndarray) -> np.ndarray:
    """(H, W, 3) in [0, 1]: a motion (H, W, 2) in pixels as colours; where nothing moves it is white."""
    wheel = np.array([colorsys.hsv_to_rgb(k / 360, 1, 1) for k in range(360)])
    angle = np.degrees(np.arctan2(flow[..., 1], flow[..., 0])).astype(int) % 360
    strength = np.clip(np.linalg.norm(flow, axis=2) / FAST, 0, 1)[..., None]
    return 1 - strength * (1 - wheel[angle])


def by_distance(nets: dict[str, Any], task: Task) -> Picture:
    """mIoU of networks on the frames of the labelled clips, over how many frames away the labelled one is.

    Truth that no method was shown; so it says what a label is worth for its clip, and is no score.

    Args:
        nets: image -> logits, by name. task: of a data set with clips and the truth of all frames.

    Raises:
        S4Error: no labelled image is of a clip.
    """
    from ...engine import evaluate

    away: dict[int, list[str]] = {}
    for row in task.labelled:
        for k in task.train.clip(row):
            away.setdefault(abs(k - row), []).append(task.train.ids[k])
    if len(away) < 2:
        raise S4Error(f"No labelled image of {task.name} is in a clip: there is no distance to draw.")
    fig = figure((5.2, 3.0))
    axis = fig.subplots()
    of = {k: task.with_(val=Gathered(ids, [task.train])) for k, ids in sorted(away.items())}
    for name, net in nets.items():
        scores = [100 * evaluate(net, part).miou for part in of.values()]
        axis.plot(list(of), scores, "o-", label=name, color=style(name, list(nets))["color"], ms=4)
    axis.set(xlabel="frames from the labelled one", ylabel="mIoU, %", xticks=list(of))
    low, high = axis.get_ylim()
    spare = max(0.0, LEAST - (high - low)) / 2
    axis.set_ylim(low - spare, high + spare)
    dress(axis)
    if len(nets) > 1:
        axis.legend(fontsize=8, frameon=False)
    return fig
