"""Part (a): every method's step in float32, bf16 and fp16 on the device.

Each method learns for some steps on the device, on the tiny network, so that its networks say something. From there:
steps in each precision with the scaler, views included, which must leave finite weights and never make the host wait;
the losses of one batch by the same weights and the same random draws, against float32 on the CPU; and the memory, which
must all come back. A term that samples pixels by a threshold jumps where anything is rounded: what is farther apart
than the tolerance is held against the jumps on the CPU, where every layer's answer is rounded or, for a GPU, in its
precision.
"""

from __future__ import annotations

import copy
import math
import random
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ...data import load
from ...data.points.clouds import has_points, has_rooms
from ...data.task import Task
from ...engine.device import autocast
from ...engine.trace import undone
from ...methods import create, fitting, get, recipe
from ...methods.base import Clock, Method, Optim
from ...views import Batch, HostStep, draw_step, render
from ..planning.memory import Stepper
from ..text import size
from . import fake
from .checks import FAILED, OK, SKIPPED, Bench, Say, Time
from .draws import SameDraws

RECIPE = Optim([], lr=1e-3, kind="adamw")
WARM, QUICK = 10, 2  # steps before anything is compared
APART = {"float32": 0.01, "bf16": 0.05, "fp16": 0.02}  # share of a loss term by which it may differ
ROUNDING = {"float32": 2**-9, "bf16": 2**-6, "fp16": 2**-9}  # four units; a GPU's float32 convolutions use TF32
TRIES = 6  # roundings, to see how far a term jumps that chooses pixels by a threshold
FLOOR = 0.05  # of all terms together: a smaller term is judged as if it were that large
LEFT = 1 << 20  # bytes that a method may leave behind
CPU = torch.device("cpu")
DOMAIN = "plain(n_train=8, n_val=1, side=64)"
POINTS, ROOMS = "voxel(width=4, grid=16, depth=2)", "voxel(width=4, cell=0.2, depth=2)"  # tiny networks of points


def steps(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """Look at each method; what there is no time for is named."""
    tasks = [
        load("scenes", n_train=16, n_val=2, side=64, labelled=8, crop=48, more={"domain": DOMAIN}),
        load("scenes", n_train=16, n_val=2, side=64, labelled=8, crop=48, instances=True),
        load("shapes", n_train=16, n_val=2, points=256, labelled=8),
        load("rooms", n_train=8, n_val=2, points=1024, labelled=4),
    ]
    _look("supervised", bench, tasks[0])  # libraries take their workspaces once
    figures, taken = {}, []
    for name in bench.methods:
        task = next((task for task in tasks if name in fitting(task)), None)
        if task is None:
            say(name, SKIPPED, "none of the small embedded data sets is of its kind")
            continue
        if not left.for_another(taken):
            say(name, SKIPPED, "no time left")
            continue
        began = time.monotonic()
        try:
            found = _look(name, bench, task)
            wrong = _judged(found)
            say(name, FAILED if wrong else OK, "; ".join(wrong) or _words(found))
            figures[name] = found
        except Exception as error:
            say(name, FAILED, f"{type(error).__name__}: {error} ({place(error)})")
            figures[name] = {"traceback": traceback.format_exc()}
        taken.append(time.monotonic() - began)
    return figures


def place(error: BaseException) -> str:
    """The line of the kit at which an error came up."""
    kit = str(Path(__file__).parents[2])
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(kit)]
    own = [frame for frame in own if not frame.filename.startswith(str(Path(__file__).parent))] or own
    return f"{own[-1].filename.removeprefix(kit).lstrip('/')}:{own[-1].lineno}" if own else "not in the kit"


def _look(name: str, bench: Bench, task: Task) -> dict[str, Any]:
    """{"losses": {precision: {term: (here, on the CPU)}}, "apart", "jumps": {precision: share}, "finite": {precision:
    bool}, "left": bytes, "waits": words}."""
    held = bench.held()
    found = _all_precisions(name, bench, task)
    found["left"] = bench.held() - held
    found["waits"] = "" if bench.cuda or get(name).syncs else _waits(name, task)
    return found


def _build(name: str, task: Task) -> Method:
    torch.manual_seed(0)
    own = {key: value for key, value in recipe(name, "scenes")["method"].items() if key not in get(name).specs}
    net = ROOMS if has_rooms(task) else POINTS if has_points(task) else "tiny"
    return create(name, task, **own | {"net": net})


