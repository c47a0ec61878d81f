"""Maps of cells at the size of an image, each pixel that of its cell."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def enlarged(map: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w) of any type to (B, H, W) of the same, with `size` = (H, W)."""
    return F.interpolate(map[:, None].float(), tuple(size), mode="nearest")[:, 0].to(map.dtype)
