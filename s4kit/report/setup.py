"""From a recipe and what the user asked for to one training: a `Setup` that can be stored, compared and run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data import Evaluation

BASELINES = ("supervised", "supervised_strong")
ALL_LABELS = "all labels"  # the third line of a comparison: the supervised baseline with nothing hidden
REFERENCES = (*BASELINES, ALL_LABELS)
NOTHING_HIDDEN = {  # for `load`
    "labelled": "all", "unlabelled": None, "cover": 0, "overlap": False, "seed": 0, "corrections": None,
}  # fmt: skip
EXTRA = "summary.json"  # wall time and peak memory of a run: no part of its deterministic files
HARDWARE = ("device", "workers", "threads", "checkpoint_every", "compile")  # of `fit`: may differ between equal runs


@dataclass
class Setup:
    """One training as keyword arguments.

    Attributes:
        method: its name.
        task: for `load`. options: for `create`. fit: for `fit`.
        title: how reports call it where that is not the method's name.
    """

    method: str
    task: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] = field(default_factory=dict)
    title: str = ""

    @property
    def name(self) -> str:
        """What reports and folders call it."""
        return self.title or self.method


def of(
    method: str,
    data: str,
    task: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
) -> Setup:
    """The recipe of a method for a data set, overridden by what was asked for.

    The learning rate stays the recipe's and is scaled with the batch by `fit`, unless it was asked for. The network is
    a light one, whose weights need no download, unless another was asked for; a paper's is named on stderr.
    """
    from ..data import dataset
    from ..data.splitting.published import is_name
    from ..methods import get
    from ..methods.recipes import is_light

    dataset(data)  # an unknown name is an error here, with the closest names
    kind = get(method).kind_of(task or {})
    labelled = (task or {}).get("labelled")
    short = "labelled_epochs" in kind.recipes.get(data, {})  # a baseline is compared at equal steps instead
    known = kind.recipe(data, labelled if is_name(labelled) and not short else None)
    fit = dict(fit or {})
    shared = dict(known["fit"])
    if fit.keys() & {"steps", "epochs"}:
        shared = {k: v for k, v in shared.items() if k not in ("steps", "epochs", "before")}
    if "lr" not in fit and "batch" in shared:
        shared["reference_batch"] = shared["batch"]
    if "steps" in fit and "warmup" in shared:
        shared["warmup"] = min(shared["warmup"], fit["steps"] // 10)  # a short run would spend itself on it
    own = dict(known["method"])
    if "net" in own and dataset(data).marker and not is_light(kind, data):  # no paper is about embedded data
        papers = {name: with_weights(own.pop(name)) for name in kind.specs if name in own}
        said = [f"--backbone {net!r}" if name == "net" else f"--option {name}={net!r}" for name, net in papers.items()
                if name not in (options or {})]  # fmt: skip
        if said:
            print(f"{method}: the paper's network is {' '.join(said)}", file=sys.stderr)
    return Setup(method, {"name": data} | known["task"] | (task or {}), own | (options or {}), shared | fit)


def meant(methods: Sequence[str], data: str) -> dict[str, Any]:
    """The arguments of `load` that make a data set what these methods are for, see `Method.kind`. A second domain that
    one of them learns from is left alone by the others."""
    from ..methods import get

    kinds = [get(name).recipe(data)["kind"] for name in methods if get(name).kind]
    return {name: value for kind in kinds for name, value in kind.items()}


def with_weights(spec: str) -> str:
    """A network spec that asks for ImageNet weights: "resnet50(aux=True)" -> "resnet50(aux=True, weights=...)"; one of
    points, for which there are none, as it is."""
    if spec.startswith("voxel"):
        return spec
    weights = "weights='imagenet')"
    return f"{spec[:-1]}, {weights}" if spec.endswith(")") else f"{spec}({weights}"


def without_weights(spec: str) -> str:
    """A network spec that loads none."""
    from ..nets import parse

    base, own = parse(spec)
    return f"{base}({', '.join(f'{key}={value!r}' for key, value in {**own, 'weights': 'none'}.items())})"


def match(setups: list[Setup], protocol: str = "supervised") -> list[Setup]:
    """Set-ups under one protocol: task, network and `fit` of the first method named `protocol`, own hyper-parameters.

    Recipes of the papers differ in batch, learning rate and length; a comparison in which they differ compares those.
    What a method's data must be is asked of all of them before, see `meant`.
    """
    first = next((p for p in setups if p.method == protocol), setups[0])
    net = {k: v for k, v in first.options.items() if k == "net"}
    return [Setup(p.method, first.task, p.options | net, dict(first.fit)) for p in setups]


def all_labels(baseline: Setup) -> Setup:
    """The training of `supervised` with every label of the training set and as many steps: what is to be gained.

    The split does not matter to it, so that comparisons of several splits may share it. There is nothing unlabelled
    to look into.

    Args:
        baseline: the set-up of `supervised`; its `fit` counts steps, an epoch would be another length.
    """
    task, fit = baseline.task | NOTHING_HIDDEN, baseline.fit | {"probes": 0}
    return replace(baseline, task=task, fit=fit, title=ALL_LABELS)


def settle(chosen: Setup, task: Any) -> Setup:
    """The set-up in the form in which its run will store it: `task` is the loaded one, the settings are resolved."""
    from ..engine.settings import resolve

    fit = dict(chosen.fit)
    lengths = [fit.pop(name, None) for name in ("steps", "epochs", "before", "reference_batch")]
    return replace(chosen, task=task.config, fit=vars(resolve(task, *lengths, fit)))


def train(
    chosen: Setup,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    evaluation: Evaluation | None = None,
    start: Callable[[Any], Any] | None = None,
) -> Any:
    """Run a set-up; writes the wall time (see `spent`) and the peak memory beside the run's files. Returns the `Run`.

    Args:
        evaluation: how val is scored on the way; default as the data set is.
        start: what is done with the fresh method, such as giving it weights; its run does not store this.
    """
    from ..data import load
    from ..engine import fit, images, open_run
    from ..engine.device import pick_device
    from ..methods import create

    began = time.perf_counter()
    before = spent(out) if resume and out else 0.0  # `fit` drops the rows after the checkpoint
    peak_memory = watch_memory(pick_device(chosen.fit.get("device", "auto")))
    goes_on = resume and out and (Path(out) / "config.json").is_file()
    task = open_run(out).task() if goes_on else load(**chosen.task)
    if goes_on:
        images.same(Path(out), task)
    if evaluation:
        task = task.with_(evaluation=evaluation)
    seed_everything(chosen.fit.get("seed", 0))
    method = create(chosen.method, task, **chosen.options)
    if start:
        start(method)
    run = fit(method, task, out=out, resume=resume, progress=progress, **chosen.fit)
    seconds, peak = before + time.perf_counter() - began, peak_memory()
    note(run.path, seconds=seconds, timed_steps=_recorded(run), **({"peak_memory": peak} if peak else {}))
    return run


def spent(folder: str | Path) -> float:
    """Seconds that a run has taken so far.

    Sessions that ended in order, Ctrl-C included, count in full, from the reading of the data on. Of one that was
    killed or failed, the steps in metrics.csv count with the mean step time of timing.csv; its evaluations and passes
    over whole images do not.
    """
    from ..engine import open_run

    run, known = open_run(folder), extra(folder)
    first = known.get("timed_steps", 0)
    rows = run.timing()
    times = [row["seconds_per_step"] for row in rows if row["step"] >= first] or [r["seconds_per_step"] for r in rows]
    untimed = max(0, _recorded(run) - first) * sum(times) / max(1, len(times))
    return known.get("seconds", 0.0) + untimed


def _recorded(run: Any) -> int:
    """How many steps are in metrics.csv."""
    rows = run.metrics()
    return rows[-1]["step"] + 1 if rows else 0


def watch_memory(device: Any) -> Callable[[], int]:
    """Start counting a GPU's peak memory; the function returned gives it in bytes, 0 for a CPU."""
    import torch

    if device.type != "cuda":
        return lambda: 0
    torch.cuda.init()  # with an explicit device the counters do not do it themselves
    torch.cuda.reset_peak_memory_stats(device)
    return lambda: torch.cuda.max_memory_allocated(device)


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
    """Keep values beside a run's files; of several processes the first one does."""
    from ..engine import checkpoint, distributed

    if distributed.rank() == 0:
        text = json.dumps(extra(folder) | values)
        checkpoint.write_atomic(Path(folder) / EXTRA, lambda file: file.write(text.encode()))


