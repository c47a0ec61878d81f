"""Part (e): evaluation, whole and sliding: the same counts as on the CPU, and images per second."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch

from ...data import load
from ...data.outline import MadeUp, known, outline
from ...data.task import Evaluation, Task
from ...engine import evaluate
from ...engine.device import pick_precision
from ...nets import make, place
from ..planning.memory import tracked
from ..text import size
from .checks import FAILED, OK, SKIPPED, Bench, Say, Time

MOVED = 1e-3  # share of pixels that may get another class: sums in another order, where two classes are as likely
WAYS = {
    "whole": Evaluation(),
    "sliding": Evaluation("sliding", 33),
    "sliding, moved back to fit, flipped": Evaluation("sliding", 33, border="shift", flip=True),
    "two scales": Evaluation("whole", scales=(0.75, 1.0)),
}
NET = "resnet50c(weights='none')"
TIMED = {
    "VOC, whole": ("voc", Evaluation()),
    "Cityscapes, whole": ("cityscapes", Evaluation()),
    "Cityscapes, sliding 801": ("cityscapes", Evaluation("sliding", 801)),
}
IMAGES = 12


def scoring(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """Equal counts on small images, then the speed on large ones."""
    torch.manual_seed(0)
    task = load("scenes", n_train=8, n_val=3 if bench.quick else 8, side=64, labelled=4, crop=48)
    there = make("tiny", task)
    here = place(copy.deepcopy(there), bench.device)
    figures: dict[str, Any] = {}
    for name, how in WAYS.items():
        if left.left <= 0:
            say(f"as on the CPU: {name}", SKIPPED, "no time left")
            continue
        with bench.exact():
            moved = _moved(evaluate(here, task, how).confusion, evaluate(there, task, how).confusion)
        figures[name] = {"moved": moved}
        say(f"as on the CPU: {name}", OK if moved <= MOVED else FAILED, f"{100 * moved:.2g} % of the pixels differ")
    for name, (data, how) in TIMED.items():
        if left.left <= 0:
            say(f"images/s: {name}", SKIPPED, "no time left")
            continue
        figures[name] = found = _timed(bench, data, how)
        words = f"{found['rate']:.3g} images/s of {found['side']}, {found['precision']}; {size(found['memory'])} on top"
        say(f"images/s: {name}", OK, words)
    return figures


def _moved(here: torch.Tensor, there: torch.Tensor) -> float:
    """Share of pixels in other cells of the confusion matrix."""
    return float((here - there).abs().sum() / 2 / there.sum())


def _timed(bench: Bench, data: str, how: Evaluation) -> dict[str, Any]:
    """Images per second of a ResNet-50 on made-up images of a data set's size, the first ones apart."""
    net = make("tiny" if bench.quick else NET, len(known(data).classes))
    net = place(net, bench.device)
    how = Evaluation("sliding", 33) if bench.quick and how.mode == "sliding" else how
    precision = pick_precision("auto", bench.device)
    sides = (48, 64) if bench.quick else (known(data).height, known(data).width)
    evaluate(net, _few(data, 2, sides), how, precision=precision)
    amount = 2 if bench.quick else IMAGES
    with tracked(bench.device) as peak:
        began = time.perf_counter()
        evaluate(net, _few(data, amount, sides), how, precision=precision)
        bench.wait()
        seconds = time.perf_counter() - began
    side = f"{sides[1]} x {sides[0]}"
    return {"rate": amount / seconds, "memory": peak.bytes, "precision": precision, "side": side}


def _few(data: str, amount: int, sides: tuple[int, int]) -> Task:
    task = outline(data)
    return task.with_(val=MadeUp("val", amount, sides, task.num_classes))
