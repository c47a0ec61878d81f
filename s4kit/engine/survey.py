"""One cheap row per image of the whole set: what the rule of a checkpoint says of it, mostly in one forward."""

from __future__ import annotations

import hashlib
import io
import math
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.task import VOID, Task
from ..errors import S4Error
from ..methods.base import PseudoLabels
from ..nets import evaluating
from ..views import Views
from . import images, probe, watched
from .device import autocast, pick_precision
from .maps import picked, pictures
from .reading import in_order
from .scores import class_scores, count
from .survey_file import Pages, Survey

THUMBNAIL = 96  # longest side, in pixels
FLUSH = 5.0  # seconds between two writings: what a kill may cost


class Opened(Protocol):
    """What is asked of a `Run`."""

    path: Path
    config: dict[str, Any]
    settings: Any

    def task(self) -> Task:
        """The data that it was trained on, see `Run.task`."""

    def restored(self, which: str, task: Task | None, device: str) -> tuple[Any, Task, Any]:
        """(method, task, clock) of a checkpoint ("last", "best"), the task that was given or its own, see
        `Run.restored`."""


def sweep(
    run: Opened,
    which: str = "last",
    against: tuple[Opened, str] | None = None,
    task: Any = None,
    device: str = "auto",
    workers: int | str = "auto",
    show: bool = True,
) -> Survey:
    """Look at all unlabelled and validation images of a run's task; goes on where it was interrupted.

    Args:
        which: checkpoint, "last" or "best".
        against: another run, or the same, and its checkpoint, to say where they differ.
        task: default the run's own. workers: decode processes. show: a progress bar.

    Returns:
        Survey: one row per image; it is in `RUN/sweep/<which>`.

    Raises:
        S4Error: no such checkpoint, images that are gone, or other classes in `against`.
    """
    task = task or run.task()
    images.need(run.path, task, ("unlabelled", "val"), "be swept", "sweep a run of the images that are there")
    looking = Looking(run, which, task, device)
    other = None if against is None else _other(run, *against, task, device)
    items = _items(task)
    pages = Pages(run.path / "sweep" / which, _about(run, which, looking, other, items))
    done = pages.begin()
    watch = probe.Probe(looking.task, items, looking.method, whole=True)
    bar = _bar(len(items), done) if show else None
    try:
        flushed = time.monotonic()
        places = range(done, len(items))
        for k, still in zip(places, in_order(watch.still, places, looking.device, workers)):
            views, truth = watch.views([k], looking.device, [still])
            look = watch.stream.look.bind(views.weak, THUMBNAIL)
            row, label = looking.row(views, truth, other)
            row |= {"id": items[k].id, "list": items[k].kind}
            pages.add(row, _jpeg(look.pictures(views.weak)), _png(look.maps(label)[0], task.palette))
            if time.monotonic() - flushed > FLUSH:
                pages.flush()
                flushed = time.monotonic()
            if bar:
                bar.update()
    finally:
        pages.flush()
        if bar:
            bar.close()
    return Survey(pages.folder)


def surveys(run: Opened) -> dict[str, Survey]:
    """What there is of a run, by checkpoint; what is damaged is left out."""
    found = {}
    for which in ("last", "best"):
        with suppress(S4Error):
            found[which] = Survey(run.path / "sweep" / which)
    return found


