"""Pascal VOC as CVAT and others write it: SegmentationClass/*.png in the colours of labelmap.txt.

A line of labelmap.txt is name:r,g,b:parts:actions; lines that begin with # are comments. Maps may hold the colours
themselves or a palette of them; VOC's border colour (224, 224, 192) is void.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ....errors import S4Error
from ...task import VOID
from ..class_tables import ClassTable, read_classes
from . import common
from .common import Export, Picture

BORDER = (224, 224, 192)


def found(source: Path) -> bool:
    """Whether it is a folder with `labelmap.txt` and `SegmentationClass`."""
    return source.is_dir() and (source / "labelmap.txt").is_file() and (source / "SegmentationClass").is_dir()


def read(source: Path) -> Export:
    """Raises S4Error for classes without a colour; where a map is read, for colours that labelmap.txt does not name."""
    table = read_classes(source / "labelmap.txt")
    if len(table.given) != len(table.names):
        raise S4Error(f"{source / 'labelmap.txt'} has classes without a colour; each line is name:r,g,b:: there.")
    folder, objects = source / "SegmentationClass", source / "SegmentationObject"
    masks = common.files(folder, ".png")
    pictures = [
        Picture(file.relative_to(folder).as_posix(), None, [], str(file), partial(_read, file, table)) for file in masks
    ]
    return Export(list(table.names), pictures, list(table.palette), True, (*masks, *common.files(objects, ".png")))


def _read(file: Path, table: ClassTable) -> np.ndarray:
    colours = common.pixels(file).astype(np.int32)
    codes = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
    values, inverse = np.unique(codes, return_inverse=True)
    given = {(r << 16) | (g << 8) | b: label for (r, g, b), label in table.given.items()}
    given.setdefault((BORDER[0] << 16) | (BORDER[1] << 8) | BORDER[2], VOID)
    unknown = [int(value) for value in values if int(value) not in given]
    if unknown:
        many = f"{int(np.isin(codes, unknown).sum())} of {codes.size} pixels"
        shown = ", ".join(f"({v >> 16}, {v >> 8 & 255}, {v & 255})" for v in unknown[:4])
        raise S4Error(
            f"{file}: {many} have colours that labelmap.txt does not name: {shown}. Is it the labelmap.txt of this "
            "export? A mask that was resized or saved as JPEG has invented colours: export it again as PNG."
        )
    labels = np.array([given[int(value)] for value in values], np.uint8)
    return labels[inverse.reshape(codes.shape)]
