"""A U-Net over a grid of voxels whose features are read where the points are; a head for each level of the parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    batch, cells = len(points), grid**3
    inside = (points[..., :3].abs() <= 1).all(-1)
    x, y, z = ((points[..., :3] + 1) * (0.5 * grid)).long().clamp(0, grid - 1).unbind(-1)
    cell = torch.where(inside, (z * grid + y) * grid + x, cells)  # the last one is thrown away
    cell = cell + (cells + 1) * torch.arange(batch, device=points.device)[:, None]
    rows = torch.cat([points[..., 3:6], torch.ones_like(points[..., :1])], -1).float()
    sums = rows.new_zeros(batch * (cells + 1), 4).index_add(0, cell.flatten(), rows.flatten(0, 1))
    sums = sums.view(batch, cells + 1, 4)[:, :-1]
    number = sums[..., 3:]
    filled = torch.cat([sums[..., :3] / number.clamp(min=1), (number > 0).float()], -1)
    return filled.view(batch, grid, grid, grid, 4).permute(0, 4, 1, 2, 3)


class VoxelUNet(nn.Module):
    """Points (B, N, 6), place and normal, to logits (B, K, N) of the finest parts; `levels` has those of all levels.

    Encoder and decoder are those of a U-Net with pooling, the decoder's features are read at the points trilinearly,
    and each level's head is two (1x1 convolution, norm, leaky ReLU) and a 1x1 convolution, as in shape3d, whose
    octree of depth d has the cells of a grid of 2^d, kept where there are points alone; here the grid is dense.

    Args:
        classes: number of parts by level, from coarse to fine.
        width: channels of the finest grid; each pooling doubles them, up to eight times as many.
        grid: cells along each side of the cube.
        depth: how often it is pooled.
        hidden: channels of the heads.
        norm: "batch" or "group".

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
        super().__init__()
        if grid % 2**depth:
            raise S4Error(f"grid={grid} cannot be halved {depth} times: take a multiple of {2**depth}, or less depth.")
        widths = [width * min(2**k, WIDEST) for k in range(depth + 1)]
        self.grid, self.classes = grid, list(classes.values())[-1]
        self.down = nn.ModuleList([_block(4, width, norm)])
        self.down.extend(nn.Sequential(_block(w, v, norm), _block(v, v, norm)) for w, v in pairwise(widths))
        self.up = nn.ModuleList(_block(w + v, w, norm) for w, v in pairwise(widths))
        self.heads = nn.ModuleDict({level: _head(width, hidden, number, norm) for level, number in classes.items()})

    def features(self, points: Tensor) -> Tensor:
        """(B, D, N), what the heads see."""
        x, skips = voxels(points, self.grid), []
        for k, stage in enumerate(self.down):
            x = stage(F.max_pool3d(x, 2) if k else x)
            skips.append(x)
        for skip, stage in zip(skips[-2::-1], reversed(self.up)):
            x = stage(torch.cat([skip, F.interpolate(x, scale_factor=2.0, mode="nearest")], 1))
        at = points[:, None, None, :, :3].float()  # half precision would not find the cell
        return F.grid_sample(x.float(), at, align_corners=False, padding_mode="border")[:, :, 0, 0]

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


def _head(inputs: int, hidden: int, outputs: int, norm: str) -> nn.Sequential:
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
    from . import parse

    if not has_points(task):
        raise S4Error(f'{getattr(task, "name", task)} has no points, from which this learns: load("shapes") has.')
    classes = {level: len(names) for level, names in task.levels.items()}
    classes = classes or {"parts": task.num_classes}
    if callable(net):
        return net(classes=classes)
    name, options = parse(net)
    if name != "voxel":
        raise S4Error(f"net={net!r} is no network of points: these have 'voxel', as in net='voxel(grid=64, width=16)'.")
    for option in options:
        if option not in OPTIONS:
            raise S4Error(f"The network voxel has no option {option!r}. {closest(option, OPTIONS)}")
    return VoxelUNet(classes, **options)
