"""What each shell command does: the parsed flags in, one function of the kit, the answer out.

A function prints what people read and returns what `--json` prints. Imports are inside, so that `--help` is light.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from .errors import S4Error
from .flag_values import given, numbers, task_options, watched
from .specs import parse_options

_SPLIT = ("labelled", "split", "split_seed", "size", "crop", "data_option", "more")


def train(a: argparse.Namespace) -> dict[str, Any]:
    """Train, or go on with a run; its summary. Raises S4Error without a method, or for two different folders."""
    from .report import setup
    from .report.resume import resumed

    folder = a.resume or a.out
    goes_on = bool(a.resume) and os.path.isfile(os.path.join(a.resume, "config.json"))
    if goes_on:
        if a.out and os.path.abspath(a.out) != os.path.abspath(a.resume):
            raise S4Error(f"--resume continues in {a.resume}; leave --out away or give the same folder.")
        chosen = resumed(a.resume, a.method, a.data, *given(a, anew=False))
    elif not a.method:
        raise S4Error(
            f"There is no run in {a.resume} to continue (no config.json)."
            if a.resume
            else "Say which method: s4kit train METHOD --data NAME (`s4kit methods` lists them)."
        )
    else:
        task, options, fit = given(a)
        chosen = setup.of(a.method, a.data, task, options, fit)
    found = setup.summary(setup.train(chosen, folder, resume=goes_on))
    setup.say(found)
    return found


def compare(a: argparse.Namespace) -> dict[str, Any]:
    """Train several methods under one protocol and write the report; prints the table."""
    from .explore.serving.write import beside
    from .report.comparing.compare import compare

    seeds = numbers("--seeds", a.seeds)
    task, options, fit = given(a)
    result = compare(
        a.methods, a.data, a.out, seeds, task, options, fit, jobs=a.jobs, baselines=not a.no_baselines,
        all_labels=not a.no_oracle, command=sys.argv[1:], families=" ".join(a.family).replace(",", " ").split(),
        look=beside,
    )  # fmt: skip
    if not result["interrupted"]:
        print(result.pop("table"))
    return result


def plan(a: argparse.Namespace) -> dict[str, Any]:
    """What a training would need: memory, time, images; nothing is trained."""
    from .data.outline import OUTLINES
    from .report.planning.planner import plan

    options = ({"net": a.backbone} if a.backbone else {}) | parse_options(a.option)
    task: Any = a.data
    if a.root or a.data not in OUTLINES:
        from .data import load
        from .methods import recipe

        listed = {"labelled": f"{a.data}/{a.split.removeprefix(a.data + '/')}"} if a.split else {}
        task = load(a.data, root=a.root, **recipe(a.method, a.data)["task"] | listed)
    found = plan(a.method, task, a.gpu, a.split, a.batch, a.crop, a.precision, options)
    print(found)
    return found.to_dict()


def reproduce(a: argparse.Namespace) -> dict[str, Any]:
    """Train with a published recipe, or with `--dry-run` say what it would be."""
    from .report.reproducing.reproduce import reproduce

    told = {name: getattr(a, name) for name in ("seed", "precision", "device", "workers")}
    fit = {name: value for name, value in told.items() if value is not None}
    return reproduce(
        a.method, a.data, a.split, a.dry_run, a.gpu, a.root, a.out, a.backbone, a.crop, a.steps, a.batch, a.accumulate,
        fit,
    )  # fmt: skip


def evaluate(a: argparse.Namespace) -> dict[str, Any]:
    """Score the networks of a run; the scores of each, in [0, 1], under "predictors"."""
    from .data import Evaluation
    from .engine import open_run
    from .engine.protocols import Protocol, scored_by

    run = open_run(a.run)
    task = run.task(now=a.now)
    how = scored_by(task.evaluation, a.protocol, a.scales and numbers("--scales", a.scales, float), a.flip)
    found = run.evaluate(a.which, task, a.device, how)
    said = Protocol(how, "") if isinstance(how, Evaluation) else how.of
    print(f"scored by {a.protocol or 'the protocol of the data set'}: {said}")
    for name, scores in found.items():
        print(f"{name} ({a.which} checkpoint of {run.path})\n{scores}\n")
    first, scores = next(iter(found.items()))
    result = {"run": str(run.path), "which": a.which, "predictor": first, scores.name.lower(): scores.headline}
    result |= {"protocol": a.protocol, "evaluation": vars(how)}
    return result | {"predictors": {name: scores.to_dict() for name, scores in found.items()}}


def predict(a: argparse.Namespace) -> dict[str, Any]:
    """Write the masks of images of one's own; see `predict_files`."""
    from .report.predict import predict_files

    return predict_files(a.run, a.images, a.out, a.which, a.device)


def methods(a: argparse.Namespace) -> list[dict[str, Any]] | dict[str, Any]:
    """A row for each method, of one family where asked; or, of one method, all that is known."""
    from .report import about, listing

    return about.about(a.name) if a.name else listing.methods(a.family)


def data(a: argparse.Namespace) -> Any:
    """List, fetch, check or look at data sets, or compare splits; S4Error for what the action has no use for."""
    from .report import listing

    if a.other and a.action != "splits":
        raise S4Error(f"s4kit data {a.action} takes one name, not {a.name} and {a.other}.")
    if a.action not in ("check", "look") and (unused := [f for f in _SPLIT if getattr(a, f) not in (None, [])]):
        raise S4Error(f"s4kit data {a.action} takes no --{unused[0].replace('_', '-')}; check and look do.")
    if a.action == "splits":
        return listing.splits(a.name, a.other, a.root)
    if a.action == "list":
        return listing.datasets()
    if not a.name:
        raise S4Error(f"Say which data set: s4kit data {a.action} NAME (`s4kit data list` lists them).")
    if a.action == "get":
        return listing.fetch(a.name, a.root)
    options = task_options(a, a.name)
    if a.action == "look":
        return listing.look(a.name, options, a.out or f"{a.name}.html", a.images)
    return listing.check(a.name, options)


