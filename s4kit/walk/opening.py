"""What a lesson says as it opens: how long a training takes, which data, what computes, where the runs go."""

from __future__ import annotations

from typing import Any

import torch

from ..engine.device import pick_device
from . import places


def words(lesson: Any) -> str:
    """A line each; those that ask for something come last.

    Args:
        lesson: a `Lesson`.
    """
    device, threads = pick_device("auto"), torch.get_num_threads()
    cpu = f"CPU, {threads} thread{'s' if threads > 1 else ''}"
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    lines = [
        f"profile {lesson.profile}: {lesson.settings.takes} for one training. {lesson.settings.note}".rstrip(),
        f"data {lesson.task}",
        f"computing on {where}; runs go to {places.shown(lesson.folder)}",
    ]
    if lesson.profile not in ("cpu", "test") and device.type == "cpu":
        lines.append('This profile is meant for a GPU, and there is none: choose PROFILE = "cpu" for this machine.')
    if places.on_colab() and not places.on_drive():
        lines.append(
            "Colab forgets runs when it disconnects: mount your Drive (setup cell) and start again to keep them."
        )
    return "\n".join(lines)
