"""`s4kit bench growth`: what grows with the size of a problem, and how: classes, crop, images, processes.

Steps are rehearsed, not computed (`rehearsal`): operations, bytes moved and peak memory are exact for a machine that
does what PyTorch's formulas say, on any machine. What images cost on the host is measured here, in CPU seconds of one
core. Processes are simulated: each one's share of a batch is rehearsed, and what they exchange is counted for a ring.
"""

from __future__ import annotations

import gc
import math
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...data.outline import MadeUp
from ...data.palettes import distinct
from ...data.splitting.splits import draw
from ...data.task import Task
from ...methods import create
from ...methods.base import Optim
from ...views import Stream
from ...views.sampling import pick
from .. import text
from ..planning.rehearsal import rehearse, stand_in

NET = "efficientnet_lite0(weights='none')"
METHODS = ("supervised", "unimatch", "u2pl")
RECIPE = Optim([], lr=1e-3, kind="sgd")
IMAGE = (512, 1024)
CLASSES, CROP, BATCH = 21, 321, 2
AXES = {
    "classes": (21, 60, 150),
    "crop": (321, 513, 801),
    "images": (1_000, 10_000, 100_000, 1_000_000),
    "processes": (1, 2, 4, 8),
}
QUICK = {"classes": (3, 12), "crop": (65, 129), "images": (100, 400), "processes": (1, 2)}
PICKS = 1000  # rows that are asked for to time one


def growth(quick: bool = False) -> dict[str, Any]:
    """Measure every axis and print the table.

    Args:
        quick: a tiny network and small sizes: shows that all is in order.

    Returns:
        {"axes": {axis: its sizes}, "rows": [{"axis", "method", "what", "unit", "found": one value per size, "power":
        p of size^p, fitted}], "quick", ...}.
    """
    axes = QUICK if quick else AXES
    parts: dict[str, Callable[..., Iterator[dict[str, Any]]]] = {
        "classes": lambda sizes: _steps("classes", [_task(classes=n, quick=quick) for n in sizes], quick),
        "crop": lambda sizes: _steps("crop", [_task(crop=n, quick=quick) for n in sizes], quick),
        "images": _images,
        "processes": lambda sizes: _processes(sizes, quick),
    }
    found = [row for axis, part in parts.items() for row in part(axes[axis])]
    rows = [row | {"power": power(axes[row["axis"]], row["found"])} for row in found]
    result = {"axes": {name: list(sizes) for name, sizes in axes.items()}, "rows": rows, "quick": quick}
    result |= {"net": _net(quick), "batch": BATCH, "classes": CLASSES, "crop": CROP}
    print(show(result))
    return result


def power(sizes: Sequence[float], found: Sequence[float]) -> float | None:
    """p of found ~ size^p, by least squares of the logarithms; None where a value is 0."""
    if min(found) <= 0:
        return None
    x, y = ([math.log(value) for value in values] for values in (sizes, found))
    mean = sum(x) / len(x)
    return sum((a - mean) * b for a, b in zip(x, y)) / sum((a - mean) ** 2 for a in x)


def _net(quick: bool) -> str:
    return "tiny" if quick else NET


def _task(classes: int = CLASSES, crop: int = CROP, images: int = 64, quick: bool = False) -> Task:
    """A task of made-up images; half of them are labelled."""
    size, crop = ((96, 160), min(crop, 129)) if quick else (IMAGE, crop)
    names, half = tuple(f"class {k}" for k in range(classes)), images // 2
    train, val = (MadeUp(part, count, size, classes) for part, count in (("train", images), ("val", 2)))
    rows = tuple(range(half)), tuple(range(half, images))
    return Task("growth", names, distinct(classes), train, *rows, val, crop)


def _row(axis: str, method: str, what: str, unit: str, found: Sequence[float]) -> dict[str, Any]:
    return {"axis": axis, "method": method, "what": what, "unit": unit, "found": list(found)}


