"""`s4kit walk`: execute the notebooks in order, and leave what a person wants to look at afterwards."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import S4Error
from ..report import text
from ..report.comparing import placement
from ..report.setup import REFERENCES
from . import groups, profiles, recordings
from .outputs import keep_pictures
from .pages import BEYOND, FOLDERS, PAGES, write_page
from .places import BASE

ROOT = Path(__file__).parents[2]
PARAMETERS = "parameters"
STAMP = "*Outputs:"  # the line of the title cell that says how the outputs came about


def walk(
    profile: str = "cpu",
    data: str = "scenes",
    out: str | os.PathLike = "runs/walk",
    only: Sequence[str] = (),
    notebooks: str | os.PathLike | None = None,
    jobs: int = 0,
) -> dict[str, Any]:
    """Execute the notebooks in order; write them, their pages, index.html and the comparison of the runs into `out`.

    Runs land in `out/runs` and are opened by later notebooks, and by the same command another time.

    Args:
        profile, data: of every notebook, see `profiles`.
        only: numbers of the notebooks, such as ["02", "05"], a name such as "gallery", a folder such as "beyond";
            empty = all but those beyond still images.
        notebooks: their folder; by default ./notebooks, else the one of this checkout.
        jobs: how many side by side, each with its share of the cores, where none opens a run that another trains; on
            GPUs each gets one, or shares one as far as the planner says that the trainings fit. 0 = one for each free
            GPU; without any two with the profile "cpu" on two cores or more, else one.

    Returns:
        {"ok", "out", "index", "seconds", "notebooks": [{"name", "seconds", "cells", "error"}]}; `ok` is False after a
        cell that failed, and notebooks that may open runs of that one were not begun.

    Raises:
        S4Error: no notebooks, an unknown profile, or what they need is not installed.
    """
    _need_jupyter()
    profiles.profile(profile, data)
    out = Path(out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    files = found(notebooks, only)
    slots = groups.slots(profile, data, jobs)
    heads = {file: f"[{number}/{len(files)}] {file.stem}" for number, file in enumerate(files, 1)}
    began, done = time.perf_counter(), []
    recorded = bool(recordings.recorded(data, REFERENCES)) and profile == "cpu"
    one = partial(_one, out=out, profile=profile, data=data, jobs=len(slots))
    for group in groups.together(files, recorded) if len(slots) > 1 else [[file] for file in files]:
        done += groups.side_by_side(lambda file, slot: one(file, head=heads[file], slot=slot), group, slots)
        if errors := [row["error"] for row in done if row["error"]]:
            print("", *errors, sep="\n", file=sys.stderr)
            break
    from .index import write_index

    seconds = time.perf_counter() - began
    index = write_index(out, profile, data, done, seconds)
    ok = not any(row["error"] for row in done)
    words = "done" if ok else f"failed in {', '.join(row['name'] for row in done if row['error'])}"
    print(f"walk {words} after {text.duration(seconds)}: {index}")
    return {"ok": ok, "out": str(out), "index": str(index), "seconds": seconds, "notebooks": done}


def found(notebooks: str | os.PathLike | None = None, only: Sequence[str] = ()) -> list[Path]:
    """The notebooks in the order of their numbers, then those without; see `walk`.

    Raises:
        S4Error: there are none, or not those asked for.
    """
    places = [Path(notebooks)] if notebooks else [Path("notebooks"), ROOT / "notebooks"]
    folder = next((place for place in places if any(place.glob("[0-9][0-9]_*.ipynb"))), None)
    if folder is None:
        raise S4Error(f"There are no notebooks in {places[0]}; say where they are with --notebooks DIR.")
    files = {file.name[:2]: file for file in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    others = {name: folder / f"{name}.ipynb" for name in PAGES}
    files |= {name.rpartition("/")[2]: file for name, file in others.items() if file.is_file()}
    for name in only:
        if name not in files and name not in FOLDERS:
            raise S4Error(f"There is no notebook {name!r} in {folder}; there are {', '.join([*files, *FOLDERS])}.")
    if not only:
        return [file for file in files.values() if file.parent.name != BEYOND]
    return [file for name, file in files.items() if name in only or file.parent.name in {*only} & {*FOLDERS}]


def _one(
    file: Path, out: Path, profile: str, data: str, head: str, jobs: int = 1, slot: str | None = None
) -> dict[str, Any]:
    """Execute one notebook and write it and its page, also when a cell of it fails."""
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    data = data_of(notebook, file, data)
    parametrise(notebook, file.name, PROFILE=profile, DATA=data)
    stamp(notebook, profile, data)
    began = time.perf_counter()
    tell = _teller(head, jobs == 1)
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else 0
    error = execute(notebook, out, file.name, tell, threads, slot)
    seconds = time.perf_counter() - began
    keep_pictures(notebook)
    name = name_of(file)
    (out / name).parent.mkdir(exist_ok=True)
    nbformat.write(notebook, out / f"{name}.ipynb")
    write_page(notebook, out / f"{name}.html")
    tell(f"{text.duration(seconds)}" + (", FAILED" if error else ""), end=True)
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    return {"name": name, "seconds": seconds, "cells": cells, "error": error, "title": title(notebook)}


def name_of(file: Path) -> str:
    """A notebook's name, with the folder that it has in `PAGES`: "02_cutmix", "families/cotraining"."""
    below = f"{file.parent.name}/{file.stem}"
    return below if below in PAGES else file.stem


