"""`show`: the true source of a function, a method or a class, beside the equation that it implements."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from ..errors import S4Error

ROOT = Path(__file__).parents[2]  # the folder that holds the package


class Source:
    """Code with the place it was read from; highlighted in a notebook.

    Attributes:
        code: the lines, indented as little as possible.
        place: "s4kit/methods/consistency/cutmix.py, lines 96 to 108".
    """

    def __init__(self, code: str, place: str) -> None:
        self.code, self.place = code, place

    def __repr__(self) -> str:
        return f"# {self.place}\n{self.code}"

    def _repr_html_(self) -> str:
        return (
            f"<div style='font-size:.85em;color:#666;margin:.2em 0'><code>{escape(self.place)}</code></div>"
            f"{highlighted(self.code)}"
        )


def show(obj: Any, *, only: str | Sequence[str] | None = None) -> Source:
    """The true source of a function, method, class or module of the kit (or of your notebook).

    Args:
        obj: what to show; the name of a method ("cutmix") stands for its class.
        only: of a class, the members to show ("losses", or ("teach", "losses")) instead of all of it.

    Raises:
        S4Error: it has no Python source, or no such member.
    """
    if isinstance(obj, str):
        from ..methods import get

        obj = get(obj)
    if only is None:
        return Source(*_read(obj))
    parts = []
    for name in [only] if isinstance(only, str) else only:
        if not hasattr(obj, name):
            raise S4Error(f"{getattr(obj, '__name__', obj)} has no {name!r} to show.")
        parts.append(_read(getattr(obj, name)))
    file = parts[0][1].split(", lines")[0]
    places = [place if place.split(", lines")[0] != file else place.split(", ")[-1] for _, place in parts[1:]]
    return Source("\n".join(code for code, _ in parts), "; ".join([parts[0][1], *places]))


def _read(obj: Any) -> tuple[str, str]:
    obj = getattr(obj, "fget", None) or getattr(obj, "__func__", obj)  # a property, a bound or a class method
    obj = inspect.unwrap(obj)
    try:
        lines, first = inspect.getsourcelines(obj)
        file = inspect.getsourcefile(obj) or ""
    except (OSError, TypeError) as error:
        name = getattr(obj, "__name__", repr(obj))
        raise S4Error(
            f"There is no Python source of {name}; give a function, a method, a class or a module."
        ) from error
    first = max(first, 1)
    return textwrap.dedent("".join(lines)).rstrip() + "\n", f"{_shown(file)}, lines {first} to {first + len(lines) - 1}"


def _shown(file: str) -> str:
    """A path as in the repository; "this notebook" for a cell; the bare name for anything else."""
    path = Path(file)
    try:
        return path.relative_to(ROOT).as_posix() if "site-packages" not in path.parts else _in_package(path)
    except ValueError:
        return path.name if path.is_file() else "this notebook"


def _in_package(path: Path) -> str:
    return "/".join(path.parts[path.parts.index("site-packages") + 1 :])


PRE = "margin:0;background:none;color:inherit;font-family:ui-monospace,Consolas,monospace;font-size:.9em"


def highlighted(code: str) -> str:
    """Python code as HTML with its colours inline (kept by GitHub, e-mail and exports); plain without Pygments."""
    box = "background:#f6f7f9;color:#1c1c22;padding:.7em 1em;border-radius:6px;line-height:1.4;overflow-x:auto"
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ImportError:
        return f"<pre style='{box}'>{escape(code)}</pre>"
    return highlight(
        code, PythonLexer(), HtmlFormatter(noclasses=True, nobackground=True, cssstyles=box, prestyles=PRE)
    )
