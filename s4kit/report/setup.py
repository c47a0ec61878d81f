"""From a recipe and what the user asked for to one training: a `Plan` that can be stored, compared and run."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import S4Error

BASELINES = ("supervised", "supervised_strong")
EXTRA = "summary.json"  # wall time and peak memory of a run: no part of its deterministic files


@dataclass
class Plan:
    """One training as keyword arguments.

    Attributes:
        method: its name.
        task: for `load`. options: for `create`. fit: for `fit`.
    """

    method: str
    task: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)


def plan(
    method: str,
    data: str,
    task: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
) -> Plan:
    """The recipe of a method for a data set, overridden by what was asked for.

    The learning rate stays the recipe's and is scaled with the batch by `fit`, unless it was asked for. The network is
    the kit's light one, whose weights need no download, unless another was asked for; the paper's is named on stderr.
    """
    from ..data import dataset
    from ..methods import get, recipe

    dataset(data)  # an unknown name is an error here, with the closest names
    get(method)
    known = recipe(method, data)
    fit = dict(fit or {})
    shared = dict(known["fit"])
    if fit.keys() & {"steps", "epochs"}:
        shared = {k: v for k, v in shared.items() if k not in ("steps", "epochs")}
    if "lr" not in fit and "batch" in shared:
        shared["reference_batch"] = shared["batch"]
    if "steps" in fit and "warmup" in shared:
        shared["warmup"] = min(shared["warmup"], fit["steps"] // 10)  # a short run would spend itself on it
    own = dict(known["method"])
    if "net" in own and "net" not in (options or {}):
        print(f"{method}: the paper's network is --backbone {_with_weights(own.pop('net'))!r}", file=sys.stderr)
    return Plan(method, {"name": data} | known["task"] | (task or {}), own | (options or {}), shared | fit)


def _with_weights(spec: str) -> str:
    """A network spec that asks for ImageNet weights: "resnet50(aux=True)" -> "resnet50(aux=True, weights=...)"."""
    weights = "weights='imagenet')"
    return f"{spec[:-1]}, {weights}" if spec.endswith(")") else f"{spec}({weights}"


def match(plans: list[Plan], protocol: str = "supervised") -> list[Plan]:
    """The plans under one protocol: task, network and `fit` of the first method named `protocol`, own hyper-parameters.

    Recipes of the papers differ in batch, learning rate and length; a comparison in which they differ compares those.
    """
    first = next((p for p in plans if p.method == protocol), plans[0])
    net = {k: v for k, v in first.options.items() if k == "net"}
    return [Plan(p.method, first.task, p.options | net, dict(first.fit)) for p in plans]


def resumed(folder: str | Path) -> Plan:
    """The plan of a run that exists, from its config.json; its settings are resolved already."""
    from ..engine import open_run

    config = open_run(folder).config
    if not config.get("task"):
        raise S4Error(f"The run in {folder} was trained on images in memory: resume it from Python, with its task.")
    return Plan(config["method"], config["task"], config["options"], config["fit"])


def train(plan: Plan, out: str | Path | None = None, resume: bool = False, progress: bool = True) -> Any:
    """Run a plan; writes the wall time beside the run's files. Returns the `Run`."""
    import torch

    from ..data import load
    from ..engine import fit
    from ..methods import create

    began = time.perf_counter()
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    task = load(**plan.task)
    seed_everything(plan.fit.get("seed", 0))
    method = create(plan.method, task, **plan.options)
    run = fit(method, task, out=out, resume=resume, progress=progress, **plan.fit)
    before = extra(run.path).get("seconds", 0.0) if resume else 0.0
    peak = torch.cuda.max_memory_allocated() if gpu else 0  # 0 where it was trained on the CPU
    note(run.path, seconds=before + time.perf_counter() - began, **({"peak_memory": peak} if peak else {}))
    return run


def seed_everything(seed: int) -> None:
    """Seed the generators that initialise new layers."""
    import random

    import torch

    from ..data.seeding import mix_seed

    random.seed(seed)
    torch.manual_seed(mix_seed(seed, "init"))


def extra(folder: str | Path) -> dict[str, Any]:
    """What `note` has kept of a run; {} where there is nothing."""
    try:
        return json.loads((Path(folder) / EXTRA).read_text())
    except (OSError, json.JSONDecodeError):
        return {}


def note(folder: str | Path, **values: Any) -> None:
    """Keep values beside a run's files."""
    (Path(folder) / EXTRA).write_text(json.dumps(extra(folder) | values))


def summary(run: Any) -> dict[str, Any]:
    """What the shell says of a run: scores in [0, 1], seconds, bytes; None where unknown."""
    known = extra(run.path)
    config = run.config
    return {
        "run": str(run.path),
        "method": config["method"],
        "data": (config.get("task") or {}).get("name"),
        "protocol": config.get("protocol"),
        "seed": config["fit"]["seed"],
        "steps": config["fit"]["steps"],
        "miou_last": run.last.get("miou"),
        "miou_best": run.best.get("miou"),
        "best_step": run.best.get("step"),
        "seconds": known.get("seconds"),
        "peak_memory": known.get("peak_memory"),
        "interrupted": run.interrupted,
    }


def say(found: dict[str, Any]) -> None:
    """Print a run's `summary` and what can be done next."""
    from .text import duration, percent

    if found["interrupted"]:
        print(f"Stopped. Continue with: s4kit train --resume {found['run']}")
        return
    best = f"best {percent(found['miou_best'])} at step {found['best_step']}, chosen on val"
    print(f"{found['method']} on {found['data']} ({found['protocol']})")
    print(f"val mIoU {percent(found['miou_last'])} at the end ({best}); {duration(found['seconds'])}")
    print(f"run: {found['run']}   next: s4kit eval {found['run']}, s4kit diagnose {found['run']}")


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """["tau=0.9", "net=resnet50"] to a dict; values are Python literals where they look like one.

    Raises:
        S4Error: a pair has no "=".
    """
    import ast

    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise S4Error(f"The option {pair!r} is not of the form name=value, such as tau=0.9 or cover=3.")
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found
