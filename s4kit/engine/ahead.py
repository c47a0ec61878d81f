"""Images for scoring: decoded ahead where the device would wait for them, and those of one size together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset

from ..data.task import Sample, Source
from ..errors import S4Error
from . import guards
from .device import pick_workers

AHEAD = 4  # images that each decode worker holds ready
HELD = 4  # groups' worth of images that may wait for others of their size
MOST = 8  # images or windows in a forward: far less than a training step holds of as many


class Samples(Dataset):
    """The samples of a source by row, for a DataLoader."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def __getitem__(self, row: int) -> Sample:
        return self.source.read(row)


def samples(source: Source, rows: Sequence[int], device: torch.device) -> Iterator[Sample]:
    """The samples in the order of `rows`; decode workers read ahead where the device is not the CPU itself.

    Raises:
        S4Error: an image cannot be read.
    """
    count = min(len(rows), pick_workers("auto", device))
    drawn = DataLoader(
        Samples(source),
        batch_size=None,
        sampler=list(rows),
        num_workers=count,
        prefetch_factor=AHEAD if count else None,
        worker_init_fn=guards.deaf,
        generator=torch.Generator(),  # else it would draw from the one that everybody draws from
    )
    ahead = iter(drawn)
    for row in rows:
        try:
            sample = next(ahead)
        except S4Error:
            source.read(row)  # once more in this process: a worker's error arrives wrapped in its traceback
            raise
        yield sample


def alike(drawn: Iterable[Sample], most: int) -> Iterator[list[Sample]]:
    """The samples in groups of one size, up to `most` in each; few are held back at a time.

    A group is handed out when it is full, or as the largest when `HELD` times `most` wait.
    """
    waiting: dict[torch.Size, list[Sample]] = {}
    for sample in drawn:
        group = waiting.setdefault(sample.image.shape, [])
        group.append(sample)
        if len(group) < most and sum(map(len, waiting.values())) < HELD * most:
            continue
        yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()


def at_once(device: torch.device) -> int:
    """How many images or windows of one size to try in a forward; on a CPU several are no faster and need more."""
    return MOST if device.type == "cuda" else 1
