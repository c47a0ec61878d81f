"""Further labelled lists of a task: another data set of the same classes, such as a second domain."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import S4Error
from ..specs import parse
from .catalog import public
from .opening import open_catalog, root_of
from .sources import parse_size
from .splitting.chosen import labelled_rows
from .splitting.splits import is_list
from .task import Further


def arguments(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The data set of a further list, and the other arguments of `load`.

    Args:
        given: its name, "name(option=value, ...)", or a dict {"name": ..., option: value}.

    Raises:
        S4Error: it is none of these.
    """
    found = parse(given) if isinstance(given, str) else None
    if isinstance(given, Mapping) and isinstance(given.get("name"), str):
        found = given["name"], {key: value for key, value in given.items() if key != "name"}
    if found is None:
        raise S4Error(
            f"more: a further list cannot be {given!r}: write a data set's name, such as plain, or "
            "name(option=value, ...), such as gta5(size=720)."
        )
    return found


def said(given: str | Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by which a further list opens again, whatever the form they were given in, see `arguments`.

    Raises:
        S4Error: as `arguments`, or the data set is not where it should be.
    """
    name, options = arguments(given)
    root, labelled = options.pop("root", None), options.get("labelled")
    root = root_of(name, root, options)
    if isinstance(labelled, str | os.PathLike) and is_list(labelled):
        options["labelled"] = os.path.abspath(labelled)
    return public({"name": name, "root": root, **options})


def further(name: str, asked: Mapping[str, Any], classes: Sequence[str]) -> Further:
    """Open a further list.

    Args:
        name: of the list. asked: see `said`. classes: of the task that it is for.

    Raises:
        S4Error: its classes are others, or as `load`.
    """
    of, options = arguments(asked)
    root, cache = options.pop("root", None), options.pop("cache", None)
    labelled, seed, size = options.pop("labelled", "all"), options.pop("seed", 0), parse_size(options.pop("size", None))
    catalog, _ = open_catalog(of, root, size, cache, options)
    if tuple(catalog.classes) != tuple(classes):
        strange = [c for c in catalog.classes if c not in classes] or [c for c in classes if c not in catalog.classes]
        raise S4Error(
            f"more: the list {name!r} is of {of}, whose classes are not those of the task"
            + (f" ({', '.join(strange[:4])})" if strange else " in their order")
            + ": a further list has the same ones."
        )
    rows, words = labelled_rows(catalog, labelled, seed, 0, None)
    count = "" if labelled == "all" else f", {words}"
    return Further(catalog.train, tuple(rows), f"{len(rows)} of {of}{count}")
