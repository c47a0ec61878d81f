"""An assignment as a notebook: its items and the version without solutions; what a handed-in cell defines.

Cells carry nbgrader's metadata, so that the same file works with nbgrader. The grade_id of an exercise is its key with
"-" for the dot: "cutmix-loss" is the answer cell of "cutmix.loss", "cutmix-loss-test" its locked check.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import S4Error
from .magics import plain

Notebook = dict[str, Any]
Cell = dict[str, Any]

BLANK = "*Write here.*"  # the cell of a free text as it is handed out
SOLUTION = re.compile(r"(?P<indent>[ \t]*)### BEGIN SOLUTION.*?### END SOLUTION[^\n]*\n?", re.S)
HIDDEN = re.compile(r"[ \t]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.S)
NOT_GRADED = {"setup", "run"}  # tags of cells that the grader skips: installation and training


@dataclass(frozen=True)
class Item:
    """Something that gets points.

    Attributes:
        key: of the exercise; of a free text its grade_id.
        points: at most.
        text: a free text, graded by a person.
    """

    key: str
    points: float
    text: bool = False


def read(path: Path) -> Notebook:
    """A notebook file.

    Raises:
        S4Error: it is no notebook.
    """
    try:
        return parse(path.read_bytes(), path.name)
    except OSError:
        raise S4Error(f"{path.name} cannot be opened.") from None


def parse(data: bytes, name: str) -> Notebook:
    """A notebook from the bytes of its file: any byte order mark, and the format of before 2015 (nbformat 3) as well.

    Raises:
        S4Error: it is no notebook.
    """
    try:
        found = json.loads(data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"))
        if "cells" not in found and "worksheets" in found:
            found = found | {"cells": [_of_today(cell) for sheet in found["worksheets"] for cell in sheet["cells"]]}
        cells = found["cells"]
        if not isinstance(cells, list) or not all(isinstance(cell, dict) and "cell_type" in cell for cell in cells):
            raise TypeError
    except (ValueError, TypeError, KeyError, RecursionError):
        raise S4Error(f"{name} is not a notebook that can be read (no valid JSON with cells).") from None
    return found


def _of_today(cell: Cell) -> Cell:
    """A cell of nbformat 3 as one of nbformat 4."""
    if cell["cell_type"] == "code":
        return cell | {"source": cell.get("input", "")}
    if cell["cell_type"] == "heading":
        return cell | {"cell_type": "markdown", "source": "#" * int(cell.get("level", 1)) + " " + text(cell)}
    return cell


def text(cell: Cell) -> str:
    """The source of a cell."""
    source = cell.get("source", "")
    return "".join(str(line) for line in source) if isinstance(source, list) else str(source)


def role(cell: Cell) -> dict[str, Any]:
    """nbgrader's metadata of a cell; {} where it has none."""
    metadata = cell.get("metadata")
    found = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    return found if isinstance(found, dict) else {}


def tags(cell: Cell) -> set[str]:
    """Its tags."""
    metadata = cell.get("metadata")
    return set(metadata.get("tags", ())) if isinstance(metadata, dict) else set()


def grade_id(key: str) -> str:
    """The key of an exercise as nbgrader names its cells: "1.2" is "1-2"."""
    return key.replace(".", "-")


def items(source: Notebook) -> list[Item]:
    """What gets points, in order."""
    found = []
    for cell in source["cells"]:
        about = role(cell)
        if about.get("grade") and about.get("solution"):
            found.append(Item(about["grade_id"], float(about["points"]), text=True))
        elif about.get("grade"):
            found.append(Item(about["grade_id"].removesuffix("-test").replace("-", ".", 1), float(about["points"])))
    return found


# ---- without solutions ----


def student(source: Notebook) -> Notebook:
    """The version that is handed out: solutions cut, hidden tests and outputs gone.

    Every cut cell raises `NotImplementedError` with the name of its exercise.
    """
    new = json.loads(json.dumps(source))
    for cell in new["cells"]:
        about = role(cell)
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        key = about.get("grade_id", "").replace("-", ".", 1)
        if about.get("solution") and cell["cell_type"] == "code":
            cell["source"] = cut(text(cell), key)
        elif about.get("solution"):
            cell["source"] = BLANK
        cell["source"] = HIDDEN.sub("", text(cell)).rstrip("\n")
    return new


def cut(code: str, key: str) -> str:
    """The code of an answer without its solution."""

    def placeholder(match: re.Match) -> str:
        indent = match["indent"]
        return f'{indent}# Your code here.\n{indent}raise NotImplementedError("{key} is not answered yet.")\n'

    return SOLUTION.sub(placeholder, code)


# ---- handed in ----


def defined(code: str) -> set[str]:
    """Names that a cell defines at its top level; none where it cannot be parsed."""
    try:
        tree = ast.parse(plain(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return functions | {target.id for target in targets if isinstance(target, ast.Name)}


def borrowed(code: str) -> list[str]:
    """Places in a student's code that reach into the kit's methods, its exercises or the interpreter's hooks."""
    try:
        tree = ast.parse(plain(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    return sorted({said for node in ast.walk(tree) for said in _reaches(node)})


def _reaches(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom | ast.Import):
        names = [alias.name for alias in node.names]
        full = [f"{node.module or ''}.{name}" for name in names] if isinstance(node, ast.ImportFrom) else names
        yield from (
            name for name in full if re.match(r"s4kit\.(methods|classroom)\b|(importlib|inspect|gc|ctypes)\b", name)
        )
    elif isinstance(node, ast.Attribute):
        if node.attr in ("reference", "setprofile", "settrace", "__globals__", "__code__", "__subclasses__"):
            yield f".{node.attr}"
        if (
            node.attr in ("methods", "classroom")
            and isinstance(node.value, ast.Name)
            and node.value.id in ("s4", "s4kit")
        ):
            yield f"s4.{node.attr}"
