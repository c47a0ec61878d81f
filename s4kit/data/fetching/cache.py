"""The user's cache folder: $S4KIT_CACHE, by default ~/.cache/s4kit; "off" switches it off."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np


def cache_folder() -> Path | None:
    """The folder, made if missing; None where it is off or cannot be written."""
    named = os.environ.get("S4KIT_CACHE", "")
    if named == "off":
        return None
    try:
        folder = Path(named).expanduser() if named else Path.home() / ".cache" / "s4kit"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, full, or no home
        return None
    return folder if os.access(folder, os.W_OK) else None


def stamps(files: Iterable[str | os.PathLike]) -> list[tuple[str, int, int]]:
    """What a made array depends on, of each file: its absolute path, bytes, time of the last change.

    Raises:
        OSError: a file is missing.
    """
    paths = map(os.path.abspath, files)
    return [(path, (stat := os.stat(path)).st_size, stat.st_mtime_ns) for path in paths]


def made_once(path: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array of a .npy file; where that is absent or cut off it is made, and kept."""
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        made = make()
        save_atomically(path, made)
        return made


def save_atomically(path: Path, array: np.ndarray) -> None:
    """Write an array of any shape as .npy that is either whole or, where the disk refuses, absent: it is only a
    cache."""
    handle, name = -1, ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            np.save(file, array)
        os.replace(name, path)
    except OSError:
        if name and os.path.exists(name):
            os.unlink(name)
