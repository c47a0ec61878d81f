"""Whatever is public says what it is: classes, functions, methods and properties of the kit have a docstring."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import s4kit

ROOT = Path(s4kit.__file__).parent
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
KNOWN = "forward"  # of a module: torch says what it is


def name_of(base: ast.expr) -> str:
    """ "Rounds" of a base class that is written `Rounds`, `parts.Rounds` or `Rounds[T]`."""
    if isinstance(base, ast.Subscript):
        return name_of(base.value)
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")


def public(body: list[ast.stmt], of: ast.ClassDef | None = None) -> Iterator[tuple[ast.stmt, ast.ClassDef | None]]:
    """Public classes and functions, each with the class that it is a member of; what a function holds is its own."""
    for node in body:
        if isinstance(node, ast.If):
            yield from public([*node.body, *node.orelse], of)
        if isinstance(node, ast.ClassDef | FUNCTION) and not node.name.startswith("_"):
            yield node, of
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, node)


def silent(files: dict[str, str]) -> list[str]:
    """What is public in the files (name -> text) and has no docstring, neither its own nor that of a base class.

    Base classes are found by their names; `forward` needs no text.
    """
    found = [(name, *each) for name, text in files.items() for each in public(ast.parse(text).body)]
    classes = defaultdict(list)
    for _, node, _ in found:
        if isinstance(node, ast.ClassDef):
            classes[node.name].append(node)

    def said(member: str, of: ast.ClassDef, below: tuple[ast.ClassDef, ...] = ()) -> bool:
        own = (node for node in of.body if isinstance(node, FUNCTION) and node.name == member)
        bases = (base for written in of.bases for base in classes[name_of(written)] if base not in (of, *below))
        return any(map(ast.get_docstring, own)) or any(said(member, base, (of, *below)) for base in bases)

    def told(node: ast.stmt, of: ast.ClassDef | None) -> bool:
        if of is None or isinstance(node, ast.ClassDef):
            return bool(ast.get_docstring(node))
        return node.name == KNOWN or said(node.name, of)

    return [f"{name}: {of.name + '.' if of else ''}{node.name}" for name, node, of in found if not told(node, of)]


def test_whatever_is_public_has_a_docstring() -> None:
    files = {file.relative_to(ROOT).as_posix(): file.read_text(encoding="utf-8") for file in ROOT.rglob("*.py")}
    assert len(files) > 100
    found = silent(files)
    assert not found, f"shapes, ranges, errors: what the name does not say is to be said: {found}"


def test_what_is_silent_would_be_found() -> None:
    text = '    """Said."""'
    base = f"class A:\n{text}\n    def f(self):\n    {text}\n    def g(self): ...\n    def _h(self): ...\n"
    heir = (
        f"class B(a.A):\n{text}\n    def f(self): ...\n    @property\n    def i(self): ...\n"
        "    def forward(self): ...\n"
    )
    assert silent({"a": base}) == ["a: A.g"]
    assert silent({"a": base, "b": heir}) == ["a: A.g", "b: B.i"]
    assert silent({"b": heir}) == ["b: B.f", "b: B.i"]
    assert silent({"c": "class C: ...\ndef f():\n    def inner(): ...\n"}) == ["c: C", "c: f"]
    assert silent({"d": "class D(x.D):\n    def f(self): ...\n"}) == ["d: D", "d: D.f"]
