"""JPEG files by torchvision's decoder: Pillow's pixels, sooner, since they come as the three bytes that are wanted.

Both stand on the same library in builds of their own. Whether they agree is tried once per process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from io import BytesIO

import numpy as np
import torch
from PIL import Image

Decoder = Callable[[torch.Tensor], torch.Tensor]


def decode_jpeg(path: str) -> np.ndarray | None:
    """(H, W, 3) uint8 of a JPEG file of three components, not turned by its EXIF tag.

    None where it is for Pillow to decode it, or to say what is wrong with it.
    """
    decoder = _agreeing() if "torchvision" in sys.modules else None  # its import takes as long as a thousand images
    return None if decoder is None else _pixels(decoder, np.fromfile(path, np.uint8))


def _pixels(decoder: Decoder, content: np.ndarray) -> np.ndarray | None:
    try:
        return decoder(torch.from_numpy(content)).permute(1, 2, 0).numpy()
    except RuntimeError:  # truncated, corrupted, or of a kind that it does not know
        return None


@cache
def _agreeing() -> Decoder | None:
    """torchvision's decoder, if it is there and gives Pillow's pixels of a noisy picture of reduced colour."""
    from torchvision.io import decode_jpeg as decoder

    file = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (37, 51, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((83, 70)).save(file, "JPEG", quality=90)
    found = _pixels(decoder, np.frombuffer(bytearray(file.getvalue()), np.uint8))
    return decoder if found is not None and np.array_equal(found, np.array(Image.open(file))) else None
