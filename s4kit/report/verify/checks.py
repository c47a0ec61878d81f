"""What the parts of `verify` are made of: checks, the time that they may take, and where they run."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"
ONLY_CUDA = "only on cuda"


@dataclass
class Check:
    """One thing that holds or not.

    Attributes:
        name: of what was looked at. level: "ok", "FAILED" or "skipped".
        found: figures, or why it was skipped.
        send: what to send, beside `report.json`, where it failed.
    """

    name: str
    level: str
    found: str
    send: str = ""


class Time:
    """Seconds that a part may take."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; below 0 where the time is over."""
        return self.until - time.monotonic()

    def for_another(self, taken: list[float]) -> bool:
        """Whether one more is likely to fit, as long as the longest of those so far."""
        return self.left > max(taken, default=0.0)


@dataclass
class Bench:
    """Where the parts run and what one hands on to the next.

    Attributes:
        device: "cpu" or a CUDA device. quick: everything tiny, for tests.
        methods: names. half: precisions in 16 bits that the device has in hardware.
        shared: measured by one part, used by others.
    """

    device: torch.device
    quick: bool
    methods: tuple[str, ...]
    half: tuple[str, ...] = ("bf16", "fp16")
    shared: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether the device is a CUDA device, so that memory and times can be held against what was planned."""
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done all that it was told."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Inside, convolutions in float32 are that, where PyTorch otherwise takes TF32."""
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            yield
        finally:
            torch.backends.cudnn.allow_tf32 = before

    def held(self) -> int:
        """Bytes of tensors that are alive: of a GPU what PyTorch has allocated, else what Python can reach."""
        gc.collect()
        if self.cuda:
            self.wait()
            clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
            if clear:
                clear()
            return torch.cuda.memory_allocated(self.device)
        seen = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in _tensors()}
        return sum(seen.values())

    def seconds(self, call: Callable[[], Any], repeats: int) -> float:
        """The median of some calls, of the wall where there is a GPU, else of the process."""
        clock = time.perf_counter if self.cuda else time.process_time
        times = []
        for _ in range(repeats):
            self.wait()
            began = clock()
            call()
            self.wait()
            times.append(clock() - began)
        return sorted(times)[len(times) // 2]


def _tensors() -> Iterator[torch.Tensor]:
    for thing in gc.get_objects():
        try:
            if type(thing) in (torch.Tensor, torch.nn.Parameter) and thing.device.type == "cpu":
                yield thing
        except (ReferenceError, RuntimeError):  # it has gone, or has no storage
            continue


Say = Callable[..., None]


@dataclass(frozen=True)
class Part:
    """One part of `verify`.

    Attributes:
        name: as `--only` takes it. title: for people.
        run: (bench, say, time) -> figures for the report; `say(name, level, found, send)` once per check.
        share: of the time that is there, relative to the other parts.
    """

    name: str
    title: str
    run: Callable[[Bench, Say, Time], dict[str, Any]]
    share: float
