"""Recordings: finished trainings without their weights, shipped with the kit, that open at once.

`s4kit record COMPARISON` makes them of what `s4kit compare` has trained: the tables of every run, and of one seed what
it believed of the probe images, one or two megabytes. `lesson.recorded("cutmix")` opens them beside one's own run.
`s4kit record LESSON --named "cutmix_no_box"` keeps an experiment of a lesson under its name; `lesson.open` opens it.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..engine import cost, images, open_run
from ..engine.records import read
from ..engine.run import STORE
from ..errors import S4Error
from ..report import text
from ..report.comparing import figures
from ..report.comparing.compare import finished
from ..report.setup import ALL_LABELS, BASELINES, EXTRA, NOTHING_HIDDEN, REFERENCES, Setup, extra
from ..report.tables import Table
from .folders import end_of

SHIPPED = Path(__file__).parents[1] / "recordings"
TABLES = ("metrics.csv", "evaluations.csv", "pseudo.csv", "norms.csv", "timing.csv", f"{STORE}/{cost.FILE}")
DIGITS = 6  # of the numbers in them: more is noise, and half of the bytes
FOLDER = re.compile(r"(?P<name>.+)-seed(?P<seed>\d+)")
ALL = "all_labels"  # in a folder's name
NAMED = "named"  # the folder of experiments
BARE = ("supervised", ALL)  # nothing is to be seen in their snapshots that is not in a method's
LENGTH = ("steps", "batch", "lr", "evaluate_every")


def record(
    comparison: str | Path, out: str | Path = SHIPPED, snapshots: Sequence[int] = (0,), named: Sequence[str] = ()
) -> dict[str, Any]:
    """Keep the finished runs of a comparison, or of a lesson, without their weights.

    Args:
        comparison: the folder that `s4kit compare --out` named, or one that holds runs. Runs with a name of their own
            (experiments) are left out.
        out: for the recordings, in a folder of the data set's name; those of the same name are replaced.
        snapshots: seeds of which the snapshots are kept, too; the baselines have theirs in none.
        named: keep these experiments instead, with what they believed of the probe images but not how they were
            trained on it.

    Returns:
        {"out", "runs": [name of each recording], "bytes"}.

    Raises:
        S4Error: there is no finished run, or two differ in more than method, seed and labels.
    """
    places = [Path(comparison) / "runs", Path(comparison)]
    folders = [file.parent for place in places for file in sorted(place.glob("*/config.json"))]
    call = (lambda folder: folder.name if folder.name in named else "") if named else _name
    found = {name: folder for folder in folders if (name := call(folder)) and finished(folder)}
    if not found:
        raise S4Error(f"{comparison} holds no finished run of a method: `s4kit compare METHODS --out {comparison}`.")
    if lacking := [name for name in named if name not in found]:
        raise S4Error(f"{comparison} holds no finished run {lacking[0]!r}.")
    if not named:
        _alike(found)
    out = Path(out) / open_run(next(iter(found.values()))).config["task"]["name"] / (NAMED if named else "")
    for name, folder in found.items():
        place, config = out / kept_as(name), open_run(folder).config
        shutil.rmtree(place, ignore_errors=True)
        seen = config["fit"]["seed"] in snapshots and not (config["method"] in BARE or name.startswith(BARE))
        _keep(folder, place, seen, paths=not named)
    files = [file for name in found for file in (out / kept_as(name)).rglob("*") if file.is_file()]
    return {"out": str(out), "runs": list(found), "bytes": sum(file.stat().st_size for file in files)}


def kept_as(name: str) -> str:
    """The folder's name of a recording: "cps, plain" is in `cps_plain`, as shells and archives stumble over blanks."""
    return re.sub(r"[^\w.=+-]+", "_", name)


def of(data: str, name: str, seed: int) -> Path | None:
    """The folder of the recording that a lesson would call `name`; None where there is none."""
    known = SHIPPED / data / f"{name.replace(ALL_LABELS, ALL)}-seed{seed}"
    return next(
        (place for place in (known, SHIPPED / data / NAMED / kept_as(name)) if (place / "config.json").is_file()), None
    )


def play(name: str, folder: Path) -> Any:
    """The run in `folder`, with a word that it is a recording."""
    run = open_run(folder)
    took = text.duration(extra(folder).get("seconds"))
    print(f"{name}: a recording, not trained now (it took {took} where it was made). {end_of(run)}.")
    print("To train it yourself write lesson.train for lesson.open.")
    return run


