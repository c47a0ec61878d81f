"""From a task to batches: the host draws and crops (uint8), the device makes the views (float).

Sampling is a pure function of (seed, stream, position): stream s at position p takes entry p mod n of the permutation
of its epoch p // n. Nothing depends on workers, on ranks or on what was drawn before, so a run resumes in mid-epoch by
its step number alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.seeding import generator
from ..data.task import VOID, Sample, Task
from ..errors import S4Error
from .boxes import rasterise
from .geometry import Window, placement, source_of, whole_window
from .photometric import Params
from .plan import Batch, Stream, ViewPlan, Views
from .weak_labels import said_of


@dataclass
class HostViews:
    """One stream before the device: uint8 crops and the drawn parameters."""

    image: Tensor  # (B, S, S, 3) uint8
    label: Tensor  # (B, S, S) uint8
    real: Tensor  # (B, 4) int32: top, left, bottom, right of the real pixels
    index: Tensor  # (B,) int64
    labelled: Tensor  # (B,) bool
    boxes: list[Tensor] = field(default_factory=list)  # j x (B, k, 4) int32
    strong: list[Params] = field(default_factory=list)  # k x parameters stacked over the batch
    where: Tensor | None = None  # (B, 4) float32, see Views
    maps: dict[str, Tensor] = field(default_factory=dict)  # (B, S, S) uint8 by name
    revealed: dict[str, Tensor] = field(default_factory=dict)  # "tags" or "boxes", see Views

    def pin_memory(self) -> HostViews:
        tensors = (t.pin_memory() for t in (self.image, self.label, self.real, self.index, self.labelled))
        where = None if self.where is None else self.where.pin_memory()
        named = ({name: t.pin_memory() for name, t in values.items()} for values in (self.maps, self.revealed))
        return HostViews(*tensors, [b.pin_memory() for b in self.boxes], self.strong, where, *named)


class HostStep(dict):
    """HostViews by stream name: what a decode worker hands to the engine for one micro-batch."""

    def pin_memory(self) -> HostStep:
        return HostStep({name: views.pin_memory() for name, views in self.items()})


@lru_cache(maxsize=64)
def _permutation(seed: int, stream: str, stage: int, epoch: int, rows: int) -> np.ndarray:
    return generator(seed, "order", stream, stage, epoch).permutation(rows)


def pick(task: Task, stream: Stream, name: str, seed: int, stage: int, position: int) -> int:
    """The row of `task.train` at a position of a stream: endless passes, each in its own order."""
    rows = task.rows(stream.source)
    epoch, place = divmod(position, len(rows))
    return rows[_permutation(seed, stream.of or name, stage, epoch, len(rows))[place]]


def stream_size(stream: Stream, batch: int) -> int:
    """Images of a stream per micro-batch of `batch` labelled images."""
    return max(1, round(batch * stream.batch))


def draw_stream(task: Task, name: str, plan: ViewPlan, seed: int, stage: int, positions: range) -> HostViews:
    """Decode and crop the images of one stream of a plan at the given positions.

    Labels are shown only for rows of the labelled list; all others are 255 throughout and their files stay closed,
    unless the stream reveals something of them.
    """
    stream = plan[name]
    known = task.labelled_rows if stream.source != "unlabelled" else frozenset()
    images, labels, real, index, shown, where = [], [], [], [], [], []
    boxes: list[list[np.ndarray]] = [[] for _ in stream.masks]
    strong: list[list[Params]] = [[] for _ in stream.strong]
    maps: dict[str, list[np.ndarray]] = {kept: [] for kept in stream.maps}
    revealed: list[np.ndarray] = []
    for position in positions:
        row = pick(task, stream, name, seed, stage, position)
        sample = task.train.read(row, label=row in known or stream.reveal is not None)
        label = sample.label.numpy() if sample.label is not None and row in known else None
        pixels = sample.image.permute(1, 2, 0).numpy()
        rng = generator(seed, "view", name, stage, position)
        size = pixels.shape[:2]
        if stream.of:
            other = generator(seed, "view", stream.of, stage, position)
            first = plan[stream.of].weak.draw(other, size, task.crop, task.scale, task.short)
            window = stream.weak.beside(rng, first, task.crop)
        else:
            window = stream.weak.draw(rng, size, task.crop, task.scale, task.short)
        images.append(stream.weak.image(pixels, window, task.crop))
        if label is not None:
            labels.append(stream.weak.label(label, window, task.crop))
        else:
            labels.append(np.full((task.crop, task.crop), VOID, np.uint8))
        for kept, drawn in maps.items():
            drawn.append(stream.weak.label(task.map_of(kept, row, size), window, task.crop))
        if stream.reveal:
            revealed.append(_revealed(stream.reveal, sample, task, window, task.crop))
        real.append(placement(window, task.crop))
        where.append(source_of(window, size, task.crop))
        index.append(row)
        shown.append(label is not None)
        for draws, mask in zip(boxes, stream.masks):
            draws.append(mask.draw(rng, task.crop))
        for draws, recipe in zip(strong, stream.strong):
            draws.append(recipe.draw(rng))
    return HostViews(
        torch.from_numpy(np.stack(images)),
        torch.from_numpy(np.stack(labels)),
        torch.tensor(real, dtype=torch.int32),
        torch.tensor(index),
        torch.tensor(shown),
        [torch.from_numpy(np.stack(draws)) for draws in boxes],
        [{key: np.stack([d[key] for d in draws]) for key in draws[0]} for draws in strong],
        torch.tensor(where, dtype=torch.float32),
        {kept: torch.from_numpy(np.stack(drawn)) for kept, drawn in maps.items()},
        {stream.reveal: torch.from_numpy(np.stack(revealed))} if stream.reveal else {},
    )


def _revealed(what: str, sample: Sample, task: Task, window: Window, crop: int) -> np.ndarray:
    """What the mask of an image says: its tags, or the boxes that a window of it shows.

    Raises:
        S4Error: the image has no mask.
    """
    if sample.label is None:
        raise S4Error(f"Image {sample.id} has no label file: its {what} are not known. Leave it out of the lists.")
    return said_of(sample.label.numpy(), what, task.num_classes, window, crop)


def draw_whole(task: Task, row: int, maps: tuple[str, ...] = (), reveal: str | None = None) -> HostViews:
    """One whole image at its stored size, nothing drawn; its label where it is a labelled one.

    Args:
        maps: names of kept maps that come with it. reveal: as of a `Stream`.
    """
    known = row in task.labelled_rows
    sample = task.train.read(row, label=known or reveal is not None)
    height, width = size = tuple(sample.image.shape[1:])
    told = {reveal: _revealed(reveal, sample, task, whole_window(size), max(size))} if reveal else {}
    return HostViews(
        sample.image.permute(1, 2, 0)[None],
        (sample.label if known else torch.full(size, VOID, dtype=torch.uint8))[None],
        torch.tensor([[0, 0, height, width]], dtype=torch.int32),
        torch.tensor([row]),
        torch.tensor([known]),
        where=torch.tensor([[1.0, 0.0, 1.0, 0.0]]),
        maps={name: torch.from_numpy(task.map_of(name, row, size))[None] for name in maps},
        revealed={what: torch.from_numpy(values)[None] for what, values in told.items()},
    )


def draw_step(task: Task, plan: ViewPlan, batch: int, seed: int, stage: int, micro: int) -> HostStep:
    """All streams of micro-batch number `micro` (= step * slots + slot) of a stage."""
    step = HostStep()
    for name, stream in plan.items():
        size = stream_size(stream, batch)
        positions = range(micro * size, (micro + 1) * size)
        step[name] = draw_stream(task, name, plan, seed, stage, positions)
    return step


class Steps(Dataset):
    """Micro-batches of a stage by number, for a DataLoader with any number of workers.

    Args:
        task, plan, batch, seed, stage: what is drawn.
    """

    def __init__(self, task: Task, plan: ViewPlan, batch: int, seed: int = 0, stage: int = 0) -> None:
        self.arguments = (task, plan, batch, seed, stage)

    def __getitem__(self, micro: int) -> HostStep:
        return draw_step(*self.arguments, micro)


def render_stream(host: HostViews, stream: Stream, device: torch.device) -> Views:
    """Make the views of one stream on the device: float images, valid map, masks, strong views."""

    def to(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    planes = to(host.image).permute(0, 3, 1, 2)
    image = planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    top, left, bottom, right = to(host.real)[:, :, None, None].unbind(1)
    y, x = (torch.arange(side, device=device) for side in image.shape[-2:])
    valid = (y[:, None] >= top) & (y[:, None] < bottom) & (x >= left) & (x < right)
    strong = [recipe.apply(image, params) for recipe, params in zip(stream.strong, host.strong)]
    if stream.weak.padded_last:
        strong = [torch.where(valid[:, None], coloured, image) for coloured in strong]
    return Views(
        weak=image,
        strong=strong,
        masks=[rasterise(to(boxes), image.shape[-2:]) for boxes in host.boxes],
        valid=valid.float(),
        label=to(host.label).long(),
        index=to(host.index),
        labelled=to(host.labelled),
        where=None if host.where is None else to(host.where),
        maps={name: to(values).long() for name, values in host.maps.items()},
        **{what: to(values) for what, values in host.revealed.items()},
    )


def render(step: HostStep, plan: ViewPlan, device: torch.device | str = "cpu") -> Batch:
    """Turn a drawn micro-batch into a `Batch` on the device."""
    device = torch.device(device)
    with torch.no_grad():
        return Batch({name: render_stream(host, plan[name], device) for name, host in step.items()})
