"""One whole probe image at the resolution of its file: the last weights and the method's rule, computed when asked."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch

from ..data.task import VOID
from ..engine import Run
from ..engine.settings import Settings, pass_steps, share_out
from ..engine.snapshots import beliefs
from ..errors import S4Error
from ..methods.base import Clock
from ..views import Views


class Loaded:
    """A run's method with the weights of its last checkpoint, and its task; loaded at the first question, once."""

    def __init__(self, run: Run, task: Any = None) -> None:
        self.run, self._task = run, task

    @cached_property
    def both(self) -> tuple[Any, Any]:
        """(method, task).

        Raises:
            S4Error: the checkpoint or the data set is not there (any more).
        """
        return self.run.load("last", self._task)

    @torch.no_grad()
    def look(self, id: str, name: str) -> dict[str, np.ndarray]:
        """What the method says of the whole image `id` now.

        Args:
            name: of the pseudo-label, where the method has several.

        Returns:
            image (H, W, 3), truth (H, W) with 255 = unknown, valid (H, W), and what a snapshot stores of the
            pseudo-label (`beliefs`); all uint8.

        Raises:
            S4Error: the image is no longer in the data set, or the rule does not say anything.
        """
        method, task = self.both
        if id not in task.train.ids:
            raise S4Error(f"The image {id!r} is not in the data set of {self.run.path} any more.")
        row = task.train.ids.index(id)
        image, truth = _read(task, row)
        view = _view(image, row, next(method.parameters()).device)
        method.eval()
        evidence = method.teach(view)
        found = method.pseudo_labels(evidence, view, self._clock(method, task))
        if found is None:
            raise S4Error(f"{self.run.config['method']} has no rule for pseudo-labels: there is nothing to look at.")
        chances = method.probabilities(evidence)
        if isinstance(found, dict):
            found, chances = found[name], chances[name]
        (maps,) = beliefs(found, chances, max(image.shape[:2]))
        return {"image": image, "truth": truth, "valid": np.ones(truth.shape, np.uint8), **maps}

    def _clock(self, method: Any, task: Any) -> Clock:
        """The moment of the last snapshot; thresholds may depend on it."""
        chosen = Settings(**self.run.config["fit"])
        step = self.run.last.get("step", chosen.steps - 1)
        each = pass_steps(task, chosen)
        plan = share_out(method.stages(), chosen.steps, each)
        index = max(i for i, (_, first, _) in enumerate(plan) if first <= step)
        _, first, steps = plan[index]
        overall, score = step / chosen.steps, self.run.last.get("miou")
        return Clock(step - first, steps, each["unlabelled"], index, overall, score, each["labelled"])


def _read(task: Any, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (H, W, 3) and truth (H, W), 255 throughout where there is none or its file is broken."""
    try:
        sample = task.train.read(row)
    except S4Error:
        sample = task.train.read(row, label=False)
    image = sample.image.permute(1, 2, 0).numpy()
    truth = np.full(image.shape[:2], VOID, np.uint8) if sample.label is None else sample.label.numpy()
    return image, truth


def _view(image: np.ndarray, row: int, device: torch.device) -> Views:
    """The image as the weak view of an unlabelled stream."""
    weak = torch.from_numpy(image).permute(2, 0, 1)[None].to(device).float().div_(255)
    plane = weak[:, 0]
    return Views(
        weak=weak.contiguous(memory_format=torch.channels_last),
        strong=[],
        masks=[],
        valid=torch.ones_like(plane),
        label=torch.full_like(plane, VOID, dtype=torch.long),
        index=torch.tensor([row], device=device),
        labelled=torch.zeros(1, dtype=torch.bool, device=device),
    )
