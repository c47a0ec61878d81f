"""As trained: what a method's own losses make of a fixed batch, without leaving a trace in the training."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..data.task import Source, Task
from ..methods.base import Clock, Losses, Method, PseudoLabels, Stage
from ..methods.parts.losses import ce_map
from ..methods.parts.roles import Cast, listening
from ..views import Batch, Steps, ViewPlan, render
from ..views.looks import IMAGES, Look
from .device import autocast
from .maps import Arrays, picked, pictures
from .settings import Settings

EXAMPLES = 4  # images of each stream, at most
FIELDS = ("weak", "mixed", "target", "student", "loss")


@contextmanager
def undone(method: Method) -> Iterator[None]:
    """Whatever the losses do inside to the method's buffers and to the random state is undone behind."""
    kept, state = [(buffer, buffer.clone()) for buffer in method.buffers()], random.getstate()
    device = next(method.parameters()).device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(state)
            with torch.no_grad():
                for buffer, before in kept:
                    buffer.copy_(before)


class Tracer:
    """Runs a method's losses on one fixed batch: the first images of the first step, at most four of each stream.

    Attributes:
        casts: who took part in the contrasts of the last run, where the method has any, see `methods.parts.roles`.
    """

    def __init__(self, task: Task, chosen: Settings, device: torch.device, precision: str) -> None:
        self.task, self.chosen, self.device, self.precision = task, chosen, device, precision
        self.batches: dict[int, Batch] = {}
        self.sources: dict[str, Source] = {}  # of the streams of the batch
        self.casts: list[Cast] = []

    def enter(self, task: Task) -> None:
        """A stage begins, with these kept maps."""
        self.task = task

    def __call__(self, method: Method, stage: Stage, plan: ViewPlan, clock: Clock) -> Losses:
        """The losses as a training step computes them, but with the same images and draws each time and no backward.

        A meeting of all processes, since losses may be one; all have the same batch.
        """
        if clock.stage not in self.batches:
            self.batches = {clock.stage: self._draw(plan, clock.stage)}
        method.train()
        with undone(method), autocast(self.device, self.precision), listening() as self.casts:
            torch.manual_seed(0)
            random.seed(0)
            return (stage.losses or method.losses)(self.batches[clock.stage], clock)

    def ids(self, seen: dict[str, Tensor | PseudoLabels]) -> dict[str, list[str]]:
        """By path, as in `examples`, the id of each image whose view it begins with; "" where none can be told.

        The views themselves tell: a method may take any stream, and part of it.
        """
        drawn = [
            (view, self.sources[name].ids[row])
            for name, views in ((name, views) for batch in self.batches.values() for name, views in batch.items())
            for shown in (views.weak, *views.strong)
            for view, row in zip(shown, views.index.tolist())
        ]

        def name(view: Tensor) -> str:
            return next((of for other, of in drawn if other.shape == view.shape and torch.equal(other, view)), "")

        begins = {path: fields.get("weak", fields["mixed"]) for path, fields in _paths(seen).items()}
        return {path: [name(view) for view in views[-EXAMPLES:]] for path, views in begins.items()}

    def _draw(self, plan: ViewPlan, stage: int) -> Batch:
        self.sources = {name: self.task.source(stream.source) for name, stream in plan.items()}
        batch = max(1, min(self.chosen.batch, int(EXAMPLES / max(stream.batch for stream in plan.values()))))
        return render(Steps(self.task, plan, batch, self.chosen.seed, stage)[0], plan, self.device)


def examples(seen: dict[str, Tensor | PseudoLabels], side: int, look: Look = IMAGES) -> dict[str, list[Arrays]]:
    """The ways of the images through the step, by path: what `Losses.see` was given, ready to be stored.

    Args:
        seen: of a `Losses`. side: longest side, in pixels. look: of the views in it.

    Returns:
        By path ("pseudo" for the nameless one) a dict per image: weak, mixed (h, w, 3) uint8; label and weight (h, w)
        uint8 where there are pseudo-labels; loss (h, w) float16. {} where no unlabelled term was handed out.
    """
    return {path: _arrays(fields, side, look) for path, fields in _paths(seen).items()}


def _paths(seen: dict[str, Tensor | PseudoLabels]) -> dict[str, dict[str, Tensor | PseudoLabels]]:
    """What was handed out for each unlabelled term, by path; the views of the nameless one where it has none."""
    paths: dict[str, dict[str, Tensor | PseudoLabels]] = {}
    for key, value in seen.items():
        path, _, field = key.rpartition("/")
        if field in FIELDS:
            paths.setdefault(path, {})[field] = value
    shared = {field: value for field, value in paths.get("", {}).items() if field in ("weak", "mixed")}
    return {path or "pseudo": shared | fields for path, fields in paths.items() if _is_whole(fields)}


def _is_whole(fields: dict[str, Tensor | PseudoLabels]) -> bool:
    return "loss" in fields or {"target", "student"} <= fields.keys()


def _arrays(fields: dict[str, Tensor | PseudoLabels], side: int, look: Look) -> list[Arrays]:
    """The last images of a batch: where a term covers labelled images too, they come first."""
    fields = {name: value[-EXAMPLES:] for name, value in fields.items()}
    target = fields.get("target")
    bound = {name: look.bind(fields[name], side) for name in ("weak", "mixed")}
    whole = {name: pictures(at.pictures(fields[name]), side) for name, at in bound.items()}
    at = bound["mixed"]  # what is trained on lies on what the student saw
    if target is not None:
        used = target.weight * target.valid
        whole["label"] = picked(at.maps(target.label), side).to(torch.uint8).cpu().numpy()
        whole["weight"] = (picked(at.maps(used), side).clamp(0, 1) * 255).ceil().to(torch.uint8).cpu().numpy()
    loss = fields["loss"] if "loss" in fields else used * ce_map(fields["student"], target.label)
    whole["loss"] = picked(at.maps(loss.detach().float()), side).clamp(max=60_000).cpu().numpy().astype(np.float16)
    return [{name: maps[k] for name, maps in whole.items()} for k in range(len(loss))]