def recorded(data: str, names: Sequence[str] = (), base: Path | None = None) -> dict[str, list[Any]]:
    """The recordings of a data set: {name of the method, or "all labels": its runs, by seed}; those named, or all.

    What was not recorded is left out.
    """
    found: dict[str, dict[int, Any]] = {}
    for file in sorted(((base or SHIPPED) / data).glob("*/config.json")):
        match = FOLDER.fullmatch(file.parent.name)
        name = match["name"].replace(ALL, ALL_LABELS)
        if not names or name in names:
            found.setdefault(name, {})[int(match["seed"])] = open_run(file.parent)
    order = sorted(found, key=lambda name: REFERENCES.index(name) if name in REFERENCES else len(REFERENCES))
    return {name: [found[name][seed] for seed in sorted(found[name])] for name in order}


def in_words(found: Mapping[str, Sequence[Any]]) -> str:
    """ "Recorded: cutmix (3 seeds), ...; 600 steps of 4 images, seeded 16 (...)."; "" for nothing."""
    if not found:
        return ""
    config = next(iter(found.values()))[0].config
    each = ", ".join(f"{name} ({len(of)} seed{'s' if len(of) > 1 else ''})" for name, of in found.items())
    fit = config["fit"]
    return f"Recorded, not trained now: {each}; {fit['steps']} steps, batch {fit['batch']}, {config['protocol']}."


def fits(run: Any, chosen: Setup) -> bool:
    """Whether a recording was made with the steps, network and data of a settled set-up, whatever its labels."""
    labels = set(NOTHING_HIDDEN)
    mine, theirs = ({k: v for k, v in of.items() if k not in labels} for of in (chosen.task, run.config["task"]))
    alike = all(run.config["fit"].get(key) == chosen.fit.get(key) for key in LENGTH)
    return (
        alike
        and json.loads(json.dumps(mine)) == theirs
        and run.config["options"].get("net") == chosen.options.get("net")
    )


def table(found: Mapping[str, Sequence[Any]]) -> Table:
    """Recordings side by side: mean and standard deviation over the seeds, in percent."""
    work = [(_made(name, run), run.config["fit"]["seed"], run.path) for name, of in found.items() for run in of]
    result = figures.collect(work)
    last, _ = figures.heads(result["score"])
    head = ("method", "seeds", last, "vs supervised", "vs supervised_strong", "gap closed", "time")
    cells = [
        (
            row["method"],
            len(found[row["method"]]),
            text.spread(row["last"], row["last_sd"]),
            *(text.difference(row[f"over_{name}"]) for name in BASELINES),
            text.closed(row["gap_closed"]),
            text.duration(row["seconds"]),
        )
        for row in result["methods"]
    ]
    note = f"Mean and standard deviation over the seeds, percent of val {result['score']} at the end of training."
    return Table(head, cells, note)


def _made(name: str, run: Any) -> Setup:
    config = run.config
    return Setup(config["method"], config["task"], config["options"], config["fit"], title=name)


def _name(folder: Path) -> str:
    """ "cutmix-seed0": what the recording of a run is called; "" for one that has a name of its own."""
    try:
        config = open_run(folder).config
    except S4Error:
        return ""
    name = re.sub(r"-seed\d+$", "", folder.name).replace(ALL_LABELS, ALL)
    hidden = config["task"] and config["task"].get("labelled") != "all"
    known = name == config["method"] if hidden else name == ALL
    return f"{name}-seed{config['fit']['seed']}" if known else ""


def _alike(found: Mapping[str, Path]) -> None:
    """Raises S4Error where runs were trained in different lengths, batches or networks."""
    (first, config), *others = ((name, open_run(folder).config) for name, folder in found.items())
    for name, other in others:
        pairs = [(key, other["fit"][key], config["fit"][key]) for key in LENGTH]
        for key, mine, theirs in [*pairs, ("net", other["options"].get("net"), config["options"].get("net"))]:
            if mine != theirs:
                raise S4Error(f"{name} and {first} are no comparison: {key} is {mine} there and {theirs} here.")


def _keep(folder: Path, out: Path, snapshots: bool, paths: bool) -> None:
    """Copy what a reader of a run needs; weights stay where they are."""
    out.mkdir(parents=True)
    for name in ("config.json", images.FILE, EXTRA):
        if (folder / name).is_file():
            (out / name).write_text(json.dumps(json.loads((folder / name).read_text()), separators=(",", ":")))
    for name in TABLES:
        if rows := read(folder / name):
            (out / name).parent.mkdir(exist_ok=True)
            (out / name).write_text(_table(rows), encoding="utf-8")
    if snapshots and (folder / "probes").is_dir():
        without = None if paths else shutil.ignore_patterns("*_path.npz", "*_roles.npz")
        shutil.copytree(folder / "probes", out / "probes", ignore=without)


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
