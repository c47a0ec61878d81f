"""An assignment as a notebook: its items, the version without solutions, and a handed-in one put in order again.

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

Notebook = dict[str, Any]
Cell = dict[str, Any]

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
        found = json.loads(path.read_text(encoding="utf-8"))
        cells = found["cells"]
        if not isinstance(cells, list) or not all(isinstance(cell, dict) and "cell_type" in cell for cell in cells):
            raise TypeError
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise S4Error(f"{path.name} is not a notebook that can be read (no valid JSON with cells).") from None
    return found


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
            cell["source"] = "*Write here.*"
        cell["source"] = HIDDEN.sub("", text(cell)).rstrip("\n")
    return new


def cut(code: str, key: str) -> str:
    """The code of an answer without its solution."""

    def placeholder(match: re.Match) -> str:
        indent = match["indent"]
        return f'{indent}# Your code here.\n{indent}raise NotImplementedError("{key} is not answered yet.")\n'

    return SOLUTION.sub(placeholder, code)


# ---- handed in ----


@dataclass
class Part:
    """A code cell that the grader runs.

    Attributes:
        place: "cutmix.loss", or "cell 7" for one of the student's own.
        code: what is run. key: of the exercise that it answers, "" for other cells.
    """

    place: str
    code: str
    key: str = ""


def restored(source: Notebook, given: Notebook) -> tuple[list[Part], dict[str, str], list[str]]:
    """The code of a handed-in notebook in the order of the source, protected cells as they were.

    Returns:
        (parts to run, free texts by grade_id, what was noticed in words).
    """
    answers, texts, noticed = _answers(source, given)
    parts = []
    extras = _extras(source, given)
    for cell in source["cells"]:
        about = role(cell)
        name = about.get("grade_id", "")
        if cell["cell_type"] == "code" and not tags(cell) & NOT_GRADED and not about.get("grade"):
            if about.get("solution"):
                key = name.replace("-", ".", 1)
                parts += [Part(key, plain(code), key) for code in answers.get(name, [])]
            else:
                parts.append(Part("protected cell", plain(text(cell))))
        parts += [Part(f"cell {at + 1}", plain(code)) for at, code in extras.pop(name, [])] if name else []
    parts += [Part(f"cell {at + 1}", plain(code)) for rest in extras.values() for at, code in rest]
    return parts, texts, noticed


def plain(code: str) -> str:
    """Code without the lines that only Jupyter understands."""
    return "\n".join("" if line.lstrip().startswith(("%", "!", "?")) else line for line in code.split("\n"))


def defined(code: str) -> set[str]:
    """Names that a cell defines at its top level; none where it cannot be parsed."""
    try:
        tree = ast.parse(plain(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
    return functions | {target.id for target in targets if isinstance(target, ast.Name)}


def _answers(source: Notebook, given: Notebook) -> tuple[dict[str, list[str]], dict[str, str], list[str]]:
    """Answers and texts by grade_id: by their metadata, else by the name that they define."""
    codes: dict[str, list[str]] = {}
    texts: dict[str, str] = {}
    noticed: list[str] = []
    for cell in given["cells"]:
        about = role(cell)
        if about.get("solution") and cell["cell_type"] == "code":
            codes.setdefault(str(about.get("grade_id")), []).append(text(cell))
        elif about.get("solution"):
            texts[str(about.get("grade_id"))] = text(cell)
    for cell in source["cells"]:
        about = role(cell)
        name = about.get("grade_id", "")
        if about.get("solution") and cell["cell_type"] == "code" and name not in codes:
            wanted = defined(text(cell))
            loose = [
                text(c)
                for c in given["cells"]
                if c["cell_type"] == "code" and wanted & defined(text(c)) and not role(c)
            ]
            if loose:
                codes[name] = loose
                noticed.append(f"{name.replace('-', '.', 1)}: its cell had lost its marks and was found by its name")
        elif about.get("locked") and _changed(cell, given):
            noticed.append(f"a protected cell was changed or removed, and restored ({name})")
    for name, found in codes.items():
        if len(found) > 1 and any(role(c).get("grade_id") == name for c in source["cells"]):
            noticed.append(
                f"{name.replace('-', '.', 1)}: there are {len(found)} answer cells; all are run, the last one counts"
            )
    return codes, texts, noticed


def _changed(cell: Cell, given: Notebook) -> bool:
    """Whether a protected cell of the source is no longer there as it was handed out."""
    wanted = HIDDEN.sub("", text(cell)).strip()
    name = role(cell).get("grade_id")
    return all(role(c).get("grade_id") != name or HIDDEN.sub("", text(c)).strip() != wanted for c in given["cells"])


def _extras(source: Notebook, given: Notebook) -> dict[str, list[tuple[int, str]]]:
    """Code cells of the student's own: {grade_id of the known cell before them: [(place, code)]}."""
    known = {role(cell).get("grade_id") for cell in source["cells"]} - {None}
    taken = {text(cell).strip() for cell in source["cells"]}
    wanted = set().union(*(defined(text(c)) for c in source["cells"] if role(c).get("solution")), set())
    extras: dict[str, list[tuple[int, str]]] = {}
    last = ""
    for at, cell in enumerate(given["cells"]):
        name = role(cell).get("grade_id")
        if name in known:
            last = str(name)
        elif cell["cell_type"] == "code" and not tags(cell) & NOT_GRADED:
            code = text(cell)
            if code.strip() and code.strip() not in taken and not wanted & defined(code):
                extras.setdefault(last, []).append((at, code))
    return extras


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
