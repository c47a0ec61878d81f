"""Superpixels of an image, and the graph between them; fixed shapes, nothing is asked by the host.

B images, N superpixels each, as many as the grid has that they start from; some may be empty.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import float32


@torch.no_grad()
@float32
def superpixels(image: Tensor, wanted: int, compactness: float = 0.1, rounds: int = 5) -> tuple[Tensor, int]:
    """((B, H, W) long, number N): SLIC (Achanta et al., TPAMI 2012) in RGB, without the step that joins strays.

    k-means of colour and place from a regular grid; a pixel chooses among the nine centres around its cell.

    Args:
        image: (B, 3, H, W) in [0, 1]. wanted: about how many. compactness: a distance in colour that counts like one of
            a cell's side.
    """
    batch, _, height, width = image.shape
    side = math.sqrt(height * width / wanted)
    rows, columns = (max(1, round(n / side)) for n in (height, width))
    y, x = (torch.arange(n, device=image.device) for n in (height, width))
    row, column = (y * rows // height)[:, None], (x * columns // width)[None]
    place = torch.stack([y[:, None] / side + 0 * x, x / side + 0 * y[:, None]]).expand(batch, -1, -1, -1)
    points = torch.cat([image, compactness * place], 1)
    own = (row * columns + column).expand(batch, -1, -1)
    centres = node_means(points, own, rows * columns)[0]
    for _ in range(rounds):
        best = torch.full_like(points[:, 0], torch.inf)
        chosen = own
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                index = (row + dy).clamp(0, rows - 1) * columns + (column + dx).clamp(0, columns - 1)
                far = (points - painted(centres, index.expand(batch, -1, -1))).square().sum(1)
                chosen, best = chosen.where(far >= best, index), torch.minimum(far, best)
        means, size = node_means(points, chosen, rows * columns)
        centres = torch.where(size[..., None] > 0, means, centres)
    return chosen, rows * columns


def painted(values: Tensor, index: Tensor) -> Tensor:
    """(B, D, H, W): the values (B, N, D) of the superpixels (B, H, W) on their pixels."""
    flat = values.gather(1, index.flatten(1)[..., None].expand(-1, -1, values.shape[2]))
    return flat.mT.reshape(len(index), values.shape[2], *index.shape[1:])


@float32
def node_means(maps: Tensor, index: Tensor, nodes: int, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """((B, N, D), (B, N)): mean of (B, D, h, w) maps over each superpixel, 0 of an empty one, and its size.

    Args:
        index: (B, H, W), brought to the size of the maps by nearest neighbour. weight: (B, h, w) of each place.
    """
    if index.shape[1:] != maps.shape[2:]:
        index = F.interpolate(index[:, None].float(), maps.shape[2:], mode="nearest")[:, 0].long()
    weight = torch.ones_like(maps[:, 0]) if weight is None else weight
    at, w = index.flatten(1), weight.flatten(1)
    size = torch.zeros(len(maps), nodes, device=maps.device).scatter_add_(1, at, w)
    total = torch.zeros(len(maps), nodes, maps.shape[1], device=maps.device)
    total.scatter_add_(1, at[..., None].expand(-1, -1, maps.shape[1]), (maps.flatten(2) * w[:, None]).mT)
    return total / size.clamp(min=1e-6)[..., None], size


@torch.no_grad()
def votes(label: Tensor, index: Tensor, nodes: int, classes: int, weight: Tensor) -> Tensor:
    """(B, N, C) how much of each superpixel has each label (B, H, W); 255 counts nowhere. weight: (B, H, W)."""
    known = label < classes
    at = index * classes + label.where(known, 0)
    counts = torch.zeros(len(label), nodes * classes, device=label.device)
    return counts.scatter_add_(1, at.flatten(1), (weight * known).flatten(1)).view(len(label), nodes, classes)


@torch.no_grad()
@float32
def region_graph(index: Tensor, features: Tensor, there: Tensor, alike: int) -> Tensor:
    """(B, N, N) bool: superpixels that touch, the `alike` most similar ones of each, and each with itself.

    Args:
        index: (B, H, W). features: (B, N, D), compared by their cosine. there: (B, N) bool; others have no edges but
            to themselves.
    """
    batch, nodes = there.shape
    touching = torch.zeros(batch, nodes * nodes, device=index.device)
    for a, b in ((index[:, 1:], index[:, :-1]), (index[..., 1:], index[..., :-1])):
        touching.scatter_(1, (a * nodes + b).flatten(1), 1.0)
    edges = touching.view(batch, nodes, nodes) > 0
    both = there[:, :, None] & there[:, None]
    own = torch.eye(nodes, dtype=torch.bool, device=index.device)
    f = F.normalize(features, dim=2)
    likeness = torch.where(both & ~own, f @ f.mT, -torch.inf)
    near = likeness.topk(min(alike, nodes), dim=2).indices if alike else likeness[..., :0].long()
    edges = edges | torch.zeros_like(edges).scatter_(2, near, True)
    return ((edges | edges.mT) & both) | own
