"""Part (c): images per second, how far from the card's full speed, and where the time goes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import Any

import torch
from torch.utils.data import DataLoader

from ...engine.device import autocast, pick_workers
from ...engine.trace import undone
from ...nets.compiled import compile_nets
from ...views import Steps, draw_step
from ...views.sampling import stream_size
from ..benchmarking.bench import photos
from ..planning.memory import Stepper
from .checks import FAILED, OK, ONLY_CUDA, SKIPPED, Bench, Say, Time
from .grid import NETS, QUICK, RECIPE, SIZES, Step, build, go, grid, made_up
from .marks import profiled, where_time_goes
from .steps import apart

METHOD, SMALL = "unimatch", "supervised"  # looked at closely; where all is to be quick
WALK = (METHOD, "cps", "u2pl", "cutmix", "supervised")  # translated in this order, as far as time goes
GRID = 0.4  # of the time, where no other part has measured the grid
APART = 0.05  # share of a loss term by which translated networks may differ
TRANSLATION = 120  # seconds without which none is begun
COMMAND = "from s4kit.report.verify import speed; speed.child()"


def speed(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """The grid's throughput, then one step looked at closely."""
    steps = grid(bench, Time(GRID * left.left)).steps
    for step in steps:
        say(step.name, OK, _words(step))
    case = (SMALL, QUICK[1][0], *QUICK[2][0]) if bench.quick else (METHOD, NETS[0], *SIZES[0])
    found: dict[str, Any] = {}
    for name, look in (("layout", _layout), ("time", _time), ("reading", _reading), ("compile", _compile)):
        if left.left <= 0:
            say(name, SKIPPED, "no time left")
            continue
        found[name] = look(bench, say, left, *case)
    return found


def _words(step: Step) -> str:
    share = f"; {100 * step.ideal / step.seconds:.0f} % of the measured roofline"
    rate = f"{step.images / step.seconds:.3g} images/s, {step.flops / step.seconds / 1e12:.2g} TFLOPS"
    return f"{rate}{share}; {step.images} images in {1000 * step.seconds:.0f} ms, {step.precision}"


def _stepper(bench: Bench, method: str, net: str, data: str, crop: int, batch: int) -> tuple[Stepper, Any]:
    task = made_up(data, crop, batch)
    stepper = Stepper(build(method, net, task), task, RECIPE, bench.device)
    return stepper, draw_step(task, stepper.method.views, batch, 0, 0, 0)


