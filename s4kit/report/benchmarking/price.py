"""`s4kit bench price`: what a step of each method costs, in time and memory, relative to one of `fixmatch`.

The same network, images, crop, batch and optimiser for all. A method is taken through its training in a few evenly
spaced moments of 1000 steps, with the losses, views and networks of the stage that a moment falls into, so that ramps,
warm-ups and stages count with their share of the training: `time` is the mean over the moments, not the cost of one of
them. `memory` is the largest peak of all moments.

Every timed step stands beside one of the reference, so that what a busy machine does to one it does to the other; on a
CPU they are CPU seconds of one thread, on CUDA wall seconds. The views are part of a step, reading the images is not.
"""

from __future__ import annotations

import gc
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from ...data import load
from ...data.seeding import mix_seed
from ...data.task import Task
from ...engine import optimise
from ...engine.settings import share_out
from ...errors import S4Error
from ...methods import create, files, fitting, get, recipe
from ...methods.base import Clock, Method, Optim
from ...views import HostStep, draw_step
from .. import text
from ..planning.memory import Stepper, tracked

REFERENCE = "fixmatch"
MEASURED = Path(__file__).parent / "measured" / "price.json"
STEPS, EPOCH = 1000, 50  # of the training and of a pass over the unlabelled images
NET, CROP, BATCH, MOMENTS, PASSES = "efficientnet_lite0(weights='none')", 96, 2, 6, 2
QUICK = ("tiny", 48, 2, 2, 1)
RECIPE = Optim([], lr=1e-4, kind="adamw")


