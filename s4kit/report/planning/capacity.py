"""How a step's memory grows with the batch, which batch fits, and how long a step may take."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...data.outline import MadeUp
from ...data.task import Source, Task
from ...engine.settings import Settings, pass_steps, share_out
from ...methods.base import Method, Optim
from ...views import ViewPlan
from ...views.sampling import stream_size
from .gpus import GPU
from .rehearsal import Cost, rehearse, scaled

BEYOND = 4  # times the wanted batch is as far as anybody looks
CLEAR = 1.3  # so much above the line needs no rehearsal
TRIED = (1, 2)  # labelled images of steps that are taken
STEPS = 1000  # among which stages are shared out where no length is known


class Scene:
    """One method on one task; remembers what it has rehearsed.

    Args:
        method: from `stand_in`.
    """

    real = False  # whether its steps are taken; else they compute nothing

    def __init__(self, method: Method, task: Task, settings: Settings) -> None:
        self.method, self.task, self.settings = method, task, settings
        self.optim = Optim(
            [], settings.lr, settings.head, settings.optimiser, settings.weight_decay, clip=settings.clip
        )
        self.share = (settings.unlabelled_batch or settings.batch) / settings.batch
        self.stages = method.stages()
        self._costs: dict[tuple[int, bool, int, float], Cost] = {}
        self.most = min(len(task.labelled), BEYOND * settings.batch)
        self.views = scaled(self.stages[-1].views or method.views, self.share)

    def _rehearse(self, batch: int, half: bool, stage: int, progress: float) -> Cost:
        key = (batch, half, stage, progress)
        if key not in self._costs:
            ledger = self.real or batch == self.settings.batch
            self._costs[key] = rehearse(
                self.method, self.task, batch, self.optim, half, stage, progress, self.share, ledger, self.real
            )
        return self._costs[key]

    def _small(self) -> int:
        return 2 if self.settings.batch != 2 else 1

    def moment(self, half: bool) -> tuple[int, float]:
        """The stage, and its first or last step, that takes most memory; told from a small batch.

        A stage whose step does not look at the clock has its last one only.
        """
        found: dict[tuple[int, float], int] = {}
        for stage in range(len(self.stages)):
            for progress in (0.999, 0.0):
                cost = self._rehearse(self._small(), half, stage, progress)
                found[stage, progress] = cost.memory
                if not cost.timed:
                    break
        return max(found, key=found.get)

    def cost(self, batch: int, half: bool) -> Cost:
        """Of the moment that takes most memory."""
        return self._rehearse(batch, half, *self.moment(half))

    def line(self, half: bool) -> tuple[float, float]:
        """(offset, slope) of the memory in the batch, through the two largest batches rehearsed."""
        for batch in (self._small(), self.settings.batch):
            self.cost(batch, half)
        known = sorted(key[0] for key in self._costs if key[1] == half and key[2:] == self.moment(half))[-2:]
        low, high = (self.cost(batch, half).memory for batch in known)
        slope = (high - low) / (known[1] - known[0])
        return low - slope * known[0], slope

    def largest(self, room: float, half: bool) -> int:
        """The most labelled images whose step needs at most `room` bytes: by the line, then rehearsed itself.

        Not more than the split has, nor than `BEYOND` times the wanted batch; with plenty of room the line is enough.
        """
        offset, slope = self.line(half)
        most = self.most
        if offset + CLEAR * slope * most <= room:
            return most
        batch = max(0, min(most, int((room - offset) / slope)))
        while batch and self.cost(batch, half).memory > room:
            batch -= 1
        return batch

    def split(self, largest: int, room: float, half: bool) -> tuple[int, int, int] | None:
        """(micro-batch, how many, bytes) that keep the wanted batch; the fewest micro-batches that fit.

        The engine has the views of all micro-batches of a step on the device, and gradients stay between them.
        """
        wanted, (offset, slope) = self.settings.batch, self.line(half)
        for count in range(1, wanted + 1):
            micro = wanted // count
            if wanted % count or micro > largest:
                continue
            parts = self.cost(wanted, half).parts
            more = (count - 1) * parts["views"] * micro / wanted + (parts["gradients"] if count > 1 else 0)
            held = offset + slope * micro + more
            if held <= room:
                return micro, count, round(held)
        return None

    def seconds(self, gpu: GPU, count: int, half: bool) -> float:
        """A step of the wanted batch in `count` micro-batches, the stages by their lengths."""
        whole = self.settings.steps or STEPS
        total = 0.0
        for index, (_, _, part) in enumerate(share_out(self.stages, whole, pass_steps(self.task, self.settings))):
            cost = self._rehearse(self.settings.batch, half, index, 0.999)
            total += part / whole * roofline(cost, gpu, count)
        return total

    def images(self, batch: int) -> int:
        """Images of all streams in a step of the last stage."""
        return _images(self.views, batch)


def _images(views: ViewPlan, batch: int) -> int:
    return sum(stream_size(stream, batch) for stream in views.values())


class Tried(Scene):
    """One method whose step depends on what it finds in the images, on one task: real steps of one and of two labelled
    images are taken on this machine's CPU, and what other batches take lies on the line through them, by images.

    The networks find what they find as they begin; of a data set's outline every image has its objects, those that a
    stage would have kept as well.

    Args:
        method: one that may be used up.
    """

    real = True

    def __init__(self, method: Method, task: Task, settings: Settings) -> None:
        made_up = isinstance(task.train, MadeUp)
        super().__init__(method, task.with_(kept=Assumed(task.train)) if made_up else task, settings)

    def _rehearse(self, batch: int, half: bool, stage: int, progress: float) -> Cost:
        if batch in TRIED:
            return super()._rehearse(batch, half, stage, progress)
        views = scaled(self.stages[stage].views or self.method.views, self.share)
        few, more, wanted = (_images(views, n) for n in (*TRIED, batch))
        low, high = (super(Tried, self)._rehearse(n, half, stage, progress) for n in TRIED)
        return along(low, high, (wanted - few) / (more - few))


@dataclass(frozen=True)
class Assumed:
    """The maps that stages will have kept, see `data.kept.Kept`: those of the source itself stand in."""

    source: Source

    def names(self) -> list[str]:
        """Of the source's maps."""
        return list(self.source.maps)

    def read(self, name: str, row: int) -> np.ndarray | None:
        """(H, W) of one image; None where the source has no map of that name."""
        return self.source.map(name, row).numpy() if name in self.source.maps else None


def along(low: Cost, high: Cost, place: float) -> Cost:
    """The cost at a place on the line through two: 0 is `low`, 1 is `high`."""

    def at(a: float, b: float) -> int:
        return round(a + place * (b - a))

    rows = ("flops", "traffic", "half", "launched")
    return Cost(
        at(low.memory, high.memory),
        {name: at(size, high.parts[name]) for name, size in low.parts.items()},
        *(np.concatenate([getattr(low, name), getattr(high, name)]) for name in rows),
        times=np.concatenate([(1 - place) * low.times, place * high.times]),
        timed=high.timed,
    )


def roofline(cost: Cost, gpu: GPU, count: int = 1) -> float:
    """Seconds of a step on a GPU when it runs as `count` smaller ones; see the words at the top of `planner`."""
    peak = np.where(cost.half, gpu.half, gpu.single)
    work = cost.flops / (gpu.flops_share * peak * count)
    moved = cost.traffic / (gpu.bandwidth_share * gpu.bandwidth * count)
    return count * float((cost.times * np.maximum(np.maximum(work, moved), gpu.launch * cost.launched)).sum())