def bench(a: argparse.Namespace) -> dict[str, Any]:
    """Measure the kit against plain code on this machine; with `--out` what was measured is written, too."""
    from .report.benchmarking.bench import bench
    from .report.benchmarking.growth import growth
    from .report.benchmarking.parity import parity
    from .report.benchmarking.price import price

    if a.what == "price":
        return price(a.quick, a.out)
    if a.what == "parity":
        chosen = [name for name in a.methods.split(",") if name]
        return parity(a.quick, a.out, a.runs, numbers("--seeds", a.seeds), chosen, a.jobs)
    result = growth(a.quick) if a.what == "growth" else bench(a.what, quick=a.quick)
    if a.out:
        Path(a.out).write_text(json.dumps(result, indent=1) + "\n")
    return result


def diagnose(a: argparse.Namespace) -> dict[str, Any]:
    """What seems wrong with a run, and what to do about it."""
    from .report.diagnosing.diagnose import diagnose, show

    result = diagnose(a.run)
    print(show(result))
    return result


def doctor(a: argparse.Namespace) -> dict[str, Any]:
    """What of the installation works, and what is too old or missing."""
    from .report.doctor import doctor, show

    result = doctor()
    print(show(result))
    return result


def verify(a: argparse.Namespace) -> dict[str, Any]:
    """Whether the kit does on this machine what it does elsewhere; parts that were left out are named."""
    from .report.verify import verify

    only, chosen = (words.replace(",", " ").split() for words in (a.only, a.methods))
    return verify(a.device, a.quick, a.out, only, chosen, a.minutes)


def explore(a: argparse.Namespace) -> dict[str, Any]:
    """Serve the explorer until it is stopped, or write what it shows as a page or picture."""
    from .explore.serving.serve import serve
    from .explore.serving.write import write

    added = {"added": _add(a.runs, a.add)} if a.add else {}
    if not (a.html or a.png):
        if a.images or a.steps:
            raise S4Error("--images and --steps choose what a page holds that is written: add --html FILE.")
        return added or serve(a.runs, a.port, browse=not a.no_browser)
    images, steps = (None if v is None else numbers(n, v) for n, v in (("--images", a.images), ("--steps", a.steps)))
    return added | write(a.runs, a.html, a.png, images, steps)


def sweep(a: argparse.Namespace) -> dict[str, Any]:
    """Predict all unlabelled and validation images of a run, a row each; their folder, and how many there are."""
    from .engine import open_run

    found = open_run(a.run).sweep(a.which, against=a.against, device=a.device, workers=a.workers)
    print(f"{found}\n{found.folder}\nlook at them: s4kit explore {a.run}; watch the worst: --add worst")
    return {"run": a.run, "folder": str(found.folder), "images": len(found), "of": found.about["images"]}


def query(a: argparse.Namespace) -> dict[str, Any]:
    """Choose which images to label next and write their ids into a file."""
    from .data import load
    from .data.splitting.lists import read_list
    from .engine.query import NET, query

    def tell(asked: int, of: int) -> None:
        print(f"asked for {asked} of {of}", file=sys.stderr)

    task = load(a.data, **task_options(a, a.data))
    net, further = a.backbone or NET, {"epochs": a.passes, "seed": a.seed, "device": a.device, "tell": tell}
    if a.tags:
        lines = [[word.strip() for word in line.split(",")] for line in read_list(a.tags)[0]]
        further["tags"] = {name: words for name, *words in lines}
    ids = query(task, a.budget, a.by, a.alpha, a.beta, net, **further)
    chosen = f"# {len(ids)} of {len(task.rows('all'))} images of {task.name}, asked for by {a.by}, seed {a.seed}"
    Path(a.out).write_text("\n".join([chosen, *ids]) + "\n", encoding="utf-8")
    print(f"{len(ids)} ids in {a.out}   next: s4kit train METHOD --data {a.data} --labelled {a.out}")
    return {"ids": ids, "file": a.out}


def _add(runs: list[str], names: str) -> dict[str, list[str]]:
    """Watch more images of each run; what was added, by run."""
    from .engine.later import add

    added = {run: add(run, watched(names)) for run in runs}
    for run, ids in added.items():
        print(f"{run}: " + (f"{', '.join(ids)} added" if ids else "these images are there already"))
    return added


def walk(a: argparse.Namespace) -> dict[str, Any]:
    """Execute the notebooks and write them, their pages and an index; times and what failed."""
    from .walk.execute import walk

    return walk(a.profile, a.data, a.out, a.only.replace(",", " ").split(), a.notebooks, a.jobs)


def record(a: argparse.Namespace) -> dict[str, Any]:
    """Shrink the runs of a comparison to recordings that travel with the kit; their number and bytes."""
    from .walk.recordings import SHIPPED, record

    result = record(a.comparison, a.out or SHIPPED, () if a.bare else (0,), a.named)
    print(f"{len(result['runs'])} recordings, {result['bytes'] / 1e6:.1f} MB, in {result['out']}")
    return result


def classroom(a: argparse.Namespace) -> dict[str, Any]:
    """Set assignments, grade them or rank the open project, see `classroom.shell.run`."""
    from .classroom import shell

    return shell.run(a.action, a.paths, a.assignments, a.seed, a.images, a.jobs, not a.no_wheels)
