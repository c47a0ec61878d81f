"""Several methods and seeds under one protocol: train what is missing, then a table, curves, pictures and a page."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import S4Error
from .. import setup
from ..setup import BASELINES, HARDWARE, Setup
from . import placement
from .figures import collect, table
from .selection import buildable, choose, remarks
from .trainings import train_all


def compare(
    methods: Sequence[str],
    data: str,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    task: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
    jobs: int = 0,
    baselines: bool = True,
    all_labels: bool = True,
    command: Sequence[str] = (),
    families: Sequence[str] = (),
    look: Callable[[Path, Path], bool] | None = None,
) -> dict[str, Any]:
    """Train methods x seeds under one protocol and write compare.json, curves.png, grid.png and report.html.

    Runs in `out` with the same set-up are kept, unfinished ones are continued: start it again after an interruption.
    A training that fails does not stop the others: the report names it and why, `out/failed` has its traceback.

    Args:
        methods: names; "supervised" and "supervised_strong" are added unless `baselines` is False, the second where
            the data are scored by pixels.
        all_labels: with the baselines, train `supervised` once with every label of the training set and as many steps:
            the line that says what is to be gained.
        data: name of the data set.
        out: folder; runs go to `out/runs/<method>-seed<seed>`.
        seeds: of the training; the split is the same in all runs.
        task, options, fit: over the recipe's, the `task` over what the methods need (`Method.kind`); `options` go to
            every method that has them.
        jobs: trainings at a time in processes of their own; 0 = one on each free GPU, one on a CPU. More than there are
            GPUs share them as far as the planner says that they fit.
        command: shown in the report, so that it can be made again.
        look: called with each run's folder and a path, writes a page there that looks into the run, for the report to
            link to; whether it has. By default there are none.
        families: all their methods are added; one that cannot be built with the shared network is left out and named.

    Returns:
        {"score": its name, "methods": [one dict per method], "runs": [one per method and seed: score, last, best,
        seconds, peak_memory, ...], "failed": [method, seed, error], "left_out": [method, reason], "ok": none failed,
        "protocol", "table", ...}.

    Raises:
        S4Error: unknown names, a folder that holds a run with another set-up, or no training came to its end.
    """
    from ...data import load
    from ...methods import fitting
    from ...methods.own import OWN

    out = Path(out)
    if not seeds or jobs < 0:
        raise S4Error("Give at least one seed, and 0 or more jobs.")
    if own := sorted(set(methods) & set(OWN)):
        if jobs > 1:
            raise S4Error(f"{own[0]} is registered in this process alone: use jobs=1, or make it a file of the kit.")
        jobs = 1
    first = BASELINES if baselines else ()
    named, names = [*first, *methods], list(dict.fromkeys([*first, *choose(methods, families)]))
    task = setup.meant(names, data) | (task or {})
    setups = setup.match([setup.of(n, data, task, _own(n, options or {}, names), fit) for n in names])
    loaded = load(**setups[0].task)
    able = fitting(loaded)  # a baseline of images stands beside no other kind
    setups = [chosen for chosen in setups if chosen.method in able or chosen.method in methods]
    setups, left_out, said = _prepare(setups, loaded, named)
    trainings, tasks = _trainings(setups, loaded, seeds, baselines and all_labels)
    work = [(p, seed, out / "runs" / f"{p.name.replace(' ', '_')}-seed{seed}") for p, seed in trainings]
    todo = _missing(work, tasks)
    slots = placement.slots(jobs, setups[0].fit["device"], lambda: placement.largest(setups, loaded))
    interrupted, failed = train_all(todo, len(work), slots, out / "failed")
    if interrupted:
        print(f"Stopped; the same command continues in {out}.", file=sys.stderr)
        return {"out": str(out), "interrupted": True}
    without = {(f["method"], f["seed"]) for f in failed}
    work = [job for job in work if (job[0].name, job[1]) not in without]
    if not work:
        raise S4Error(f"Every training failed; {failed[0]['method']}: {failed[0]['error']}")
    _measure_memory(work)
    from .page import write_report

    result = collect(work) | {"failed": failed, "left_out": left_out, "remarks": said, "ok": not failed}
    result |= {"out": str(out), "command": "s4kit " + " ".join(command) if command else "", "interrupted": False}
    for run in result["runs"]:
        page = Path("explore") / f"{Path(run['run']).name}.html"
        run["explorer"] = page.as_posix() if look and look(Path(run["run"]), out / page) else None
    (out / "compare.json").write_text(json.dumps(result, indent=2))
    write_report(out, result, work)
    files = {key: str(out / name) for key, name in FILES.items() if (out / name).is_file()}
    return result | {"files": files, "table": table(result) + f"\n\n{files['report']}  (curves, pictures, all figures)"}


FILES = {"report": "report.html", "json": "compare.json", "curves": "curves.png", "grid": "grid.png"}


def _own(name: str, options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The options that this method has; one that none of the methods has is a mistake."""
    import inspect

    from ...errors import closest
    from ...methods import get

    known = {n: list(inspect.signature(get(n).__init__).parameters)[2:] for n in names}
    for option in options:
        if not any(option in of for of in known.values()):
            every = sorted({o for of in known.values() for o in of})
            raise S4Error(f"None of {', '.join(names)} has the option {option!r}. {closest(option, every)}")
    return {k: v for k, v in options.items() if k in known[name]}


# ---- training ----