class Walk(Stepper):
    """A method on its way through a training of `STEPS` steps, of which only some are done."""

    def __init__(self, method: Method, task: Task, batch: int, device: str) -> None:
        super().__init__(method, task, RECIPE, device)
        self.task, self.size = task, batch
        self.stages = share_out(method.stages(), STEPS, {"unlabelled": EPOCH, "labelled": EPOCH})
        self.drawn: dict[int, HostStep] = {}
        self.evaluations = 0

    def go(self, moment: int, moments: int) -> None:
        """Stand before the step in the middle of part `moment` of `moments`: its stage, clock and images."""
        done = (2 * moment + 1) * STEPS // (2 * moments)
        index, (stage, first, steps) = [(i, s) for i, s in enumerate(self.stages) if s[1] <= done][-1]
        if stage is not self.stage:
            self.stage, self.optimisers = stage, optimise.build(self.specs, stage.train)
        self.evaluations += 1  # each found the best score so far, for methods that wait for it
        self.clock = Clock(done - first, steps, EPOCH, index, done / STEPS, score=self.evaluations / STEPS)
        self.moment = moment
        if moment not in self.drawn:
            views = stage.views or self.method.views
            self.drawn[moment] = draw_step(self.task, views, self.size, 0, index, moment)

    def step(self) -> float:
        """Seconds of the step, on a CPU those that the process had; its choices are the moment's."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        random.seed(mix_seed("price", self.moment))
        self._wait()
        began = clock()
        self(self.batch(self.drawn[self.moment]))
        self._wait()
        return clock() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def price(quick: bool = False, out: str | Path | None = None, methods: Sequence[str] = ()) -> dict[str, Any]:
    """Measure the methods and print the table.

    Args:
        quick: the tiny network and few steps: shows that all is in order, not what a step costs.
        out: file for the result as JSON.
        methods: names; none = all of the kit.

    Returns:
        {"command", "date", "commit", "machine", "settings", "reference", "rows": [{"method", "time", "memory"}],
        "exactness", ...}; time and memory are multiples of the reference's, whose own row is 1. "exactness" is how far
        the reference, measured against itself, came out from 1. A method that failed is in "failed", not in "rows".

    Raises:
        S4Error: the reference, against which the others are measured, failed.
    """
    from .bench import one_thread

    device = "cuda" if torch.cuda.is_available() else "cpu"
    net, crop, batch, moments, passes = QUICK if quick else (NET, CROP, BATCH, MOMENTS, PASSES)
    side = max(64, crop)
    more = {"domain": f"plain(n_train=8, n_val=1, side={side})"}
    task = load("scenes", n_train=16, n_val=2, side=side, labelled=8, crop=crop, more=more)
    ours = [name for name in fitting(task) if name in files()]
    names = [REFERENCE, *(name for name in methods or ours if name != REFERENCE)]
    rows, failed, exactness = [], [], 0.0
    with one_thread():
        reference, memory = _prepared(REFERENCE, task, net, batch, moments, device)
        for number, name in enumerate(names, 1):
            try:
                walk, peak = _prepared(name, task, net, batch, moments, device)
                ratio, seconds = _ratio(walk, reference, moments, passes)
            except Exception as error:
                failed.append({"method": name, "error": f"{type(error).__name__}: {error}"})
                print(f"[{number}/{len(names)}] {name} FAILED: {failed[-1]['error']}", file=sys.stderr)
                continue
            print(f"[{number}/{len(names)}] {name}: {ratio:.3f} x time, {peak / memory:.3f} x memory", file=sys.stderr)
            if name == REFERENCE:
                exactness, own = abs(ratio - 1), seconds
                ratio, peak = 1.0, memory
            rows.append({"method": name, "time": round(ratio, 3), "memory": round(peak / memory, 3)})
    if failed and failed[0]["method"] == REFERENCE:
        raise S4Error(f"{REFERENCE}, against which the others are measured, failed: {failed[0]['error']}")
    result = {
        "command": "s4kit bench price" + (" --quick" if quick else ""),
        "date": date.today().isoformat(),
        "commit": commit(),
        "machine": machine(device),
        "settings": {"net": net, "crop": crop, "batch": batch, "moments": moments, "passes": passes},
        "reference": REFERENCE,
        "rows": sorted(rows, key=lambda row: (row["time"], row["method"])),
        "exactness": round(exactness, 3),
        "reference_seconds": own,
        "reference_memory": memory,
        "quick": quick,
        "failed": failed,
        "ok": not failed,
    }
    if out:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        Path(out).write_text(json.dumps(result, indent=1) + "\n")
    print(show(result))
    return result


def _prepared(name: str, task: Task, net: str, batch: int, moments: int, device: str) -> tuple[Walk, int]:
    """A method that has gone through all moments once, and the peak bytes of that, its networks included."""
    torch.manual_seed(mix_seed("price", "init"))
    own = recipe(name, "scenes")["method"]
    options = {key: value for key, value in own.items() if key not in get(name).specs} | {"net": net}
    gc.collect()  # what is released in the block would be taken from what it allocates
    with tracked(device) as peak:
        walk = Walk(create(name, task, **options), task, batch, device)
        for moment in range(moments):
            walk.go(moment, moments)
            walk.step()
    return walk, peak.bytes


def _ratio(walk: Walk, reference: Walk, moments: int, passes: int) -> tuple[float, float]:
    """(time over the reference's, seconds of a step): means over the moments of medians over the passes."""
    sides = (walk, reference)
    times: dict[Walk, list[list[float]]] = {side: [[] for _ in range(moments)] for side in sides}
    for run in range(passes):
        for moment in range(moments):
            for side in sides if run % 2 else reversed(sides):
                side.go(moment, moments)
                times[side][moment].append(side.step())
    own, base = (statistics.fmean(map(statistics.median, times[side])) for side in sides)
    return own / base, own


def commit() -> str:
    """The kit's commit, "+" if its files have changed since; "" where it is no checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "--", "..") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(device: str) -> str:
    """Name of the GPU, or of the processor of which one thread is used, and PyTorch's version."""
    name = torch.cuda.get_device_name() if device == "cuda" else f"1 thread of a {processor()}"
    return f"{name}, torch {torch.__version__}"


def processor() -> str:
    """The CPU's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measured() -> dict[str, Any]:
    """The result that is stored with the kit."""
    return json.loads(MEASURED.read_text())


def show(result: dict[str, Any]) -> str:
    """The result for the terminal."""
    rows = [(r["method"], f"{r['time']:.2f}", f"{r['memory']:.2f}") for r in result["rows"]]
    of = result["settings"]
    head = (
        f"{result['machine']}; {of['net']}, crop {of['crop']}, {of['batch']} labelled images a step\n"
        f"a step relative to {result['reference']}: {1000 * result['reference_seconds']:.0f} ms, "
        f"{text.size(result['reference_memory'])} at peak; mean over {of['moments']} moments of a training; "
        f"the reference against itself: ±{100 * result['exactness']:.0f} %"
    )
    notes = [f"{f['method']} FAILED: {f['error']}" for f in result["failed"]]
    notes += ["quick: sizes too small to judge by"] if result["quick"] else []
    return "\n".join([head, "", text.table(("method", "time", "memory"), rows, right="lrr"), *notes])
