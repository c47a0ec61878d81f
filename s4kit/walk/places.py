"""Where runs and data of a lesson lie: beside the notebook, in a folder that is named, or on a mounted Drive."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DRIVE = Path("/content/drive/MyDrive")  # of Google Colab, once it is mounted
BASE = "S4KIT_RUNS"  # where runs go, over everything else
# Where `s4kit walk --out runs/walk` leaves them: from here, from notebooks/ and from a folder in it
WALKED = ("runs/walk/runs", "../runs/walk/runs", "../../runs/walk/runs")


def runs_base() -> Path:
    """$S4KIT_RUNS, else the mounted Drive on Colab, else ./runs."""
    if os.environ.get(BASE):
        return Path(os.environ[BASE]).expanduser()
    return DRIVE / "s4kit" if on_drive() else Path("runs")


def runs_folder(name: str) -> Path:
    """The folder of a lesson's runs: the one of the walk where only that is there, so that nothing is trained twice."""
    own = runs_base() / name
    if own.exists() or own.is_absolute() or os.environ.get(BASE):
        return own
    return next((Path(base) / name for base in WALKED if (Path(base) / name).is_dir()), own)


def shown(path: Path) -> str:
    """A path for people: relative where it lies below the current folder or the base of the runs."""
    if path.is_absolute() and os.environ.get(BASE) and path.is_relative_to(runs_base()):
        return f"${BASE}/{path.relative_to(runs_base())}"
    return path.as_posix()


def on_colab() -> bool:
    """Whether this notebook runs on Colab."""
    return "google.colab" in sys.modules


def on_drive() -> bool:
    """Whether it does, with the user's Drive mounted."""
    return on_colab() and DRIVE.is_dir()
