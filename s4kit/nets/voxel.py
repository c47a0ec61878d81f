"""A U-Net over a grid of voxels whose features are read where the points are; a head for each level of the parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.points.clouds import has_points
from ..errors import S4Error, closest
from .layers import make_norm

WIDEST = 8  # times the width of the first level


def voxels(points: Tensor, grid: int) -> Tensor:
    """(B, 4, G, G, G): the mean normal of the points in each cell of [-1, 1]^3, and 1 where there are any.

    Points outside of the cube count nowhere; the last axis is x, the first y's and z's before it.
    """
    return filled(points, points.new_full((3,), -1.0), 0.5 * grid, (grid, grid, grid))


def filled(points: Tensor, low: Tensor, scale: float, sides: Sequence[int]) -> Tensor:
    """(B, 4, Z, Y, X), the same of a box.

    Args:
        low: (3,) its lowest corner. scale: cells per unit. sides: cells along x, y and z.
    """
    batch, (columns, rows, _), cells = len(points), sides, math.prod(sides)
    at = ((points[..., :3] - low) * scale).unbind(-1)
    inside = torch.stack([(along >= 0) & (along <= side) for along, side in zip(at, sides)]).all(0)
    x, y, z = (along.long().clamp(0, side - 1) for along, side in zip(at, sides))
    cell = torch.where(inside, (z * rows + y) * columns + x, cells)  # the last one is thrown away
    cell = cell + (cells + 1) * torch.arange(batch, device=points.device)[:, None]
    values = torch.cat([points[..., 3:6], torch.ones_like(points[..., :1])], -1).float()
    sums = values.new_zeros(batch * (cells + 1), 4).index_add(0, cell.flatten(), values.flatten(0, 1))
    sums = sums.view(batch, cells + 1, 4)[:, :-1]
    number = sums[..., 3:]
    means = torch.cat([sums[..., :3] / number.clamp(min=1), (number > 0).float()], -1)
    return means.view(batch, *reversed(sides), 4).permute(0, 4, 1, 2, 3)


class VoxelFeatures(nn.Module):
    """Points (B, N, 6), place and normal, to features (B, D, N).

    Encoder and decoder are those of a U-Net with pooling over the cells of a dense grid; the decoder's features are
    read at the points trilinearly.

    Args:
        width: channels of the finest grid; each pooling doubles them, up to eight times as many.
        depth: how often it is pooled. norm: "batch" or "group".
    """

    def __init__(self, width: int, depth: int, norm: str) -> None:
        super().__init__()
        widths = [width * min(2**k, WIDEST) for k in range(depth + 1)]
        self.down = nn.ModuleList([_block(4, width, norm)])
        self.down.extend(nn.Sequential(_block(w, v, norm), _block(v, v, norm)) for w, v in pairwise(widths))
        self.up = nn.ModuleList(_block(w + v, w, norm) for w, v in pairwise(widths))

    def cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 4, Z, Y, X) what the grid holds, and (B, N, 3) where the points lie in it, from -1 to 1 along x, y, z."""
        raise NotImplementedError

    def features(self, points: Tensor) -> Tensor:
        """(B, D, N), what the heads see."""
        (x, at), skips = self.cells(points), []
        for k, stage in enumerate(self.down):
            x = stage(F.max_pool3d(x, 2) if k else x)
            skips.append(x)
        for skip, stage in zip(skips[-2::-1], reversed(self.up)):
            x = stage(torch.cat([skip, F.interpolate(x, scale_factor=2.0, mode="nearest")], 1))
        at = at[:, None, None].float()  # half precision would not find the cell
        return F.grid_sample(x.float(), at, align_corners=False, padding_mode="border")[:, :, 0, 0]


class VoxelUNet(VoxelFeatures):
    """Points (B, N, 6) in the cube [-1, 1]^3 to logits (B, K, N) of the finest parts; `levels` has those of all levels.

    Each level's head is two (1x1 convolution, norm, leaky ReLU) and a 1x1 convolution, as in shape3d, whose octree of
    depth d has the cells of a grid of 2^d, kept where there are points alone; here the grid is dense.

    Args:
        classes: number of parts by level, from coarse to fine.
        width, depth, norm: see `VoxelFeatures`.
        grid: cells along each side of the cube.
        hidden: channels of the heads.

    Raises:
        S4Error: `grid` cannot be halved `depth` times.
    """

    def __init__(
        self,
        classes: Mapping[str, int],
        width: int = 8,
        grid: int = 32,
        depth: int = 3,
        hidden: int = 64,
        norm: str = "batch",
    ) -> None:
        if grid % 2**depth:
            raise S4Error(f"grid={grid} cannot be halved {depth} times: take a multiple of {2**depth}, or less depth.")
        super().__init__(width, depth, norm)
        self.grid, self.classes = grid, list(classes.values())[-1]
        self.heads = nn.ModuleDict({level: point_head(width, hidden, n, norm) for level, n in classes.items()})

    def cells(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return voxels(points, self.grid), points[..., :3]

    def levels(self, points: Tensor) -> dict[str, Tensor]:
        """(B, K, N) float32 logits by level, from coarse to fine."""
        read = self.features(points)
        return {level: head(read).float() for level, head in self.heads.items()}

    def forward(self, points: Tensor) -> Tensor:
        *_, finest = self.heads.values()
        return finest(self.features(points)).float()


def _norm(norm: str, channels: int, batch: type[nn.Module]) -> nn.Module:
    return batch(channels) if norm == "batch" else make_norm(norm, channels)


def _block(inputs: int, outputs: int, norm: str) -> nn.Sequential:
    conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(conv, _norm(norm, outputs, nn.BatchNorm3d), nn.ReLU(inplace=True))


def point_head(inputs: int, hidden: int, outputs: int, norm: str) -> nn.Sequential:
    """Features (B, D, N) of points to values (B, K, N)."""
    layers: list[nn.Module] = []
    for channels in (inputs, hidden):
        conv = nn.Conv1d(channels, hidden, 1, bias=False)
        layers += [conv, _norm(norm, hidden, nn.BatchNorm1d), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv1d(hidden, outputs, 1))


OPTIONS = ("width", "grid", "depth", "hidden", "norm")


def voxel(net: str | Callable[..., nn.Module], task: Any) -> nn.Module:
    """A new network of points.

    Args:
        net: "voxel", or with options, "voxel(grid=64, width=16)", see `VoxelUNet`; or a factory that is called with
            `classes`, the number of parts by level.
        task: its `levels`, or its classes alone.

    Raises:
        S4Error: the data have no points, a network of images, or an unknown option.
    """
    if not has_points(task):
        raise S4Error(f'{getattr(task, "name", task)} has no points, from which this learns: load("shapes") has.')
    classes = {level: len(names) for level, names in task.levels.items()}
    classes = classes or {"parts": task.num_classes}
    if callable(net):
        return net(classes=classes)
    return VoxelUNet(classes, **options_of(net, OPTIONS, "grid=64, width=16"))


def options_of(net: str, known: Sequence[str], such: str) -> dict[str, Any]:
    """The options of "voxel(...)".

    Raises:
        S4Error: another network, or an unknown option; `such` are some that it has.
    """
    from . import parse

    name, options = parse(net)
    if name != "voxel":
        raise S4Error(f"net={net!r} is no network of points: these have 'voxel', as in net='voxel({such})'.")
    for option in options:
        if option not in known:
            raise S4Error(f"The network voxel has no option {option!r}. {closest(option, known)}")
    return options
