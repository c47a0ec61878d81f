"""Images that are looked at one by one: decode workers read them ahead, in order, a few in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from . import guards
from .device import pick_workers

AHEAD = 4  # images that each decode worker holds ready


class _Places(Dataset):
    """What `read` makes of a place."""

    def __init__(self, read: Callable[[int], Any]) -> None:
        self.read = read

    def __getitem__(self, place: int) -> Any:
        return self.read(place)


def in_order(
    read: Callable[[int], Any], places: Sequence[int], device: torch.device, workers: int | str = "auto"
) -> Iterator[Any]:
    """`read(place)` for each of the places, as it is.

    Args:
        read: must be fit for pickling, as it goes to the workers. workers: their number, or "auto".
    """
    count = pick_workers(workers, device)
    yield from loaded(
        _Places(read), places, count, device, collate_fn=_as_it_is, prefetch_factor=AHEAD if count else None
    )


def loaded(items: Dataset, places: Sequence[int], workers: int, device: torch.device, **how: Any) -> Iterator[Any]:
    """The items of some places in order, read by so many processes; `how` goes to the `DataLoader`.

    However it ends, its workers end with it: they are deaf to signals, and one that waits until the last traceback that
    knows of it is forgotten would keep this process from ending.
    """
    pin = device.type == "cuda"
    reading = iter(
        DataLoader(items, None, sampler=places, num_workers=workers, pin_memory=pin, worker_init_fn=guards.deaf, **how)
    )
    try:
        yield from reading
    finally:
        if workers:
            reading._shutdown_workers()  # torch has no public word for it


def _as_it_is(read: Any) -> Any:
    return read
