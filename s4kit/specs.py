"""A name with options as people write it: "resnet50c", "gta5(size=720)"."""

from __future__ import annotations

import ast
from typing import Any


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
