"""Recordings of official code, and what it takes to run the kit on them.

A recording is `NAME.npz` with arrays `in_*`, the answers (all other arrays) and `spec`, a JSON text with the
hyper-parameters. An adapter turns the inputs and the spec into answers, through the kit's real methods and parts; it
takes every value from the file, so another recording of the same name runs through it unchanged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s4kit.data.task import VOID
from s4kit.nets import Decoded, Features, SegNet

TOLERANCE = 1e-5
Arrays = dict[str, np.ndarray]
IGNORE = ("ignore", "ignore_index", "ignore_label")  # the names that recordings have for the label of void pixels


@dataclass
class Recording:
    """One file: `inputs` and `expected` by array name, `spec`, and `hyper`, the hyper-parameters in it."""

    name: str
    inputs: Arrays
    expected: Arrays
    spec: dict[str, Any]

    @property
    def hyper(self) -> dict[str, Any]:
        return self.spec.get("hyper") or self.spec.get("hyper_parameters") or {}

    @property
    def ignore(self) -> int:
        """The label of void pixels in the file; that of the kit, 255, where the file names none."""
        named = next((self.hyper[name] for name in IGNORE if name in self.hyper), None)
        said = re.search(r"ignore_index=(\d+)", str(self.hyper.get("labelled_criterion")))
        return int(said[1]) if named is None and said else VOID if named is None else int(named)

    def label(self, key: str) -> Tensor:
        """Input `in_<key>` of labels, long, void pixels as the kit has them."""
        label = self.tensor(key).long()
        return label.where(label != self.ignore, VOID)

    def as_recorded(self, label: Tensor) -> Tensor:
        """Labels of the kit with void pixels as the file has them."""
        return label.where(label != VOID, self.ignore)

    def text(self, key: str = "") -> str:
        """What the file says of an array, or (of no key) of itself."""
        spoken = self.spec.get("arrays") if key else self.spec.get("description")
        spoken = self.spec.get("description") if key and not isinstance(spoken, dict) else spoken
        return str(spoken.get(key, "") if isinstance(spoken, dict) else spoken or "")

    def tensor(self, key: str, grad: bool = False) -> Tensor:
        """Input `in_<key>`: integers as long, floats as float32; with `grad` a leaf that collects its gradient."""
        value = torch.from_numpy(np.ascontiguousarray(self.inputs[f"in_{key}"]))
        if not value.is_floating_point():
            return value.long()
        return value.float().requires_grad_(grad)


def load(path: Path) -> Recording:
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    spec = json.loads(str(arrays.pop("spec")))
    inputs = {k: v for k, v in arrays.items() if k.startswith("in_")}
    return Recording(path.stem, inputs, {k: v for k, v in arrays.items() if k not in inputs}, spec)


Skip = dict[str, str] | Callable[[Recording], dict[str, str]]


@dataclass
class Adapter:
    """How a recording is checked.

    Attributes:
        run: recording -> answers by array name.
        skip: array name -> why the kit has no such answer, or a function of the recording that says so, where an
            option in the file decides; all other arrays of the file must be answered.
        error: (answer, expected, key) -> error, which must not exceed TOLERANCE.
    """

    run: Callable[[Recording], dict[str, Any]]
    skip: Skip = field(default_factory=dict)
    error: Callable[[np.ndarray, np.ndarray, str], float] | None = None

    def skipped(self, recording: Recording) -> dict[str, str]:
        """The arrays of a recording that are not answered, and why."""
        reasons = self.skip(recording) if callable(self.skip) else self.skip
        return {key: why for key, why in reasons.items() if key in recording.expected}


ADAPTERS: dict[str, Adapter] = {}


def adapter(method: str, what: str, skip: Skip | None = None, error: Callable | None = None) -> Callable:
    """Register a function for the recording `METHOD_WHAT.npz`: `@adapter("cps", "plain_loss")`."""

    def register(run: Callable[[Recording], dict[str, Any]]) -> Callable:
        ADAPTERS[f"{method}_{what}"] = Adapter(run, skip or {}, error)
        return run

    return register


def relative_error(answer: Any, expected: np.ndarray, key: str = "") -> float:
    """Largest deviation as a share of the largest expected value; infinite if shapes differ or one is not finite."""
    answer = answer.detach().numpy() if isinstance(answer, Tensor) else np.asarray(answer)
    if answer.shape != expected.shape or not np.isfinite(answer).all():
        return float("inf")
    deviation = np.abs(answer.astype(np.float64) - expected.astype(np.float64)).max(initial=0.0)
    scale = np.abs(expected.astype(np.float64)).max(initial=0.0)
    return float(deviation / scale if scale > 0 else deviation)


def errors(recording: Recording) -> dict[str, float]:
    """Error of every answer of a recording; an array that is neither answered nor skipped counts as infinite.

    Nothing is run where every array is skipped.
    """
    adapter = ADAPTERS[recording.name]
    skipped = adapter.skipped(recording)
    checked = {k: v for k, v in recording.expected.items() if k not in skipped}
    answers = adapter.run(recording) if checked else {}
    measure = adapter.error or relative_error
    return {k: measure(answers[k], v, k) if k in answers else float("inf") for k, v in checked.items()}


def grad_of(leaf: Tensor) -> Tensor:
    """The gradient of a leaf; zeros if none arrived."""
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def task_of(classes: int) -> Any:
    """All that a method reads of a task when its network is a stub."""
    return SimpleNamespace(num_classes=classes, classes=tuple(map(str, range(classes))))


class Recorded(SegNet):
    """A network that answers its k-th decode with the k-th of `answers`, and remembers what it was shown, in which
    mode.

    Attributes:
        images: the input of each encode. modes: 1 = train mode, 0 = eval mode, of each encode.
    """

    def __init__(self, answers: list[Tensor]) -> None:
        nn.Module.__init__(self)
        self.answers, self.images, self.modes = list(answers), [], []
        self.heads = nn.ModuleDict()
        self.nothing = nn.Parameter(torch.zeros(()))

    def encode(self, image: Tensor, start: Features | None = None) -> Features:
        self.images.append(image)
        self.modes.append(int(self.training))
        return Features((image, image))

    def decode(self, features: Features, size: Any = None) -> Decoded:
        answer = self.answers.pop(0)
        assert len(answer) == len(features.low), f"asked for {len(features.low)} images, recorded {len(answer)}"
        return Decoded(answer, answer, answer)
