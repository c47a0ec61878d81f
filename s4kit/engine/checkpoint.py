"""Checkpoints: plain tensors and numbers, written atomically, loaded with `weights_only=True`."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import S4Error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system says of a failed write into words that name the file and the mend.

    Raises:
        S4Error: in the place of what the system said.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise S4Error(
            f"{path} could not be written: the disk is full or refuses ({error}). What was written before is kept; "
            "free some space, or mend the folder's permissions, and continue with --resume."
        ) from error


def write_atomic(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that a kill at any moment leaves the old one or the new one, never a half.

    Args:
        write: called with a binary file.

    Raises:
        S4Error: the disk is full or the folder cannot be written; the old file is untouched.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with writing(path), open(part, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save(path: Path, state: dict[str, Any]) -> None:
    """Save a checkpoint atomically."""
    write_atomic(path, lambda file: torch.save(state, file))


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Load a checkpoint; nothing but tensors, numbers, strings and containers is unpickled.

    Raises:
        S4Error: no such file, a truncated file, or one that holds code.
    """
    if not path.is_file():
        raise S4Error(
            f"There is no checkpoint {path}; is this the folder of a run that has reached its first checkpoint?"
        )
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
        raise S4Error(
            f"The checkpoint {path} is damaged or holds more than tensors ({str(error).splitlines()[0]}). "
            "Delete it and resume from another one, or train again."
        ) from error