def data_of(notebook: Any, file: Path, asked: str) -> str:
    """The data set on which a notebook is executed: that asked for; beyond still images the one it is about."""
    if not name_of(file).startswith("beyond/"):
        return asked
    cells = (cell.source for cell in notebook.cells if PARAMETERS in cell.metadata.get("tags", []))
    return next(found[1] for source in cells if (found := re.search(r'^DATA = "([^"]*)"', source, re.M)))


def _teller(head: str, alone: bool = True) -> Callable[..., None]:
    """Prints how far a notebook is: over the same line in a terminal that it has alone, else only at its end."""
    live = alone and sys.stdout.isatty()

    def tell(words: str, end: bool = False) -> None:
        if live or end:
            print(("\r\x1b[K" if live else "") + f"{head}: {words}", end="\n" if end else "", flush=True)

    return tell


def title(notebook: Any) -> str:
    """The first heading of a notebook."""
    heading = re.search(r"^# (.+)$", notebook.cells[0].source, re.M)
    return heading[1] if heading else ""


# ---- before ----


def parametrise(notebook: Any, name: str, **values: str) -> None:
    """Set the variables of the cell that is tagged "parameters".

    Raises:
        S4Error: there is no such cell, or it does not set one of them.
    """
    cell = next((c for c in notebook.cells if PARAMETERS in c.metadata.get("tags", [])), None)
    if cell is None:
        raise S4Error(f'{name} has no cell that is tagged "{PARAMETERS}".')
    for variable, value in values.items():
        cell.source, changed = re.subn(rf'^{variable} = "[^"]*"', f'{variable} = "{value}"', cell.source, flags=re.M)
        if not changed:
            raise S4Error(f'The parameters cell of {name} has no line {variable} = "...".')


def stamp(notebook: Any, profile: str, data: str) -> None:
    """Say in the title cell how the outputs below it came about."""
    first = notebook.cells[0]
    kept = [line for line in first.source.rstrip().splitlines() if not line.startswith(STAMP)]
    line = f"{STAMP} profile `{profile}`, data `{data}`, {date.today().isoformat()}.*"
    first.source = "\n".join([*kept, *([] if not kept[-1] else [""]), line])


# ---- the run ----


def execute(
    notebook: Any,
    folder: Path,
    name: str,
    tell: Callable[[str], None] = lambda words: None,
    threads: int = 0,
    slot: str | None = None,
) -> str:
    """Execute a notebook in place, in `folder`, with this Python; returns the error in words, "" if there was none.

    Args:
        threads: of its kernel, where other notebooks have the rest of the cores; 0 = as always.
        slot: the GPU that its kernel sees; None = all.
    """
    from jupyter_client import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, DeadKernelError

    manager = AsyncKernelManager(kernel_name="python3")
    manager.kernel_spec.argv[0] = sys.executable  # a kernel of the same name may belong to another Python
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    codes = [k for k, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    at = [0]

    def begins(cell: Any, cell_index: int) -> None:
        at[0] = cell_index
        if cell_index in codes:
            tell(f"cell {codes.index(cell_index) + 1} of {len(codes)}")

    client = NotebookClient(
        notebook,
        km=manager,
        timeout=None,
        startup_timeout=300,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=begins,
    )
    # nbclient would answer an Output widget (of any `interact`) on the socket whose next message it waits for, and may
    # then sleep through that message for ever. Without the answer a knob's picture is an output of its cell.
    client.widget_registry = {}
    with tempfile.TemporaryFile("w+") as log:  # what the kernel itself says, beside its cells
        try:
            client.execute(cleanup_kc=True, env=_environment(folder, threads, slot), stdout=log, stderr=log)
        except CellExecutionError as error:
            return in_words(name, at[0], notebook.cells[at[0]].source, f"{error.ename}: {error.evalue}")
        except DeadKernelError as error:
            log.seek(0)
            return in_words(name, at[0], notebook.cells[at[0]].source, f"{error}\n{log.read()[-2000:]}")
    return ""


def in_words(name: str, index: int, source: str, error: str) -> str:
    """Which notebook, which cell, which error."""
    line = next((line for line in source.splitlines() if line.strip() and not line.startswith("#")), "")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", error)
    return f"{name}, cell {index + 1} ({line.strip()[:70]!r}): {plain}"


def _environment(folder: Path, threads: int, slot: str | None = None) -> dict[str, str]:
    """Of the kernel: the same s4kit, runs below `folder` by a relative path, data where they are seen from here."""
    env = dict(os.environ)
    if threads:
        env.setdefault("OMP_NUM_THREADS", str(threads))
    if slot is not None:
        env[placement.VISIBLE] = slot
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), env.get("PYTHONPATH"))))
    env[BASE] = "runs"
    env["S4KIT_DATA"] = str(Path(env.get("S4KIT_DATA", "data")).absolute())
    env.pop("MPLBACKEND", None)
    return env


def _need_jupyter() -> None:
    from importlib.util import find_spec

    lacking = [
        name for name in ("nbclient", "nbconvert", "ipykernel", "ipywidgets", "latex2mathml") if find_spec(name) is None
    ]
    if lacking:
        raise S4Error(f"The notebooks need {', '.join(lacking)}: pip install 's4kit[notebooks]'.")
