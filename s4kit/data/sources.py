"""Sources: lists of images on disk, in memory, or cached. Cheap to build, cheap to pickle, checked on reading."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..errors import S4Error
from .decode import decode_image, decode_map, header_size, id_table, map_ids
from .over import Over
from .reading.arrays import class_map, image_planes
from .reading.colour_maps import Colour, by_colour
from .task import Sample, Source

CACHE_BYTES = 1_500_000_000  # a source whose decoded size is below this is kept in memory
CACHE_IMAGES = 2_000  # more images than this are never cached by themselves: reading their headers takes too long


def parse_size(size: float | int | str | None) -> float | int | None:
    """`size` as the user gives it: a factor (float, "0.5") or a short side in pixels (int, "180").

    Raises:
        S4Error: it is neither, or not positive.
    """
    if size is None:
        return None
    try:
        value = size if isinstance(size, int | float) else (float(size) if "." in str(size) else int(size))
    except ValueError:
        value = 0
    if isinstance(value, bool) or value <= 0 or (isinstance(value, float) and value > 4):
        raise S4Error(
            f"size={size!r} is neither a factor (a decimal such as 0.5) nor a short side in pixels (an integer)."
        )
    return value


def resized(height: int, width: int, size: float | int | None) -> tuple[int, int]:
    """(H, W) after `size`: times a factor, or with the short side brought to so many pixels."""
    if size is None:
        return height, width
    factor = size if isinstance(size, float) else size / min(height, width)
    return max(1, round(height * factor)), max(1, round(width * factor))


class FileSource(Source):
    """Images and index maps on disk.

    Args:
        ids: one name per image.
        images: image paths, relative to `root`.
        labels: label paths relative to `root`, None where an image has no label.
        root: the folder of all paths.
        table: (256,) from stored id to class (`decode.id_table`), or the number of classes.
        size: resize once at reading, see `resized`: images bilinear with antialiasing, labels nearest.
        exif: "turn": a photo is turned as its EXIF tag says, and its label is drawn on the turned photo; "ignore": both
            are as stored.
        bits: of grey images that store more than eight; see `decode_image`. None: each file by its own values.
        colours: the class of each palette colour, for indexed label maps; see `by_colour`.
        palettes: what `look` does where those of such maps contradict each other: "refuse", "say" or "ignore" it.
    """

    def __init__(
        self,
        ids: Sequence[str],
        images: Sequence[str],
        labels: Sequence[str | None],
        root: str,
        table: np.ndarray | int,
        size: float | int | None = None,
        exif: str = "turn",
        bits: int | None = None,
        colours: Mapping[Colour, int] | None = None,
        palettes: str = "say",
    ) -> None:
        self.ids, self.images, self.labels = list(ids), list(images), list(labels)
        self.root, self.size, self.turn = str(root), size, exif == "turn"
        self.bits, self.colours, self.palettes = bits, dict(colours or {}), palettes
        self.table = id_table(table) if isinstance(table, int) else table

    def image_path(self, row: int) -> str:
        """The image's file below the folder of the source."""
        return os.path.join(self.root, self.images[row])

    def label_path(self, row: int) -> str | None:
        """The label's file below the folder of the source; None where the row has no label."""
        name = self.labels[row]
        return None if name is None else os.path.join(self.root, name)

    def shape(self, row: int) -> tuple[int, int]:
        """(H, W) of `read(row)`, from the image's header."""
        return resized(*header_size(self.image_path(row), self.turn), self.size)

    def read(self, row: int, label: bool = True) -> Sample:
        image = decode_image(self.image_path(row), self.turn, self.bits)
        path = self.label_path(row) if label else None
        target = None if path is None else self._label(row, path, image.shape[:2])
        shape = resized(*image.shape[:2], self.size)
        if shape != image.shape[:2]:
            image = _resize(image, shape, Image.Resampling.BILINEAR)
            target = None if target is None else _resize(target, shape, Image.Resampling.NEAREST)
        planes = torch.from_numpy(image).permute(2, 0, 1)  # a view: the crop wants the pixels together again
        return Sample(planes, None if target is None else torch.from_numpy(target), self.ids[row])

    def label(self, row: int) -> np.ndarray | None:
        """(H, W) uint8 classes at the stored size, the image unread but for its header; None without a label.

        Raises:
            S4Error: as `read`.
        """
        path = self.label_path(row)
        return None if path is None else self._label(row, path, header_size(self.image_path(row), self.turn))

    def _classes(self, path: str) -> np.ndarray:
        stored, palette = decode_map(path)
        if self.colours and palette is not None:
            stored = by_colour(stored, palette, self.colours, path)
        return map_ids(stored, self._table(path), path)

    def _table(self, path: str) -> np.ndarray:
        """(256,) from the ids that a label file stores to classes."""
        return self.table

    def _label(self, row: int, path: str, shape: tuple[int, int]) -> np.ndarray:
        target = self._classes(path)
        if target.shape != shape:
            turned = (
                ' The image was turned by its EXIF tag: if labels are drawn on the stored pixels pass exif="ignore", '
                "else save the image upright."
                if target.shape == shape[::-1]
                else ""
            )
            raise S4Error(
                f"{path} is {target.shape[1]} x {target.shape[0]} pixels but its image {self.image_path(row)} is "
                f"{shape[1]} x {shape[0]} (width x height): they must be equal.{turned}"
            )
        return target


