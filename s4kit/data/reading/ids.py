"""Maps of ids that need more than eight bits, as images: id = R + 256 G + 65536 B, as COCO stores its panoptic maps."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ...errors import S4Error
from .stored import opened


def read_ids(path: str) -> np.ndarray:
    """(H, W) int32 of an RGB image file.

    Raises:
        S4Error: it cannot be read, or is no such image.
    """
    with opened(path) as (image, _):
        if image.mode != "RGB":
            raise S4Error(f"{path} holds {image.mode} pixels: ids of objects are stored as R + 256 G + 65536 B.")
        planes = np.asarray(image).astype(np.int32)
    return planes[..., 0] + 256 * planes[..., 1] + 65536 * planes[..., 2]


def id_image(ids: np.ndarray) -> Image.Image:
    """The RGB image of ids (H, W) from 0 to 2^24 - 1."""
    return Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8))
