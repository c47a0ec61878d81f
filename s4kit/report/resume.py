"""Going on with a run: its stored set-up, held against what is asked for this time."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import S4Error
from .setup import HARDWARE, Setup

_FLAGS = {
    "root": "--root",
    "labelled": "--labelled",
    "seed": "--split-seed",
    "size": "--size",
    "crop": "--crop",
    "more": "--more",
}


def resumed(
    folder: str | Path,
    method: str | None = None,
    data: str | None = None,
    task: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
) -> Setup:
    """The set-up of a run that exists, from its config.json; its settings are resolved already.

    Args:
        folder: of the run.
        method, data, task, options, fit: what is asked for this time; it must be what the run has, but for the device,
            the workers, the threads, compile and checkpoint_every, which are taken over.

    Raises:
        S4Error: no run, a run on images in memory, or something else is asked for; names the flag and both values.
    """
    from ..engine import open_run

    run = open_run(folder)
    config = run.config
    if not config.get("task"):
        raise S4Error(f"The run in {folder} was trained on images in memory: resume it from Python, with its task.")
    chosen, fit = Setup(config["method"], config["task"], config["options"], config["fit"]), fit or {}
    for flag, there, now in _asked(run, chosen, method, data, task or {}, options or {}, fit):
        if now != there:
            raise S4Error(
                f"{flag} {now} is asked for, but the run in {folder} has {there}, and going on cannot change that. "
                f"Leave {flag.split()[0]} away, or start another run with --out."
            )
    chosen.fit |= {name: fit[name] for name in HARDWARE if name in fit}
    return chosen


def _asked(
    run: Any,
    chosen: Setup,
    method: str | None,
    data: str | None,
    task: dict[str, Any],
    options: dict[str, Any],
    fit: dict[str, Any],
) -> Iterator[tuple[str, Any, Any]]:
    """(flag, value of the run, value now) of all that is asked for; what the run does not name has its default."""
    from ..data import dataset, load
    from ..methods import get

    if method:
        yield "METHOD", chosen.method, method
    if data:
        yield "--data", chosen.task["name"], data
    for name, value in task.items():
        there = chosen.task.get(name, _default(name, load, dataset(chosen.task["name"]).open))
        yield _FLAGS.get(name, f"--data-option {name}"), _of_task(name, there), _of_task(name, value)
    for name, value in options.items():
        there = chosen.options.get(name, _default(name, get(chosen.method).__init__))
        yield "--backbone" if name == "net" else f"--option {name}", _plain(there), _plain(value)
    for name, value in fit.items():
        if name not in HARDWARE:
            there = _epochs(run, chosen, value) if name == "epochs" else chosen.fit.get(name)
            yield f"--{name.replace('_', '-')}", there, value


def _default(name: str, *functions: Callable[..., Any]) -> Any:
    """The default of a parameter in the first function that has it; None where none has."""
    for function in functions:
        found = inspect.signature(function).parameters.get(name)
        if found is not None and found.default is not found.empty:
            return found.default
    return None


def _of_task(name: str, value: Any) -> Any:
    """A value for `load` in the form in which a run stores it."""
    from ..data.further import said
    from ..data.sources import parse_size
    from ..data.splitting.splits import is_list

    if value is None:
        return None
    if name == "root" or (name in ("labelled", "unlabelled") and isinstance(value, str) and is_list(value)):
        return os.path.abspath(os.path.expanduser(value))
    if name == "more":
        return {of: said(given) for of, given in value.items()}
    if name == "labelled":
        return str(value)  # 16 and "16" are the same count
    return parse_size(value) if name == "size" else _plain(value)


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    if isinstance(value, dict):
        value = {str(key): of for key, of in value.items()}
    return json.loads(json.dumps(value, default=str))


def _epochs(run: Any, chosen: Setup, asked: float) -> float:
    """The run's length in epochs; `asked` itself where that comes to the same number of steps."""
    from ..engine import distributed
    from ..engine.device import pick_device
    from ..engine.settings import Settings, epoch_steps

    distributed.join_world(pick_device(chosen.fit["device"]))  # the number of processes decides
    steps = epoch_steps(run.task(), Settings(**chosen.fit))
    return asked if max(1, round(asked * steps)) == chosen.fit["steps"] else round(chosen.fit["steps"] / steps, 3)
