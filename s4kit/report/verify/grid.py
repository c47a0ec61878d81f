"""Parts (b) and (c) share one grid of real steps: six methods, two crops, two backbones, each measured once.

A step is the kit's own with views, scaler and optimiser, at the precision that `fit` would take, on images that are
made up; beside it stands what the planner says of the same step.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ...data.outline import outline
from ...data.task import Task
from ...methods import create
from ...methods.base import Method, Optim
from ...views import HostStep, draw_step
from ...views.sampling import stream_size
from ..planning.capacity import roofline
from ..planning.memory import Stepper, tracked
from ..planning.planner import CONTEXT, SLACK
from ..planning.rehearsal import Cost, rehearse, stand_in
from .card import ideal, sheet
from .checks import Bench, Time

METHODS = ("supervised", "unimatch", "cps", "u2pl", "cutmix", "fixmatch")
NETS = ("resnet50c(weights='none')", "resnet101c(weights='none')")
SIZES = (("voc", 321, 4), ("cityscapes", 801, 2))  # images like those of a data set, crop, labelled images
QUICK = (("supervised", "fixmatch"), ("tiny",), (("scenes", 33, 2), ("scenes", 48, 2)))
RECIPE = Optim([], lr=1e-3, kind="sgd")
PROGRESS = 0.5
TIMED = 5  # steps


@dataclass
class Step:
    """One case, measured.

    Attributes:
        method, net, crop, batch, images, precision: what it was; images are those of all streams.
        seconds, memory: of a step, and bytes at its peak on top of what was there before the networks.
        predicted: bytes by the planner. expected: seconds by its roofline, None where it has no data sheet of the card.
        ideal: seconds at the full speed measured of the card, kernel by kernel. flops: of the step.
    """

    method: str
    net: str
    crop: int
    batch: int
    images: int
    precision: str
    seconds: float
    memory: int
    predicted: int
    expected: float | None
    ideal: float
    flops: float

    @property
    def name(self) -> str:
        """Method, network without its options, and crop, for people."""
        return f"{self.method}, {self.net.partition('(')[0]}, {self.crop} px"


@dataclass
class Grid:
    """What was measured; `skipped`: name of a case -> why it was not."""

    steps: list[Step]
    skipped: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """ "steps", a row of figures each, and "skipped", why by name: for JSON."""
        return {"steps": [asdict(step) for step in self.steps], "skipped": self.skipped}


def cases(quick: bool) -> Iterator[tuple[str, str, str, int, int]]:
    """(method, net, data, crop, batch), the small ones first."""
    methods, nets, sizes = QUICK if quick else (METHODS, NETS, SIZES)
    for data, crop, batch in sizes:
        for net in nets:
            yield from ((method, net, data, crop, batch) for method in methods)


def grid(bench: Bench, left: Time) -> Grid:
    """The grid, measured at the first call and kept."""
    if "grid" not in bench.shared:
        found, taken = Grid([], {}), []
        for case in cases(bench.quick):
            name = f"{case[0]}, {case[1].partition('(')[0]}, {case[3]} px"
            if not left.for_another(taken):
                found.skipped[name] = "no time left"
                continue
            began = time.monotonic()
            step = measure(bench, *case)
            if isinstance(step, str):
                found.skipped[name] = step
            else:
                found.steps.append(step)
            taken.append(time.monotonic() - began)
        bench.shared["grid"] = found
    return bench.shared["grid"]


def made_up(data: str, crop: int, batch: int) -> Task:
    """Images like those of a data set, of which a small batch is drawn."""
    return outline(data, labelled=max(8, batch), crop=crop)


def build(method: str, net: str, task: Task) -> Method:
    """The method with this network, its weights the same in every run."""
    torch.manual_seed(0)
    return create(method, task, net=net)


def measure(bench: Bench, method: str, net: str, data: str, crop: int, batch: int) -> Step | str:
    """A case with the largest batch that is predicted to fit; or why it is left out."""
    task = made_up(data, crop, batch)
    copy = stand_in(build(method, net, task))
    while True:
        cost = rehearse(copy, task, batch, RECIPE, bench.cuda, progress=PROGRESS)
        if cost.memory <= room(bench):
            break
        if batch == 1:
            return f"does not fit: {cost.memory / 1e9:.1f} GB by the planner"
        batch //= 2
    del copy
    return _measured(bench, method, net, task, batch, cost)


def room(bench: Bench) -> float:
    """Bytes that a step may take, as the planner counts them."""
    if not bench.cuda:
        return float("inf")
    bench.held()  # what is left of others goes first
    torch.cuda.empty_cache()
    return (torch.cuda.mem_get_info(bench.device)[0] - CONTEXT) / (1 + SLACK)


def _measured(bench: Bench, method: str, net: str, task: Task, batch: int, cost: Cost) -> Step:
    known, full = sheet(bench), ideal(bench)
    bench.held()
    with tracked(bench.device) as peak:
        stepper = Stepper(build(method, net, task), task, RECIPE, bench.device, PROGRESS)
        drawn = draw_step(task, stepper.method.views, batch, 0, 0, 0)
        for _ in range(2):  # the second has the optimiser's state
            go(stepper, drawn)
    seconds = bench.seconds(lambda: go(stepper, drawn), 1 if bench.quick else TIMED)
    images = sum(stream_size(stream, batch) for stream in stepper.method.views.values())
    return Step(
        method=method,
        net=net,
        crop=task.crop,
        batch=batch,
        images=images,
        precision=stepper.precision,
        seconds=seconds,
        memory=peak.bytes,
        predicted=cost.memory,
        expected=roofline(cost, known) if known.timed else None,
        ideal=roofline(cost, full),
        flops=float(cost.flops.sum()),
    )


def go(stepper: Stepper, drawn: HostStep) -> None:
    """One step from the host's crops on, always with the same choices."""
    random.seed(0)
    stepper(stepper.batch(drawn))
