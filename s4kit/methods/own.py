"""Methods that are no file of the kit: classes of a notebook or a script, known under a name for this session."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import date
from typing import Any

from ..errors import S4Error
from .base import Card, Method
from .shipped import files

OWN: dict[str, type[Method]] = {}


def register(name: str) -> Callable[[type[Method]], type[Method]]:
    """Make a class known under a name, so that create, recipes, runs, compare and explorer find it like a file's.

        @s4.methods.register("mine")
        class Mine(s4.methods.Method): ...

    A second registration under the same name replaces the first, as when a cell runs again. It holds for this session:
    to reopen a run later, run the class's cell first. A class without a `card` of its own gets one that says so.

    Raises:
        S4Error: the kit has a file of that name, or it is no name, or what is registered is no `Method`.
    """
    if not name.isidentifier():
        raise S4Error(f"{name!r} cannot name a method: use letters, digits and underscores, such as 'my_method'.")
    if name in files():
        raise S4Error(f"The kit has a method {name!r} already; register yours under another name.")

    def known(method: type[Method]) -> type[Method]:
        if not (isinstance(method, type) and issubclass(method, Method)):
            raise S4Error(
                f"{method!r} cannot be registered as {name!r}: it is no class made from s4kit.methods.Method."
            )
        if "card" not in vars(method):
            title = (vars(method).get("__doc__") or method.__name__).strip().splitlines()[0]
            method.card = Card("own", title, "not published", date.today().year, authors="you")
        OWN[name] = method
        return method

    return known


def fingerprint(name: str) -> str:
    """What a registered class is made of, as a short hash; "" for the kit's own methods.

    A run keeps it, so that a changed class is not taken for the one that was trained. It covers the class itself and
    its parents outside of the kit, not the functions that they call.
    """
    if name not in OWN:
        return ""
    parts = [c for c in OWN[name].__mro__ if issubclass(c, Method) and not c.__module__.startswith("s4kit.")]
    text = "\n".join(f"{key}={_source(value)}" for c in parts for key, value in vars(c).items() if _counts(key))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _counts(key: str) -> bool:
    return key == "__init__" or (not key.startswith("__") and key != "card")


def _source(value: Any) -> str:
    """The text of a function; of anything else what it says of itself (views and recipes are plain data)."""
    function = getattr(value, "__func__", value)
    if not inspect.isfunction(function):
        return _plain(value)
    try:
        return inspect.getsource(function)
    except OSError:  # typed into a bare interpreter
        return function.__code__.co_code.hex()


def _plain(value: Any) -> str:
    """Plain data as text; of a dataclass what is not as by default, so that a younger field changes nothing."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key!r}: {_plain(one)}' for key, one in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_plain, value))}]"
    if not is_dataclass(value) or isinstance(value, type):
        return repr(value)
    given = {of.name: _plain(getattr(value, of.name)) for of in fields(value) if of.repr}
    usual = {of.name: _plain(_default(of)) for of in fields(value)}
    return f"{type(value).__name__}({', '.join(f'{k}={v}' for k, v in given.items() if v != usual[k])})"


def _default(of: Field) -> Any:
    return of.default if of.default_factory is MISSING else of.default_factory()
