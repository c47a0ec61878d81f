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
from .specs import parse_options

_TASK = {"root": "root", "labelled": "labelled", "split_seed": "seed", "size": "size", "crop": "crop"}
_SPLIT = ("labelled", "split", "split_seed", "size", "crop", "data_option", "more")
_FIT = (
    "steps", "epochs", "batch", "unlabelled_batch", "accumulate", "lr", "clip", "checkpoint_every",
    "evaluate_every", "probe_whole", "precision", "device", "workers", "threads", "compile", "seed",
)  # fmt: skip


def _given(a: argparse.Namespace, anew: bool = True) -> tuple[dict, dict, dict]:
    """What the user asked for: of the task, of the method, of `fit`; what begins anew needs a data set."""
    if anew and not a.data:
        raise S4Error("Say which data set: --data NAME (`s4kit data list` lists them; scenes needs no download).")
    task = _task(a, a.data)
    options = ({"net": a.backbone} if a.backbone else {}) | parse_options(a.option)
    fit = {name: getattr(a, name) for name in _FIT if getattr(a, name, None) is not None}
    if a.probes is not None:
        fit["probes"] = _watched(a.probes)
    if {"steps", "epochs"} <= fit.keys():
        raise S4Error("Give --steps or --epochs, not both.")
    return task, options, fit


def _task(a: argparse.Namespace, data: str | None) -> dict[str, Any]:
    """The arguments of `load` that the flags say."""
    from .data.splitting.split_names import flagged

    task = {name: getattr(a, flag) for flag, name in _TASK.items() if getattr(a, flag) is not None}
    labelled = flagged(a.split, a.labelled, data, a.split_seed)
    further = {"more": dict(_pair(words) for words in a.more)} if a.more else {}
    return task | ({} if labelled is None else {"labelled": labelled}) | further | parse_options(a.data_option)


def _pair(words: str) -> tuple[str, str]:
    """ "domain=gta5(size=720)" as the name of a further list and what it is."""
    name, equals, given = words.partition("=")
    if not (name and equals and given):
        raise S4Error(f"--more {words}: write NAME=DATA, such as domain=plain.")
    return name, given


def train(a: argparse.Namespace) -> dict[str, Any]:
    from .report import setup
    from .report.resume import resumed

    folder = a.resume or a.out
    goes_on = bool(a.resume) and os.path.isfile(os.path.join(a.resume, "config.json"))
    if goes_on:
        if a.out and os.path.abspath(a.out) != os.path.abspath(a.resume):
            raise S4Error(f"--resume continues in {a.resume}; leave --out away or give the same folder.")
        chosen = resumed(a.resume, a.method, a.data, *_given(a, anew=False))
    elif not a.method:
        raise S4Error(
            f"There is no run in {a.resume} to continue (no config.json)."
            if a.resume
            else "Say which method: s4kit train METHOD --data NAME (`s4kit methods` lists them)."
        )
    else:
        task, options, fit = _given(a)
        chosen = setup.of(a.method, a.data, task, options, fit)
    found = setup.summary(setup.train(chosen, folder, resume=goes_on))
    setup.say(found)
    return found


def compare(a: argparse.Namespace) -> dict[str, Any]:
    from .explore.serving.write import beside
    from .report.comparing.compare import compare

    seeds = _numbers("--seeds", a.seeds)
    task, options, fit = _given(a)
    result = compare(
        a.methods, a.data, a.out, seeds, task, options, fit, jobs=a.jobs, baselines=not a.no_baselines,
        all_labels=not a.no_oracle, command=sys.argv[1:], families=" ".join(a.family).replace(",", " ").split(),
        look=beside,
    )  # fmt: skip
    if not result["interrupted"]:
        print(result.pop("table"))
    return result


def plan(a: argparse.Namespace) -> dict[str, Any]:
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
    from .report.reproducing.reproduce import reproduce

    given = {name: getattr(a, name) for name in ("seed", "precision", "device", "workers")}
    fit = {name: value for name, value in given.items() if value is not None}
    return reproduce(
        a.method, a.data, a.split, a.dry_run, a.gpu, a.root, a.out, a.backbone, a.crop, a.steps, a.batch, a.accumulate,
        fit,
    )  # fmt: skip


def evaluate(a: argparse.Namespace) -> dict[str, Any]:
    from .data import Evaluation
    from .engine import open_run
    from .engine.protocols import Protocol, scored_by

    run = open_run(a.run)
    task = run.task(now=a.now)
    how = scored_by(task.evaluation, a.protocol, a.scales and _numbers("--scales", a.scales, float), a.flip)
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
    from .report.predict import predict_files

    return predict_files(a.run, a.images, a.out, a.which, a.device)


