"""Maps that a training keeps of whole images, such as the labels that it has given them: a PNG file each, grey, or of
ids of objects in colours, see `ids`."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import S4Error
from .reading.ids import id_image, read_ids
from .reading.stored import opened


@dataclass(frozen=True)
class Kept:
    """What the stages of a run have kept, as a stage reads it: of every image the newest map of a name.

    A file is `root/<stage>/<name>/<row>.png`. A stage that keeps maps of some images only leaves the older ones of the
    others in use.

    Attributes:
        root: `RUN/store`.
        stage: index of the stage that reads; what later ones have kept is not seen.
    """

    root: str
    stage: int

    def path(self, name: str, row: int) -> Path:
        """Where this stage keeps the map of an image."""
        return Path(self.root, str(self.stage), name, f"{row:07d}.png")

    def read(self, name: str, row: int) -> np.ndarray | None:
        """(H, W) uint8 or int32, as it was kept, the newest map of an image, (1, N) of points; None where no stage has
        kept one.

        Raises:
            S4Error: its file is damaged.
        """
        for stage in range(self.stage, -1, -1):
            file = os.path.join(self.root, str(stage), name, f"{row:07d}.png")
            if os.path.isfile(file):
                with opened(file) as (image, _):
                    return read_ids(file) if image.mode == "RGB" else np.array(image)
        return None

    def write(self, name: str, row: int, values: np.ndarray) -> None:
        """Keep a map (H, W) of an image, or (N,) of points as one row of an image; uint8, or int32 from 0 to 2^24 - 1.

        Raises:
            OSError: the disk is full.
        """
        if values.dtype not in (np.uint8, np.int32) or values.ndim not in (1, 2):
            raise S4Error(
                f"A map that is kept is (H, W), of points (N,), uint8 or int32, not {values.dtype} of shape "
                f"{values.shape}."
            )
        file = self.path(name, row)
        file.parent.mkdir(parents=True, exist_ok=True)
        values = np.atleast_2d(values)
        image = Image.fromarray(values) if values.dtype == np.uint8 else id_image(values)
        image.save(file, compress_level=1)

    def names(self) -> list[str]:
        """Names of the maps that there are, of some image at least."""
        folders = [f for stage in range(self.stage + 1) for f in Path(self.root, str(stage)).glob("*")]
        return sorted({folder.name for folder in folders})

    def forget(self) -> None:
        """Remove what this stage and those behind it have kept."""
        for folder in Path(self.root).glob("*"):
            if folder.name.isdigit() and int(folder.name) >= self.stage:
                shutil.rmtree(folder)
