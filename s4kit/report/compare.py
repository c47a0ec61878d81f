"""Several methods and seeds under one protocol: train what is missing, then a table, curves, pictures and a page."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

from ..errors import S4Error
from . import setup, text
from .figures import collect, table
from .setup import BASELINES, HARDWARE, Plan


def compare(
    methods: Sequence[str],
    data: str,
    out: str | Path,
    seeds: Sequence[int] = (0,),
    task: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
    jobs: int = 1,
    baselines: bool = True,
    command: Sequence[str] = (),
) -> dict[str, Any]:
    """Train methods x seeds under one protocol and write compare.json, curves.png, grid.png and report.html.

    Runs in `out` with the same set-up are kept, unfinished ones are continued: start it again after an interruption.

    Args:
        methods: names; "supervised" and "supervised_strong" are added unless `baselines` is False.
        data: name of the data set.
        out: folder; runs go to `out/runs/<method>-seed<seed>`.
        seeds: of the training; the split is the same in all runs.
        task, options, fit: over the recipe's; `options` go to every method that has them.
        jobs: trainings at a time in processes of their own.
        command: shown in the report, so that it can be made again.

    Returns:
        {"methods": [one dict per method], "runs": [one per method and seed: miou_last, miou_best, seconds,
        peak_memory, ...], "protocol", "table", ...}.

    Raises:
        S4Error: unknown names, or a folder that holds a run with another set-up.
    """
    from ..methods.own import OWN

    out = Path(out)
    if not seeds or jobs < 1:
        raise S4Error("Give at least one seed and one job.")
    if jobs > 1 and (own := sorted(set(methods) & set(OWN))):
        raise S4Error(f"{own[0]} is registered in this process alone: use jobs=1, or make it a file of the kit.")
    names = list(dict.fromkeys([*(BASELINES if baselines else ()), *methods]))
    plans = setup.match([setup.plan(n, data, task, _own(n, options or {}, names), fit) for n in names])
    _prepare(plans)
    work = [(p, seed, out / "runs" / f"{p.method}-seed{seed}") for seed in dict.fromkeys(seeds) for p in plans]
    todo = _missing(work)
    interrupted = _train_all(todo, len(work), jobs)
    if interrupted:
        print(f"Stopped; the same command continues in {out}.", file=sys.stderr)
        return {"out": str(out), "interrupted": True}
    _measure_memory(work)
    from .page import write_report

    result = collect(work)
    result |= {"out": str(out), "command": "s4kit " + " ".join(command) if command else "", "interrupted": False}
    (out / "compare.json").write_text(json.dumps(result, indent=2))
    write_report(out, result, work)
    files = {key: str(out / name) for key, name in FILES.items()}
    return result | {"files": files, "table": table(result) + f"\n\n{files['report']}  (curves, pictures, all figures)"}


FILES = {"report": "report.html", "json": "compare.json", "curves": "curves.png", "grid": "grid.png"}


def _own(name: str, options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The options that this method has; one that none of the methods has is a mistake."""
    import inspect

    from ..errors import closest
    from ..methods import get

    known = {n: list(inspect.signature(get(n).__init__).parameters)[2:] for n in names}
    for option in options:
        if not any(option in of for of in known.values()):
            every = sorted({o for of in known.values() for o in of})
            raise S4Error(f"None of {', '.join(names)} has the option {option!r}. {closest(option, every)}")
    return {k: v for k, v in options.items() if k in known[name]}


# ---- training ----


def _prepare(plans: Sequence[Plan]) -> None:
    """Resolve the settings; build every method once, so that a mistake shows before the first training."""
    from ..data import load
    from ..methods import create

    task = load(**plans[0].task)
    settings = setup.settle(plans[0], task).fit
    for plan in plans:
        create(plan.method, task, **plan.options)
        plan.task, plan.fit = task.config, dict(settings)


def _missing(work: Sequence[tuple[Plan, int, Path]]) -> list[tuple[Plan, int, Path, bool]]:
    """What is still to be trained: (plan, seed, folder, whether it continues)."""
    todo = []
    for plan, seed, folder in work:
        if not (folder / "config.json").is_file():
            todo.append((plan, seed, folder, False))
            continue
        other = difference(plan, seed, folder)
        if other:
            raise S4Error(f"{folder} holds a run with another set-up ({other}). Give another --out, or delete it.")
        if not finished(folder):
            todo.append((plan, seed, folder, True))
    kept, continued = len(work) - len(todo), sum(resume for *_, resume in todo)
    if kept or continued:
        print(f"Of {len(work)} runs {kept} are there with this set-up and kept, {continued} continue.", file=sys.stderr)
    return todo


