"""DeepLabV3+ as a drawing: what each part makes of one image, at which size, and how far it looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.patches import ConnectionPatch, Rectangle
from torch import Tensor

from ...errors import S4Error
from ...nets.deeplab import ASPP, DeepLabV3Plus
from ...report.plots import COLOURS, Picture, figure

COLUMNS = 6  # image, encoder, deepest level, ASPP, decoder, answer
NOTE = {"fontsize": 8, "color": "#333"}


@dataclass(frozen=True)
class _Seen:
    """One map (h, w) in [0, 1] for the eye, and the shape (channels, h, w) that it stands for."""

    map: Tensor
    shape: tuple[int, ...]


def network(net: Any, image: Tensor, classes: Any = None) -> Picture:
    """DeepLabV3+ as boxes and arrows, filled with what it makes of an image: the mean of each map's channels.

    On the image stand the places that ONE cell of the deepest map looks at through the atrous filters of ASPP, a colour
    for each rate, as far as they lie in it.

    Args:
        net: a `SegNet` with a `DeepLabV3Plus` decoder and the usual ASPP.
        image: (3, H, W) or (1, 3, H, W) in [0, 1].
        classes: the task, for the colours of the answer; without it the answer is drawn in grey.

    Raises:
        S4Error: another network.
    """
    decoder = getattr(net, "decoder", None)
    if not isinstance(decoder, DeepLabV3Plus) or not isinstance(decoder.aspp, ASPP) or decoder.reduce is None:
        raise S4Error("plots.network draws DeepLabV3+ with its usual ASPP; this network is built otherwise.")
    image = image[None] if image.dim() == 3 else image[:1]
    seen, levels, answer = _run(net, image)
    fig = figure((13.6, 6.4))
    fig.set_layout_engine("none")
    ratios = [1.6, 1.1, 1, 0.6, 1.1, 1.6]
    grid = fig.add_gridspec(
        5, COLUMNS, width_ratios=ratios, left=0.03, right=0.98, top=0.9, bottom=0.06, wspace=0.3, hspace=0.55
    )
    rates = [branch[0].dilation[0] for branch in decoder.aspp.branches[1:]]
    start = _image(fig.add_subplot(grid[1:4, 0]), image[0], levels[-1], rates)
    encoder = _column(fig, grid, 1, [("early level", levels[0]), ("a level between", levels[len(levels) // 2])], (0, 3))
    deepest = _panel(fig.add_subplot(grid[1:4, 2]), levels[-1], "deepest level")
    names = ["1 x 1", *(f"3 x 3, rate {rate}" for rate in rates), "whole image"]
    branches = [
        _panel(fig.add_subplot(grid[row, 3]), part, name, small=True)
        for row, (name, part) in enumerate(zip(names, [*seen["branches"], seen["pool"]]))
    ]
    for branch, colour in zip(branches[1:-1], COLOURS[1:]):
        branch.spines[:].set(color=colour, lw=2)
    joined = _column(
        fig, grid, 4, [("where: the early level", seen["reduce"]), ("what: ASPP, joined", seen["aspp"])], (0, 3)
    )
    end = _answer(fig.add_subplot(grid[1:4, 5]), answer, classes)
    for a, b in [(start, encoder[0]), (encoder[0], encoder[1]), (encoder[1], deepest), (encoder[0], joined[0])]:
        _arrow(fig, a, b)
    for branch in branches:
        _arrow(fig, deepest, branch)
        _arrow(fig, branch, joined[1])
    for part in joined:
        _arrow(fig, part, end)
    for axes, words in ((encoder, "ENCODER"), (branches, "ASPP"), (joined, "DECODER")):
        box = axes[0].get_position()
        fig.text((box.x0 + box.x1) / 2, 0.985, words, ha="center", va="top", weight="bold", fontsize=10)
    return fig


@torch.no_grad()
def _run(net: Any, image: Tensor) -> tuple[dict[str, Any], list[_Seen], Tensor]:
    """The maps inside the decoder, the encoder's levels, and the logits; the network's mode is left as it was."""
    decoder, mode = net.decoder, net.training
    parts = {"pool": decoder.aspp.pool, "aspp": decoder.aspp, "reduce": decoder.reduce}
    parts |= {f"branch{k}": branch for k, branch in enumerate(decoder.aspp.branches)}
    seen: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: _shown(out)}))
        for name, module in parts.items()
    ]
    try:
        net.eval()
        levels = [_shown(level) for level in net.encode(image).levels]
        logits = net(image)[0]
    finally:
        net.train(mode)
        for hook in hooks:
            hook.remove()
    seen["branches"] = [seen.pop(f"branch{k}") for k in range(len(decoder.aspp.branches))]
    return seen, levels, logits


def _shown(out: Tensor) -> _Seen:
    mean = out[0].float().mean(0)
    spread = (mean.max() - mean.min()).clamp(min=1e-9)
    return _Seen((mean - mean.min()) / spread, tuple(out[0].shape))


def _column(fig: Any, grid: Any, column: int, parts: list[tuple[str, _Seen]], rows: tuple[int, int]) -> list[Any]:
    return [_panel(fig.add_subplot(grid[row : row + 2, column]), part, name) for row, (name, part) in zip(rows, parts)]


def _panel(axis: Any, part: _Seen, name: str, small: bool = False) -> Any:
    axis.imshow(part.map.numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    channels, height, width = part.shape
    axis.set_title(name, fontsize=8 if small else 9.5, pad=3)
    axis.set_xlabel(f"{channels} x {height} x {width}", labelpad=2, **NOTE)
    axis.set(xticks=[], yticks=[])
    return axis


def _image(axis: Any, image: Tensor, deepest: _Seen, rates: list[int]) -> Any:
    """The image, and on it the cells that ASPP's filters look at from the middle one."""
    height, width = image.shape[-2:]
    axis.imshow(image.movedim(0, -1).clamp(0, 1).numpy())
    cell = width / deepest.shape[-1]
    row, column = deepest.shape[1] // 2, deepest.shape[2] // 2
    for rate, colour in zip([0, *rates], ("#ffffff", *COLOURS[1:])):
        for down in (-rate, 0, rate) if rate else (0,):
            for right in (-rate, 0, rate) if rate else (0,):
                corner = (cell * (column + right), cell * (row + down))
                axis.add_patch(Rectangle(corner, cell, cell, fill=False, ec=colour, lw=1.8))
    axis.set_title("image: where one deep cell looks", fontsize=9.5, pad=3)
    axis.set_xlabel(f"3 x {height} x {width}", labelpad=2, **NOTE)
    axis.set(xticks=[], yticks=[], xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return axis


def _answer(axis: Any, logits: Tensor, task: Any) -> Any:
    label = logits.argmax(0)
    if task is None:
        axis.imshow(label.numpy(), cmap="gray", vmin=0, vmax=logits.shape[0])
    else:
        axis.imshow(torch.tensor(task.palette, dtype=torch.uint8)[label].numpy())
    axis.set_title("answer: the largest logit", fontsize=9.5, pad=3)
    axis.set_xlabel("logits {} x {} x {}".format(*logits.shape), labelpad=2, **NOTE)
    axis.set(xticks=[], yticks=[])
    return axis


def _arrow(fig: Any, a: Any, b: Any) -> None:
    """From the right edge of one panel to the left edge of another; downwards where they stand in one column."""
    below = a.get_subplotspec().colspan == b.get_subplotspec().colspan
    ends = ((0.5, 0.0), (0.5, 1.0)) if below else ((1.0, 0.5), (0.0, 0.5))
    style = {
        "arrowstyle": "-|>",
        "color": "#777",
        "lw": 1.1,
        "shrinkA": 16 if below else 3,
        "shrinkB": 16 if below else 3,
    }
    fig.add_artist(ConnectionPatch(ends[0], ends[1], "axes fraction", "axes fraction", axesA=a, axesB=b, **style))
