"""Where the time of a step goes: views, networks, losses, backward, optimisers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...nets import SegNet
from ...nets.compiled import parts_of
from ...views import HostStep
from ..planning.memory import Stepper
from .checks import Bench
from .grid import go

SHARES = ("views", "networks", "losses", "backward", "optimiser", "rest")


class Marks:
    """Moments of a step, on the device's own clock where it is a GPU, so that nothing has to wait for them."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.at = bench, []

    def __call__(self, name: str) -> None:
        if self.bench.cuda:
            moment: Any = torch.cuda.Event(enable_timing=True)
            moment.record()
        else:
            moment = time.perf_counter()
        self.at.append((name, moment))

    def spans(self) -> Iterator[tuple[str, str, float]]:
        """(a mark, the next mark, milliseconds between)."""
        self.bench.wait()
        for (name, begin), (following, end) in zip(self.at, self.at[1:]):
            yield name, following, begin.elapsed_time(end) if self.bench.cuda else 1000 * (end - begin)


def where_time_goes(bench: Bench, stepper: Stepper, drawn: HostStep) -> dict[str, float]:
    """Milliseconds of one step by `SHARES`; the networks' backward is in "backward"."""
    marks = Marks(bench)
    with marked(stepper, marks):
        marks("views")
        go(stepper, drawn)
        marks("end")
    found = dict.fromkeys(SHARES, 0.0)
    for name, _, spent in marks.spans():
        found[name] += spent
    return found


@contextmanager
def marked(stepper: Stepper, marks: Marks) -> Iterator[None]:
    """Hooks on the losses, on the parts of the networks and on the optimisers; taken away behind."""
    method, inside = stepper.method, []

    def losses(*given: Any) -> Any:
        marks("losses")
        found = type(method).losses(method, *given)
        marks("backward")
        return found

    def enter(*_: Any) -> None:
        inside.append(marks.at[-1][0])
        if len(inside) == 1:
            marks("networks")

    def leave(*_: Any) -> None:
        around = inside.pop()
        if not inside:
            marks(around)  # "losses", or "backward" where activations are computed once more

    def before(*_: Any) -> None:
        marks("optimiser")

    def after(*_: Any) -> None:
        marks("rest")

    hooks: list[Any] = []
    for part in {p for net in method.modules() if isinstance(net, SegNet) for p in parts_of(net)}:
        hooks += [part.register_forward_pre_hook(enter), part.register_forward_hook(leave)]
    for optimiser in stepper.optimisers.values():
        hooks += [optimiser.register_step_pre_hook(before), optimiser.register_step_post_hook(after)]
    method.losses = losses
    try:
        yield
    finally:
        del method.losses
        for hook in hooks:
            hook.remove()


def profiled(bench: Bench, call: Callable[[], Any], most: int = 5) -> dict[str, Any]:
    """By PyTorch's profiler: {"busy": share of the time in which the device computes, "kernels": the dearest ones'
    shares}; on a CPU those of the operations."""
    kinds = [torch.profiler.ProfilerActivity.CPU] + ([torch.profiler.ProfilerActivity.CUDA] if bench.cuda else [])
    bench.wait()
    with torch.profiler.profile(activities=kinds) as profile:
        began = time.perf_counter()
        call()
        bench.wait()
        wall = time.perf_counter() - began
    field = "self_device_time_total" if bench.cuda else "self_cpu_time_total"
    rows = [row for row in profile.key_averages() if not bench.cuda or _kernel(row)]
    spent = sorted(((getattr(row, field), row.key) for row in rows), reverse=True)
    total = sum(time for time, _ in spent) or 1.0
    kernels = {key[:80]: round(time / total, 3) for time, key in spent[:most]}
    return {"busy": min(1.0, total / 1e6 / wall), "kernels": kernels}


def _kernel(row: Any) -> bool:
    """Whether a row of the profile is a kernel's, not that of a span around several."""
    return row.device_type.name == "CUDA" and not getattr(row, "is_user_annotation", False)
