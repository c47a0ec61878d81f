"""Recordings: finished trainings without their weights, shipped with the kit, that open at once.

`s4kit record COMPARISON` makes them of what `s4kit compare` has trained: the tables of every run, and of one seed what
it believed of the probe images, about a megabyte each. `lesson.recorded("cutmix")` opens them beside a run of one's own.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..engine import images, open_run
from ..engine.records import read
from ..errors import S4Error
from ..report.compare import finished
from ..report.setup import EXTRA

SHIPPED = Path(__file__).parents[1] / "recordings"
TABLES = ("metrics.csv", "evaluations.csv", "pseudo.csv", "timing.csv")
DIGITS = 6  # of the numbers in them: more is noise, and half of the bytes
FOLDER = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)")


def record(comparison: str | Path, out: str | Path = SHIPPED, snapshots: Sequence[int] = (0,)) -> dict[str, Any]:
    """Keep the finished runs of a comparison without their weights.

    Args:
        comparison: the folder that `s4kit compare --out` named.
        out: for the recordings, in a folder of the data set's name; those of the same name are replaced.
        snapshots: seeds of which the snapshots are kept, too; the baselines have theirs in none.

    Returns:
        {"out", "runs": [name of the folder], "bytes"}.

    Raises:
        S4Error: there is no finished run, or two differ in more than method, seed and labels.
    """
    folders = [f for f in sorted(Path(comparison).glob("runs/*")) if FOLDER.fullmatch(f.name) and _whole(f)]
    if not folders:
        raise S4Error(
            f"{comparison} holds no finished run of a comparison: first `s4kit compare ... --out {comparison}`."
        )
    _alike(folders)
    out = Path(out) / open_run(folders[0]).config["task"]["name"]
    for folder in folders:
        shutil.rmtree(out / folder.name, ignore_errors=True)
        _keep(folder, out / folder.name, int(FOLDER.fullmatch(folder.name)["seed"]) in snapshots)
    files = [file for folder in folders for file in (out / folder.name).rglob("*") if file.is_file()]
    return {"out": str(out), "runs": [f.name for f in folders], "bytes": sum(file.stat().st_size for file in files)}


def recorded(data: str, names: Sequence[str] = (), base: Path = SHIPPED) -> dict[str, list[Any]]:
    """The recordings of a data set: {name of the method, or "all labels": its runs, by seed}; those named, or all.

    What was not recorded is left out.
    """
    found: dict[str, dict[int, Any]] = {}
    for file in sorted((base / data).glob("*/config.json")):
        match = FOLDER.fullmatch(file.parent.name)
        name = match["name"].replace("all_labels", "all labels")
        if not names or name in names:
            found.setdefault(name, {})[int(match["seed"])] = open_run(file.parent)
    return {name: [of[seed] for seed in sorted(of)] for name, of in found.items()}


def _whole(folder: Path) -> bool:
    return (folder / "config.json").is_file() and finished(folder)


def _alike(folders: Sequence[Path]) -> None:
    """Raises S4Error where runs were trained in different lengths, batches or networks."""
    first, *others = ((f.name, open_run(f).config) for f in folders)
    for name, config in others:
        pairs = [(k, config["fit"][k], first[1]["fit"][k]) for k in ("steps", "batch", "lr", "evaluate_every")]
        pairs += [("net", config["options"].get("net"), first[1]["options"].get("net"))]
        for key, mine, theirs in pairs:
            if mine != theirs:
                raise S4Error(f"{name} and {first[0]} are no comparison: {key} is {mine} and {theirs}.")


def _keep(folder: Path, out: Path, snapshots: bool) -> None:
    """Copy what a reader of a run needs; weights stay where they are."""
    out.mkdir(parents=True)
    for name in ("config.json", images.FILE, EXTRA):
        if (folder / name).is_file():
            (out / name).write_text(json.dumps(json.loads((folder / name).read_text()), separators=(",", ":")))
    for name in TABLES:
        if rows := read(folder / name):
            (out / name).write_text(_table(rows), encoding="utf-8")
    if snapshots and not folder.name.startswith("supervised-") and (folder / "probes").is_dir():
        shutil.copytree(folder / "probes", out / "probes")


def _table(rows: Sequence[dict[str, str]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)
    return text.getvalue()


def _short(value: str) -> str:
    try:
        return f"{float(value):.{DIGITS}g}" if "." in value else value
    except ValueError:
        return value
