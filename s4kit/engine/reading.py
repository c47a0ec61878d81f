"""Images that are looked at one by one: decode workers read them ahead, in order, a few in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
) -> DataLoader:
    """`read(place)` for each of the places, as it is.

    Args:
        read: must be fit for pickling, as it goes to the workers. workers: their number, or "auto".
    """
    count = pick_workers(workers, device)
    return DataLoader(
        _Places(read),
        batch_size=None,
        sampler=places,
        num_workers=count,
        prefetch_factor=AHEAD if count else None,
        collate_fn=_as_it_is,
        pin_memory=device.type == "cuda",
        worker_init_fn=guards.deaf,
    )


def _as_it_is(read: Any) -> Any:
    return read
