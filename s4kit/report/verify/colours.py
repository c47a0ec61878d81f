"""Part (d): the views that the device makes against those of the CPU, from the same draws."""

from __future__ import annotations

from typing import Any

import torch

from ...data import load
from ...methods import create
from ...views import Stream, ViewPlan, Views, draw_step
from .checks import FAILED, OK, SKIPPED, Bench, Say, Time

MEAN, FAR, SHARE = 2e-4, 0.02, 1e-3  # mean difference; a share of pixels may be farther apart (a hue near grey jumps)
CPU = torch.device("cpu")


def colours(bench: Bench, say: Say, left: Time) -> dict[str, Any]:
    """Every stream with colour of its own that a method draws."""
    task = load("scenes", n_train=16, n_val=2, side=64, labelled=8, crop=48)
    figures = {}
    for name, plan, key in _different(bench, task):
        label = f"{name}, stream {key}"
        if left.left <= 0:
            say(label, SKIPPED, "no time left")
            continue
        host = draw_step(task, plan, 2 if bench.quick else 8, 0, 0, 0)[key]
        here, there = (plan[key].render(host, device) for device in (bench.device, CPU))
        figures[label] = found = _apart(here, there)
        wrong = [field for field, same in found["same"].items() if not same]
        wrong += [f"strong view {k}" for k, (mean, far) in enumerate(found["strong"]) if mean > MEAN or far > SHARE]
        worst = max((mean for mean, _ in found["strong"]), default=0.0)
        words = f"differ: {', '.join(wrong)} {found['strong']}" if wrong else f"mean difference at most {worst:.1g}"
        say(label, FAILED if wrong else OK, words)
    return figures


def _different(bench: Bench, task: Any) -> list[tuple[str, ViewPlan, str]]:
    """(method, plan, stream), each kind of stream once."""
    seen, found = set(), []
    for name in bench.methods:
        method = create(name, task, net="tiny")
        for plan in [stage.views or method.views for stage in method.stages()]:
            for key, stream in plan.items():
                if (kind := _kind(stream)) not in seen:
                    seen.add(kind)
                    found.append((name, plan, key))
    return found


def _kind(stream: Stream) -> str:
    return repr((stream.strong, stream.masks, stream.weak))


def _apart(here: Views, there: Views) -> dict[str, Any]:
    """{"same": {field: bool}, "strong": [(mean difference, share of values farther apart than `FAR`)]}."""
    pairs = {name: (getattr(here, name), getattr(there, name)) for name in ("valid", "label", "index")}
    pairs |= {f"mask {k}": pair for k, pair in enumerate(zip(here.masks, there.masks))}
    strong = [(a.cpu() - b).abs() for a, b in zip(here.strong, there.strong)]
    same = {name: torch.equal(a.cpu(), b) for name, (a, b) in pairs.items()}
    return {
        "same": same | {"weak": torch.allclose(here.weak.cpu(), there.weak, rtol=0, atol=1e-6)},  # a GPU divides by 255
        "strong": [(float(d.mean()), float((d > FAR).float().mean())) for d in strong],
    }
