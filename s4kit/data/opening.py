"""A data set by name, opened: its catalog, and the arguments that open it again."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from typing import Any

from ..errors import S4Error
from .catalog import Catalog, DataSet, public
from .checking.bits import settle_bits
from .registry import dataset


def open_catalog(
    name: str, root: str | os.PathLike | None, size: float | int | None, cache: bool | None, options: dict[str, Any]
) -> tuple[Catalog, dict[str, Any]]:
    """The catalog of a data set, and the arguments of `load` that open it again.

    Raises:
        S4Error: an unknown name or option, or it is not where it should be; says how to come by it.
    """
    entry = dataset(name)
    _check_options(entry, options)
    root = root_of(name, root, options)
    catalog = entry.open(root, size=size, cache=cache, **options)
    config = {"name": name, "root": root, "size": size, "cache": cache, **options, **catalog.config}
    bits, notice = settle_bits((catalog.train, catalog.val))
    if bits and "bits" in inspect.signature(entry.open).parameters:
        config["bits"] = bits  # opened again, it is read alike
    return replace(catalog, notices=catalog.notices + ((notice,) if notice else ())), public(config)


def root_of(name: str, root: str | os.PathLike | None, options: dict[str, Any]) -> str | None:
    """The absolute path of where a data set lies; None for embedded ones.

    Raises:
        S4Error: it is not there.
    """
    entry = dataset(name)
    if root is None and entry.marker:
        root = "." if "images" in options else _found_root(entry)
    return None if root is None else os.path.abspath(os.path.expanduser(root))


def _check_options(entry: DataSet, options: dict[str, Any]) -> None:
    known = [p for p in inspect.signature(entry.open).parameters if p not in ("root", "size", "cache")]
    for option in options:
        if option not in known:
            raise S4Error(f"{entry.name} has no option {option!r}. It knows: {', '.join(known) or 'none of its own'}.")


def _found_root(entry: DataSet) -> str:
    found = entry.found()
    if found is None:
        how = f"Fetch it with `s4kit data get {entry.name}`" if entry.get else entry.manual
        how += " (it says what is to be done by hand)" if entry.get and entry.manual else ""
        raise S4Error(f"{entry.name} is not at {entry.default_root()}. {how}, or say where it is: root=... (--root).")
    return str(found)