def _layout(bench: Bench, say: Say, left: Time, *case: Any) -> dict[str, float]:
    """The kit's channels_last against PyTorch's default."""
    found, repeats = {}, 1 if bench.quick else 5
    stepper, drawn = _stepper(bench, *case)
    for name, layout in (("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        stepper.method.to(memory_format=layout)
        batch = stepper.batch(drawn).map(lambda t, to=layout: t.contiguous(memory_format=to) if t.dim() == 4 else t)
        for _ in range(2):
            stepper(batch)
        found[name] = bench.seconds(lambda batch=batch: stepper(batch), repeats)
    say("channels_last", OK, f"a step takes {found['channels_last'] / found['contiguous']:.2f} of that without")
    return found


def _time(bench: Bench, say: Say, left: Time, *case: Any) -> dict[str, Any]:
    """Shares of a step, and how busy the device is."""
    stepper, drawn = _stepper(bench, *case)
    for _ in range(1 if bench.quick else 3):
        go(stepper, drawn)
    spent = where_time_goes(bench, stepper, drawn)
    found = {"ms": spent, **profiled(bench, lambda: go(stepper, drawn))}
    shares = ", ".join(f"{name} {100 * ms / sum(spent.values()):.0f} %" for name, ms in spent.items())
    say("where the time goes", OK, shares)
    idle = "" if found["busy"] > 0.85 else ": the host cannot launch kernels as fast as they run"
    if bench.cuda:
        say("the device computes", OK, f"{100 * found['busy']:.0f} % of the time{idle}")
    else:
        say("the device computes", SKIPPED, ONLY_CUDA)
    return found


def _reading(bench: Bench, say: Say, left: Time, *case: Any) -> dict[str, float]:
    """Whether decode workers read photographs as fast as the step takes them."""
    stepper, drawn = _stepper(bench, *case)
    crop, batch = case[-2:]
    go(stepper, drawn)
    step = bench.seconds(lambda: go(stepper, drawn), 1 if bench.quick else 5)
    plan, workers = stepper.method.views, pick_workers("auto", bench.device)
    images = sum(stream_size(stream, batch) for stream in plan.values())
    with photos(4 if bench.quick else 48, crop) as task:
        steps, first = (3, 1) if bench.quick else (60, 10)
        loader = DataLoader(Steps(task, plan, batch), None, sampler=range(steps), num_workers=workers,
                            pin_memory=bench.cuda)  # fmt: skip
        began, clock = 0.0, time.perf_counter
        for number, _ in enumerate(loader, 1):
            if number == first:
                began = clock()
        reading = (steps - first) * images / (clock() - began)
    takes = images / step
    words = "they feed it" if reading >= takes else "it WAITS for them: more cores, --workers, or a smaller stored size"
    say("reading", OK, f"{workers} workers read {reading:.3g} images/s, the step takes {takes:.3g}: {words}")
    return {"workers": workers, "reads": reading, "takes": takes}


def _compile(bench: Bench, say: Say, left: Time, *case: Any) -> dict[str, Any]:
    """With and without `torch.compile`: the method that is looked at closely, then the others, as far as time goes."""
    if not bench.cuda:
        found = {"in this process": translated(bench, *case, backend="eager")}
        _judge(say, case, found["in this process"])
        return found
    found = {}
    for data, crop, batch in SIZES:
        for net in NETS:
            for method in WALK:
                one = (method, net, data, crop, batch)
                if left.left < TRANSLATION:
                    words = f"a translation may take {TRANSLATION} s (--only speed --minutes 60 for more)"
                    say(f"torch.compile: {_name(one)} and what follows", SKIPPED, words)
                    return found
                found[_name(one)] = _apart(bench, say, left, *one)
    return found


def _name(case: Any) -> str:
    return f"{case[0]}, {case[1].partition('(')[0]}, {case[3]} px"


def _judge(say: Say, case: Any, found: dict[str, float]) -> None:
    words = f"a step takes {found['compiled'] / found['plain']:.2f} of one without; losses {100 * found['apart']:.2g} %"
    level = OK if found["apart"] <= APART else FAILED
    words += f" apart; {found['parts']} parts translated in {found['first']:.0f} s"
    say(f"torch.compile: {_name(case)}", level, words)


def _apart(bench: Bench, say: Say, left: Time, *case: Any) -> dict[str, Any]:
    """`translated` in a process of its own, which can be ended when the time is over."""
    torch.cuda.empty_cache()
    name = f"torch.compile: {_name(case)}"
    argv = [sys.executable, "-c", COMMAND, json.dumps([str(bench.device), *case])]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=left.left)
    except subprocess.TimeoutExpired:
        say(name, SKIPPED, "no time left before the translation was done")
        return {}
    if done.returncode:
        memory = "OutOfMemoryError" in done.stderr
        say(name, SKIPPED if memory else FAILED, "does not fit" if memory else done.stderr.strip()[-400:])
        return {"error": done.stderr}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    _judge(say, case, found)
    return found


def child() -> None:
    """What the process of `_compile` does."""
    device, *case = json.loads(sys.argv[1])
    print(json.dumps(translated(Bench(torch.device(device), False, ()), *case)))


def translated(bench: Bench, *case: Any, backend: str = "inductor") -> dict[str, float]:
    """{"plain", "compiled": seconds of a step, "first": of the first one, "apart": of the losses, "parts"}."""
    stepper, drawn = _stepper(bench, *case)
    repeats = 1 if bench.quick else 5
    before = _losses(stepper, drawn)
    go(stepper, drawn)
    plain = bench.seconds(lambda: go(stepper, drawn), repeats)
    stepper, drawn = _stepper(bench, *case)
    parts = compile_nets(stepper.method, backend)
    began = time.perf_counter()
    after = _losses(stepper, drawn)
    go(stepper, drawn)
    bench.wait()
    first = time.perf_counter() - began
    compiled = bench.seconds(lambda: go(stepper, drawn), repeats)
    return {"plain": plain, "compiled": compiled, "first": first, "apart": apart(after, before), "parts": parts}


def _losses(stepper: Stepper, drawn: Any) -> dict[str, tuple[float, float]]:
    """(value, weight) of each term of a batch by the first weights."""
    with undone(stepper.method), autocast(stepper.device, stepper.precision):
        torch.manual_seed(0)
        random.seed(0)
        losses = stepper.method.train().losses(stepper.batch(drawn), stepper.clock)
    return {name: (float(value.detach()), float(weight)) for name, (value, weight) in losses.items()}
