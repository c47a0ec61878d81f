"""The browser's modules and styles, each joined into one text: a notebook widget and a page take one of either.

The files in `browser/` are plain ES modules, so that editors and linters work on each; nothing is translated here.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

BROWSER = Path(__file__).parents[1] / "browser"
STYLES = ("theme", "controls", "panels", "readout", "charts", "sections", "paint", "whole", "narrow")
IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.{1,2}/[^"]+)";\n', re.M)
DECLARED = re.compile(r"^(export )?(?:async )?(?:function|class|const|let) (\w+)", re.M)


@cache
def script(entry: str = "explorer.js", root: Path = BROWSER) -> str:
    """`entry` and all that it imports, each file once and after those that it imports, without import and export.

    Raises:
        ValueError: files that import each other in a circle, a name that is imported but not exported, or one that two
            files declare: joined, all files share one scope.
    """
    joined: dict[Path, str] = {}
    _join((root / entry).resolve(), (), joined)
    names: dict[str, Path] = {}
    for path, text in joined.items():
        for _, name in DECLARED.findall(text):
            if names.setdefault(name, path) != path:
                raise ValueError(f"{path.name} and {names[name].name} both declare {name}.")
    return "\n".join(DECLARED.sub(lambda found: found[0].removeprefix("export "), text) for text in joined.values())


def _join(path: Path, above: tuple[Path, ...], joined: dict[Path, str]) -> None:
    if path in above:
        raise ValueError(f"{' imports '.join(p.name for p in (*above[above.index(path) :], path))}: a circle.")
    if path in joined:
        return
    text = path.read_text(encoding="utf-8")
    for names, source in IMPORT.findall(text):
        file = (path.parent / source).resolve()
        _join(file, (*above, path), joined)
        there = {name for exported, name in DECLARED.findall(joined[file]) if exported}
        if missing := {name.strip() for name in names.split(",") if name.strip()} - there:
            raise ValueError(f"{path.name} imports {', '.join(sorted(missing))}, which {file.name} does not export.")
    joined[path] = IMPORT.sub("", text)


@cache
def style() -> str:
    """The style sheet."""
    return "\n".join((BROWSER / "styles" / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
