"""A toy task: coloured, textured squares in memory, small enough for a step in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from s4kit.data.objects import MaskEvaluation
from s4kit.data.points.clouds import Cloud, CloudSource, PartEvaluation, RoomEvaluation, has_rooms
from s4kit.data.seeding import generator
from s4kit.data.sources import MemorySource
from s4kit.data.task import OBJECTS, PER_CLASS, VOID, Further, Sample, Task
from s4kit.errors import S4Error

PALETTE = ((60, 60, 60), (230, 80, 60), (60, 170, 230), (240, 220, 70), (120, 90, 220))


def toy_arrays(n: int, size: int = 40, classes: int = 4, seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """n images (size, size, 3) and labels (size, size): three squares of random classes on noise, a void border."""
    rng = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(n):
        image = rng.integers(0, 90, (size, size, 3), dtype=np.uint8)
        label = np.zeros((size, size), np.uint8)
        for _ in range(3):
            c, side = int(rng.integers(1, classes)), int(rng.integers(size // 5, size // 2))
            y, x = rng.integers(0, size - side, 2)
            part = image[y : y + side, x : x + side]
            part[:] = np.array(PALETTE[c % len(PALETTE)]) * rng.uniform(0.7, 1.0)
            part[:: c + 1] //= 2
            label[y : y + side, x : x + side] = c
        label[0] = 255
        images.append(image)
        labels.append(label)
    return images, labels


class ToyClips(MemorySource):
    """Images that go as clips of four frames or a few more, labelled ones among unlabelled ones, though nothing goes on
    from one to the next: everything is said to go a pixel to the right from frame to frame."""

    @property
    def clips(self) -> int:
        return max(1, len(self) // 4)

    def clip(self, row: int) -> range:
        return range(row % self.clips, len(self), self.clips)

    def flow(self, a: int, b: int) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = self.images[a].shape[-2:]
        way = (b - a) // self.clips
        to = torch.arange(width) + way
        return torch.tensor([float(way), 0.0]).repeat(height, width, 1), ((to >= 0) & (to < width)).repeat(height, 1)


class ToyObjects(ToyClips):
    """Images whose regions of a class are one object each."""

    maps = (OBJECTS,)

    def objects(self, row: int) -> torch.Tensor:
        label = self.labels[row].int()
        return torch.where((label > 0) & (label != VOID), PER_CLASS * label + 1, label)


class ToyKept:
    """Maps that a stage might have kept: the truth, a few columns of which have been taken for another class."""

    def __init__(self, source: MemorySource, classes: int = 4) -> None:
        self.source, self.classes = source, classes

    def names(self) -> list[str]:
        return []

    def read(self, name: str, row: int) -> np.ndarray:
        if name == OBJECTS:
            return self.source.objects(row).numpy()
        label = self.source.label(row).copy()
        label[..., :6] = (label[..., :6] + 1) % self.classes
        return label


def toy_task(
    n_labelled: int = 8,
    n_unlabelled: int = 16,
    n_val: int = 6,
    size: int = 40,
    crop: int = 32,
    classes: int = 4,
    seed: int = 0,
) -> Task:
    """A `Task` of squares; labelled and unlabelled images are apart. Any method of images can learn from it, those
    of clips and of a second domain as well."""
    n = n_labelled + n_unlabelled
    train = ToyObjects(*toy_arrays(n, size, classes, seed), classes, [f"train_{i}" for i in range(n)])
    val = ToyObjects(*toy_arrays(n_val, size, classes, seed + 1), classes, [f"val_{i}" for i in range(n_val)])
    other = MemorySource(*toy_arrays(6, size + 8, classes, seed + 2), classes, [f"other_{i}" for i in range(6)])
    return Task(
        "toy",
        tuple(f"class_{c}" for c in range(classes)),
        tuple(PALETTE[c % len(PALETTE)] for c in range(classes)),
        train,
        tuple(range(n_labelled)),
        tuple(range(n_labelled, n)),
        val,
        crop,
        scale=(0.8, 1.5),
        protocol="squares",
        more={"domain": Further(other, tuple(range(6)), "6 of others")},
    )


def toy_objects(**options: int) -> Task:
    """The same, its objects being the task."""
    return replace(toy_task(**options), name="toy objects", evaluation=MaskEvaluation(4))


class ToyCloud(CloudSource):
    """Points in a ball whose four parts are its quarters; the two halves are the coarse ones."""

    def __init__(self, part: str, count: int, points: int, seed: int) -> None:
        self.ids = [f"{part}_{k}" for k in range(count)]
        self.points, self.seed = points, seed

    def read(self, row: int, label: bool = True) -> Cloud:
        rng = generator("toy", self.seed, row)
        normals = rng.standard_normal((self.points, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        places = normals * rng.random((self.points, 1)) ** 0.3
        truth = 2 * (places[:, 1] > 0) + (places[:, 0] > 0)
        truth[:2] = 255
        points = torch.from_numpy(np.concatenate([places, normals], 1).astype(np.float32))
        return Cloud(points, torch.from_numpy(truth.astype(np.uint8)) if label else None, self.ids[row])


def toy_points(n_labelled: int = 8, n_unlabelled: int = 16, n_val: int = 6, points: int = 96) -> Task:
    """A `Task` of points with two levels of parts."""
    n = n_labelled + n_unlabelled
    classes = tuple(f"class_{c}" for c in range(4))
    lists = tuple(range(n_labelled)), tuple(range(n_labelled, n))
    return Task(
        "toy points", classes, PALETTE[:4], ToyCloud("train", n, points, 0), *lists, ToyCloud("val", n_val, points, 1),
        crop=None, protocol="quarters", evaluation=PartEvaluation(),
        levels={"coarse": ("low", "high"), "fine": classes},
        parents={"coarse": (0, 0, 1, 1), "fine": (0, 1, 2, 3)},
    )  # fmt: skip


class ToyRoom(CloudSource):
    """A floor with three balls on it, each an object, of the classes 1 to 3 by their height; some points are void."""

    maps = (OBJECTS,)

    def __init__(self, part: str, count: int, points: int, seed: int) -> None:
        self.ids = [f"{part}_{k}" for k in range(count)]
        self.points, self.seed = points, seed

    def _made(self, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = generator("toy room", self.seed, row)
        which = np.arange(self.points) % 5  # 0 and 4: the floor
        label = np.where(which % 4 == 0, 0, rng.permutation(3)[which % 4 - 1] + 1)
        middle = np.array([[np.cos(k), 0, np.sin(k)] for k in rng.uniform(0, 6) + 2.1 * np.arange(5)])[which]
        normals = rng.standard_normal((self.points, 3))
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        places = middle + 0.3 * normals + np.outer(0.3 + 0.3 * label, (0, 1, 0))
        floor = label == 0
        places[floor] = rng.uniform(-1.4, 1.4, (int(floor.sum()), 3)) * (1, 0, 1)
        normals[floor] = (0, 1, 0)
        ids = np.where(floor, 0, PER_CLASS * label + which).astype(np.int32)
        label[:2] = ids[:2] = VOID
        return np.concatenate([places, normals], 1).astype(np.float32), label.astype(np.uint8), ids

    def read(self, row: int, label: bool = True) -> Cloud:
        points, truth, _ = self._made(row)
        return Cloud(torch.from_numpy(points), torch.from_numpy(truth) if label else None, self.ids[row])

    def objects(self, row: int) -> torch.Tensor:
        return torch.from_numpy(self._made(row)[2])

    def label(self, row: int) -> np.ndarray:
        return self._made(row)[1]


def toy_rooms(n_labelled: int = 4, n_unlabelled: int = 8, n_val: int = 4, points: int = 200) -> Task:
    """A `Task` of rooms with three objects each."""
    n = n_labelled + n_unlabelled
    lists = tuple(range(n_labelled)), tuple(range(n_labelled, n))
    return Task(
        "toy rooms", ("floor", "low", "middle", "high"), PALETTE[:4], ToyRoom("train", n, points, 0), *lists,
        ToyRoom("val", n_val, points, 1), crop=None, protocol="balls", evaluation=RoomEvaluation((1, 2, 3), 10),
    )  # fmt: skip


# One method of each kind of state: none, a teacher, two networks, banks, features, critics with steps of their own,
# rounds on kept maps, stored networks, questions, clips, points, objects, rooms.
OF_EACH_KIND = {
    "supervised", "fixmatch", "cps", "u2pl", "unimatch", "rrn", "st", "prevmatch", "s4al", "ifr", "shape3d",
    "mask_rcnn", "twist",
}  # fmt: skip


def by_kind(cases: Sequence[Any]) -> list[Any]:
    """Names of methods, or cases that begin with one, as parameters: those of `OF_EACH_KIND` are in every run."""
    rows = [(case,) if isinstance(case, str) else case for case in cases]
    return [pytest.param(*row, marks=() if row[0] in OF_EACH_KIND else pytest.mark.slow) for row in rows]


CRITIC, PAIRS = {"width": 8}, {"queries": 32, "negatives": 64}
LIGHT = {  # what has large networks of its own, compares very many pixels, or looks very often
    "ads": CRITIC,
    "advcam": {"steps": 3, "scales": (1.0, 0.5)},
    "als4gan": CRITIC,
    "c3_semiseg": {"dim": 16, "groups": 16},
    "css": PAIRS,
    "dgcl": {"negatives": 64, "most": 256},
    "gct": {"width": 4},
    "prcl": PAIRS,
    "prcl_global": PAIRS,
    "rc2l": {"dim": 16, "queries": 20},
    "reco": PAIRS,
    "rrn": CRITIC,
    "semiseg_contrastive": {"dim": 16, "rows": 64, "most": 64},
}
TINY = {True: "tiny", False: "voxel(width=4, grid=16, depth=2, hidden=16)"}  # networks of images, of points
ROOMS = "voxel(width=4, cell=0.25, depth=2, hidden=16, reach=0.2, least=6)"


def toy_for(method: type, accepted: Sequence[Task] = ()) -> Task:
    """The first toy task from which all of a method's streams can draw."""
    for task in accepted or (make() for make in (toy_task, toy_points, toy_objects, toy_rooms)):
        try:
            for name, stream in method.views.items():
                stream.check(task, name)
            if method.scored_by is type(task.evaluation):
                return task
        except S4Error:
            continue
    raise AssertionError(f"no toy task is for {method.__name__}")


def tiny_net(task: Task) -> str:
    """The spec of a network for a step in milliseconds."""
    return ROOMS if has_rooms(task) else TINY[task.train.item is Sample]


def tiny(name: str, task: Task) -> dict[str, Any]:
    """The options of a method for a step in milliseconds."""
    return {"net": tiny_net(task), **LIGHT.get(name, {})}
