"""Part (f): a training that is killed goes on as if nothing had been, and the same training is the same again.

On a CPU to the last bit. On a GPU convolutions may differ in the last bits, so that two equal trainings part slowly;
the images, crops and rates of every step are the same all the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ... import engine
from ...data import load
from ...data.task import Task
from ...engine import checkpoint
from ...engine.settings import Settings
from ...engine.training import Training
from ...methods import create
from ...methods.base import Method
from .checks import FAILED, OK, SKIPPED, Bench, Say, Time

WHOLE, QUICK = (12, 4, 7), (5, 2, 3)  # steps of the training, between checkpoints, after which it is killed
NET = "tiny(norm='group')"
APART = 0.05  # of the way that the weights have gone
COMMAND = "from s4kit.report.verify import resuming; resuming.child()"
FIT: dict[str, Any] = {"batch": 2, "lr": 1e-2, "optimiser": "sgd", "probes": 0, "workers": 0, "threads": 1}


def task_and_method() -> tuple[Task, Method]:
    """A small training, the same in every process."""
    task = load("scenes", n_train=24, n_val=4, side=64, labelled=6, crop=48)
    torch.manual_seed(3)
    return task, create("fixmatch", task, net=NET)


def settings(device: str, precision: str, steps: int, saved: int) -> dict[str, Any]:
    """What `fit` is told; `saved` are the steps from one checkpoint to the next."""
    own = {"steps": steps, "evaluate_every": steps, "checkpoint_every": saved, "device": device, "precision": precision}
    return FIT | own


class Killed(Training):
    """Ends its process in mid-training, as a power cut would: nothing is written, nothing is said."""

    after = 0  # steps

    def _between_steps(self, clock: Any) -> None:
        super()._between_steps(clock)
        if self.done == self.after:
            os._exit(9)


def child() -> None:
    """What the process that is killed does."""
    folder, device, precision, (steps, saved, Killed.after) = json.loads(sys.argv[1])
    task, method = task_and_method()
    Killed(method, task, Settings(**settings(device, precision, steps, saved)), Path(folder), False, False).run()


def resuming(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """Kill and resume, and the same training twice, in float32 and with the scaler."""
    figures = {}
    for precision in ("float32", "fp16") if bench.cuda else ("float32",):
        if left.left <= 0:
            say(f"kill and resume, {precision}", SKIPPED, "no time left")
            continue
        with tempfile.TemporaryDirectory() as folder:
            figures[precision] = _one(bench, say, left, Path(folder), precision)
    return figures


def _one(bench: Bench, say: Say, left: Time, folder: Path, precision: str) -> dict[str, float]:
    """Shares of the way by which the resumed training, and one that is repeated, are apart from the first."""
    device, (steps, saved, killed) = str(bench.device), QUICK if bench.quick else WHOLE
    fit = settings(device, precision, steps, saved)
    first = _train(folder / "first", fit)
    job = [str(folder / "killed"), device, precision, (steps, saved, killed)]
    argv = [sys.executable, "-c", COMMAND, json.dumps(job)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=max(120.0, left.left))
    if done.returncode != 9:
        say(f"kill and resume, {precision}", FAILED, f"the training ended by itself: {done.stderr.strip()[-400:]}")
        return {}
    at = checkpoint.load(folder / "killed" / "last.pt")["step"]
    resumed = _train(folder / "killed", fit, resume=True)
    start = weights(task_and_method()[1].state_dict())
    found = {"resumed": apart(resumed, first, start), "at": at}
    _say(
        say, bench, f"kill and resume, {precision}", found["resumed"], f"killed after {killed} steps, went on at {at}; "
    )
    found["again"] = apart(_train(folder / "again", fit), first, start)
    _say(say, bench, f"the same again, {precision}", found["again"])
    rows = [[row["step"] for row in engine.open_run(folder / name).metrics()] for name in ("first", "killed")]
    same = rows[0] == rows[1] == list(range(steps))
    say(f"every step once, {precision}", OK if same else FAILED, "in metrics.csv" if same else f"{rows[1]}")
    return found


def _say(say: Say, bench: Bench, name: str, share: float, before: str = "") -> None:
    holds = share <= APART if bench.cuda else share == 0
    words = "the same to the last bit" if share == 0 else f"{100 * share:.2g} % of the way apart"
    say(name, OK if holds else FAILED, before + words)


def _train(folder: Path, fit: dict[str, Any], resume: bool = False) -> Tensor:
    task, method = task_and_method()
    engine.fit(method, task, out=folder, resume=resume, progress=False, **fit)
    return weights(checkpoint.load(folder / "last.pt")["method"])


def weights(state: dict[str, Tensor]) -> Tensor:
    """All floating-point values of a state in one row, float64 on the CPU."""
    return torch.cat([t.flatten().double().cpu() for t in state.values() if t.is_floating_point()])


def apart(one: Tensor, other: Tensor, start: Tensor) -> float:
    """How far one end of a training is from the other, as a share of the way from the start: 0 = the same."""
    return float((one - other).norm() / (other - start).norm())