def difference(plan: Plan, seed: int, folder: Path) -> str:
    """Words for the first setting in which a stored run differs from the plan; "" if it is the same."""
    from ..engine import open_run
    from ..methods import fingerprint

    stored = open_run(folder).config
    if stored["method"] != plan.method:
        return f"method: {stored['method']} there, {plan.method} now"
    if stored.get("code", "") != fingerprint(plan.method):
        return "code: the class has changed since, or was another one"
    wanted = {"options": plan.options, "task": plan.task, "fit": plan.fit | {"seed": seed}}
    for part, values in json.loads(json.dumps(wanted, default=str)).items():
        there = stored[part] or {}
        for key in sorted({*values, *there} - set(HARDWARE if part == "fit" else ())):
            if there.get(key) != values.get(key):
                return f"{key}: {there.get(key)} there, {values.get(key)} now"
    return ""


def finished(folder: Path) -> bool:
    """Whether the run in `folder` has come to its end; one whose checkpoint is damaged has not."""
    from ..engine import checkpoint, open_run

    run = open_run(folder)
    if not (folder / "last.pt").is_file():
        return False
    try:
        return checkpoint.load(folder / "last.pt")["step"] >= run.config["fit"]["steps"]
    except S4Error:  # damaged: trained again from the start
        (folder / "last.pt").unlink()
        return False


def _train_all(todo: Sequence[tuple[Plan, int, Path, bool]], total: int, jobs: int) -> bool:
    """Train one after the other, or `jobs` at a time; True if the user has stopped it."""
    before = total - len(todo)
    if jobs == 1 or len(todo) < 2:
        for number, job in enumerate(todo, before + 1):
            print(f"[{number}/{total}] {job[0].method}, seed {job[1]}", file=sys.stderr)
            found = _train_one(*job, progress=True)
            _say(found)
            if found["interrupted"]:
                return True
        return False
    return _train_parallel(todo, total, min(jobs, len(todo)))


def _train_parallel(todo: Sequence[tuple[Plan, int, Path, bool]], total: int, jobs: int) -> bool:
    threads = max(1, (os.cpu_count() or 1) // jobs)
    print(f"{len(todo)} trainings, {jobs} at a time with {threads} thread(s) each", file=sys.stderr)
    done, began = total - len(todo), time.perf_counter()
    # spawn: a fork of a process that has used PyTorch's threads may hang
    with ProcessPoolExecutor(jobs, get_context("spawn"), _worker, (threads,)) as pool:
        waiting = {pool.submit(_train_one, *job, progress=False) for job in todo}
        try:
            while waiting:
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for found in (future.result() for future in ready):
                    done += 1
                    left = (time.perf_counter() - began) / max(1, done - total + len(todo)) * len(waiting)
                    head = f"[{done}/{total}] {found['method']}, seed {found['seed']}: "
                    _say(found, head, f"; about {text.duration(left)} to go" if waiting else "")
                    if found["interrupted"]:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            _stop(pool)
            return True
        except BaseException:
            print("A training failed; the others save and stop, the same command continues them.", file=sys.stderr)
            _stop(pool)
            raise
    return False


def _worker(threads: int) -> None:
    """Prepare a process: its share of the threads; Ctrl-C goes to the parent alone, which asks each one to stop."""
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # `fit` listens while it trains
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed comparison must not leave trainings behind that write into the folders of the next one."""
    parent_process().join()
    os._exit(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    """Ask the running trainings to save and end, again until they have: one may not have begun to listen yet."""
    pool.shutdown(wait=False, cancel_futures=True)
    while running := active_children():
        for process in running:
            if hasattr(os, "setpgrp") and process.pid:
                os.kill(process.pid, signal.SIGINT)
        time.sleep(0.5)


def _train_one(plan: Plan, seed: int, folder: Path, resume: bool, progress: bool) -> dict[str, Any]:
    run = setup.train(Plan(plan.method, plan.task, plan.options, plan.fit | {"seed": seed}), folder, resume, progress)
    return setup.summary(run)


def _say(found: dict[str, Any], head: str = "  ", tail: str = "") -> None:
    if not found["interrupted"]:
        scores = f"val mIoU {text.percent(found['miou_last'])} (best {text.percent(found['miou_best'])})"
        print(f"{head}{scores}, {text.duration(found['seconds'])}{tail}", file=sys.stderr)


def _measure_memory(work: Sequence[tuple[Plan, int, Path]]) -> None:
    """Fill in the peak memory on a CPU, where nothing counts it during training: once per method."""
    from ..data import load
    from ..engine import open_run
    from ..methods import create
    from ..methods.base import Optim
    from .memory import step_peak

    for plan in {p.method: p for p, _, _ in work}.values():
        folders = [folder for p, _, folder in work if p.method == plan.method]
        if all(setup.extra(folder).get("peak_memory") for folder in folders):
            continue
        fit, task = open_run(folders[0]).config["fit"], load(**plan.task)
        recipe = Optim([], fit["lr"], fit["head"], fit["optimiser"], fit["weight_decay"], fit["decay_norms"])
        peak = step_peak(lambda p=plan, t=task: create(p.method, t, **p.options), task, fit["batch"], recipe, "cpu")
        for folder in folders:
            setup.note(folder, peak_memory=peak)