def methods(a: argparse.Namespace) -> list[dict[str, Any]] | dict[str, Any]:
    from .report import about, listing

    return about.about(a.name) if a.name else listing.methods(a.family)


def data(a: argparse.Namespace) -> Any:
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
    options = _task(a, a.name)
    if a.action == "look":
        return listing.look(a.name, options, a.out or f"{a.name}.html", a.images)
    return listing.check(a.name, options)


def bench(a: argparse.Namespace) -> dict[str, Any]:
    from .report.benchmarking.bench import bench
    from .report.benchmarking.growth import growth
    from .report.benchmarking.parity import parity
    from .report.benchmarking.price import price

    if a.what == "price":
        return price(a.quick, a.out)
    if a.what == "parity":
        chosen = [name for name in a.methods.split(",") if name]
        return parity(a.quick, a.out, a.runs, _numbers("--seeds", a.seeds), chosen, a.jobs)
    result = growth(a.quick) if a.what == "growth" else bench(a.what, quick=a.quick)
    if a.out:
        Path(a.out).write_text(json.dumps(result, indent=1) + "\n")
    return result


def diagnose(a: argparse.Namespace) -> dict[str, Any]:
    from .report.diagnosing.diagnose import diagnose, show

    result = diagnose(a.run)
    print(show(result))
    return result


def doctor(a: argparse.Namespace) -> dict[str, Any]:
    from .report.doctor import doctor, show

    result = doctor()
    print(show(result))
    return result


def verify(a: argparse.Namespace) -> dict[str, Any]:
    from .report.verify import verify

    only, chosen = (words.replace(",", " ").split() for words in (a.only, a.methods))
    return verify(a.device, a.quick, a.out, only, chosen, a.minutes)


def explore(a: argparse.Namespace) -> dict[str, Any]:
    from .explore.serving.serve import serve
    from .explore.serving.write import write

    added = {"added": _add(a.runs, a.add)} if a.add else {}
    if not (a.html or a.png):
        if a.images or a.steps:
            raise S4Error("--images and --steps choose what a page holds that is written: add --html FILE.")
        return added or serve(a.runs, a.port, browse=not a.no_browser)
    images, steps = (None if v is None else _numbers(n, v) for n, v in (("--images", a.images), ("--steps", a.steps)))
    return added | write(a.runs, a.html, a.png, images, steps)


def sweep(a: argparse.Namespace) -> dict[str, Any]:
    from .engine import open_run

    found = open_run(a.run).sweep(a.which, against=a.against, device=a.device, workers=a.workers)
    print(f"{found}\n{found.folder}\nlook at them: s4kit explore {a.run}; watch the worst: --add worst")
    return {"run": a.run, "folder": str(found.folder), "images": len(found), "of": found.about["images"]}


def query(a: argparse.Namespace) -> dict[str, Any]:
    from .data import load
    from .data.splitting.lists import read_list
    from .engine.query import NET, query

    def tell(asked: int, of: int) -> None:
        print(f"asked for {asked} of {of}", file=sys.stderr)

    task = load(a.data, **_task(a, a.data))
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

    added = {run: add(run, _watched(names)) for run in runs}
    for run, ids in added.items():
        print(f"{run}: " + (f"{', '.join(ids)} added" if ids else "these images are there already"))
    return added


def _watched(text: str) -> Any:
    """A number of images, the path of a list, "worst", or ids with commas."""
    if text.isdecimal():
        return int(text)
    return text if text == "worst" or os.path.isfile(text) else [name for name in text.split(",") if name]


def walk(a: argparse.Namespace) -> dict[str, Any]:
    from .walk.execute import walk

    return walk(a.profile, a.data, a.out, a.only.replace(",", " ").split(), a.notebooks, a.jobs)


def record(a: argparse.Namespace) -> dict[str, Any]:
    from .walk.recordings import SHIPPED, record

    result = record(a.comparison, a.out or SHIPPED, () if a.bare else (0,), a.named)
    print(f"{len(result['runs'])} recordings, {result['bytes'] / 1e6:.1f} MB, in {result['out']}")
    return result


def classroom(a: argparse.Namespace) -> dict[str, Any]:
    from .classroom import shell

    return shell.run(a.action, a.paths, a.assignments, a.seed, a.images, a.jobs, not a.no_wheels)


def _numbers(flag: str, text: str, kind: type = int) -> list[Any]:
    try:
        return [kind(word) for word in text.replace(",", " ").split()]
    except ValueError:
        raise S4Error(f"{flag} {text!r}: give numbers with commas, such as 0,1,2.") from None
