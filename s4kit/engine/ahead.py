"""Images for scoring: decoded ahead where the device would wait for them, and those of one size together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from ..data.task import Sample, Source
from .device import pick_workers

AHEAD = 4  # images that each thread holds ready
HELD = 4  # groups' worth of images that may wait for others of their size
MOST = 8  # images or windows in a forward: far less than a training step holds of as many


def samples(source: Source, rows: Sequence[int], device: torch.device) -> Iterator[Sample]:
    """The samples in the order of `rows`; where the device is not the CPU itself, threads read ahead.

    Threads, since decoding leaves Python's lock alone and an evaluation is too short to start processes for.

    Raises:
        S4Error: an image cannot be read.
    """
    count = min(len(rows), pick_workers("auto", device))
    if not count:
        yield from map(source.read, rows)
        return
    waiting: deque[Future[Sample]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for row in rows:
                waiting.append(pool.submit(source.read, row))
                if len(waiting) > AHEAD * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def size_of(sample: Sample) -> torch.Size:
    """(3, H, W): samples of one size fit into one forward."""
    return sample.image.shape


def alike(drawn: Iterable[Any], most: int, size: Callable[[Any], torch.Size] = size_of) -> Iterator[list[Any]]:
    """The samples in groups of one size, up to `most` in each; few are held back at a time.

    A group is handed out when it is full, or as the largest when `HELD` times `most` wait.
    """
    waiting: dict[torch.Size, list[Any]] = {}
    for sample in drawn:
        group = waiting.setdefault(size(sample), [])
        group.append(sample)
        if len(group) < most and sum(map(len, waiting.values())) < HELD * most:
            continue
        yield waiting.pop(max(waiting, key=lambda one: len(waiting[one])))
    yield from waiting.values()


def at_once(device: torch.device) -> int:
    """How many images or windows of one size to try in a forward; on a CPU several are no faster and need more."""
    return MOST if device.type == "cuda" else 1
