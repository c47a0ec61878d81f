"""Call a student's function and write down what it did: values, gradients, damage, errors. Judges nothing.

This is the half that runs where the student's code runs; what it returns is plain data that can travel.
"""

from __future__ import annotations

import linecache
import logging
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .exercise import Case, Function

HERE = Path(__file__).parent
KIT = (str(HERE.parent / "methods"), str(HERE / "exercises"))


@dataclass
class Answer:
    """What one call gave.

    Attributes:
        values: the returned tensors as arrays, a tuple's or dict's in order; None if the call failed.
        form: "tensor", "tuple of 2", "float", "None" ...
        kinds: dtype of each value.
        error: what was raised, in words, "" if nothing; `unanswered` for the placeholder of a cut cell.
        gradients: of the sum of all values by input; None where none arrived.
        damaged: inputs that the call has changed.
        calls: functions of the kit's methods and exercises that it went through.
        foreign: what happened with tensors of another device: "" (well), or in words.
    """

    values: list[np.ndarray] | None = None
    form: str = ""
    kinds: list[str] = field(default_factory=list)
    error: str = ""
    unanswered: bool = False
    gradients: dict[str, np.ndarray | None] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    foreign: str = ""


def answer(function: Function, case: Case, learns: tuple[str, ...] = (), stops: tuple[str, ...] = ()) -> Answer:
    """Call `function` on copies of a case's inputs; never raises but for the user's interrupt."""
    leaves = {name: _copy(value, name in learns + stops) for name, value in case.inputs.items()}
    given = {name: _handed(value) for name, value in leaves.items()}
    found = Answer()
    try:
        with _Calls(found.calls):
            value = function(**given)
    except NotImplementedError as error:
        found.unanswered, found.error = True, str(error) or "not answered yet"
        return found
    except Exception as error:
        found.error = _words(error, function)
        return found
    found.damaged = [n for n, v in given.items() if _differs(v, case.inputs[n])]
    found.form, parts = _flat(value)
    if parts is None:
        return found
    found.values = [(p.detach().float() if p.is_floating_point() else p).cpu().numpy() for p in parts]
    found.kinds = [str(part.dtype).removeprefix("torch.") for part in parts]
    _differentiate(found, parts, {n: leaves[n] for n in learns + stops})
    return found


def abroad(function: Function, case: Case) -> str:
    """What goes wrong when the inputs lie on another device, in words; "" if nothing, or if it cannot be told.

    Without a GPU the other device is made up: its tensors have shapes and no values.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    device = torch.device("lazy", 0)

    def there(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty(value.shape, dtype=value.dtype, device=device)

    log = logging.getLogger("torch._subclasses.fake_tensor")
    before = log.disabled
    log.disabled = True
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            value = function(**{name: there(v) for name, v in case.inputs.items()})
            parts = _flat(value)[1] or []
            if any(part.device != device for part in parts if part.dim()):
                return "the inputs were on the GPU and your answer came back on the CPU"
    except Exception as error:  # values are asked for, or an operation knows no made-up device: nothing can be said
        text = str(error)
        if "device" in text and "cpu" in text and ("same device" in text or "two different devices" in text):
            return "you make a tensor on the CPU while the inputs are on the GPU; use zeros_like or say device=..."
    finally:
        log.disabled = before
    return ""


# ---- pieces ----


def _copy(value: Any, leaf: bool) -> Any:
    if not isinstance(value, Tensor):
        return value.copy() if isinstance(value, list | dict | np.ndarray) else value
    return value.clone().requires_grad_(leaf and value.is_floating_point())


def _handed(value: Any) -> Any:
    """What the student gets: a copy on the way of the gradient, since a leaf itself may not be changed in place."""
    return value.clone() if isinstance(value, Tensor) else value


def _differs(now: Any, before: Any) -> bool:
    if isinstance(before, Tensor):
        return not torch.equal(now.detach().nan_to_num(), before.nan_to_num())
    return not np.array_equal(now, before) if isinstance(before, np.ndarray) else bool(now != before)


def _flat(value: Any) -> tuple[str, list[Tensor] | None]:
    """A name for the form of a returned value, and its tensors; None where it holds something else."""
    if isinstance(value, Tensor):
        return "tensor", [value]
    if isinstance(value, tuple | list):
        parts = [_flat(v)[1] for v in value]
        whole = [p for part in parts if part is not None for p in part]
        return f"tuple of {len(value)}", whole if None not in parts else None
    if isinstance(value, dict):
        parts = [_flat(value[k])[1] for k in sorted(value)]
        whole = [p for part in parts if part is not None for p in part]
        return f"dict of {', '.join(map(str, sorted(value)))}", whole if None not in parts else None
    if isinstance(value, bool | int | float | np.number):
        return "number", [torch.as_tensor(float(value), dtype=torch.float64)]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return "array", [torch.as_tensor(value)]
    return type(value).__name__, None


def _differentiate(found: Answer, parts: list[Tensor], inputs: dict[str, Tensor]) -> None:
    live = [part.sum() for part in parts if part.requires_grad]
    found.gradients = dict.fromkeys(inputs)
    wanted = {name: t for name, t in inputs.items() if isinstance(t, Tensor) and t.requires_grad}
    if not live or not wanted:
        return
    try:
        grads = torch.autograd.grad(sum(live), list(wanted.values()), allow_unused=True)
    except RuntimeError as error:
        if not found.damaged:  # what autograd needs may have been overwritten: then that is what is said
            found.error = f"the gradient cannot be computed: {str(error).splitlines()[0]}"
        return
    found.gradients |= {n: None if g is None else g.float().numpy() for n, g in zip(wanted, grads)}


def _words(error: Exception, function: Function) -> str:
    """What was raised and in which of the student's lines."""
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    if not own:
        return said
    line = linecache.getline(own[-1].filename, own[-1].lineno).strip() or own[-1].line
    return f"{said}, in your line `{line}`" if line else said


class _Calls:
    """Notes which functions of the kit's methods and exercises are entered."""

    def __init__(self, into: list[str]) -> None:
        self.into = into

    def __enter__(self) -> None:
        self.before = sys.getprofile()
        sys.setprofile(self._see)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self.before)

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(KIT) and code.co_name not in self.into:
            self.into.append(code.co_name)
