"""`s4kit bench parity`: whole trainings of the kit against plain loops that take only the network from it, `parity/`.

Both sides train the same network from the same first weights on the same images of `scenes` with the same rates, batch
and number of steps; views, losses, loop and score are each side's own, and so are the draws. The network is that of the
lesson, whose norms do not look at the batch: with batch norms FixMatch learns or collapses by chance, and a spread that
wide hides every difference.

A method holds where the two means lie within the spread of the seeds: they differ by at most the sum of the two
standard deviations over the seeds, so that mean ± sd of one side meets mean ± sd of the other. Trainings that are the
same up to chance fail this once in twelve times with three seeds, once in sixty with five, once in a hundred and fifty
with six (simulated with normal draws); a fault stays when seeds are added.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ...data import load
from ...data.task import Task
from ...engine import open_run
from ...engine.checkpoint import write_atomic
from ...engine.device import pick_device
from ...errors import S4Error
from ...methods.recipes import STEADY
from ...nets import SegNet, make
from .. import setup, text
from ..comparing import placement, processes
from .plain.loop import miou, train
from .plain.methods import METHODS
from .price import commit, processor

MEASURED = Path(__file__).parent / "measured" / "parity.json"
SIDES = ("kit", "plain")
NET, FIT, TASK = STEADY, {"steps": 300, "batch": 4}, {}
SETTINGS = ("steps", "batch", "optimiser", "lr", "head", "weight_decay", "schedule", "warmup")
QUICK = "tiny", {"steps": 3, "batch": 2}, {"n_train": 12, "n_val": 3, "side": 48, "labelled": 4}


def parity(
    quick: bool = False,
    out: str | Path | None = None,
    runs: str | Path = "runs/parity",
    seeds: Sequence[int] = (0, 1, 2),
    methods: Sequence[str] = (),
    jobs: int = 0,
) -> dict[str, Any]:
    """Train both sides and print the table.

    A finished training is kept in `runs` and not repeated: start it again after an interruption, or with more seeds.

    Args:
        quick: a tiny network and three steps: shows that all is in order, not that the sides agree.
        out: file for the result as JSON.
        runs: folder of the trainings.
        seeds: of the trainings, at least two; the split is the same in all.
        methods: names; none = all that have a plain loop.
        jobs: trainings at a time, see `placement.slots`.

    Returns:
        {"command", "date", "commit", "machine", "settings", "seeds", "rows": [{"method", "kit", "plain": mIoU by seed,
        "difference", "spread", "holds"}], "ok": all hold, ...}; mIoU in [0, 1], of the last step.

    Raises:
        S4Error: fewer than two seeds, or `runs` holds trainings with other settings.
    """
    if len(set(seeds)) < 2:
        raise S4Error("The spread of the seeds needs at least two of them: --seeds 0,1,2.")
    net, fit, task = QUICK if quick else (NET, FIT, TASK)
    setups = _setups(methods or tuple(METHODS), net, fit, task)
    loaded = load(**setups[0].task)
    setups = [setup.settle(chosen, loaded) for chosen in setups]
    found: dict[tuple[str, str], list[float]] = {(p.method, side): [] for p in setups for side in SIDES}
    todo = [(chosen, seed, side) for seed in dict.fromkeys(seeds) for chosen in setups for side in SIDES]
    slots = placement.slots(jobs, need=lambda: placement.largest(setups, loaded))
    for number, ((chosen, seed, side), score) in enumerate(zip(todo, _scores(todo, Path(runs), loaded, slots)), 1):
        print(f"[{number}/{len(todo)}] {chosen.method}, {side}, seed {seed}: {text.percent(score)}", file=sys.stderr)
        found[chosen.method, side].append(score)
    rows = [_judged(p.method, *(found[p.method, side] for side in SIDES)) for p in setups]
    result = {
        "command": "s4kit bench parity" + (" --quick" if quick else ""),
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": f"{torch.cuda.get_device_name() if torch.cuda.is_available() else processor()}, "
        f"torch {torch.__version__}",
        "settings": {"net": net, **{key: setups[0].fit[key] for key in SETTINGS}},
        "seeds": list(dict.fromkeys(seeds)),
        "rows": rows,
        "quick": quick,
        "ok": quick or all(row["holds"] for row in rows),
    }
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(json.dumps(result, indent=1) + "\n")
    print(show(result))
    return result


def _setups(methods: Sequence[str], net: str, fit: dict[str, Any], task: dict[str, Any]) -> list[setup.Setup]:
    """The trainings: all methods under the protocol of `supervised`, each with its own hyper-parameters."""
    for name in methods:
        if name not in METHODS:
            raise S4Error(f"There is no plain loop of {name!r}, only of {', '.join(METHODS)}.")
    once = {"evaluate_every": fit["steps"], "probes": 0}
    setups = [setup.of(name, "scenes", task, {"net": net}, fit | once) for name in ("supervised", *methods)]
    return setup.match(setups)[1:]


def _scores(
    todo: Sequence[tuple[setup.Setup, int, str]], runs: Path, task: Task, slots: Sequence[str | None]
) -> Iterator[float]:
    """Of each training in turn, one after the other or in as many processes as there are slots."""
    if len(slots) < 2:
        yield from (_kept(*one, runs, task) for one in todo)
        return
    with processes.side_by_side(slots) as submit:
        yield from [future.result() for future in [submit(_kept, *one, runs) for one in todo]]


def _kept(chosen: setup.Setup, seed: int, side: str, runs: Path, task: Task | None = None) -> float:
    """The score of a training, from its folder where it is finished; `task` is the set-up's, loaded where it is not."""
    folder = runs / f"{chosen.method}-{side}-seed{seed}"
    file, said = folder / "parity.json", {"options": chosen.options, **{key: chosen.fit[key] for key in SETTINGS}}
    if file.is_file():
        known = json.loads(file.read_text())
        if known["set_up"] != said:
            raise S4Error(f"{folder} holds a training with other settings: delete it, or give another --runs folder.")
        return known["miou"]
    began = time.perf_counter()
    call = {"kit": _train_kit, "plain": _train_plain}[side]
    score = call(folder, chosen, task or load(**chosen.task), seed)
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"set_up": said, "miou": score, "seconds": time.perf_counter() - began})
    write_atomic(file, lambda opened: opened.write(content.encode()))
    return score


