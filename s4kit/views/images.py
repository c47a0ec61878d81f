"""The stream of images: the host decodes, crops (uint8) and draws parameters, the device makes the views (float)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..data.seeding import generator
from ..data.task import VOID, Sample, Source, Task
from ..errors import S4Error
from .boxes import Boxes, rasterise
from .geometry import Geometry, Window, placement, source_of, whole_window
from .looks import IMAGES, Look
from .photometric import Params, Strong
from .plan import MapReader, Still, ViewPlan, Views
from .sampling import pick
from .weak_labels import KINDS, said_of


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
    maps: dict[str, Tensor] = field(default_factory=dict)  # (B, S, S) uint8 or int32 by name
    revealed: dict[str, Tensor] = field(default_factory=dict)  # "tags" or "boxes", see Views

    def pin_memory(self) -> HostViews:
        """A copy in page-locked memory, from which the transfer to a GPU need not be waited for."""
        tensors = (t.pin_memory() for t in (self.image, self.label, self.real, self.index, self.labelled))
        where = None if self.where is None else self.where.pin_memory()
        named = ({name: t.pin_memory() for name, t in values.items()} for values in (self.maps, self.revealed))
        return HostViews(*tensors, [b.pin_memory() for b in self.boxes], self.strong, where, *named)


@dataclass(frozen=True)
class Stream:
    """One independent, seeded draw per step from one image list, and the views made of it.

    Attributes:
        source: "labelled", "unlabelled", "all", or a further list of the task, such as "domain", see `Task.more`.
        weak: geometry (scale, pad, crop, flip) of the weak view; every strong view has the same pixels.
        strong: k photometric recipes; view j is recipe j applied to the weak view.
        masks: box draws, one mask each; drawn here, pasted by the method.
        batch: images per labelled image (1.0: as many as labelled ones).
        of: name of a stream of the same source and batch: this one has the same images, equally resized, in crops of
            its own that overlap with those; `weak` is then `overlapping(...)`, or `SameBox()`.
        other: with `of`, not the same images but of each another frame of its clip, drawn anew.
        maps: names of maps that a stage has kept of the whole images (`Stage.prepare`), or what makes one of an image
            as it is drawn; they go through the geometry of the weak view as labels do. One that the source has itself,
            see `Source.maps`, is the true one where the label is shown, else the kept one.
        reveal: "tags" or "boxes": the only door to what the masks of unlabelled images say. A run whose method opens it
            is marked "weak labels" wherever it is shown.
    """

    source: str
    weak: Geometry = field(default_factory=Geometry)
    strong: tuple[Strong, ...] = ()
    masks: tuple[Boxes, ...] = ()
    batch: float = 1.0
    of: str | None = None
    maps: tuple[str | MapReader, ...] = ()
    reveal: str | None = None
    other: bool = False
    look: ClassVar[Look] = IMAGES

    def check(self, task: Task, name: str) -> None:
        """See `AnyStream.check`: it needs images, a known kind to reveal, maps of training images, clips where two
        frames are drawn."""
        if task.train.item is not Sample:
            raise S4Error(
                f"The stream {name!r} draws images, and {task.name} has none: take a method of its kind, such as "
                "`shape3d` for points, or `supervised`, which learns from either."
            )
        if self.reveal not in (None, *KINDS):
            raise S4Error(f"The stream {name!r} has reveal={self.reveal!r}: one of {', '.join(KINDS)}, or None.")
        source = task.source(self.source)
        if self.maps and self.source in task.more:
            raise S4Error(f"The stream {name!r} reads kept maps; they are kept of training images, not of the further "
                          f"list {self.source!r}.")  # fmt: skip
        if self.other and (alone := [row for row in task.rows(self.source) if len(source.clip(row)) < 2]):
            raise S4Error(
                f"The stream {name!r} draws two frames of a clip, and {source.ids[alone[0]]} of {task.name} has no "
                'other one: it needs clips, such as load("clips").'
            )
        for reader in self.maps:
            if not isinstance(reader, str):
                reader.check(task, self.source)

    def draw(self, task: Task, name: str, plan: ViewPlan, seed: int, stage: int, positions: range) -> HostViews:
        """Decode and crop the images at the given positions.

        Labels are shown only for rows of the labelled list and of further ones; all others are 255 throughout and their
        files stay closed, unless the stream reveals something of them.
        """
        source, known = task.source(self.source), task.shown(self.source)
        images, labels, real, index, shown, where = [], [], [], [], [], []
        boxes: list[list[np.ndarray]] = [[] for _ in self.masks]
        strong: list[list[Params]] = [[] for _ in self.strong]
        maps: dict[str, list[np.ndarray]] = {_name(wanted): [] for wanted in self.maps}
        revealed: list[np.ndarray] = []
        for position in positions:
            row = pick(task, self, name, seed, stage, position)
            if self.other:
                row = _other_frame(source.clip(row), row, generator(seed, "frame", name, stage, position))
            sample = source.read(row, label=row in known or self.reveal is not None)
            label = sample.label.numpy() if sample.label is not None and row in known else None
            pixels = sample.image.permute(1, 2, 0).numpy()
            rng = generator(seed, "view", name, stage, position)
            size = pixels.shape[:2]
            if self.of:
                other = generator(seed, "view", self.of, stage, position)
                first = plan[self.of].weak.draw(other, size, task.crop, task.scale, task.short)
                window = self.weak.beside(rng, first, task.crop)
            else:
                window = self.weak.draw(rng, size, task.crop, task.scale, task.short)
            images.append(self.weak.image(pixels, window, task.crop))
            if label is not None:
                labels.append(self.weak.label(label, window, task.crop))
            else:
                labels.append(np.full((task.crop, task.crop), VOID, np.uint8))
            for wanted, drawn in zip(self.maps, maps.values()):
                if isinstance(wanted, str):
                    values = task.map_of(wanted, row, size, label is not None)
                else:
                    made = generator(seed, "map", wanted.name, name, stage, position)
                    values = wanted.read(task, row, label, size, made)
                drawn.append(self.weak.label(values, window, task.crop))
            if self.reveal:
                revealed.append(_revealed(self.reveal, sample, task, window, task.crop))
            real.append(placement(window, task.crop))
            where.append(source_of(window, size, task.crop))
            index.append(row)
            shown.append(label is not None)
            for draws, mask in zip(boxes, self.masks):
                draws.append(mask.draw(rng, task.crop))
            for draws, recipe in zip(strong, self.strong):
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
            {self.reveal: torch.from_numpy(np.stack(revealed))} if self.reveal else {},
        )

    def whole(self, task: Task, row: int) -> HostViews:
        """One image as it is stored, one box and one place that are all of it; its label 255 everywhere where it is
        hidden."""
        known = row in task.shown(self.source if self.source in task.more else "all")
        sample = task.source(self.source).read(row, label=known or self.reveal is not None)
        height, width = size = tuple(sample.image.shape[1:])
        what, window = self.reveal, whole_window(size)
        told = {what: _revealed(what, sample, task, window, max(size))} if what else {}
        return HostViews(
            sample.image.permute(1, 2, 0)[None],
            (sample.label if known else torch.full(size, VOID, dtype=torch.uint8))[None],
            torch.tensor([[0, 0, height, width]], dtype=torch.int32),
            torch.tensor([row]),
            torch.tensor([known]),
            where=torch.tensor([[1.0, 0.0, 1.0, 0.0]]),
            maps={name: torch.from_numpy(task.map_of(name, row, size, known))[None] for name in map(_name, self.maps)},
            revealed={what: torch.from_numpy(values)[None] for what, values in told.items()},
        )

    def still(self, task: Task, part: str, row: int, whole: bool = False, reveals: tuple[str, ...] = ()) -> Still:
        """One image as it is stored, or the middle of it as large as a crop, see `AnyStream.still`."""
        sample = _shown(getattr(task, part), row)
        pixels = sample.image.permute(1, 2, 0).numpy()
        size = height, width = pixels.shape[:2]
        missing = np.full(size, VOID, np.uint8)
        mask = None if sample.label is None else sample.label.numpy()
        truth = missing if mask is None else mask
        names = task.kept.names() if task.kept else ()
        maps = {name: task.map_of(name, row, size) if part == "train" else missing for name in names}
        real, window, side = (0, 0, height, width), whole_window(size), max(size)
        if not whole:
            window = Window(height, width, *(self.weak.middle(side, task.crop) for side in size), flip=False)
            side = task.crop
            pixels, real = self.weak.image(pixels, window, task.crop), placement(window, task.crop)
            truth, *cut = (self.weak.label(values, window, task.crop) for values in (truth, *maps.values()))
            maps = dict(zip(maps, cut))
        host = HostViews(
            _alone(pixels),
            torch.full((1, *truth.shape), VOID, dtype=torch.uint8),
            torch.tensor([real], dtype=torch.int32),
            torch.tensor([row if part == "train" else -1]),
            torch.tensor([False]),
            maps={name: _alone(values) for name, values in maps.items()},
            revealed={what: _alone(said_of(mask, what, task.num_classes, window, side)) for what in reveals},
        )
        return Still(host, _alone(truth))

    def join(self, hosts: Sequence[HostViews]) -> HostViews:
        """One batch of several; boxes and places of a mix are left out."""
        rows = [(h.image, h.label, h.real, h.index, h.labelled) for h in hosts]
        maps, told = (
            {name: torch.cat([found[name] for found in each]) for name in each[0]}
            for each in ([h.maps for h in hosts], [h.revealed for h in hosts])
        )
        return HostViews(*map(torch.cat, zip(*rows)), maps=maps, revealed=told)

    def render(self, host: HostViews, device: torch.device) -> Views:
        """Make the views on the device: float images, valid map, masks, strong views."""

        def to(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        planes = to(host.image).permute(0, 3, 1, 2)
        image = planes.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        top, left, bottom, right = to(host.real)[:, :, None, None].unbind(1)
        y, x = (torch.arange(side, device=device) for side in image.shape[-2:])
        valid = (y[:, None] >= top) & (y[:, None] < bottom) & (x >= left) & (x < right)
        strong = [recipe.apply(image, params) for recipe, params in zip(self.strong, host.strong)]
        if self.weak.padded_last:
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


def _name(wanted: str | MapReader) -> str:
    return wanted if isinstance(wanted, str) else wanted.name


def _revealed(what: str, sample: Sample, task: Task, window: Window, crop: int) -> np.ndarray:
    """What the mask of an image says: its tags, or the boxes that a window of it shows.

    Raises:
        S4Error: the image has no mask.
    """
    if sample.label is None:
        raise S4Error(f"Image {sample.id} has no label file: its {what} are not known. Leave it out of the lists.")
    return said_of(sample.label.numpy(), what, task.num_classes, window, crop)


def _other_frame(clip: Sequence[int], row: int, rng: np.random.Generator) -> int:
    """Any frame of a clip but `row`; where there is none, that one."""
    frames = [frame for frame in clip if frame != row] or [row]
    return int(frames[rng.integers(len(frames))])


def _shown(source: Source, row: int) -> Sample:
    """An image with its truth for people to see; without it where there is none, or its file is broken."""
    try:
        return source.read(row)
    except S4Error:
        return source.read(row, label=False)


def _alone(array: np.ndarray) -> Tensor:
    """A batch of one, copied: Pillow's arrays cannot be written to."""
    return torch.from_numpy(np.stack([array]))
