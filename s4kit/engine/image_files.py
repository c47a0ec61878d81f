"""The files of a task's images, described so that one that was replaced is told: size, time and a digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..data.task import Task

FILES = 4000  # images whose files are described
SMALL, READ = 1 << 20, 64 << 20  # bytes: of a file that gets a digest; of all that are read for it


def described(task: Task, names: Sequence[str]) -> dict[str, list]:
    """{id: [image, label]}: (bytes, time in ns, digest or None) of each file, None where there is none."""
    found, left = {}, READ
    for name, there in paths(task, names):
        found[name] = []
        for path in there:
            about = _about(path)
            if about and about[0] <= min(SMALL, left):
                about[2], left = _digest(path), left - about[0]
            found[name].append(about)
    return found


def paths(task: Task, names: Sequence[str]) -> Iterator[tuple[str, list[str | None]]]:
    """(id, [path of the image, of the label]) of the first images that are files."""
    places = {name: (source, row) for source in (task.val, task.train) for row, name in enumerate(source.ids)}
    for name in list(dict.fromkeys(names))[:FILES]:
        source, row = places.get(name, (None, 0))
        if name in getattr(source, "missing", ()):
            continue
        found = [getattr(source, kind, lambda row: None)(row) for kind in ("image_path", "label_path")]
        if any(found):  # embedded images have none, but for a label corrected by hand
            yield name, found


def _about(path: str | None) -> list | None:
    try:
        at = os.stat(path) if path else None
    except OSError:
        return None
    return [at.st_size, at.st_mtime_ns, None] if at else None


def _digest(path: str) -> str | None:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=8).hexdigest()
    except OSError:
        return None


def is_other(before: list, paths: list[str | None]) -> bool:
    """Whether a file is another one: by its size; where the size is the same and the time is not, by its digest."""
    for old, path in zip(before, paths):
        new = _about(path)
        if old is None or new is None:
            if (old is None) != (new is None):
                return True
        elif old[0] != new[0] or (old[1] != new[1] and old[2] and old[2] != _digest(path)):
            return True
    return False
