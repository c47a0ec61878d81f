"""From a file to uint8 arrays, with an error that names the file and the mend.

What is decided here, once for every data set:
    * images become 8-bit RGB: palettes are expanded, grey is repeated, alpha is dropped, 16-bit grey keeps its high
      byte, and the EXIF orientation is applied (phones store turned pixels);
    * labels are index maps: a palette PNG is read as its indices, never as its colours; 16- and 32-bit maps are fine
      as long as the values are ids; colour maps are refused, since guessing a palette is how labels go wrong.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import S4Error
from .task import VOID

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # not JPEG: its compression invents label ids
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_ORIENTATION = 0x0112


def decode_image(path: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file.

    Raises:
        S4Error: the file is missing, is no image, or is corrupted or truncated.
    """
    with _opened(path) as image:
        if image.getexif().get(_ORIENTATION, 1) != 1:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        if image.mode == "F":
            raise S4Error(f"{path} holds floating-point pixels; save it as an 8-bit RGB image.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # palettes with a transparent colour
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def decode_label(path: str) -> np.ndarray:
    """(H, W) uint8 or int32 of the ids stored in a label file, before they are mapped to classes.

    Raises:
        S4Error: the file is missing, corrupted or truncated, or it stores colours.
    """
    with _opened(path) as image:
        if image.mode in ("L", "P", "1"):
            return np.array(image, dtype=np.uint8)
        if image.mode.startswith("I"):
            return np.array(image).astype(np.int32)
        raise S4Error(
            f"{path} is a colour image (mode {image.mode}), but a label map stores one class id per pixel (8-bit "
            "grey or palette PNG). Convert the folder once: s4kit.data.convert_labels(source, target, palette), with "
            "palette = the list of (r, g, b) in class order."
        )


def header_size(path: str) -> tuple[int, int]:
    """(H, W) of an image as `decode_image` returns it, read from the file's header alone."""
    with Image.open(path) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


class _opened:
    """`Image.open` and `load` as a context; whatever breaks inside becomes one S4Error."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> Image.Image:
        try:
            self.image = Image.open(self.path)
            self.image.load()
        except FileNotFoundError:
            raise S4Error(f"{self.path} is missing. Restore it, or take its id out of the list.") from None
        except _BROKEN as why:
            raise S4Error(
                f"{self.path} cannot be read: it is empty, corrupted, truncated or not an image ({why}). "
                "Fetch it again, or take its id out of the list."
            ) from None
        return self.image

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        self.image.close()


def id_table(ids: dict[int, int] | int) -> np.ndarray:
    """(256,) int16 from stored id to class; -1 = not allowed. An int n means ids 0..n-1 and 255 = void.

    Raises:
        S4Error: a stored id is not within 0..255.
    """
    table = np.full(256, -1, dtype=np.int16)
    mapping = {i: i for i in range(ids)} if isinstance(ids, int) else ids
    for stored, label in mapping.items():
        if not 0 <= stored <= 255:
            raise S4Error(f"The label id {stored} is not within 0..255: 8-bit label maps cannot hold it. Mend `ids`.")
        table[stored] = label
    if table[VOID] < 0:
        table[VOID] = VOID
    return table


def map_ids(stored: np.ndarray, table: np.ndarray, path: str) -> np.ndarray:
    """(H, W) uint8 classes from stored ids.

    Raises:
        S4Error: an id has no class; says which, where (row, column) and what is allowed.
    """
    low, high = int(stored.min()), int(stored.max())
    inside = low >= 0 and high <= 255
    classes = table.astype(np.uint8).take(stored, mode="clip")
    wrong = (table < 0).take(stored, mode="clip")
    wrong = wrong if inside else wrong | (stored < 0) | (stored > 255)
    if wrong.any():
        y, x = (int(v) for v in np.argwhere(wrong)[0])
        values = sorted({int(v) for v in np.unique(stored[wrong])})
        allowed = ", ".join(_ranges(np.flatnonzero(table >= 0)))
        raise S4Error(
            f"{path} has the label id {int(stored[y, x])} at row {y}, column {x} (ids out of range: "
            f"{', '.join(map(str, values[:5]))}; {int(wrong.sum())} pixels). Allowed: {allowed}, where {VOID} is void. "
            "Mend the map, or name the missing class."
        )
    return classes


def _ranges(values: np.ndarray) -> list[str]:
    groups = np.split(values, np.flatnonzero(np.diff(values) > 1) + 1)
    return [str(g[0]) if len(g) == 1 else f"{g[0]}..{g[-1]}" for g in groups]


def convert_labels(source: str | Path, target: str | Path, palette: list[tuple[int, int, int]]) -> int:
    """Turn a folder of colour label maps into index maps (PNG); colours outside the palette become void.

    Args:
        source: the folder of colour maps.
        target: the folder to write, made if missing.
        palette: (r, g, b) of class 0, 1, ...

    Returns:
        How many maps were written.

    Raises:
        S4Error: a file cannot be read, or none of its pixels has a colour of the palette.
    """
    Path(target).mkdir(parents=True, exist_ok=True)
    codes = np.array([(r << 16) | (g << 8) | b for r, g, b in palette])
    files = [f for f in sorted(Path(source).iterdir()) if f.suffix.lower() in LABEL_SUFFIXES]
    for file in files:
        rgb = decode_image(str(file)).astype(np.int64)
        code = (rgb[..., 0] << 16) | (rgb[..., 1] << 8) | rgb[..., 2]
        index = np.full(code.shape, VOID, dtype=np.uint8)
        for label, value in enumerate(codes):
            index[code == value] = label
        if (index == VOID).all():
            raise S4Error(f"{file}: no pixel has a colour of the palette; is it the palette of this data set?")
        Image.fromarray(index).save(Path(target) / f"{file.stem}.png")
    return len(files)
