"""Files, functions and docstrings of the kit are short enough to be read at one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import s4kit

ROOT = Path(s4kit.__file__).parent
FILE, FUNCTION = 300, 60  # lines; of a function without its docstring
DOCSTRING = 45  # lines
REASON = "This file is long"  # a longer one says in its docstring why, in a sentence that begins like this


def functions(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and lines of every function; its docstring is not counted."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            said = first.end_lineno - first.lineno + 1 if ast.get_docstring(node, clean=False) is not None else 0
            yield node.name, node.end_lineno - node.lineno + 1 - said


def docstrings(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Name and lines of the docstring of every class and function; of the file's there may be more."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, len((ast.get_docstring(node) or "").splitlines())


def too_long(name: str, text: str) -> list[str]:
    tree = ast.parse(text)
    lines = text.count("\n")
    found = [f"{name}: {lines} lines"] if lines > FILE and REASON not in (ast.get_docstring(tree) or "") else []
    found += [f"{name}, {of}: {many} lines" for of, many in functions(tree) if many > FUNCTION]
    return found + [f"{name}, {of}: {many} lines of docstring" for of, many in docstrings(tree) if many > DOCSTRING]


def test_no_file_and_no_function_is_too_long() -> None:
    files = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in ROOT.rglob("*.py")}
    assert len(files) > 100
    found = [words for name, text in files.items() for words in too_long(name, text)]
    assert not found, f"to be split where one idea can leave: {found}"


def test_what_is_too_long_would_be_found() -> None:
    body = "".join(f"    x = {n}\n" for n in range(FUNCTION))
    assert too_long("a", f"def f():\n{body}") == [f"a, f: {FUNCTION + 1} lines"]
    assert not too_long("a", f'def f():\n    """Said\n\n    here."""\n{body[: -len(body) // 4]}')
    said = "said\n" * DOCSTRING
    assert too_long("a", f'class A:\n    """{said}more"""\n') == [f"a, A: {DOCSTRING + 1} lines of docstring"]
    assert too_long("a", "\n" * (FILE + 1)) == [f"a: {FILE + 1} lines"]
    assert not too_long("a", f'"""Idea.\n\n{REASON}: one table."""' + "\n" * (FILE + 1))
