"""From a file to uint8 arrays, with an error that names the file and the mend.

What is decided here, once for every data set:
    * images become 8-bit RGB: palettes are expanded, grey is repeated, alpha is dropped, grey of more bits is scaled
      by the bits that count, and the EXIF orientation is applied (phones store turned pixels) unless told otherwise;
    * labels are index maps: the samples as they are stored, whatever their depth, never scaled or inverted; a palette
      PNG is read as its indices (`colour_maps.by_colour` may map them); grey that is stored as colour is grey; true
      colour maps are refused, since guessing a palette is how labels go wrong.
"""

from __future__ import annotations

import warnings

import numpy as np
from PIL import Image, ImageOps

from ..errors import S4Error
from .reading.jpeg import decode_jpeg
from .reading.stored import Stored, header_size, opened, samples, told
from .task import VOID

__all__ = ["decode_image", "decode_label", "decode_map", "header_size", "id_table", "map_ids"]

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm",
)  # fmt: skip
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # not JPEG: its compression invents label ids
BITS = (8, 10, 12, 14, 16)  # of grey images that store more than eight
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF", "GIF")  # compressed with loss, or (GIF) with indices of their own


def decode_image(path: str, turn: bool = True, bits: int | None = None) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file.

    Args:
        path: the file.
        turn: apply the EXIF orientation; else the pixels as they are stored.
        bits: of a grey image that stores more than eight, how many count: its values are 0..2^bits - 1 and become
            0..255. By default the fewest of 8, 10, 12, 14, 16 that hold this file's values.

    Raises:
        S4Error: the file is missing, too large, no image, corrupted or truncated, holds several pictures, floats, or
            values beyond `bits`.
    """
    with opened(path, load=False) as (image, stored):
        if (stored.format, image.mode, stored.orientation) == ("JPEG", "RGB", 1):
            pixels = decode_jpeg(path)
            if pixels is not None:
                return pixels
        with told(path):
            image.load()
        if stored.pages > 1:
            raise S4Error(f"{path} holds {stored.pages} pictures (pages or frames): save the one that is meant.")
        if stored.orientation != 1:
            image = _upright(image, stored, turn, path)
        if image.mode == "F":
            raise S4Error(f"{path} holds floating-point pixels; save it as an 8-bit RGB image.")
        if image.mode.startswith("I"):
            image = Image.fromarray(_eight_bits(np.asarray(image).astype(np.int64), bits, path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # palettes with a transparent colour
            return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _upright(image: Image.Image, stored: Stored, turn: bool, path: str) -> Image.Image:
    if stored.format != "TIFF":
        return ImageOps.exif_transpose(image) if turn else image
    if not turn:
        raise S4Error(f"{path} is a TIFF with an orientation tag, which is always applied: save it without the tag.")
    return image  # turned by Pillow on loading


def _eight_bits(values: np.ndarray, bits: int | None, path: str) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    bits = bits if bits is not None else next((b for b in BITS if high < 1 << b), None)
    if low < 0 or bits is None or high >= 1 << bits:
        kept = f"0..{(1 << (bits or 16)) - 1}"
        raise S4Error(
            f"{path} holds values from {low} to {high}, beyond {kept} ({bits or 16} bits): say how many bits count "
            "(bits=16), or save the images with 8 bits."
        )
    return (values >> (bits - 8)).astype(np.uint8)


def decode_label(path: str) -> np.ndarray:
    """(H, W) uint8 or int32 of the ids stored in a label file, before they are mapped to classes.

    Raises:
        S4Error: as `decode_map`.
    """
    return decode_map(path)[0]


def decode_map(path: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(H, W) uint8 or int32 of the ids stored in a label file, and (n, 3) uint8 of its palette where it has one.

    Raises:
        S4Error: the file is missing, too large, corrupted or truncated, holds several pages, a turn tag, a compression
            that changes ids, colours, transparency or fractions.
    """
    with opened(path) as (image, stored):
        _need_one_upright_map(stored, path)
        if image.mode == "P":
            palette = image.getpalette("RGB") or []
            return np.array(image, dtype=np.uint8), np.array(palette, dtype=np.uint8).reshape(-1, 3)
        if image.mode in ("L", "1"):
            return samples(image, stored), None
        if image.mode.startswith("I"):
            return np.array(image).astype(np.int32), None
        if image.mode == "F":
            return _whole(np.array(image), path), None
        return _grey(image, stored, path), None


