"""The weak view: random resize, padding, crop and flip, on the host, as uint8.

Parameters are drawn from a generator seeded by (seed, stream, position), so any view can be made again. Only the
pixels that end in the crop are resampled: Pillow's `box` argument gives what resizing the whole image and cropping
afterwards gives, to one grey level (Pillow keeps the box in single precision).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.task import VOID

MEAN = (124, 116, 104)  # ImageNet mean in levels: the padding that is zero after normalisation


class Window(NamedTuple):
    """One drawn crop: the resized size, the crop's corner in it (negative = padding before the image), the flip."""

    height: int
    width: int
    top: int
    left: int
    flip: bool


def whole_window(size: tuple[int, int]) -> Window:
    """The window that is the stored image of `size` = (H, W)."""
    return Window(*size, 0, 0, False)


@dataclass(frozen=True)
class Geometry:
    """The random geometry of a weak view.

    Attributes:
        scale: factors of the random resize; None = the task's. Two are a range, in which the longer side is a uniform
            integer; more are the factors to choose from (CPS, CutMix-Seg).
        halves: of a range around 1, as often below as above 1 (AEL, U2PL).
        flip: probability of a horizontal flip.
        pad: "black" or "mean", the colour of pixels outside the image (mean is 0 after normalisation).
        centred: padding on all sides instead of right and bottom only.
        padded_last: the padding comes behind the colours of strong views, which leave it as it is.
    """

    scale: tuple[float, ...] | None = None
    flip: float = 0.5
    pad: str = "black"
    centred: bool = False
    halves: bool = False
    padded_last: bool = False

    def draw(
        self,
        rng: np.random.Generator,
        size: tuple[int, int],
        crop: int,
        scale: tuple[float, ...],
        short: int | None = None,
    ) -> Window:
        """Draw one crop of side `crop` for an image of `size` = (H, W); `scale` and `short` are the task's."""
        longer, factors = max(size), self.scale or scale
        whole = longer * short / min(size) if short else longer
        if len(factors) > 2:
            side = round(whole * factors[rng.integers(len(factors))])
        else:
            low, high = factors
            if self.halves and low < 1 < high:
                low, high = (low, 1.0) if rng.random() < 0.5 else (1.0, high)
            side = int(rng.integers(int(whole * low), int(whole * high) + 1))
        height, width = (max(1, int(s * side / longer + 0.5)) for s in size)
        top, left = (self._corner(rng, s, crop) for s in (height, width))
        return Window(height, width, top, left, bool(rng.random() < self.flip))

    def _corner(self, rng: np.random.Generator, side: int, crop: int) -> int:
        return self.middle(side, crop) if side < crop else int(rng.integers(side - crop + 1))

    def middle(self, side: int, crop: int) -> int:
        """Where the middle crop of a side begins; in padding where the side is smaller."""
        if side < crop:
            return -((crop - side) // 2) if self.centred else 0
        return (side - crop) // 2

    def image(self, image: np.ndarray, window: Window, crop: int) -> np.ndarray:
        """Resample an (H, W, 3) uint8 image into (crop, crop, 3) uint8, bilinear with antialiasing."""
        fill = MEAN if self.pad == "mean" else (0, 0, 0)
        return _resample(image, window, crop, Image.Resampling.BILINEAR, np.array(fill, np.uint8))

    def label(self, label: np.ndarray, window: Window, crop: int) -> np.ndarray:
        """Resample an (H, W) map, uint8 or int32, by nearest neighbour; padding is 255."""
        return _resample(label, window, crop, Image.Resampling.NEAREST, label.dtype.type(VOID))


@dataclass(frozen=True)
class Overlapping(Geometry):
    """A second crop of the same, equally resized image that shares a part with the first (CAC, arXiv 2106.14133).

    Attributes:
        stride: the offset to the first crop is a multiple of it, so that maps of that stride align cell by cell.
        iou: wanted intersection over union of the two crops.
        tries: after so many draws outside `iou` the second crop is the first.
    """

    stride: int = 8
    iou: tuple[float, float] = (0.1, 1.0)
    tries: int = 50

    def beside(self, rng: np.random.Generator, first: Window, crop: int) -> Window:
        """Draw the second crop; its flip is its own."""
        free = (max(1, first.width - crop + 1), max(1, first.height - crop + 1))
        for _ in range(self.tries):
            left, top = (self._near(a, int(rng.integers(n))) for a, n in zip((first.left, first.top), free))
            shared = max(0, crop - abs(left - first.left)) * max(0, crop - abs(top - first.top))
            if self.iou[0] <= shared / (2 * crop**2 - shared) <= self.iou[1]:
                break
        else:
            left, top = first.left, first.top
        return Window(first.height, first.width, top, left, bool(rng.random() < self.flip))

    def _near(self, first: int, drawn: int) -> int:
        """The place at a multiple of the stride from `first` that is next below `drawn`, or above it at the border."""
        if first < 0:  # the image is smaller than the crop: there is one place
            return first
        place = first + (drawn - first) // self.stride * self.stride
        return place + self.stride if place < 0 else place


@dataclass(frozen=True)
class SameBox(Geometry):
    """The crop of another stream, with a flip of its own: the same part of another frame."""

    def beside(self, rng: np.random.Generator, first: Window, crop: int) -> Window:
        """The window of the first crop; its flip is drawn anew."""
        return first._replace(flip=bool(rng.random() < self.flip))


def overlapping(**options) -> Overlapping:
    """The geometry of a stream that is `of` another one. See `Overlapping`."""
    return Overlapping(**options)


def weak(**options) -> Geometry:
    """`weak(scale=(0.5, 2.0), flip=0.5)`: the geometry of a weak view. See `Geometry`."""
    return Geometry(**options)


def placement(window: Window, crop: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the real pixels inside the crop, after the flip."""
    top, left = max(0, -window.top), max(0, -window.left)
    bottom = min(crop, window.height - window.top)
    right = min(crop, window.width - window.left)
    return (top, crop - right, bottom, crop - left) if window.flip else (top, left, bottom, right)


def source_of(window: Window, size: tuple[int, int], crop: int) -> tuple[float, float, float, float]:
    """(a, b, c, d): pixel (y, x) of the crop shows the stored image of `size` = (H, W) at (a y + b, c x + d)."""
    a, c = size[0] / window.height, size[1] / window.width
    b, d = ((start + 0.5) * scale - 0.5 for start, scale in ((window.top, a), (window.left, c)))
    return (a, b, -c, d + c * (crop - 1)) if window.flip else (a, b, c, d)


def _resample(array: np.ndarray, window: Window, crop: int, method: Image.Resampling, fill) -> np.ndarray:
    """Crop of the resized array, without resizing what is cropped away."""
    y0, x0 = max(0, window.top), max(0, window.left)
    y1, x1 = min(window.height, window.top + crop), min(window.width, window.left + crop)
    sy, sx = array.shape[0] / window.height, array.shape[1] / window.width
    box = (x0 * sx, y0 * sy, x1 * sx, y1 * sy)
    # keep a margin of the filter's support around the box, drop the rest before the copy into Pillow
    my, mx = (2 + math.ceil(max(1.0, s)) for s in (sy, sx))
    oy, ox = max(0, int(box[1]) - my), max(0, int(box[0]) - mx)
    part = array[oy : math.ceil(box[3]) + my, ox : math.ceil(box[2]) + mx]
    box = (box[0] - ox, box[1] - oy, min(box[2] - ox, part.shape[1]), min(box[3] - oy, part.shape[0]))
    resized = Image.fromarray(part).resize((x1 - x0, y1 - y0), method, box=box)
    if window.flip:  # here, since Pillow turns whole pixels
        resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    patch = np.asarray(resized)
    if patch.shape[:2] == (crop, crop):
        return patch
    out = np.zeros((crop, crop, *array.shape[2:]), array.dtype)
    if np.any(fill):
        out[:] = fill
    top, left, bottom, right = placement(window, crop)
    out[top:bottom, left:right] = patch
    return out
