"""How an image file stores its samples, and the one way to open it.

Pillow scales grey samples of 2 and 4 bits to 0..255, inverts them where a TIFF says that 0 is white, and shows the
first of several pages: right for a picture, wrong for a label map. What it did is found out here, so that it can be
undone or refused.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ...errors import S4Error

MAX_PIXELS = "S4KIT_MAX_PIXELS"
ORIENTATION = 0x0112  # the EXIF and TIFF tag
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)
_PAGED = ("TIFF", "GIF", "WEBP", "PNG", "AVIF")  # not MPO: what a phone adds to its photo is no second picture
_SUBFILE, _REDUCED_OR_MASK = 254, 0b101  # NewSubfileType: a smaller version of another page, or its transparency
_GREY = re.compile(r"(?:L|1)(?:;(\d)?(I)?R?)?")


@dataclass(frozen=True)
class Stored:
    """What a file says of its samples.

    Attributes:
        format: "PNG", "TIFF", ... whatever the file's name is.
        raw: Pillow's name of the samples as stored, such as "L;2", "1;I", "RGB;16B".
        orientation: 1 = upright; 2..8 = turned or mirrored when shown.
        pages: pictures in the file; smaller copies and transparency masks of a TIFF do not count.
    """

    format: str
    raw: str
    orientation: int
    pages: int

    @property
    def deep_colour(self) -> bool:
        """16-bit colour, of which Pillow shows the high bytes only."""
        return "16" in self.raw and not self.raw.startswith("I")


@contextmanager
def opened(path: str, load: bool = True) -> Iterator[tuple[Image.Image, Stored]]:
    """The image of a file, decoded unless `load` is false, and how it is stored.

    Raises:
        S4Error: the file is missing, too large for one read, or is no whole image.
    """
    with told(path):
        _lift_limit()
        image = Image.open(path)
        found = _stored(image)
        if load:
            image.load()
    with image:
        yield image, found


@contextmanager
def told(path: str) -> Iterator[None]:
    """What Pillow raises inside, on opening or decoding, as an S4Error that names the file and the mend."""
    try:
        yield
    except FileNotFoundError:
        raise S4Error(f"{path} is missing. Restore it, or take its id out of the list.") from None
    except Image.DecompressionBombError:
        raise S4Error(
            f"{path} has more than {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels, too many for one "
            f"read: cut it and its label map into tiles, or set {MAX_PIXELS} to the number of pixels to allow."
        ) from None
    except _BROKEN as why:
        raise S4Error(
            f"{path} cannot be read: it is empty, corrupted, truncated or not an image ({why}). "
            "Fetch it again, or take its id out of the list."
        ) from None


def _lift_limit() -> None:
    """Pillow refuses twice its limit; the environment may raise it."""
    allowed = os.environ.get(MAX_PIXELS)
    if allowed is None:
        return
    if not allowed.isdigit():
        raise S4Error(f"{MAX_PIXELS}={allowed!r} is no number of pixels, such as 400000000.")
    Image.MAX_IMAGE_PIXELS = max(int(allowed) // 2 + 1, 89_478_485)


def _stored(image: Image.Image) -> Stored:
    arguments = image.tile[0][3] if image.tile else image.mode
    if isinstance(arguments, tuple):
        arguments = arguments[0] if arguments and isinstance(arguments[0], str) else image.mode
    raw = arguments if isinstance(arguments, str) else image.mode
    return Stored(image.format or "", raw, image.getexif().get(ORIENTATION, 1), _pages(image))


def _pages(image: Image.Image) -> int:
    count = getattr(image, "n_frames", 1) if image.format in _PAGED else 1
    if count == 1 or image.format != "TIFF":
        return count
    kinds = []
    for page in range(min(count, 64)):
        image.seek(page)
        kinds.append(image.tag_v2.get(_SUBFILE, 0) & _REDUCED_OR_MASK)
    image.seek(0)
    return max(1, kinds.count(0))


def samples(image: Image.Image, stored: Stored) -> np.ndarray:
    """(H, W) uint8 of a grey or bilevel image as stored: neither scaled to 0..255 nor inverted."""
    shown = np.array(image, dtype=np.uint8)
    told = _GREY.fullmatch(stored.raw)
    if told is None:
        return shown
    top = 1 if image.mode == "1" else 255
    shown = top - shown if told[2] else shown
    return shown // (255 // ((1 << int(told[1])) - 1)) if told[1] else shown


def header_size(path: str, turn: bool = True) -> tuple[int, int]:
    """(H, W) of an image as `decode_image(path, turn)` returns it, read from the file's header alone.

    Raises:
        S4Error: as `opened`.
    """
    with opened(path, load=False) as (image, stored):
        width, height = image.size
        turned = turn and stored.orientation >= 5
        if stored.format == "TIFF":  # Pillow turns the pixels by itself, newer versions the size in the header, too
            turned = stored.orientation >= 5 and image.size == (image.tag_v2[256], image.tag_v2[257])
    return (width, height) if turned else (height, width)
