"""`s4kit predict`: images in; index maps, colour masks and a legend out. Unreadable files are skipped and named."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.decode import IMAGE_SUFFIXES, decode_image
from ..data.points.clouds import has_points
from ..data.task import Sample, Task
from ..engine import open_run
from ..engine.scores import class_scores, to_image
from ..errors import S4Error
from ..nets import evaluating
from . import pictures


def predict_files(
    run: str | Path,
    images: Sequence[str | Path],
    out: str | Path,
    which: str = "last",
    device: str = "auto",
    task: Task | None = None,
) -> dict[str, Any]:
    """Segment image files with a run's headline predictor.

    Writes `<name>_index.png` (8-bit class ids), `<name>_colour.png` (the data set's colours), `legend.png` and
    `classes.json` into `out`. Images are resized as the run's training images were, the maps back to the image's size.

    Args:
        images: files, or folders of which all images are taken.
        task: of a run on images in memory, which cannot be loaded again.

    Returns:
        {"out", "written": [per image: image, index, colour, classes (share of pixels)], "skipped": [...], "ok"}.

    Raises:
        S4Error: no run, no checkpoint, a run on points, or not a single image could be read.
    """
    files = _files(images)
    run, out = open_run(run), Path(out)
    method, task = run.load(which, task, device)
    if has_points(task):
        raise S4Error(
            f"{run.path} segments points, and image files have none: `s4kit explore {run.path}` shows what it predicts "
            "of its own items."
        )
    net = next(iter(method.predictors().values()))
    out.mkdir(parents=True, exist_ok=True)
    names, written, skipped = _names(files), [], []
    stored = run.config["task"] or {}  # how the training images were read
    with torch.no_grad(), evaluating(net):
        for number, file in enumerate(files, 1):
            print(f"[{number}/{len(files)}] {file}", file=sys.stderr)
            try:
                pixels = decode_image(str(file), stored.get("exif") != "ignore", stored.get("bits"))
            except S4Error as error:
                print(f"  skipped: {error}", file=sys.stderr)
                skipped.append({"image": str(file), "why": str(error)})
                continue
            label = _segment(net, pixels, task, stored.get("size"))
            written.append(_write(out, names[file], file, label, task))
    if not written:
        raise S4Error(f"None of the {len(files)} files could be read as an image; the first: {skipped[0]['why']}")
    pictures.legend_image(task.classes, task.palette).save(out / "legend.png")
    classes = [{"id": i, "name": n, "rgb": list(c)} for i, (n, c) in enumerate(zip(task.classes, task.palette))]
    (out / "classes.json").write_text(json.dumps(classes, indent=2))
    bad = f", {len(skipped)} skipped (they cannot be read)" if skipped else ""
    print(f"{len(written)} images segmented{bad}: *_index.png, *_colour.png, legend.png in {out}")
    return {"out": str(out), "written": written, "skipped": skipped, "ok": not skipped}


def _files(images: Sequence[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, images):
        if path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise S4Error(f"The folder {path} holds no image ({', '.join(IMAGE_SUFFIXES)}).")
            found += inside
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def _names(files: Sequence[Path]) -> dict[Path, str]:
    """Output names: the stem, with the first free number where it is taken."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        name, number = file.stem, 2
        while name in taken:
            name, number = f"{file.stem}_{number}", number + 1
        names[file] = name
        taken.add(name)
    return names


def _segment(net: torch.nn.Module, pixels: np.ndarray, task: Any, size: Any) -> np.ndarray:
    """(H, W) uint8 class map of an (H, W, 3) image."""
    from ..data.sources import parse_size, resized

    height, width = pixels.shape[:2]
    shape = resized(height, width, parse_size(size))
    seen = pixels
    if shape != (height, width):
        seen = np.array(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BILINEAR))
    sample = Sample(torch.from_numpy(seen).permute(2, 0, 1), None, "")
    scores = class_scores(net, to_image(sample, next(net.parameters()).device), task.evaluation)
    if shape != (height, width):
        scores = torch.nn.functional.interpolate(scores, (height, width), mode="bilinear", align_corners=False)
    return scores.argmax(1)[0].to(torch.uint8).cpu().numpy()


def _write(out: Path, name: str, file: Path, label: np.ndarray, task: Any) -> dict[str, Any]:
    index, colour = out / f"{name}_index.png", out / f"{name}_colour.png"
    Image.fromarray(label).save(index)
    Image.fromarray(pictures.colour(label, task.palette)).save(colour)
    counts = np.bincount(label.ravel(), minlength=task.num_classes) / label.size
    shares = {n: round(float(s), 4) for n, s in zip(task.classes, counts) if s}
    return {"image": str(file), "index": str(index), "colour": str(colour), "classes": shares}
