"""Recordings of official code, and what it takes to run the kit on them.

A recording is `NAME.npz` with arrays `in_*`, the answers (all other arrays) and `spec`, a JSON text with the
hyper-parameters. An adapter turns the inputs and the spec into answers, through the kit's real methods and parts; it
takes every value from the file, so another recording of the same name runs through it unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from s4kit.nets import Decoded, Features, SegNet

TOLERANCE = 1e-5
Arrays = dict[str, np.ndarray]


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


@dataclass
class Adapter:
    """How a recording is checked.

    Attributes:
        run: recording -> answers by array name.
        skip: array name -> why the kit has no such answer; all other arrays of the file must be answered.
        error: (answer, expected, key) -> error, which must not exceed TOLERANCE.
    """

    run: Callable[[Recording], dict[str, Any]]
    skip: dict[str, str] = field(default_factory=dict)
    error: Callable[[np.ndarray, np.ndarray, str], float] | None = None


ADAPTERS: dict[str, Adapter] = {}


def adapter(method: str, what: str, skip: dict[str, str] | None = None, error: Callable | None = None) -> Callable:
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
    """Error of every answer of a recording; an array that is neither answered nor skipped counts as infinite."""
    adapter = ADAPTERS[recording.name]
    answers = adapter.run(recording)
    measure = adapter.error or relative_error
    checked = {k: v for k, v in recording.expected.items() if k not in adapter.skip}
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