def _prepare(
    setups: Sequence[Setup], task: Any, named: Sequence[str]
) -> tuple[list[Setup], list[dict[str, str]], list[str]]:
    """Resolve the settings; build every method once, so that a mistake shows before the first training.

    Returns:
        Those that can be trained; {"method", "reason"} of those of a family that cannot; what to say of the others.
    """
    settings = setup.settle(setups[0], task).fit
    kept, left_out, said = [], [], []
    for chosen in setups:
        found, method = buildable(chosen, task, chosen.method in named)
        if isinstance(method, str):
            left_out.append({"method": chosen.method, "reason": method})
            print(f"{chosen.method} is left out: {method}", file=sys.stderr)
            continue
        said += remarks(chosen, found, method)
        kept.append(Setup(chosen.method, task.config, found.options, dict(settings)))
    if not kept:
        raise S4Error(f"None of the methods can be trained; {left_out[0]['method']}: {left_out[0]['reason']}")
    return kept, left_out, said


def _trainings(
    setups: Sequence[Setup], task: Any, seeds: Sequence[int], bound: bool
) -> tuple[list[tuple[Setup, int]], dict[str, Any]]:
    """The set-ups with every seed, and the loaded tasks by its name.

    Args:
        bound: train on all labels, too, after the first seed and with no other: what one would like to know is how far
            away it is. Left out where nothing is hidden.
    """
    from ...data import load

    first, *others = dict.fromkeys(seeds)
    found, tasks = [(chosen, first) for chosen in setups], dict.fromkeys((chosen.name for chosen in setups), task)
    if bound:
        chosen = setup.all_labels(next(chosen for chosen in setups if chosen.method == "supervised"))
        full = load(**chosen.task)
        if len(full.labelled) > len(task.labelled):
            found.append((replace(chosen, task=full.config), first))
            tasks[chosen.name] = full
    return [*found, *((chosen, seed) for seed in others for chosen in setups)], tasks


def _missing(work: Sequence[tuple[Setup, int, Path]], tasks: dict[str, Any]) -> list[tuple[Setup, int, Path, bool]]:
    """What is still to be trained: (set-up, seed, folder, whether it continues). `tasks` are loaded, by its name."""
    todo = []
    for chosen, seed, folder in work:
        if not (folder / "config.json").is_file():
            todo.append((chosen, seed, folder, False))
            continue
        other = difference(chosen, seed, folder, tasks[chosen.name])
        if other:
            raise S4Error(f"{folder} holds a run with another set-up ({other}). Give another --out, or delete it.")
        if not finished(folder):
            todo.append((chosen, seed, folder, True))
    kept, continued = len(work) - len(todo), sum(resume for *_, resume in todo)
    if kept or continued:
        print(f"Of {len(work)} runs {kept} are there with this set-up and kept, {continued} continue.", file=sys.stderr)
    return todo


def difference(chosen: Setup, seed: int, folder: Path, task: Any) -> str:
    """Words for the first setting in which a stored run differs from the set-up; "" if it is the same.

    A setting of `fit` that is younger than the run had its default then.

    Args:
        task: the set-up's, loaded: the images of the run are held against those that it would have now.
    """
    from ...engine import images, open_run
    from ...engine.settings import Settings
    from ...methods import fingerprint

    stored = open_run(folder).config
    stored["fit"] = vars(Settings(0)) | stored["fit"]
    if stored["method"] != chosen.method:
        return f"method: {stored['method']} there, {chosen.method} now"
    if stored.get("code", "") != fingerprint(chosen.method):
        return "code: the class has changed since, or was another one"
    wanted = {"options": chosen.options, "task": chosen.task, "fit": chosen.fit | {"seed": seed}}
    for part, values in json.loads(json.dumps(wanted, default=str)).items():
        there = json.loads(json.dumps(stored[part] or {}))
        for key in sorted({*values, *there} - set(HARDWARE if part == "fit" else ())):
            if there.get(key) != values.get(key):
                return f"{key}: {there.get(key)} there, {values.get(key)} now"
    if other := images.difference(folder, task):
        return other
    files = images.content(folder, task)
    return f"files: {images.some(files)} have other content now" if files else ""


def finished(folder: Path) -> bool:
    """Whether the run in `folder` has come to its end; one whose checkpoint is damaged has not."""
    from ...engine import checkpoint, open_run

    run = open_run(folder)
    if not (folder / "last.pt").is_file():
        return False
    try:
        return checkpoint.load(folder / "last.pt")["step"] >= run.config["fit"]["steps"]
    except S4Error:  # damaged: trained again from the start
        (folder / "last.pt").unlink()
        return False


def _measure_memory(work: Sequence[tuple[Setup, int, Path]]) -> None:
    """Fill in the peak memory on a CPU, where nothing counts it during training: once per method."""
    from ...data import load
    from ...engine import open_run
    from ...methods import create
    from ...methods.base import Optim
    from ..planning.memory import step_peak

    for chosen in {p.name: p for p, _, _ in work}.values():
        folders = [folder for p, _, folder in work if p.name == chosen.name]
        if all(setup.extra(folder).get("peak_memory") for folder in folders):
            continue
        fit, task = open_run(folders[0]).config["fit"], load(**chosen.task)
        recipe = Optim([], fit["lr"], fit["head"], fit["optimiser"], fit["weight_decay"], fit["decay_norms"])
        peak = step_peak(lambda p=chosen, t=task: create(p.method, t, **p.options), task, fit["batch"], recipe, "cpu")
        for folder in folders:
            setup.note(folder, peak_memory=peak)
