"""`bundle`: a folder from which a room without a network can install the kit and work: wheels, notebooks, data."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ..data import registry
from ..data.embedded.scenes_paint import VERSION
from ..data.fetching.cache import cache_folder
from ..errors import S4Error
from . import sheet
from .grade import load_sources

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")
INSTALL = 'pip install --no-index --find-links wheels "s4kit[notebooks]"'

INSTALL_SH = f"""\
#!/bin/sh
# Installs s4kit into ./venv from the wheels beside this file; needs no network.
cd "$(dirname "$0")" || exit 1
"${{PYTHON:-python3}}" -m venv venv
venv/bin/python -m {INSTALL}
"""
INSTALL_BAT = f"""\
@rem Installs s4kit into .\\venv from the wheels beside this file; needs no network.
cd /d "%~dp0"
python -m venv venv
venv\\Scripts\\python -m {INSTALL}
"""
START_SH = """\
#!/bin/sh
# Opens the notebooks, with the data and the cache of this folder.
cd "$(dirname "$0")" || exit 1
S4KIT_DATA="$PWD/data" S4KIT_CACHE="$PWD/cache" exec venv/bin/jupyter lab notebooks
"""
START_BAT = """\
@rem Opens the notebooks, with the data and the cache of this folder.
cd /d "%~dp0"
set S4KIT_DATA=%CD%\\data
set S4KIT_CACHE=%CD%\\cache
venv\\Scripts\\jupyter lab notebooks
"""
README = """\
# s4kit without a network

Made for {system}, Python {python}: the wheels fit no other system and no other Python.

    sh install.sh    (Windows: install.bat)    # python -m venv venv, and {install}
    sh start.sh      (Windows: start.bat)      # Jupyter with the lessons and the assignments

Everything is in this folder; copy it to every machine. Inside: {inside}.
"""


def bundle(out: str | Path, assignments: str | Path | None = None, wheels: bool = True) -> dict[str, Any]:
    """Write an offline lab to `out`; what is there of an earlier one is written over.

    Holds `wheels/` (s4kit, its extra `notebooks` and all that they need), `notebooks/` (the lessons, and the student's
    version of the assignments), `cache/` (the painted scenes, where this machine has them), `data/camvid/` (where it
    lies in the default place), and scripts that install and start. Solutions stay out of the notebooks.

    Args:
        assignments: folder of the source notebooks, as in `build`.
        wheels: False leaves them out, for a room where s4kit is installed.

    Returns:
        {"ok", "out", "notebooks", "assignments", "wheels": numbers of files, "data": names, "bytes"}.

    Raises:
        S4Error: this is no checkout, the folder lies in one that is copied, or pip cannot get a wheel.
    """
    out = Path(out).resolve()
    if not (ROOT / "pyproject.toml").is_file():
        raise S4Error("A bundle is made from a checkout of s4kit, and this is an installed package: clone it first.")
    if any(out.is_relative_to(ROOT / part) for part in ("s4kit", "notebooks")):
        raise S4Error(f"{out} lies in the kit itself; choose a folder outside of it.")
    out.mkdir(parents=True, exist_ok=True)
    lessons = _lessons(out / "notebooks")
    sources = load_sources(assignments)
    for name, source in sources.items():
        file = out / "notebooks" / "assignments" / f"{name}.ipynb"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(sheet.student(source), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    data = _data(out)
    if wheels:
        _wheels(out / "wheels")
    made = len(list((out / "wheels").glob("*.whl")))
    _scripts(out, ["wheels"] * bool(made) + [f"{lessons} lessons", f"{len(sources)} assignments", *data])
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    counts = {"notebooks": lessons, "assignments": len(sources), "wheels": made}
    return {"ok": True, "out": str(out), **counts, "data": data, "bytes": size}


def _lessons(to: Path) -> int:
    """Copy the lessons and their figures, not what lies in other folders; how many."""
    home = ROOT / "notebooks"
    files = sorted([*home.glob("*.ipynb"), *home.glob("families/*.ipynb"), *home.glob("beyond/*.ipynb")])
    for file in files:
        (to / file.relative_to(home)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, to / file.relative_to(home))
    if (ROOT / "notebooks" / "figures").is_dir():
        shutil.copytree(ROOT / "notebooks" / "figures", to / "figures", dirs_exist_ok=True)
    return len(files)


def _data(out: Path) -> list[str]:
    """Copy what saves a room its time: the scenes' cache and CamVid; in words."""
    found = []
    cache = cache_folder()
    painted = sorted(cache.glob(f"scenes-v{VERSION}-*.npy")) if cache else []
    for file in painted:
        (out / "cache").mkdir(exist_ok=True)
        shutil.copyfile(file, out / "cache" / file.name)  # readable for whoever gets the folder
    if painted:
        found.append("scenes (painted)")
    camvid = registry.dataset("camvid").found()
    if camvid:
        shutil.copytree(camvid, out / "data" / "camvid", dirs_exist_ok=True)
        found.append("camvid")
    return found


def _wheels(folder: Path) -> None:
    """The kit's own wheel first, in seconds, so that a mistake there is not found after gigabytes."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("s4kit-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="s4kit-") as scratch:
        # Built from a copy: setuptools would leave its folders in the checkout, and take up old ones from there
        shutil.copytree(ROOT / "s4kit", Path(scratch) / "s4kit", ignore=shutil.ignore_patterns("__pycache__"))
        for name in SOURCES:
            shutil.copy(ROOT / name, scratch)
        print("1/2 the wheel of s4kit", file=sys.stderr)
        _pip("wheel", "--no-deps", "--wheel-dir", str(folder), scratch)
    own = next(iter(folder.glob("s4kit-*.whl")), None)
    if own is None:
        raise S4Error(f"pip has made no wheel of s4kit in {folder}.")
    print("2/2 what it needs: with torch, some gigabytes", file=sys.stderr)
    _pip("wheel", "--wheel-dir", str(folder), "--find-links", str(folder), f"{own}[notebooks]")


def _pip(*arguments: str) -> None:
    """Run pip with its words passed on.

    Raises:
        S4Error: it failed; with its reason.
    """
    command = [sys.executable, "-m", "pip", *arguments, "--disable-pip-version-check", "--progress-bar", "off"]
    said: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        for line in pip.stdout or ():
            said.append(line.rstrip())
            print(f"    {said[-1]}", file=sys.stderr)
    if pip.returncode == 0:
        return
    reasons = [line for line in said if "error" in line.lower()] or said or ["it said nothing"]
    if any(word in line for line in said for word in ("Retrying", "No matching distribution", "Connection", "resolve")):
        raise S4Error(
            f"pip cannot get a wheel ({reasons[-1].strip()}). Is there a network, and does pip reach its index? What "
            "has been fetched is kept; `--no-wheels` makes the rest of the bundle."
        )
    raise S4Error(f"pip failed: {reasons[-1].strip()}")


def _scripts(out: Path, inside: list[str]) -> None:
    made = {"install.sh": INSTALL_SH, "start.sh": START_SH, "install.bat": INSTALL_BAT, "start.bat": START_BAT}
    for name, text in made.items():
        (out / name).write_text(text, encoding="utf-8", newline="\r\n" if name.endswith(".bat") else "\n")
    system, python = f"{platform.system()} {platform.machine()}", f"{sys.version_info.major}.{sys.version_info.minor}"
    words = README.format(system=system, python=python, install=INSTALL, inside=", ".join(inside))
    (out / "README.md").write_text(words, encoding="utf-8")
