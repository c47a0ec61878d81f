"""Run the tests with the oldest and with newer versions of what the kit needs, each in an environment of its own.

    python tests/versions.py                       # the lower bounds of pyproject.toml, then the newest versions
    python tests/versions.py --torch 2.6 2.8       # these, with the torchvision that belongs to them
    python tests/versions.py --torch 2.6 -- tests/nets tests/views -x

With a torch version, every other dependency of the kit is the oldest that pyproject.toml allows; with "newest" it is
the newest. What only tests and notebooks need is the newest one in both. An environment stays in --folder (5 GB each on
Linux, where torch brings its CUDA libraries) and is used again. Exit status 1 if the tests fail with any of them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
# torchvision that was released with a torch version, https://github.com/pytorch/vision#installation
VISION = {"2.6": "0.21", "2.7": "0.22", "2.8": "0.23", "2.9": "0.24"}
NEWEST = "newest"


def oldest(requirement: str) -> str:
    """The oldest releases that a requirement allows: "timm>=1.0.9" -> "timm==1.0.9", "numpy>=1.26" -> "numpy==1.26.*",
    "pillow>=10" -> "pillow==10.0.*"; one without a lower bound stays."""
    name, bound, version = re.fullmatch(r"([\w-]+(?:\[[\w,-]+\])?)\s*(>=)?(.*)", requirement).groups()
    if not bound:
        return requirement
    parts = version.split(".")
    return f"{name}=={version}" if len(parts) > 2 else f"{name}=={'.'.join([*parts, '0'][:2])}.*"


def wanted(torch: str, project: dict) -> list[str]:
    """What to install for a version of torch ("2.6" or "newest"), as pip's requirements.

    Raises:
        SystemExit: which torchvision belongs to it is not known.
    """
    extras = project["optional-dependencies"]
    tools = [r for extra in ("notebooks", "test") for r in extras[extra] if not r.startswith(project["name"])]
    needed = [*project["dependencies"], *extras["data"]]
    if torch == NEWEST:
        return [*needed, *tools]
    minor = ".".join(torch.split(".")[:2])
    if minor not in VISION:
        raise SystemExit(f"Which torchvision belongs to torch {torch}? Known are {', '.join(VISION)}.")
    pinned = [f"torch=={torch if torch.count('.') > 1 else torch + '.*'}", f"torchvision=={VISION[minor]}.*"]
    return pinned + [oldest(r) for r in needed if not r.startswith("torch")] + tools


def environment(torch: str, folder: Path, project: dict) -> Path:
    """The Python of a virtual environment for a version of torch; made where it is not there."""
    home = folder / f"torch-{torch}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (home / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, *wanted(torch, project)], check=True)
        subprocess.run([*pip, "--no-deps", "--editable", str(ROOT)], check=True)
        (home / "complete").touch()
    return python


def main(argv: Sequence[str]) -> int:
    own, tests = (list(argv[: argv.index("--")]), list(argv[argv.index("--") + 1 :])) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", nargs="+", metavar="2.6", help='versions, or "newest" (default: oldest and newest)')
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "s4kit-versions")
    chosen = parser.parse_args(own)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bound = next(r for r in project["dependencies"] if r.startswith("torch>="))
    failed = []
    for torch in chosen.torch or [bound.removeprefix("torch>="), NEWEST]:
        python = environment(torch, chosen.folder, project)
        print(f"== torch {torch} ==", flush=True)
        subprocess.run([str(python), "-m", "pip", "list", "--format=freeze"], check=True)
        if subprocess.run([str(python), "-m", "pytest", "-p", "no:cacheprovider", *tests], cwd=ROOT).returncode:
            failed.append(torch)
    print(f"failed with torch {', '.join(failed)}" if failed else "all passed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
