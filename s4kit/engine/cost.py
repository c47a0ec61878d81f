"""What a training has asked a person for: `RUN/store/cost.csv`, a row for each image and stage.

Columns: step at which the stage begins, id, asked (pixels), pixels of the image.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from . import records

FILE = "cost.csv"


def add(root: str | Path, step: int, bill: Mapping[str, tuple[int, int]]) -> None:
    """Add what the stage that begins at `step` has asked for: by id, pixels asked and pixels of the image."""
    rows = [{"step": step, "id": name, "asked": asked, "pixels": of} for name, (asked, of) in bill.items()]
    Path(root).mkdir(parents=True, exist_ok=True)
    records.Table(Path(root, FILE)).append(rows)


def forget(root: str | Path, step: int) -> None:
    """Drop what was asked for from `step` on."""
    records.Table(Path(root, FILE)).cut(step)


def share(root: str | Path, images: int) -> float:
    """The share of the area of `images` unlabelled images that was asked for; of those never asked the area is the mean
    of the others."""
    rows = records.read(Path(root, FILE))
    sizes = {row["id"]: int(row["pixels"]) for row in rows}
    area = sum(sizes.values()) / max(1, len(sizes)) * images
    return sum(int(row["asked"]) for row in rows) / area if area else 0.0
