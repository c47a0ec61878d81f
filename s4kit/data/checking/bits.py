"""How many bits of an image count, where files store more than eight: found over several images, the same for all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import S4Error
from ..decode import BITS
from ..reading.stored import opened
from ..sources import Cached, FileSource
from ..task import Source
from .look import spread

LOOKED_AT = 16  # images of each list
DEEP = (".png", ".tif", ".tiff", ".pgm", ".pnm", ".jp2")  # formats that can store more


def settle_bits(sources: Sequence[Source]) -> tuple[int | None, str]:
    """Give the sources one number of bits, where nobody has; a later image with more is an error.

    Returns:
        The number of bits where some images store more than eight, else None; and a notice or "".
    """
    files = [s.source if isinstance(s, Cached) else s for s in sources]
    files = [source for source in files if isinstance(source, FileSource)]
    open_ones = [source for source in files if source.bits is None]
    if not open_ones:
        return None, ""
    found = [high for source in open_ones for high in _highest(source)]
    bits = next((b for b in BITS if max(found, default=0) < 1 << b), BITS[-1])
    for source in open_ones:
        source.bits = bits
    if not found:
        return None, ""
    words = (
        f"images that store more than 8 bits are read as {bits}-bit: the highest value of the {len(found)} looked at "
    )
    return bits, words + f"is {max(found)}; pass bits=16 (or another) if that is a coincidence"


def _highest(source: FileSource) -> list[int]:
    """The highest values of the deep ones among some images."""
    rows = [row for row, name in enumerate(source.images) if name.lower().endswith(DEEP)]
    found = []
    for row in spread(rows, LOOKED_AT):
        try:
            with opened(source.image_path(row), load=False) as (image, _):
                deep = image.mode.startswith("I")
                if deep:
                    found.append(int(np.asarray(image).max()))
        except (S4Error, OSError, ValueError, SyntaxError):  # its own read will tell
            continue
    return found