def _resize(array: np.ndarray, shape: tuple[int, int], how: Image.Resampling) -> np.ndarray:
    return np.array(Image.fromarray(array).resize(shape[::-1], how))


class MemorySource(Source):
    """Images that are already arrays.

    Args:
        images: N arrays (H, W, 3) or tensors (3, H, W), uint8 RGB; sizes may differ.
        labels: N arrays (H, W) of class ids, None for an image without label; or None for no labels at all.
        classes: number of classes; labels hold 0..classes-1 and 255.
        ids: names; "0", "1", ... by default.

    Raises:
        S4Error: an image is not uint8 RGB, or a label has another size or an id out of range.
    """

    def __init__(
        self,
        images: Sequence[np.ndarray | Tensor],
        labels: Sequence[np.ndarray | Tensor | None] | None,
        classes: int,
        ids: Sequence[str] | None = None,
    ) -> None:
        self.ids = list(ids) if ids is not None else [str(i) for i in range(len(images))]
        labels = [None] * len(images) if labels is None else labels
        if not len(images) == len(labels) == len(self.ids):
            raise S4Error(
                f"{len(images)} images, {len(labels)} labels and {len(self.ids)} ids: they must be equally many."
            )
        table = id_table(classes)
        self.images = [image_planes(image, name) for image, name in zip(images, self.ids)]
        self.labels = [
            None if label is None else class_map(label, image, table, name)
            for label, image, name in zip(labels, self.images, self.ids)
        ]

    def label(self, row: int) -> np.ndarray | None:
        """(H, W) uint8 classes; None without a label."""
        target = self.labels[row]
        return None if target is None else target.numpy()

    def read(self, row: int, label: bool = True) -> Sample:
        target = self.labels[row] if label else None
        return Sample(self.images[row].clone(), None if target is None else target.clone(), self.ids[row])


class Cached(Over):
    """Keeps each image and label in memory after its first read.

    The memory is one anonymous shared mapping, so that forked decode workers fill and read the same copy (and it does
    not come out of /dev/shm, which containers keep small). A pickled copy (one per spawned worker) starts empty, with a
    quarter of the limit. What is read is a copy: callers may write to it.

    Args:
        source: a source with `shape(row)`.
        limit: bytes; a source that decodes to more is passed through.
    """

    def __init__(self, source: Source, limit: int = CACHE_BYTES) -> None:
        super().__init__(source)
        self.limit, self.maps = limit, source.maps
        self._memory: np.ndarray | None = None
        self._ready = False

    def map(self, name: str, row: int) -> Tensor:
        return self.source.map(name, row)

    def objects(self, row: int) -> Tensor:
        return self.source.objects(row)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_memory": None, "_ready": False, "limit": self.limit // 4}

    def reserve(self) -> None:
        """Reserve the memory (not yet its pages). To be called before workers fork, else each has its own copy."""
        if self._ready:
            return
        self._ready = True
        if not self.ids or 4 * np.prod(self._shape(0)) * len(self.ids) > 2 * self.limit:
            return  # far too large: no need to read every header
        self._shapes = [self._shape(row) for row in range(len(self.source))]
        self._starts = np.cumsum([0, *(4 * h * w for h, w in self._shapes)])
        total = int(self._starts[-1])
        if 0 < total <= min(self.limit, _physical_memory() // 4):
            memory = np.frombuffer(mmap.mmap(-1, total + 2 * len(self._shapes)), dtype=np.uint8)
            self._memory, self._flags = memory[:total], memory[total:].reshape(-1, 2)

    def _shape(self, row: int) -> tuple[int, int]:
        try:
            return self.source.shape(row)
        except Exception:  # a broken file: its own read will tell
            return 0, 0

    def read(self, row: int, label: bool = True) -> Sample:
        self.reserve()
        if self._memory is None:
            return self.source.read(row, label)
        has_image, has_label = self._flags[row]  # label: 0 unknown, 1 stored, 2 there is none
        if not has_image or (label and not has_label):
            sample = self.source.read(row, label)
            self._store(row, sample, label)
            return sample
        image, stored = self._slot(row)
        target = torch.from_numpy(stored.copy()) if label and has_label == 1 else None
        return Sample(torch.from_numpy(image.copy()).permute(2, 0, 1), target, self.ids[row])

    def _slot(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The memory of an image (H, W, 3) and of its label (H, W)."""
        memory, (height, width) = self._memory[self._starts[row] : self._starts[row + 1]], self._shapes[row]
        return memory[: -height * width].reshape(height, width, 3), memory[-height * width :].reshape(height, width)

    def _store(self, row: int, sample: Sample, label: bool) -> None:
        if tuple(sample.image.shape[1:]) != self._shapes[row]:
            return
        image, target = self._slot(row)
        image[:] = sample.image.permute(1, 2, 0).numpy()
        self._flags[row, 0] = 1  # after the pixels: another worker may be looking
        if label and sample.label is not None:
            target[:] = sample.label.numpy()
        if label:
            self._flags[row, 1] = 1 if sample.label is not None else 2


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 4 * CACHE_BYTES


def cached(source: Source, cache: bool | None = None) -> Source:
    """`source` behind a `Cached` where that pays: small lists by themselves, others by `cache=True`."""
    wanted = len(source) <= CACHE_IMAGES if cache is None else cache
    if not wanted or not hasattr(source, "shape"):
        return source
    kept = Cached(source, limit=1 << 62 if cache else CACHE_BYTES)
    kept.reserve()
    return kept
