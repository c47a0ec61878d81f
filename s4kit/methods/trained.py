"""Methods and networks of earlier runs, for methods whose teachers were trained on their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..errors import S4Error
from ..nets import SegNet
from .base import Method


def is_run(text: str) -> bool:
    """Whether a text is the folder of a run."""
    return (Path(text).expanduser() / "config.json").is_file()


def as_created(config: dict[str, Any], task: Any, folder: Path) -> Method:
    """The method of a run's `config.json` as it was created for it, without its weights.

    Raises:
        S4Error: one of its options was a function, which is not stored.
    """
    from . import create

    if config.get("not_stored"):
        options = " and ".join(config["not_stored"])
        raise S4Error(
            f"{folder} was trained with a function as {options}, which cannot be stored; create the method "
            "yourself and load the checkpoint's 'method' into it."
        )
    return create(config["method"], task, **config["options"])


def network_of(folder: str | Path, task: Any) -> SegNet:
    """The first network that a run evaluates, as it was at the run's last checkpoint.

    Raises:
        S4Error: the folder has no checkpoint, or the run is of another task.
    """
    folder = Path(folder).expanduser()
    method = as_created(json.loads((folder / "config.json").read_text()), task, folder)
    if not (folder / "last.pt").is_file():
        raise S4Error(f"The run {folder} has no checkpoint last.pt yet; let it train until its first one.")
    try:
        method.load_state_dict(torch.load(folder / "last.pt", map_location="cpu", weights_only=True)["method"])
    except RuntimeError as error:
        raise S4Error(
            f"The weights of {folder} do not fit this task of {task.num_classes} classes: a teacher must have been "
            f"trained on the same classes ({str(error).splitlines()[-1].strip()})."
        ) from error
    return next(net for net in method.predictors().values() if isinstance(net, SegNet))
