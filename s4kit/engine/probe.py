"""The probe set: a few unlabelled images on which the method's own rule is recorded during training.

Their truth, where the data set has it, is read here and never reaches a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..data.seeding import generator
from ..data.task import VOID, Task
from ..errors import S4Error
from ..methods.base import Clock, Method, PseudoLabels
from ..nets.modes import by_batch, evaluating, live_norms
from ..views.geometry import Geometry, Window, placement
from ..views.plan import Stream, Views
from ..views.sampling import HostViews, render_stream
from .evaluate import count


@dataclass
class Probe:
    """Fixed crops of unlabelled images as a stream's views, and their hidden truth (B, S, S), 255 where unknown."""

    views: Views
    truth: Tensor
    ids: list[str]


def chosen(task: Task, amount: int, seed: int = 0) -> list[int]:
    """Rows of the probe images: `amount` of the unlabelled list (fewer where it is shorter)."""
    rows = np.array(task.unlabelled or task.labelled)
    return np.sort(generator(seed, "probe").permutation(rows)[:amount]).tolist()


def make_probe(task: Task, amount: int, device: torch.device, seed: int = 0, shape: Geometry | None = None) -> Probe:
    """Centre crops, at the stored scale, of `amount` images of the unlabelled list (fewer where it is shorter).

    Args:
        shape: how images that are smaller than the crop are padded, see `padding_of`; by default with black.
    """
    shape = shape or Geometry()
    rows = chosen(task, amount, seed)
    images, truths, real, ids = [], [], [], []
    for row in rows:
        try:
            sample = task.train.read(row)
        except S4Error:  # its label is broken; an unlabelled image needs none
            sample = task.train.read(row, label=False)
        pixels = sample.image.permute(1, 2, 0).numpy()
        height, width = pixels.shape[:2]
        top, left = (shape.middle(side, task.crop) for side in (height, width))
        window = Window(height, width, top, left, flip=False)
        images.append(shape.image(pixels, window, task.crop))
        missing = np.full((task.crop, task.crop), VOID, np.uint8)
        truths.append(missing if sample.label is None else shape.label(sample.label.numpy(), window, task.crop))
        real.append(placement(window, task.crop))
        ids.append(sample.id)
    truth = torch.from_numpy(np.stack(truths))
    host = HostViews(
        torch.from_numpy(np.stack(images)),
        torch.full_like(truth, VOID),
        torch.tensor(real, dtype=torch.int32),
        torch.tensor(rows),
        torch.zeros(len(rows), dtype=torch.bool),
    )
    return Probe(render_stream(host, Stream("unlabelled"), device), truth.long().to(device), ids)


def padding_of(method: Method) -> Geometry:
    """The geometry of the unlabelled images that a method trains on: it has seen padding of that colour and place."""
    plans = [stage.views or method.views for stage in method.stages()]
    streams = [stream for plan in plans for stream in plan.values()]
    return next((s.weak for s in streams if s.source != "labelled"), Geometry())


@torch.no_grad()
def look(method: Method, probe: Probe, clock: Clock) -> tuple[dict[str, PseudoLabels], dict[str, Tensor]]:
    """What the method's rule says of the probe images (rule on an eval forward), and the probabilities behind it.

    Returns:
        Pseudo-labels and (B, C, H, W) probabilities by name; {}, {} where the method has no rule.
    """
    evidence = method.teach(probe.views)
    found = method.pseudo_labels(evidence, probe.views, clock)
    if found is None:
        return {}, {}
    p = method.probabilities(evidence)
    if not isinstance(found, dict):
        return {"pseudo": found}, {"pseudo": p}
    return found, p if isinstance(p, dict) else dict.fromkeys(found, p)


def apart(net: nn.Module, probe: Probe, batch: int) -> float | None:
    """Share of the probe's pixels that get another class by the statistics of their batch than by the running ones.

    Training sees the former network, evaluations and most teachers the latter.

    Args:
        batch: images whose statistics are taken together; the last images are left out where they do not fill one.

    Returns:
        None where no batch norm looks at the batch, or all processes would have to (SyncBN).
    """
    norms = live_norms(net)
    if not norms or any(isinstance(norm, nn.SyncBatchNorm) for norm in norms):
        return None
    images, valid = probe.views.weak, probe.views.valid > 0
    size = min(batch, len(images))
    differ = known = 0
    for k in range(0, len(images) - size + 1, size):
        part = slice(k, k + size)
        with by_batch(net):
            trained = net(images[part]).argmax(1)
        with evaluating(net):
            differ += ((net(images[part]).argmax(1) != trained) & valid[part]).sum()
        known += valid[part].sum()
    return float(differ / known)


def quality(labels: PseudoLabels, truth: Tensor, classes: tuple[str, ...]) -> dict[str, float]:
    """Precision and coverage of pseudo-labels against the hidden truth, over pixels with known truth.

    coverage: share of pixels that are kept; precision: share of kept pixels that are right; `share_<class>`: share of
    the kept pixels that got this class; `precision_<class>` of them; `coverage_<class>`: share of the class's true
    pixels that are kept. A value over nothing is left out.
    """
    known = (truth != VOID) & (labels.valid > 0)
    kept = known & (labels.weight > 0)
    everything = count(labels.label, torch.where(known, truth, VOID), len(classes)).double().cpu()
    chosen = count(labels.label, torch.where(kept, truth, VOID), len(classes)).double().cpu()
    row = {"coverage": _ratio(chosen.sum(), everything.sum()), "precision": _ratio(chosen.trace(), chosen.sum())}
    row["accuracy"] = _ratio(everything.trace(), everything.sum())
    for c, name in enumerate(classes):
        row[f"share_{name}"] = _ratio(chosen[:, c].sum(), chosen.sum())
        row[f"precision_{name}"] = _ratio(chosen[c, c], chosen[:, c].sum())
        row[f"coverage_{name}"] = _ratio(chosen[c].sum(), everything[c].sum())
    return {key: value for key, value in row.items() if value is not None}


def _ratio(part: Tensor, of: Tensor) -> float | None:
    return float(part / of) if of > 0 else None