class Looking:
    """A method with the weights of a checkpoint, looking at one image at a time."""

    def __init__(self, run: Opened, which: str, task: Task, device: str) -> None:
        self.run, self.which = run, which
        self.method, self.task, self.clock = run.restored(which, task, device)
        self.device = next(self.method.parameters()).device
        self.precision = pick_precision(run.settings.precision, self.device)
        self.classes, self.palette, self.nets = task.classes, task.palette, self.method.predictors()
        self.plain = type(self.task.evaluation)()  # one forward, whatever the scores are of

    @torch.no_grad()
    def row(self, views: Views, truth: Tensor, other: Looking | None = None) -> tuple[dict[str, float], Tensor]:
        """The numbers of one image, see `survey_file.columns`, and the (1, H, W) label that they are of.

        The label is the first pseudo-label; of methods without a rule the headline's prediction.
        """
        found, chances = self._said(views)
        labels, size = [one.label for one in found] or [chances[0].argmax(1)], len(self.classes)
        voices = [self._whole(net, views).argmax(1) for net in self.nets.values()] if len(self.nets) > 1 else labels
        kept = [one.weight[0] > 0 for one in found]
        row = {"entropy": _mean([_entropy(p) for p in chances])}
        row["confidence"] = _mean([one.confidence for one in found] or [chances[0].amax(1)])
        if kept:
            row["coverage"] = _mean(kept)
        if len(voices) > 1:
            row["disagreement"] = _mean([torch.stack([one != voices[0] for one in voices[1:]]).any(0)])
        if other:
            row["changed"] = _mean([other.label(views) != labels[0]])
        row |= _judged(labels[0][0], kept[0] if kept else None, truth[0], size)
        shares = torch.bincount(labels[0].flatten(), minlength=size) / labels[0].numel()
        row |= {f"share_{name}": share for name, share in zip(self.classes, shares)}
        return dict(zip(row, torch.stack([value.float() for value in row.values()]).tolist())), labels[0]

    @torch.no_grad()
    def label(self, views: Views) -> Tensor:
        """(1, H, W) what this checkpoint takes an image for."""
        found, chances = self._said(views)
        return found[0].label if found else chances[0].argmax(1)

    def _said(self, views: Views) -> tuple[list[PseudoLabels], list[Tensor]]:
        """The pseudo-labels and the (1, C, H, W) probabilities behind each; without a rule, the headline's alone."""
        with autocast(self.device, self.precision):
            labels, chances = probe.said(self.method, views, self.clock)
        if labels:
            return list(labels.values()), [chances[name].float() for name in labels]
        return [], [self._whole(next(iter(self.nets.values())), views)]

    def _whole(self, net: nn.Module, views: Views) -> Tensor:
        with evaluating(net), autocast(self.device, self.precision):
            return class_scores(net, views.weak, self.plain)


def _mean(maps: Sequence[Tensor]) -> Tensor:
    return torch.stack([one.float().mean() for one in maps]).mean()


def _entropy(p: Tensor) -> Tensor:
    """(B, H, W) of (B, C, H, W), in units of log C."""
    return -torch.xlogy(p, p).sum(1) / math.log(max(2, p.shape[1]))


def _judged(label: Tensor, kept: Tensor | None, truth: Tensor, classes: int) -> dict[str, Tensor]:
    """Scores of (H, W) labels against the truth; NaN where they are over nothing."""
    confusion = count(label, truth, classes).double()
    hit, union = confusion.diag(), confusion.sum(0) + confusion.sum(1) - confusion.diag()
    row = {"accuracy": hit.sum() / confusion.sum(), "miou": (hit / union).nanmean()}
    if kept is not None:
        known = kept & (truth != VOID)
        row["precision"] = (known & (label == truth)).sum() / known.sum()
    return row


def _items(task: Task) -> list[watched.Item]:
    """The unlabelled images, each once, then those of the validation set."""
    rows = dict.fromkeys(task.unlabelled)
    found = [watched.Item("train", row, task.train.ids[row], "unlabelled") for row in rows]
    return found + [watched.Item("val", row, name, "val") for row, name in enumerate(task.val.ids)]


def _other(run: Opened, against: Opened, which: str, task: Task, device: str) -> Looking:
    other = Looking(against, which, task, device)
    if other.run.config["task"] and other.classes != task.classes:
        raise S4Error(f"{against.path} has other classes than {run.path}: they cannot be compared.")
    return other


def _about(
    run: Opened, which: str, looking: Looking, other: Looking | None, items: Sequence[watched.Item]
) -> dict[str, Any]:
    """What makes a survey this one; another step, another list of images, and it begins anew."""
    names = "\n".join(f"{item.kind} {item.id}" for item in items)
    return {
        "method": str(run.config["method"]),
        "which": which,
        "step": _step(looking),
        "against": other and [str(other.run.path.resolve()), other.which, _step(other)],
        "classes": list(looking.classes),
        "palette": [list(map(int, colour)) for colour in looking.palette],
        "images": len(items),
        "digest": hashlib.sha256(names.encode()).hexdigest()[:16],
    }


def _step(looking: Looking) -> int:
    return round(looking.clock.overall * looking.run.settings.steps)


def _jpeg(image: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pictures(image, THUMBNAIL)[0]).save(file, "JPEG", quality=80)
    return file.getvalue()


def _png(label: Tensor, palette: Sequence[Sequence[int]]) -> bytes:
    picture = Image.fromarray(picked(label, THUMBNAIL).to(torch.uint8).cpu().numpy())
    picture.putpalette(np.array(palette, np.uint8).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _bar(images: int, done: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=images, initial=done, desc="sweep", unit="image", file=sys.stderr)
