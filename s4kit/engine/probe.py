"""The images that a run watches: what the method's own rule says of them during training, and how right it is.

Their truth, where the data set has it, is read here and never reaches a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from ..data.task import VOID, Task
from ..methods.base import Clock, Method, PseudoLabels
from ..nets.modes import by_batch, evaluating, live_norms
from ..views.geometry import Geometry, Window, placement, whole_window
from ..views.plan import Stream, Views
from ..views.sampling import HostViews, render_stream
from ..views.weak_labels import said_of
from . import watched
from .evaluate import count

PIXELS = 801 * 801  # of a forward, at most, where a single image has no more: what it needs does not grow with the set


@dataclass
class Scene:
    """One watched image: image (H, W, 3), truth (H, W), 255 where unknown; uint8; (top, left, bottom, right) of the
    pixels that are no padding; the maps (H, W) that the run has kept of it; and what its method is told of it."""

    image: np.ndarray
    truth: np.ndarray
    real: tuple[int, int, int, int]
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    told: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def valid(self) -> np.ndarray:
        """(H, W) uint8, 0 on padding."""
        valid = np.zeros(self.truth.shape, np.uint8)
        top, left, bottom, right = self.real
        valid[top:bottom, left:right] = 1
        return valid


class Probe:
    """Images of a task as a stream's views; read again whenever they are looked at, so that any number can be watched.

    Args:
        items: see `watched`.
        shape: how images that are smaller than the crop are padded, see `padding_of`; by default with black.
        whole: whole images at the stored scale; else their centre crops, which is what a training sees of them.
        reveals: "tags", "boxes", see `Method.revealed`: what the method is told of unlabelled images it is told of
            these as well; of an image without truth that all classes may be there, and no box.
    """

    def __init__(
        self,
        task: Task,
        items: Sequence[watched.Item],
        shape: Geometry | None = None,
        whole: bool = False,
        reveals: tuple[str, ...] = (),
    ) -> None:
        self.task, self.items, self.shape, self.whole = task, list(items), shape or Geometry(), whole
        self.reveals = reveals

    def __len__(self) -> int:
        return len(self.items)

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.items]

    @property
    def kinds(self) -> list[str]:
        return [item.kind for item in self.items]

    def scene(self, k: int) -> Scene:
        """Image `k` as it is watched."""
        sample, crop = self.items[k].read(self.task), self.task.crop
        pixels = sample.image.permute(1, 2, 0).numpy()
        height, width = pixels.shape[:2]
        truth = np.full((height, width), VOID, np.uint8) if sample.label is None else sample.label.numpy()
        maps = self._kept(k, (height, width))
        label = None if sample.label is None else truth
        if self.whole:
            told = self._told(label, whole_window((height, width)), max(height, width))
            return Scene(pixels, truth, (0, 0, height, width), maps, told)
        top, left = (self.shape.middle(side, crop) for side in (height, width))
        window = Window(height, width, top, left, flip=False)
        told = self._told(label, window, crop)
        image, shown = self.shape.image(pixels, window, crop), self.shape.label(truth, window, crop)
        maps = {name: self.shape.label(values, window, crop) for name, values in maps.items()}
        return Scene(image, shown, placement(window, crop), maps, told)

    def _told(self, label: np.ndarray | None, window: Window, crop: int) -> dict[str, np.ndarray]:
        """What the method is told of an image, by kind."""
        return {what: said_of(label, what, self.task.num_classes, window, crop) for what in self.reveals}

    def _kept(self, k: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """The maps that the run has kept of image `k` so far, which is of the training set."""
        item, names = self.items[k], self.task.kept.names() if self.task.kept else ()
        if item.part != "train":
            return {name: np.full(size, VOID, np.uint8) for name in names}
        return {name: self.task.map_of(name, item.row, size) for name in names}

    def views(self, places: Sequence[int], device: torch.device, scenes: Sequence[Scene] = ()) -> tuple[Views, Tensor]:
        """Images of one size as a weak view of an unlabelled stream, and their truth (B, H, W) long."""
        scenes = scenes or [self.scene(k) for k in places]
        truth = torch.from_numpy(np.stack([scene.truth for scene in scenes]))
        items = [self.items[k] for k in places]
        host = HostViews(
            torch.from_numpy(np.stack([scene.image for scene in scenes])),
            torch.full_like(truth, VOID),
            torch.tensor([scene.real for scene in scenes], dtype=torch.int32),
            torch.tensor([item.row if item.part == "train" else -1 for item in items]),
            torch.zeros(len(scenes), dtype=torch.bool),
            maps={name: torch.from_numpy(np.stack([s.maps[name] for s in scenes])) for name in scenes[0].maps},
            revealed={what: torch.from_numpy(np.stack([s.told[what] for s in scenes])) for what in self.reveals},
        )
        return render_stream(host, Stream("unlabelled"), device), truth.long().to(device)

    def chunks(self, device: torch.device) -> Iterator[tuple[list[int], Views, Tensor]]:
        """(places, views, truth) of all images, as many at a time as have one size and `PIXELS` at most."""
        places: list[int] = []
        scenes: list[Scene] = []
        for k in range(len(self)):
            scene = self.scene(k)
            fits = scenes and scene.truth.shape == scenes[0].truth.shape
            if scenes and not (fits and (len(scenes) + 1) * scene.truth.size <= PIXELS):
                yield places, *self.views(places, device, scenes)
                places, scenes = [], []
            places, scenes = [*places, k], [*scenes, scene]
        if scenes:
            yield places, *self.views(places, device, scenes)

    def batches(self, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """Centre crops (B, 3, S, S) and where they are no padding (B, S, S), `size` at a time; the last images are left
        out where they do not fill a batch."""
        crops = Probe(self.task, self.items, self.shape)
        size = min(size, len(self))
        for first in range(0, len(self) - size + 1, max(1, size)):
            views, _ = crops.views(range(first, first + size), device)
            yield views.weak, views.valid


def padding_of(method: Method) -> Geometry:
    """The geometry of the unlabelled images that a method trains on: it has seen padding of that colour and place."""
    plans = [stage.views or method.views for stage in method.stages()]
    streams = [stream for plan in plans for stream in plan.values()]
    return next((s.weak for s in streams if s.source != "labelled"), Geometry())


@dataclass
class Looked:
    """What the rule says of some of the images: pseudo-labels and the (B, C, H, W) probabilities behind them, by name.

    Attributes:
        places: of the images in the probe set. truth: (B, H, W) long, 255 where unknown.
    """

    places: list[int]
    labels: dict[str, PseudoLabels]
    probabilities: dict[str, Tensor]
    truth: Tensor


@torch.no_grad()
def said(method: Method, views: Views, clock: Clock) -> tuple[dict[str, PseudoLabels], dict[str, Tensor]]:
    """What the method's rule says of a view (rule on an eval forward), and the probabilities behind it.

    Returns:
        Pseudo-labels and (B, C, H, W) probabilities by name; {}, {} where the method has no rule.
    """
    evidence = method.teach(views)
    found = method.pseudo_labels(evidence, views, clock)
    if found is None:
        return {}, {}
    p = method.probabilities(evidence)
    if not isinstance(found, dict):
        return {"pseudo": found}, {"pseudo": p}
    return found, p if isinstance(p, dict) else dict.fromkeys(found, p)


def look(method: Method, probe: Probe, clock: Clock) -> Iterator[Looked]:
    """What the rule says of all images of a probe set, a chunk at a time; nothing where there is no rule.

    A rule that compares the pixels of a batch compares those of a chunk.
    """
    for places, views, truth in probe.chunks(next(method.parameters()).device):
        labels, probabilities = said(method, views, clock)
        if not labels:
            return
        yield Looked(places, labels, probabilities, truth)


def worst(method: Method, probe: Probe, clock: Clock, amount: int) -> list[watched.Item]:
    """The `amount` images of a probe set of which the rule is wrong most often, or, without truth, least sure."""
    found: dict[int, float] = {}
    for seen in look(method, probe, clock):
        labels = next(iter(seen.labels.values()))
        for k, place in enumerate(seen.places):
            known = (seen.truth[k] != VOID) & (labels.valid[k] > 0)
            right = (labels.label[k] == seen.truth[k])[known].double().mean()
            found[place] = float(right if known.any() else labels.confidence[k].double().mean())
    order = sorted(found, key=lambda place: (found[place], place))[:amount]
    return [probe.items[place] for place in sorted(order)] if found else probe.items[:amount]


def apart(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float | None:
    """Share of pixels that get another class by the statistics of their batch than by the running ones.

    Training sees the former network, evaluations and most teachers the latter.

    Args:
        batches: images (B, 3, H, W) whose statistics are taken together, and valid (B, H, W).

    Returns:
        None where no batch norm looks at the batch, or all processes would have to (SyncBN).
    """
    norms = live_norms(net)
    if not norms or any(isinstance(norm, nn.SyncBatchNorm) for norm in norms):
        return None
    differ = known = 0
    for images, valid in batches:
        with by_batch(net):
            trained = net(images).argmax(1)
        with evaluating(net):
            differ += ((net(images).argmax(1) != trained) & (valid > 0)).sum()
        known += (valid > 0).sum()
    return float(differ / known)


class Quality:
    """Precision and coverage of pseudo-labels against the hidden truth, over pixels with known truth; adds up."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self.everything, self.kept = torch.zeros(2, len(classes), len(classes), dtype=torch.double)

    def add(self, labels: PseudoLabels, truth: Tensor) -> None:
        """Count the pixels of a batch; truth (B, H, W) long, 255 = unknown."""
        known = (truth != VOID) & (labels.valid > 0)
        kept, size = known & (labels.weight > 0), len(self.classes)
        self.everything += count(labels.label, torch.where(known, truth, VOID), size).double().cpu()
        self.kept += count(labels.label, torch.where(kept, truth, VOID), size).double().cpu()

    def row(self) -> dict[str, float]:
        """coverage: share of pixels that are kept; precision: share of kept pixels that are right; `share_<class>`:
        share of the kept pixels that got this class; `precision_<class>` of them; `coverage_<class>`: share of the
        class's true pixels that are kept. A value over nothing is left out."""
        everything, kept = self.everything, self.kept
        row = {"coverage": _ratio(kept.sum(), everything.sum()), "precision": _ratio(kept.trace(), kept.sum())}
        row["accuracy"] = _ratio(everything.trace(), everything.sum())
        for c, name in enumerate(self.classes):
            row[f"share_{name}"] = _ratio(kept[:, c].sum(), kept.sum())
            row[f"precision_{name}"] = _ratio(kept[c, c], kept[:, c].sum())
            row[f"coverage_{name}"] = _ratio(kept[c].sum(), everything[c].sum())
        return {key: value for key, value in row.items() if value is not None}


def _ratio(part: Tensor, of: Tensor) -> float | None:
    return float(part / of) if of > 0 else None
