"""One whole image at the resolution of its file: the last weights and the method's rule, computed when asked."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from ..engine import Run, probe, watched
from ..engine.maps import beliefs
from ..errors import S4Error
from ..methods.base import Clock

SIDE = 1024  # pixels of a picture of what has no size of its own


class Loaded:
    """A run's method with the weights of its last checkpoint, and its task; loaded at the first question, once."""

    def __init__(self, run: Run, task: Any = None) -> None:
        self.run, self._task = run, task

    @cached_property
    def all(self) -> tuple[Any, Any, Clock]:
        """(method, task, the moment of the checkpoint: thresholds may depend on it).

        Raises:
            S4Error: the checkpoint or the data set is not there (any more).
        """
        return self.run.restored("last", self._task)

    def look(self, id: str, name: str = "") -> dict[str, np.ndarray]:
        """What the method says of the whole image `id` now.

        Args:
            name: of the pseudo-label; by default the first.

        Returns:
            image (H, W, 3), truth (H, W) with 255 = unknown, valid (H, W), and what a snapshot stores of the
            pseudo-label (`beliefs`); all uint8.

        Raises:
            S4Error: the image is no longer in the data set, or the rule does not say anything.
        """
        method, task, clock = self.all
        if id not in task.train.ids and id not in task.val.ids:
            raise S4Error(f"The image {id!r} is not in the data set of {self.run.path} any more.")
        one = probe.Probe(task, watched.find(task, [id]), method, whole=True)
        scene = one.scene(0, SIDE)
        views, _ = one.views([0], next(method.parameters()).device)
        labels, chances = probe.said(method, views, clock)
        if not labels:
            raise S4Error(f"{self.run.config['method']} has no rule for pseudo-labels: there is nothing to look at.")
        name = name or next(iter(labels))
        at = one.stream.look.bind(views.weak, SIDE)
        (maps,) = beliefs(labels[name].map(at.maps), at.maps(chances[name]), max(scene.truth.shape))
        return {"image": scene.image, "truth": scene.truth, "valid": scene.valid, **maps}