def _need_one_upright_map(stored: Stored, path: str) -> None:
    if stored.pages > 1:
        raise S4Error(f"{path} holds {stored.pages} pages: a label map is one; save the one that is meant.")
    if stored.format in _LOSSY:
        raise S4Error(
            f"{path} is a {stored.format} file whatever its name says, which does not keep ids: export the label "
            "maps as PNG."
        )
    if stored.orientation != 1:
        raise S4Error(f"{path} is a label map with an orientation tag: save it upright, without the tag.")


def _whole(values: np.ndarray, path: str) -> np.ndarray:
    wrong = ~np.isfinite(values) | (values != np.floor(values)) | (np.abs(values) > 1e6)
    if wrong.any():
        y, x = (int(v) for v in np.argwhere(wrong)[0])
        raise S4Error(
            f"{path} has the value {values[y, x]:g} at row {y}, column {x}: a label map holds whole class ids; save it "
            "as 8-bit grey PNG."
        )
    return values.astype(np.int32)


def _grey(image: Image.Image, stored: Stored, path: str) -> np.ndarray:
    """Ids that are stored as grey with an opaque alpha, or as R = G = B."""
    if stored.deep_colour or image.mode not in ("LA", "RGB", "RGBA"):
        raise S4Error(_coloured(path, stored.raw if stored.deep_colour else image.mode))
    channels = np.asarray(image)
    if image.mode.endswith("A"):
        if (channels[..., -1] != 255).any():
            y, x = (int(v) for v in np.argwhere(channels[..., -1] != 255)[0])
            raise S4Error(
                f"{path} is partly transparent (row {y}, column {x}): whether such pixels are void or a class is not "
                "said; save it as 8-bit grey PNG without alpha."
            )
        channels = channels[..., :-1]
    if (channels != channels[..., :1]).any():
        raise S4Error(_coloured(path, image.mode))
    return np.ascontiguousarray(channels[..., 0])


def _coloured(path: str, mode: str) -> str:
    return (
        f"{path} is a colour image (mode {mode}), but a label map stores one class id per pixel (8-bit "
        "grey or palette PNG). Convert the folder once: s4kit.data.convert_labels(source, target, palette), with "
        "palette = the list of (r, g, b) in class order."
    )


def id_table(ids: dict[int, int] | int) -> np.ndarray:
    """(256,) int16 from stored id to class; -1 = not allowed. An int n means ids 0..n-1 and 255 = void.

    Raises:
        S4Error: a stored id or a class is not within 0..255.
    """
    table = np.full(256, -1, dtype=np.int16)
    mapping = {i: i for i in range(ids)} if isinstance(ids, int) else ids
    for stored, label in mapping.items():
        if not 0 <= stored <= 255:
            raise S4Error(f"The label id {stored} is not within 0..255: 8-bit label maps cannot hold it. Mend `ids`.")
        if not 0 <= label <= VOID:
            raise S4Error(f"The label id {stored} is given the class {label}: classes are 0..254, and 255 is void.")
        table[stored] = label
    if table[VOID] < 0:
        table[VOID] = VOID
    return table


def map_ids(stored: np.ndarray, table: np.ndarray, path: str) -> np.ndarray:
    """(H, W) uint8 classes from stored ids.

    Raises:
        S4Error: an id has no class; says which, where (row, column) and what is allowed.
    """
    if stored.dtype == np.uint8:  # bytes are looked up sooner than indices
        content, allowed = stored.tobytes(), np.flatnonzero(table >= 0).astype(np.uint8).tobytes()
        if not content.translate(None, allowed):
            classes = bytearray(content.translate(table.astype(np.uint8).tobytes()))
            return np.frombuffer(classes, np.uint8).reshape(stored.shape)
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
