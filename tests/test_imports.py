"""Imports run one way: between folders in the order in which the kit is read, between files never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import s4kit

ROOT = Path(s4kit.__file__).parent
ROOMS = ("data", "report", "explore")  # folders whose sub-folders are read in an order, too
ORDER = (
    "errors", "specs", "preemption", "data", "views", "nets", "methods", "engine", "report", "explore", "walk",
    "classroom",
)  # fmt: skip


def modules() -> dict[str, Path]:
    """The kit's files by module name; a folder's `__init__` has the folder's."""
    found = {}
    for file in ROOT.rglob("*.py"):
        parts = file.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported(name: str, file: Path, known: dict[str, Path]) -> Iterator[str]:
    """Modules of the kit that a file imports anywhere: at its top, inside a function, for the types alone."""
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield from (found for found in ([whole] if whole in known else [base]) if found in known)


def folder_of(name: str) -> str:
    """ "engine" of "s4kit.engine.run"; "" of the package itself."""
    return (*name.split("."), "")[1]


def room_of(name: str, known: dict[str, Path]) -> str:
    """ "data.reading" of "s4kit.data.decode"; "" of what lies in no sub-folder."""
    parts = name.split(".") if known[name].name == "__init__.py" else name.split(".")[:-1]
    return ".".join(parts[1:3]) if len(parts) > 2 else ""


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: set(imported(name, file, known)) - {name} for name, file in known.items()}


def test_no_files_import_each_other() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' <- '.join(error.args[1])}") from None


def test_folders_import_those_that_are_read_before_them() -> None:
    back = []
    for name, others in graph().items():
        folder = folder_of(name)
        if folder not in ORDER:
            continue  # the package itself and the shell, which are above all of them
        for other in others:
            whose = folder_of(other)
            if other == "s4kit":
                continue  # for its version
            if whose not in ORDER or ORDER.index(whose) > ORDER.index(folder):
                back.append(f"{name} imports {other}")
    assert not back, back


def test_rooms_of_a_folder_import_one_way() -> None:
    known = modules()
    between: dict[str, set[str]] = {}
    for name, others in graph().items():
        room = room_of(name, known)
        found = {room_of(other, known) for other in others} - {"", room}
        if folder_of(name) in ROOMS and room:
            between.setdefault(room, set()).update(other for other in found if other.split(".")[0] == folder_of(name))
    assert {"data.reading", "explore.packing", "report.planning"} <= between.keys()
    try:
        TopologicalSorter(between).prepare()
    except CycleError as error:
        raise AssertionError(f"a circle: {' <- '.join(error.args[1])}") from None


def test_a_circle_would_be_found(tmp_path) -> None:
    (tmp_path / "one.py").write_text("def late():\n    from .two import x\n")
    known = {"kit": tmp_path / "__init__.py", "kit.one": tmp_path / "one.py", "kit.two": tmp_path / "two.py"}
    assert list(imported("kit.one", known["kit.one"], known)) == ["kit.two"]
