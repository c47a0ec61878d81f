"""The images that a run watches: what the method's own rule says of them during training, and how right it is.

Their truth, where the data set has it, is read here and never reaches a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..data.task import VOID, Task
from ..methods.base import Clock, Method, PseudoLabels
from ..nets.modes import by_batch, evaluating, live_norms
from ..views import AnyStream, Stream, Views
from ..views.looks import Look
from ..views.plan import Still
from . import watched
from .maps import LEVELS
from .scores import count

PIXELS = 801 * 801  # of a forward, at most, where a single item has no more: what it needs does not grow with the set


@dataclass
class Scene:
    """One watched item as a picture: image (H, W, 3), truth (H, W), 255 where unknown, and valid (H, W), 0 on padding;
    uint8."""

    image: np.ndarray
    truth: np.ndarray
    valid: np.ndarray


class Probe:
    """Items of a task as a stream's views; read again whenever they are looked at, so that any number can be watched.

    Args:
        items: see `watched`.
        method: says by which stream they are read, see `stream_of`, and what it is told of unlabelled items, which it
            is told of these as well; of an image without truth that all classes may be there, and no box. By default
            they are images, padded with black.
        whole: whole items; else what a training sees of them, of images their centre crops at the stored scale.
    """

    def __init__(
        self, task: Task, items: Sequence[watched.Item], method: Method | None = None, whole: bool = False
    ) -> None:
        self.task, self.items, self.method, self.whole = task, list(items), method, whole
        self.stream = stream_of(method) if method else Stream("unlabelled")
        self.reveals = method.revealed() if method else ()

    def __len__(self) -> int:
        return len(self.items)

    @property
    def ids(self) -> list[str]:
        """Of the watched items, in their order."""
        return [item.id for item in self.items]

    @property
    def kinds(self) -> list[str]:
        """What each item is watched as, such as "unlabelled", in their order."""
        return [item.kind for item in self.items]

    def still(self, k: int) -> Still:
        """Item `k` as it is watched, with the maps that the run has kept of it so far."""
        return self.stream.still(self.task, self.items[k].part, self.items[k].row, self.whole, self.reveals)

    def scene(self, k: int, side: int) -> Scene:
        """Item `k` for the eye, in a picture of `side` pixels where it has no size of its own."""
        views, truth = self.views([k], torch.device("cpu"))
        look = self.stream.look.bind(views.weak, side)
        image = (look.pictures(views.weak)[0] * LEVELS).round().permute(1, 2, 0)
        maps = image, look.maps(truth, VOID)[0], look.maps(views.valid)[0]
        return Scene(*(values.to(torch.uint8).numpy() for values in maps))

    def views(self, places: Sequence[int], device: torch.device, stills: Sequence[Still] = ()) -> tuple[Views, Tensor]:
        """Items of one size as a weak view of an unlabelled stream, and their truth (B, *places) long."""
        stills = stills or [self.still(k) for k in places]
        host = self.stream.join([still.host for still in stills])
        truth = torch.cat([still.truth for still in stills])
        return self.stream.render(host, device), truth.long().to(device)

    def chunks(self, device: torch.device) -> Iterator[tuple[list[int], Views, Tensor]]:
        """(places, views, truth) of all items, as many at a time as have one size and `PIXELS` at most."""
        places: list[int] = []
        stills: list[Still] = []
        for k in range(len(self)):
            still = self.still(k)
            fits = stills and still.truth.shape == stills[0].truth.shape
            if stills and not (fits and (len(stills) + 1) * still.truth.numel() <= PIXELS):
                yield places, *self.views(places, device, stills)
                places, stills = [], []
            places, stills = [*places, k], [*stills, still]
        if stills:
            yield places, *self.views(places, device, stills)

    def batches(self, size: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
        """What a training sees of the items (B, ...), and where it is no padding (B, *places), `size` at a time; the
        last ones are left out where they do not fill a batch."""
        crops = Probe(self.task, self.items, self.method)
        size = min(size, len(self))
        for first in range(0, len(self) - size + 1, max(1, size)):
            views, _ = crops.views(range(first, first + size), device)
            yield views.weak, views.valid


def stream_of(method: Method) -> AnyStream:
    """The stream by which a method's items are watched and swept: its first one of unlabelled ones, so that it has seen
    padding of that colour and place; else its first."""
    plans = [stage.views or method.views for stage in method.stages()]
    streams = [stream for plan in plans for stream in plan.values()]
    return next((s for s in streams if s.source in ("unlabelled", "all")), streams[0])


@dataclass
class Looked:
    """What the rule says of some of the items: pseudo-labels and the (B, C, *places) probabilities behind each.

    Attributes:
        places: of the items in the probe set. labels, probabilities: by name. truth: (B, *places) long, 255 where
            unknown. shown: their weak view.
    """

    places: list[int]
    labels: dict[str, PseudoLabels]
    probabilities: dict[str, Tensor]
    truth: Tensor
    shown: Tensor

    def pictured(self, look: Look, side: int) -> Looked:
        """The same in pictures of the items."""
        at = look.bind(self.shown, side)
        labels = {name: found.map(at.maps) for name, found in self.labels.items()}
        chances = {name: at.maps(p) for name, p in self.probabilities.items()}
        return replace(self, labels=labels, probabilities=chances)


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
        yield Looked(places, labels, probabilities, truth, views.weak)


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
