"""Part (h): what this card can do, measured, and kept in the user's cache folder for later plans."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import torch
import torch.nn.functional as F

from ...data import load
from ...engine.device import autocast, pick_precision
from ...methods import create
from ...methods.base import Clock
from ...nets import place
from ...views import draw_step, render
from ..planning import cards
from ..planning.gpus import GPU, own
from .checks import OK, ONLY_CUDA, SKIPPED, Bench, Say, Time

PROBES = 16  # images, as `fit` has them


def sheet(bench: Bench) -> GPU:
    """The card with the figures of its data sheet; without figures where the kit knows none, or on a CPU."""
    return own() if bench.cuda else GPU("cpu", 0.0)


def ideal(bench: Bench) -> GPU:
    """The card at the full speed that was measured of it."""
    return replace(sheet(bench), flops_share=1.0, bandwidth_share=1.0, **roofs(bench))


def roofs(bench: Bench) -> dict[str, float]:
    """Operations per second in 16 bits and in float32 convolutions, bytes per second, seconds per launch; measured."""
    if "roofs" not in bench.shared:
        kind = torch.bfloat16 if "bf16" in bench.half else torch.float16
        bench.shared["roofs"] = {
            "half": _convolution(bench, kind),
            "single": _convolution(bench, torch.float32),
            "bandwidth": _copy(bench),
            "launch": _launch(bench),
        }
    return bench.shared["roofs"]


def _rate(bench: Bench, call: Callable[[], Any], many: int = 10) -> float:
    """Seconds of one of `many` calls in a row, the first ones apart."""

    def run() -> None:
        for _ in range(many):
            call()

    run()
    return max(bench.seconds(run, 3), 1e-9) / many


def _convolution(bench: Bench, kind: torch.dtype) -> float:
    """Operations per second of the convolution that a ResNet has most of, 3 x 3 with 256 channels."""
    side, batch, channels = (8, 1, 16) if bench.quick else (64, 16, 256)
    image = torch.randn(batch, channels, side, side, device=bench.device, dtype=kind)
    weight = torch.randn(channels, channels, 3, 3, device=bench.device, dtype=kind)
    image, weight = (t.contiguous(memory_format=torch.channels_last) for t in (image, weight))
    seconds = _rate(bench, lambda: F.conv2d(image, weight, padding=1))
    return 2 * 9 * channels**2 * batch * side**2 / seconds


def _copy(bench: Bench) -> float:
    """Bytes read and written per second by a copy that no cache holds."""
    source = torch.empty(1 << (16 if bench.quick else 28), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    return 2 * source.numel() / _rate(bench, lambda: target.copy_(source))


def _launch(bench: Bench) -> float:
    """Seconds of a kernel that has nothing to do."""
    one = torch.zeros(1, device=bench.device)
    return _rate(bench, lambda: one.add_(1), 20 if bench.quick else 500)


def looking(bench: Bench) -> float:
    """Seconds of the rule on the watched images, which the explorer has of each evaluation of a training."""
    net, crop = ("tiny", 33) if bench.quick else ("resnet50c(weights='none')", 321)
    task = load("scenes", n_train=20, n_val=2, side=max(64, crop), labelled=4, crop=crop)
    method = place(create("unimatch", task, net=net), bench.device)
    view = render(draw_step(task, method.views, PROBES, 0, 0, 0), method.views, bench.device).u

    def look() -> None:
        method.pseudo_labels(method.teach(view), view, Clock(0, 10))

    with autocast(bench.device, pick_precision("auto", bench.device)):
        look()
        return bench.seconds(look, 3)


def keeping(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """Measure the card, hold the grid's steps against that, and keep the figures."""
    if left.left <= 0:
        say("the card", SKIPPED, "no time left")
        return {}
    found = roofs(bench) | {"look": looking(bench)}
    rates = f"{found['half'] / 1e12:.3g} TFLOPS in 16 bits, {found['single'] / 1e12:.3g} in float32"
    say("the card", OK, f"{rates}; {found['bandwidth'] / 1e9:.0f} GB/s; {1e6 * found['launch']:.1f} µs a launch")
    say("the explorer", OK, f"{PROBES} watched images looked at in {1000 * found['look']:.0f} ms")
    steps = bench.shared["grid"].steps if "grid" in bench.shared else []
    if not bench.cuda:
        say("figures kept for later plans", SKIPPED, ONLY_CUDA)
    elif not steps:
        say("figures kept for later plans", SKIPPED, "no step was measured (part planning)")
    else:
        where = cards.keep(fitted(sheet(bench), found, steps))
        words = f"in {where}" if where else "the cache folder cannot be written ($S4KIT_CACHE names another)"
        say("figures kept for later plans", OK if where else SKIPPED, words)
    return found


def fitted(known: GPU, found: dict[str, float], steps: list[Any]) -> dict[str, Any]:
    """What is kept: the measured speeds, all slower by the factor by which the grid's steps fall short of them.

    `low`, `high`: seconds of a step of the grid over those that a plan then says, the extremes. `slack`: bytes of a
    step over those planned, less 1, at most.
    """
    shares = [step.seconds / step.ideal for step in steps]
    factor = math.exp(sum(map(math.log, shares)) / len(shares))
    return {
        "name": known.name,
        "like": known.like,
        "memory": known.memory,
        "bf16": known.bf16,
        **{key: found[key] / factor for key in ("half", "single", "bandwidth")},
        "launch": found["launch"] * factor,
        "slack": max(known.slack, max(step.memory / step.predicted for step in steps) - 1),
        "low": min(shares) / factor,
        "high": max(shares) / factor,
        "steps": len(steps),
        "look": found["look"],
        "date": date.today().isoformat(),
        "torch": torch.__version__,
    }