def _steps(axis: str, tasks: Sequence[Task], quick: bool) -> Iterator[dict[str, Any]]:
    """A step of each method on each task."""
    for name in METHODS:
        costs = [rehearse(stand_in(create(name, task, net=_net(quick))), task, BATCH, RECIPE) for task in tasks]
        yield _row(axis, name, "operations of a step", "FLOP", [float(cost.flops.sum()) for cost in costs])
        yield _row(axis, name, "bytes moved by it", "B", [float(cost.traffic.sum()) for cost in costs])
        yield _row(axis, name, "memory at its peak", "B", [float(cost.memory) for cost in costs])


def _images(sizes: Sequence[int]) -> Iterator[dict[str, Any]]:
    """What a list of images costs before and during a training."""
    found = [_of_images(count) for count in sizes]
    for what, unit in found[0]:
        yield _row("images", "", what, unit, [one[what, unit] for one in found])


def _of_images(count: int) -> dict[tuple[str, str], float]:
    gc.collect()
    tracemalloc.start()
    task = _task(images=count)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    rows, stream = len(task.rows("all")), Stream("all")
    places = [k * 7919 % rows for k in range(PICKS)]

    def row(place: int) -> int:
        return pick(task, stream, "growth", count, 0, place)

    return {
        ("names and split, in memory", "B"): held,
        ("a seeded split", "s"): _seconds(lambda: draw(task.train, range(count), count // 16, 0, 0, task.classes)),
        ("the order of a pass", "s"): _seconds(lambda: row(0)),
        ("an image of it", "s"): _seconds(lambda: [row(place) for place in places]) / PICKS,
    }


def _seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return max(time.process_time() - began, 1e-9)


def _processes(sizes: Sequence[int], quick: bool) -> Iterator[dict[str, Any]]:
    """A batch of as many images as the largest number of processes, shared out among 1, 2, ... of them."""
    task, whole = _task(quick=quick), max(sizes)
    for name in METHODS:
        method = stand_in(create(name, task, net=_net(quick)))
        costs = [rehearse(method, task, whole // count, RECIPE) for count in sizes]
        yield _row("processes", name, "operations in each", "FLOP", [float(cost.flops.sum()) for cost in costs])
        yield _row("processes", name, "memory in each", "B", [float(cost.memory) for cost in costs])
        sent = [2 * (n - 1) / n * cost.parts["gradients"] for n, cost in zip(sizes, costs)]
        yield _row("processes", name, "gradients that each sends", "B", sent)


def show(result: dict[str, Any]) -> str:
    """The rows for the terminal, one table for each axis."""
    rest = f"batch {result['batch']}, {result['classes']} classes, crop {result['crop']}"
    blocks = [f"{result['net']}; {rest}, but for what grows"]
    for axis, sizes in result["axes"].items():
        rows = [row for row in result["rows"] if row["axis"] == axis]
        cells = [
            (row["method"], row["what"], *(amount(v, row["unit"]) for v in row["found"]), grows(row["power"], axis))
            for row in rows
        ]
        head = (axis, "", *(f"{size:,}" for size in sizes), "grows as")
        blocks.append(text.table(head, cells, right="ll" + "r" * len(sizes) + "l"))
    note = ["quick: sizes too small to judge by"] if result["quick"] else []
    return "\n\n".join([*blocks, *note])


def amount(value: float, unit: str) -> str:
    """ "1.2 GB", "35 ms", "4.1 TFLOP"."""
    if unit == "B":
        return text.size(value)
    steps = [(1, ""), (1e-3, "m"), (1e-6, "µ")] if unit == "s" else [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1, "")]
    factor, letter = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{value / factor:.3g} {letter}{unit}"


def grows(power: float | None, axis: str) -> str:
    """ "not" at a power near 0, else "crop^1.9"."""
    if power is None:
        return ""
    return "not" if abs(power) < 0.05 else f"{axis}^{power:.1f}"
