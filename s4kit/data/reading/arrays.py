"""Images and labels that are already arrays, brought into the form in which the kit has them, or refused."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import S4Error
from ..decode import map_ids


def image_planes(image: np.ndarray | Tensor, name: str) -> Tensor:
    """(3, H, W) uint8 of an image in either order of its axes.

    Raises:
        S4Error: it is something else.
    """
    found = image if isinstance(image, Tensor) else torch.from_numpy(np.ascontiguousarray(image))
    if found.ndim == 3 and found.shape[0] != 3 and found.shape[-1] == 3:
        found = found.permute(2, 0, 1)
    if found.dtype != torch.uint8 or found.ndim != 3 or found.shape[0] != 3:
        raise S4Error(
            f"Image {name} is {found.dtype} of shape {tuple(found.shape)}; give uint8 RGB, (H, W, 3) or (3, H, W)."
        )
    return found.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # a pixel's colours together, as the crop wants them


def class_map(label: np.ndarray | Tensor, image: Tensor, table: np.ndarray, name: str) -> Tensor:
    """(H, W) uint8 classes of a label.

    Args:
        image: its image, (3, H, W). table: (256,) from stored id to class.

    Raises:
        S4Error: another size, no integers, or an id that is no class.
    """
    stored = np.asarray(label)
    if stored.shape != tuple(image.shape[1:]):
        raise S4Error(f"Label {name} has shape {stored.shape} but its image is {tuple(image.shape[1:])} (H, W).")
    if stored.dtype.kind not in "ui":
        raise S4Error(f"Label {name} holds {stored.dtype}; give integer class ids.")
    return torch.from_numpy(map_ids(stored, table, f"label {name}"))
