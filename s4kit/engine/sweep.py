"""The pass over whole images that a stage may begin with: what a network says of them is kept for later streams."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.kept import Kept
from ..data.seeding import mix_seed
from ..data.task import VOID, Task
from ..errors import S4Error
from ..nets import evaluating
from ..views import AnyStream, Views
from . import cost, distributed
from .checkpoint import writing
from .evaluate import evaluate
from .reading import in_order
from .scores import AnyScores, class_scores


class Stopped(Exception):
    """Ctrl-C has come in the middle of a pass."""


def passing(
    task: Task, stream: AnyStream, rows: Sequence[int], device: torch.device, workers: int | str = "auto"
) -> Iterator[tuple[int, Views]]:
    """(row, the whole item as a view of one) for each of the rows, decoded ahead, a few in memory at a time.

    A labelled item has its label, all others 255 throughout.

    Args:
        stream: how they are read; the kept maps that it names and what it reveals come with them.
    """
    for row, item in zip(rows, in_order(partial(stream.whole, task), list(rows), device, workers)):
        view = stream.render(item, device)
        yield row, view.map(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t)


class Sweep:
    """What `Stage.prepare` is given: the whole images, and a place to keep maps of them.

    Several processes share the images out; what a method concludes from them it brings together by `gather` or `sum`,
    so that all have the same. A pass begins again from nothing where it was killed, so it must follow from the method's
    state alone. Everything inside is without gradient, in the precision of the run.

    Attributes:
        task: the data; its lists are whole, whatever `Method.sampling` makes of them.
        stream: how its items are read, see `probe.stream_of`.
    """

    def __init__(
        self,
        task: Task,
        stream: AnyStream,
        kept: Kept,
        seed: int,
        device: torch.device,
        precision: str,
        workers: int | str = "auto",
        tell: Callable[[int, int], None] = lambda done, of: None,
        asked: Callable[[], bool] = lambda: False,
        reveals: tuple[str, ...] = (),
        step: int = 0,
    ) -> None:
        self.task, self.stream, self._kept, self._seed = task, stream, kept, seed
        self._device, self._precision, self._workers = device, precision, workers
        self._tell, self._asked, self._reveals = tell, asked, reveals
        self._written: set[Path] = set()
        self._step, self._bill = step, {}

    def over(
        self,
        source: str,
        rows: Sequence[int] | None = None,
        maps: tuple[str, ...] = (),
        reveal: str | None = None,
    ) -> Iterator[tuple[int, Views]]:
        """(row of `task.train`, view of one whole image) for this process's share of a list, each image once.

        The random state is set anew for each image, so that what is drawn for it does not depend on who draws.

        Args:
            source: "labelled", "unlabelled", "all" or a further list of the task, see `Task.more`.
            rows: those of its rows to look at; None = all.
            maps: names of kept maps that come with the images; of a further list none are kept.
            reveal: "tags" or "boxes", what a stream of the method reveals as well, so that the run is marked.

        Raises:
            S4Error: no stream of the method reveals it, or an image has no mask.
        """
        if reveal is not None and reveal not in self._reveals:
            raise S4Error(f"over(reveal={reveal!r}): no stream of the method reveals that, so no table would say it.")
        wanted = None if rows is None else set(rows)
        every = [row for row in dict.fromkeys(self.task.rows(source)) if wanted is None or row in wanted]
        mine = every[distributed.rank() :: distributed.world()]
        further = {"source": source} if source in self.task.more else {}
        stream = replace(self.stream, maps=maps, reveal=reveal, **further)
        for done, (row, view) in enumerate(passing(self.task, stream, mine, self._device, self._workers)):
            if distributed.world() == 1 and self._asked():
                raise Stopped
            seed = mix_seed(self._seed, "sweep", self._kept.stage, row)
            torch.manual_seed(seed)
            random.seed(seed)
            yield row, view
            self._tell((done + 1) * distributed.world(), len(every))

    def scores(self, net: nn.Module, view: Views, how: Any = None) -> Tensor:
        """(1, C, H, W) scores of a whole image, whose argmax is the prediction, in eval mode.

        Args:
            how: of the type of the task's evaluation: scales, mirroring and windows, see `Evaluation`; by default one
                forward, whose probabilities they are. Over several scales and windows they are sums.
        """
        with evaluating(net):
            return class_scores(net, view.weak, how or type(self.task.evaluation)())

    def keep(self, name: str, row: int, values: Tensor) -> None:
        """Keep a map (H, W) of an image, (N,) of points, for the streams that name it.

        Args:
            values: int32 is kept as it is, from 0 to 2^24 - 1, such as ids of objects; any other type as integers from
                0 to 255. 255 = nothing.
        """
        kept = values if values.dtype == torch.int32 else values.to(torch.uint8)
        with writing(self._kept.path(name, row)):
            self._kept.write(name, row, kept.cpu().numpy())
        self._written.add(self._kept.path(name, row))

    def truth(self, row: int, where: Tensor) -> Tensor:
        """A person's answer: (H, W) labels of an unlabelled image at the places (H, W) bool that are asked, else 255.

        It is the only door to them. Each place is counted, void ones as well, in `RUN/store/cost.csv`, and tables say
        what share of the area was asked for.

        Raises:
            S4Error: the image has no mask, or one of another size.
        """
        label = self.task.train.read(row).label
        if label is None or label.shape != where.shape:
            found = "no mask" if label is None else f"a mask of {tuple(label.shape)}"
            raise S4Error(f"{self.task.train.ids[row]} has {found}; it was asked for {tuple(where.shape)}.")
        before = self._bill.get(row, (0, 0))[0]
        self._bill[row] = (before + int(where.sum()), where.numel())
        return label.to(where.device).long().masked_fill(~where, VOID)

    def settle(self) -> None:
        """Wait until what this process has kept is on the disk, and what all have asked for is counted: a checkpoint
        that stands for it may then be written."""
        bill = self.gather(self._bill)
        if bill and distributed.rank() == 0:
            cost.add(self._kept.root, self._step, {self.task.train.ids[row]: paid for row, paid in bill.items()})
        folders = {folder for file in self._written for folder in list(file.parents)[:3]}  # name, stage and root
        if os.name == "posix":  # elsewhere a folder has nothing to wait for, and a file must be open for writing
            for path in (*self._written, *folders):
                with writing(path):
                    _sync(path)

    def gather(self, mine: dict[int, Any]) -> dict[int, Any]:
        """Small results by row, of all processes, in the order of the rows; a meeting of all of them."""
        return dict(sorted(distributed.gathered(mine).items()))

    def sum(self, counts: Tensor) -> Tensor:
        """The sum of a tensor over all processes; a meeting of all of them."""
        return distributed.summed(counts)

    def evaluate(self, net: nn.Module, how: Any = None) -> AnyScores:
        """Scores on the validation set; all processes meet. A method that steers by them says so in its card."""
        return evaluate(net, self.task, how, precision=self._precision)

    def generator(self, row: int) -> np.random.Generator:
        """A numpy generator that belongs to an image and this stage."""
        return np.random.default_rng(mix_seed(self._seed, "sweep", self._kept.stage, row))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
