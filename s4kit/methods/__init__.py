"""The methods: one file each, in one sub-folder per family, found by file name.

`create("unimatch", task)` builds one, `table()` lists them. Adding a method is adding one file
`methods/<family>/<name>.py` with one `Method` subclass that has a `card`; `register` does it for a class of a notebook.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import S4Error, closest
from .base import Card, Clock, Losses, Method, Optim, PseudoLabels, Stage
from .own import OWN, fingerprint, register
from .shipped import files

__all__ = [
    "Card",
    "Clock",
    "Losses",
    "Method",
    "Optim",
    "PseudoLabels",
    "Stage",
    "create",
    "files",
    "fingerprint",
    "fitting",
    "get",
    "idea",
    "names",
    "recipe",
    "register",
    "release",
    "table",
]


def names() -> list[str]:
    """Names of all methods, alphabetically; those that were registered last."""
    return sorted(files()) + sorted(OWN)


def get(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        S4Error: no such method; offers the closest names.
    """
    if name in OWN:
        return OWN[name]
    if name not in files():
        raise S4Error(
            f"There is no method {name!r}. {closest(name, names())} "
            "A class of your own is known once its cell with `s4.methods.register` has run."
        )
    module = importlib.import_module(files()[name])
    own = [
        c
        for c in vars(module).values()
        if isinstance(c, type) and issubclass(c, Method) and c.__module__ == module.__name__
    ]
    return next(c for c in own if "card" in vars(c))


def fitting(task: Any) -> list[str]:
    """Names of the methods whose networks predict what a task is scored by."""
    return [name for name in names() if get(name).of(task).scored_by is type(task.evaluation)]


def create(name: str, task: Any, **options: Any) -> Method:
    """Build a method for a task: `create("fixmatch", task, net="resnet50", tau=0.95)`.

    Raises:
        S4Error: unknown method, or an option that it does not have.
    """
    import inspect

    method = get(name).of(task)
    known = list(inspect.signature(method.__init__).parameters)[2:]
    for option in options:
        if option not in known:
            raise S4Error(f"{name} has no option {option!r}. {closest(option, known)}")
    built = method(task, **options)
    if not hasattr(built, "aux") and any(getattr(net, "aux", None) is not None for net in built.children()):
        raise S4Error(f"{name} trains no auxiliary head; leave aux=True out of its network.")
    built.name, built.options = name, options
    return built


def recipe(name: str, dataset: str, split: str | None = None) -> dict[str, Any]:
    """The set-up of a method for a data set and list: `task` for load, `method` for create, `fit` for fit, and
    `evaluation`, `selection`, `source`, `differs`; see `Method.recipe`."""
    return get(name).recipe(dataset, split)


def idea(name: str) -> str:
    """What a method does in one sentence: the first line of its file, without the name; of a class of a notebook the
    first line of its docstring."""
    import inspect

    method = get(name)
    said = inspect.getdoc(method if name in OWN else inspect.getmodule(method))
    line = (said or "").strip().split("\n")[0]
    before, _, rest = line.partition(": ")
    words = rest if rest and len(before) < 30 else line
    return words[:1].upper() + words[1:]


def release(name: str) -> str:
    """What the authors' code does otherwise than their paper or the kit, and what of it is followed; of a
    reconstruction what was read and what was chosen. Paragraphs: the file's docstring behind its first line; "" where
    nothing is to be said.

    Raises:
        S4Error: no such method.
    """
    import inspect

    return "" if name in OWN else (inspect.getdoc(inspect.getmodule(get(name))) or "").partition("\n\n")[2]


def table() -> list[dict[str, Any]]:
    """One row per method: name, idea, family, title, venue, year, authors, arxiv, code, extends, parity, note."""
    from dataclasses import asdict

    return [{"name": name, "idea": idea(name), **asdict(get(name).card)} for name in names()]