def summary(run: Any) -> dict[str, Any]:
    """What the shell says of a run: score in [0, 1] and its name, seconds (see `spent`), bytes; None where unknown."""
    known = extra(run.path)
    config = run.config
    return {
        "run": str(run.path),
        "method": config["method"],
        "data": (config.get("task") or {}).get("name"),
        "protocol": config.get("protocol"),
        "seed": config["fit"]["seed"],
        "steps": config["fit"]["steps"],
        "score": run.score,
        "last": run.last.get(run.column),
        "best": run.best.get(run.column),
        "best_step": run.best.get("step"),
        "seconds": known.get("seconds"),
        "peak_memory": known.get("peak_memory"),
        "interrupted": run.interrupted,
        "told": run.told,
        "rounds": run.rounds,
    }


def say(found: dict[str, Any]) -> None:
    """Print a run's `summary` and what can be done next."""
    from .text import duration, percent

    if found["interrupted"]:
        print(f"Stopped. Continue with: s4kit train --resume {found['run']}")
        return
    best = f"best {percent(found['best'])} at step {found['best_step']}, chosen on val"
    told = f", told of the unlabelled images ({found['told']})" if found["told"] else ""
    print(f"{found['method']} on {found['data']} ({found['protocol']}){told}")
    if found["rounds"]:
        column = found["score"].lower()
        each = (f"{of['name']} {percent(of[column])} ({of['steps']} steps)" for of in found["rounds"])
        print("rounds: " + ", ".join(each))
    print(f"val {found['score']} {percent(found['last'])} at the end ({best}); {duration(found['seconds'])}")
    print(f"run: {found['run']}   next: s4kit eval {found['run']}, s4kit diagnose {found['run']}")
