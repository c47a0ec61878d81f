"""The toy squares as a data set on disk, for what goes through files: the shell, reports, predictions."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from toy import toy_arrays


def write_folder(root: Path, n_train: int = 12, n_val: int = 3, size: int = 40) -> Path:
    """Write the `folder` layout: images/{train,val}, labels/{train,val}, classes.txt; four classes."""
    for split, count, seed in (("train", n_train, 0), ("val", n_val, 1)):
        for part in ("images", "labels"):
            (root / part / split).mkdir(parents=True)
        for i, (image, label) in enumerate(zip(*toy_arrays(count, size, 4, seed))):
            Image.fromarray(image).save(root / "images" / split / f"{split}_{i}.png")
            Image.fromarray(label).save(root / "labels" / split / f"{split}_{i}.png")
    (root / "classes.txt").write_text("ground\nred <b>\nblue\nyellow\n")
    return root


def flags(root: Path, steps: int = 4) -> list[str]:
    """The flags of a training of a second on it."""
    return [
        "--data", "folder", "--root", str(root), "--labelled", "4", "--backbone", "tiny", "--crop", "32",
        "--batch", "2", "--steps", str(steps), "--checkpoint-every", "2", "--evaluate-every", "2",
    ]  # fmt: skip
