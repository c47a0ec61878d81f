"""Label maps and images stored in every way that tools store them."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

WHITE_IS_ZERO = {262: 0}
COLOURS = ((10, 20, 30), (200, 40, 60), (30, 180, 90), (70, 90, 240))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def save_png(path: Path, samples: np.ndarray, bits: int, colour: int = 0) -> None:
    """A PNG of `bits` per sample, colour type 0 (grey, (H, W)) or 2 (RGB, (H, W, 3)); Pillow writes few of these."""
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits == 16:
        lines = [row.astype(">u2").tobytes() for row in rows]
    else:
        lines = [_packed(row, bits) for row in rows]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + line for line in lines))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b""))


def _packed(row: np.ndarray, bits: int) -> bytes:
    bit = (row[:, None].astype(int) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(bit.ravel().astype(np.uint8)).tobytes()


def _grey(mode: str) -> Callable[[Path, np.ndarray], Path]:
    def save(path: Path, ids: np.ndarray) -> Path:
        path = path.with_suffix(".tif" if mode in ("I", "F") else ".png")
        kinds = {"I": np.int32, "F": np.float32, "I;16": np.uint16}
        Image.fromarray(ids.astype(kinds.get(mode, np.uint8))).save(path)
        return path

    return save


def _channels(mode: str, alpha: int = 255) -> Callable[[Path, np.ndarray], Path]:
    def save(path: Path, ids: np.ndarray) -> Path:
        planes = [ids] * (1 if mode == "LA" else 3) + ([np.full_like(ids, alpha)] if mode.endswith("A") else [])
        Image.fromarray(np.stack(planes, -1), mode).save(path.with_suffix(".png"))
        return path.with_suffix(".png")

    return save


def _bits(bits: int, colour: int = 0) -> Callable[[Path, np.ndarray], Path]:
    def save(path: Path, ids: np.ndarray) -> Path:
        save_png(path.with_suffix(".png"), np.stack([ids] * 3, -1) if colour else ids, bits, colour)
        return path.with_suffix(".png")

    return save


def indexed(path: Path, ids: np.ndarray, order: tuple[int, ...] | None = None, suffix: str = ".png") -> Path:
    """An indexed image in `COLOURS`; `order` says which class each index is, by default its own number."""
    index = ids.copy()
    for place, label in enumerate(order or ()):
        index[ids == label] = place
    image = Image.fromarray(index, "P") if index.max() < 256 else None
    image.putpalette([part for label in order or range(len(COLOURS)) for part in COLOURS[label]])
    image.save(path.with_suffix(suffix))
    return path.with_suffix(suffix)


def white_is_zero(path: Path, ids: np.ndarray) -> Path:
    """A TIFF whose stored samples are the ids, shown inverted."""
    Image.fromarray(255 - ids).save(path.with_suffix(".tif"), tiffinfo=WHITE_IS_ZERO)
    return path.with_suffix(".tif")


def two_pages(path: Path, ids: np.ndarray) -> Path:
    Image.fromarray(ids).save(
        path.with_suffix(".tif"), save_all=True, append_images=[Image.fromarray(ids[::-1].copy())]
    )
    return path.with_suffix(".tif")


def jpeg_called_png(path: Path, ids: np.ndarray) -> Path:
    Image.fromarray(ids).save(path.with_suffix(".png"), "JPEG")
    return path.with_suffix(".png")


def turned(path: Path, ids: np.ndarray) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(ids).save(path.with_suffix(".png"), exif=exif)
    return path.with_suffix(".png")


READABLE = {
    "L": _grey("L"),
    "2 bits": _bits(2),
    "4 bits": _bits(4),
    "16 bits": _bits(16),
    "int32 TIFF": _grey("I"),
    "float TIFF": _grey("F"),
    "R=G=B": _channels("RGB"),
    "opaque RGBA": _channels("RGBA"),
    "opaque LA": _channels("LA"),
    "P": indexed,
    "BMP P": lambda path, ids: indexed(path, ids, suffix=".bmp"),
    "white is zero": white_is_zero,
}
REFUSED = {
    "transparent LA": _channels("LA", 128),
    "16-bit RGB": _bits(16, colour=2),
    "pages": two_pages,
    "JPEG": jpeg_called_png,
    "turned": turned,
}


def photo(path: Path, rgb: np.ndarray, mode: str) -> Path:
    """An image file in a mode; of "12 bits" and "int32" grey ones."""
    grey = rgb.mean(-1)
    if mode == "12 bits":
        save_png(path.with_suffix(".png"), (grey * 16).astype(np.uint16), 16)
    elif mode == "int32":
        Image.fromarray(grey.astype(np.int32)).save(path.with_suffix(".tif"))
    else:
        suffix = {"CMYK": ".jpg", "webp": ".webp", "gif": ".gif"}.get(mode, ".png")
        image = Image.fromarray(rgb)
        image = image if suffix in (".webp", ".gif") else image.convert(mode)
        image.save(path.with_suffix(suffix))
        return path.with_suffix(suffix)
    return path.with_suffix(".tif" if mode == "int32" else ".png")


PHOTOS = ("RGB", "L", "P", "LA", "RGBA", "1", "CMYK", "webp", "gif", "12 bits", "int32")