def _all_precisions(name: str, bench: Bench, task: Task) -> dict[str, Any]:
    method, drawn = _build(name, task), None
    drawn = draw_step(task, method.views, 2, 0, 0, 0)
    learn = Stepper(method, task, RECIPE, bench.device, precision="float32")
    batch = learn.batch(drawn)
    for _ in range(QUICK if bench.quick else WARM):
        learn(batch)
    start = {key: value.clone() for key, value in method.state_dict().items()}
    reference = _losses(_on_cpu(method), _rendered(drawn, method, CPU), learn.clock, CPU, "float32")
    found: dict[str, Any] = {"losses": {}, "apart": {}, "jumps": {}, "finite": {}}
    for precision in ("float32", *bench.half):
        method.load_state_dict(start)
        here = _losses(method, batch, learn.clock, bench.device, precision)
        found["losses"][precision] = {term: (here[term][0], reference[term][0]) for term in reference}
        found["apart"][precision] = share = apart(here, reference)
        if share > APART[precision]:
            tries = [(other, "float32") for other in _rounding(method, ROUNDING[precision])]
            tries += [(_on_cpu(method), precision)] if bench.cuda else []
            there = [_losses(m, _rendered(drawn, m, CPU), learn.clock, CPU, in_) for m, in_ in tries]
            found["jumps"][precision] = max(apart(losses, reference) for losses in there)
        stepper = Stepper(method, task, RECIPE, bench.device, precision=precision)
        stepper(stepper.batch(drawn))  # takes the optimisers' state
        with nullcontext() if method.syncs else no_waiting(bench):
            stepper(stepper.batch(drawn))
        found["finite"][precision] = bool(torch.stack([p.isfinite().all() for p in method.parameters()]).all())
    return found


def _on_cpu(method: Method) -> Method:
    return copy.deepcopy(method).to(CPU)


def _rounding(method: Method, share: float) -> Iterator[Method]:
    """The method on the CPU with every layer's answer changed by up to a share of it, some times differently."""
    for seed in range(TRIES):
        other, generator = _on_cpu(method), torch.Generator().manual_seed(seed)

        def rounded(layer: Any, given: Any, answer: Any, generator: torch.Generator = generator) -> Any:
            if not isinstance(answer, torch.Tensor) or not answer.is_floating_point():
                return None
            return answer * (1 + share * (2 * torch.rand(answer.shape, generator=generator) - 1))

        for layer in other.modules():
            if next(layer.children(), None) is None:
                layer.register_forward_hook(rounded)
        yield other


def _rendered(drawn: HostStep, method: Method, device: torch.device) -> Batch:
    batch = render(drawn, method.views, device)
    return batch.map(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)


def _losses(
    method: Method, batch: Batch, clock: Clock, device: torch.device, precision: str
) -> dict[str, tuple[float, float]]:
    """(value, weight) of each term; the same random draws wherever and however it is computed."""
    with undone(method), SameDraws(), autocast(device, precision):
        torch.manual_seed(0)
        random.seed(0)
        losses = method.train().losses(batch, clock)
    return {name: (float(value.detach()), float(weight)) for name, (value, weight) in losses.items()}


def apart(here: dict[str, tuple[float, float]], there: dict[str, tuple[float, float]]) -> float:
    """The largest difference of a term, as a share of it; of small terms as a share of all terms together."""
    floor = FLOOR * sum(abs(value * weight) for value, weight in there.values())
    shares = []
    for term, (value, weight) in there.items():
        differ, scale = abs(weight) * abs(here[term][0] - value), max(abs(weight * value), floor)
        shares.append(differ / scale if scale else differ)
    return max((share if share == share else math.inf for share in shares), default=0.0)


@contextmanager
def no_waiting(bench: Bench) -> Iterator[None]:
    """Inside, PyTorch raises where the host would wait for the GPU."""
    if not bench.cuda:
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _waits(name: str, task: Task) -> str:
    """What would make the host wait, told by the made-up device; "" where nothing does."""
    method = _build(name, task)
    drawn = draw_step(task, method.views, 2, 0, 0, 0)
    batch = render(drawn, method.views)
    try:
        fake.rendered(drawn, method.views)
        with fake.no_values():
            fake.step(fake.move(method), batch.map(fake.on_device), Clock(50, 100))
    except fake.WaitError as error:
        return f"{error} ({place(error)})"
    return ""


def _judged(found: dict[str, Any]) -> list[str]:
    """What does not hold."""
    wrong = [f"weights not finite in {p}" for p, finite in found["finite"].items() if not finite]
    for precision, share in found["apart"].items():
        if share > APART[precision] + 2 * found["jumps"].get(precision, 0.0):
            wrong.append(
                f"losses in {precision} {100 * share:.2g} % from float32 on the CPU: {found['losses'][precision]}"
            )
    wrong += [f"leaves {size(found['left'])}"] if found["left"] > LEFT else []
    return wrong + ([found["waits"]] if found["waits"] else [])


def _words(found: dict[str, Any]) -> str:
    shares = [f"{precision} {100 * share:.2g} %" for precision, share in found["apart"].items()]
    jumps = f"; a threshold on the CPU jumps as far in {', '.join(found['jumps'])}" if found["jumps"] else ""
    return f"finite, no waiting, memory returned; losses apart: {', '.join(shares)}{jumps}"
