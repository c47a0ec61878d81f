"""Options as people write them: of a name, "resnet50c", "gta5(size=720)"; or on their own, "tau=0.9"."""

from __future__ import annotations

import ast
from typing import Any

from .errors import S4Error


def parse(spec: str) -> tuple[str, dict[str, Any]] | None:
    """ "name" or "name(option=value, ...)" to (name, options), the values Python literals; None: it is neither."""
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.args:
            return tree.func.id, {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg}
    except (SyntaxError, ValueError):
        pass
    return None


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """["tau=0.9", "net=resnet50"] to a dict; values are Python literals where they look like one.

    Raises:
        S4Error: a pair has no "=".
    """
    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise S4Error(f"The option {pair!r} is not of the form name=value, such as tau=0.9 or cover=3.")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found
