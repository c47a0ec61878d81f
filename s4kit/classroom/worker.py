"""The process in which a student's code runs. It answers over its own channel, in arrays and JSON, never in pickles."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import types
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .answer import Answer, abroad, answer
from .confine import Limits, confine
from .exercise import Case

LIMIT = 64 << 20  # bytes of one message


def serve(channel: Connection, folder: str, limits: Limits) -> None:
    """Confine this process, then run cells and calls as they are asked for, until the channel closes."""
    os.chdir(folder)
    torch.set_num_threads(1)
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(output, stream)
    denied = confine(Path(folder), limits)
    sys.stdout = sys.stderr = open(1, "w", errors="replace", closefd=False)  # noqa: SIM115 (for as long as it lives)
    notebook = types.ModuleType("__main__")
    notebook.__dict__.update(display=lambda *_: None, get_ipython=lambda: None)
    sys.modules["__main__"] = notebook
    _say(channel, {"denied": denied})
    own = os.getpid()
    with contextlib.suppress(EOFError):
        while True:
            what, *given = channel.recv()
            found = {"cell": _cell, "call": _call, "value": _value}[what](notebook.__dict__, *given)
            if os.getpid() != own:  # a fork of the student's that came back: it has no say here
                os._exit(0)
            _alone()
            _say(channel, *found)


def _alone() -> None:
    """End what the code has started and left: it would use up the processes that the next one may need."""
    if os.getpid() == 1:  # of a process space of its own, in which "all" (-1) are those
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError, AttributeError):
        while os.waitpid(-1, 0 if os.getpid() == 1 else os.WNOHANG)[0]:
            pass


def _cell(names: dict[str, Any], source: str, place: str) -> tuple[dict]:
    """Run a cell; its error in words, "" if there is none."""
    import linecache

    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    try:
        exec(compile(source, place, "exec"), names)
    except BaseException as error:  # SystemExit and KeyboardInterrupt are a student's, too
        return ({"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:500]},)
    return ({"error": ""},)


def _call(names: dict[str, Any], name: str, inputs: dict, learns: tuple, stops: tuple, foreign: bool) -> tuple:
    case = Case("", decode(inputs))
    function = names.get(name)
    if not callable(function):
        said = f"`{name}` is not defined as a function" if function is None else f"`{name}` is no longer a function"
        return _answered(Answer(error=said))
    try:
        given = answer(function, case, learns, stops)
        given.foreign = abroad(function, case) if foreign else ""
    except BaseException as error:
        given = Answer(error=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"[:500])
    return _answered(given)


def _value(names: dict[str, Any], name: str) -> tuple[dict]:
    """A number that a cell has set; None where there is none."""
    try:
        return ({"value": float(names[name])},)
    except Exception:
        return ({"value": None},)


def _answered(given: Answer) -> tuple[dict, dict[str, np.ndarray]]:
    values, gradients = given.values, given.gradients
    arrays = {f"v{i}": np.asarray(v) for i, v in enumerate(values or [])}
    arrays |= {f"g:{n}": np.asarray(g) for n, g in gradients.items() if g is not None}
    plain = {k: v for k, v in asdict(given).items() if k not in ("values", "gradients")}
    return plain | {"count": None if values is None else len(values), "asked": list(gradients)}, arrays


def _say(channel: Connection, plain: dict, arrays: dict[str, np.ndarray] | None = None) -> None:
    sys.stdout.flush()
    store = io.BytesIO()
    np.savez(store, __json__=np.frombuffer(json.dumps(plain).encode(), dtype=np.uint8), **(arrays or {}))
    channel.send_bytes(store.getvalue())


# ---- the other end reads with these ----


def read(data: bytes) -> tuple[dict, dict[str, np.ndarray]]:
    """A message as plain data and arrays; nothing in it is executed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return json.loads(arrays.pop("__json__").tobytes()), arrays


def read_answer(plain: dict, arrays: dict[str, np.ndarray]) -> Answer:
    """The `Answer` of a call; raises KeyError, TypeError or ValueError where the message is none."""
    values = None if plain["count"] is None else [arrays[f"v{i}"] for i in range(int(plain["count"]))]
    gradients = {str(name): arrays.get(f"g:{name}") for name in plain["asked"]}
    words = {k: str(plain[k]) for k in ("form", "error", "foreign")}
    lists = {k: [str(item) for item in plain[k]] for k in ("kinds", "damaged", "calls")}
    return Answer(values=values, gradients=gradients, unanswered=bool(plain["unanswered"]), **words, **lists)


def encode(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs of a case as arrays and numbers."""
    return {n: ("generator", v.get_state().numpy()) if isinstance(v, torch.Generator)
            else ("tensor", v.numpy()) if isinstance(v, torch.Tensor) else ("plain", v)
            for n, v in inputs.items()}  # fmt: skip


def decode(inputs: dict[str, Any]) -> dict[str, Any]:
    """What `encode` was given."""

    def one(kind: str, value: Any) -> Any:
        if kind == "generator":
            made = torch.Generator()
            made.set_state(torch.from_numpy(np.array(value)))
            return made
        return torch.from_numpy(np.array(value)) if kind == "tensor" else value

    return {name: one(*value) for name, value in inputs.items()}
