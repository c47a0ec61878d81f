"""What the host does for one image, measured here: read, decode, draw a crop and resample it."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ...data.outline import MadeUp, known
from ...data.sources import FileSource
from ...data.task import Task
from ...views import ViewPlan, draw_step
from ..photos import write_photo

ROUNDS = 2


def seconds_per_image(task: Task, plan: ViewPlan) -> float:
    """CPU seconds of one core per image of the streams of `plan`, the first reading of files apart.

    The images of an outline are made up here: noise with the spectrum of photographs, in the data set's size and file
    format. Those of any other task are its own.
    """
    if not isinstance(task.train, MadeUp):
        return _timed(task, plan)
    with tempfile.TemporaryDirectory() as folder:
        return _timed(_on_disk(task, Path(folder)), plan)


def _on_disk(task: Task, folder: Path) -> Task:
    """The outline with one real file behind all its names, of the stored size: `size` is resized to at reading."""
    more = {
        name: replace(of, source=_stored(of.source, of.source.name, folder / name))
        for name, of in task.more.items()
        if isinstance(of.source, MadeUp)
    }
    return task.with_(train=_stored(task.train, task.name, folder / "train"), more=more)


def _stored(source: MadeUp, data: str, folder: Path) -> FileSource:
    """The images of a data set's outline as files."""
    stored, ids = known(data), source.ids
    whole, image = (stored.height, stored.width), "0.jpg" if stored.suffix == "jpg" else "photo.png"
    folder.mkdir()
    write_photo(folder, "0", np.random.default_rng(0), whole)
    if stored.suffix == "png":
        with Image.open(folder / "0.jpg") as photo:
            photo.save(folder / image, compress_level=3)
    size = None if source.size == whole else min(source.size)
    return FileSource(ids, [image] * len(ids), ["0.png"] * len(ids), str(folder), 256, size)


def _timed(task: Task, plan: ViewPlan) -> float:
    draw_step(task, plan, 1, 0, 0, 0)  # imports, caches
    began, images = time.process_time(), 0
    for micro in range(1, ROUNDS + 1):
        step = draw_step(task, plan, 1, 0, 0, micro)
        images += sum(len(views.index) for views in step.values())
    return (time.process_time() - began) / images