def _train_kit(folder: Path, chosen: setup.Setup, task: Task, seed: int) -> float:
    goes_on = (folder / "config.json").is_file()
    one = setup.Setup(chosen.method, chosen.task, chosen.options, chosen.fit | {"seed": seed})
    run = setup.train(one, folder, resume=goes_on, progress=False)
    if run.interrupted:
        raise KeyboardInterrupt
    return open_run(folder).last["miou"]


def _train_plain(folder: Path, chosen: setup.Setup, task: Task, seed: int) -> float:
    options = {key: value for key, value in chosen.options.items() if key != "net"}
    nets = [net.to(pick_device(chosen.fit["device"])) for net in _fresh(chosen, task, seed)]
    return miou(train(chosen.method, task, nets, chosen.fit, seed, **options), task)


def _fresh(chosen: setup.Setup, task: Task, seed: int) -> list[SegNet]:
    """The networks that a method trains, with the weights that they have in the kit for this seed."""
    setup.seed_everything(seed)
    return [make(chosen.options["net"], task) for _ in range(METHODS[chosen.method].nets)]


def _judged(method: str, kit: list[float], plain: list[float]) -> dict[str, Any]:
    """Means, difference and spread of one method, see above."""
    difference = statistics.fmean(kit) - statistics.fmean(plain)
    spread = statistics.stdev(kit) + statistics.stdev(plain)
    holds = abs(difference) <= spread
    return {"method": method, "kit": kit, "plain": plain, "difference": difference, "spread": spread, "holds": holds}


def measured() -> dict[str, Any]:
    """The result that is stored with the kit."""
    return json.loads(MEASURED.read_text())


def show(result: dict[str, Any]) -> str:
    """The result for the terminal."""
    rows = []
    for row in result["rows"]:
        sides = [text.spread(statistics.fmean(row[side]), statistics.stdev(row[side])) for side in SIDES]
        apart, spread = text.difference(row["difference"]), f"{100 * row['spread']:.1f}"
        rows.append((row["method"], *sides, apart, spread, "yes" if row["holds"] else "NO"))
    of = result["settings"]
    head = (
        f"{result['machine']}; scenes, {of['net']}, {of['steps']} steps, batch {of['batch']}, "
        f"seeds {', '.join(map(str, result['seeds']))}; val mIoU at the end, mean ± sd"
    )
    names = ("method", "kit", "plain loop", "difference", "spread of the seeds", "within")
    note = "\nquick: too short to judge by" if result["quick"] else ""
    return f"{head}\n\n{text.table(names, rows, right='lrrrrl')}{note}"
