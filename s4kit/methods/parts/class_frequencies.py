"""How often classes are met, as weights of classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .contrast import members
from .processes import over_processes


class ClassTable(nn.Module):
    """How often each class was met of late: tables of pixels by image, and the weights that follow (Cityscapes).

    Args:
        classes: C. labelled, unlabelled: images in either table. The first is filled once, the second a ring.
    """

    def __init__(self, classes: int, labelled: int, unlabelled: int) -> None:
        super().__init__()
        self.size = (labelled, unlabelled)
        for name, size in zip(("labelled", "unlabelled"), self.size):
            self.register_buffer(name, torch.zeros(size + 1, classes))  # the last row is scrap
        self.register_buffer("shown", torch.zeros(2, dtype=torch.long))

    @torch.no_grad()
    def count(self, label: Tensor, pseudo: Tensor) -> None:
        """Write labels (B, H, W) and pseudo-labels (B, h, w), 255 = nobody's."""
        for i, (map, table, size) in enumerate(zip((label, pseudo), (self.labelled, self.unlabelled), self.size)):
            number = torch.stack([members(image.flatten(), table.shape[1]).sum(1) for image in map])
            number = over_processes(number).to(table.dtype)
            place = self.shown[i] + torch.arange(len(map), device=map.device)
            table.index_copy_(0, place.clamp(max=size) if i == 0 else place % size, number)
            table[-1] = 0
            self.shown[i] += len(map)

    def weights(self) -> Tensor:
        """(C,) sqrt(median frequency / frequency); a class that was never met has the largest; 1 until both tables
        are full."""
        seen = self.labelled.sum(0) + self.unlabelled.sum(0)
        ordered, c = seen.sort().values, len(seen)
        median = (ordered[(c - 1) // 2] + ordered[c // 2]) / 2
        w = torch.where(seen > 0, median / seen.clamp(min=1), 1.0).sqrt()
        full = (self.shown >= torch.tensor(self.size, device=seen.device)).all()
        return torch.where(full, torch.where(seen > 0, w, w.max()), 1.0)
