"""The idea of a method as one picture: the way of an image through a real step of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.task import Task
from ...engine.probe import stream_of
from ...nets import evaluating
from ...report.pictures import colour
from ...report.plots import Picture
from . import tiles
from .pictured import LABELS, framed, frames, of_batch, of_path
from .tiles import PLOT, Cell, Row
from .watch import Damage, Pasting, Watched, watching

CHANNELS = 16  # of features are shown, as 4 x 4 small maps
LATE = 0.75  # of the training: warm-ups are over
MOST = 7  # copies of features in a row
ALONE, NOTHING, LAST_WORD = "labels alone", "taught: nothing, here", "the last word"


def idea(method: Any, batch: Any, task: Task, example: int | None = None) -> Picture:
    """What distinguishes a method, at a glance: one unlabelled image on its way through a real step.

    From left to right: what the labelling side sees; what is pasted in, or done to the features; what the learning
    side sees; the pseudo-label it is taught (grey where it is not trained on); where that costs; and how the weight of
    a pixel follows from its confidence. One line per path, with the method's own names of them.

    Args:
        method: for the task; its networks should have learned something, see `gallery.borrow`.
        batch: of its views, as `lesson.batch` gives it.
        example: row of the unlabelled batch; by default the one where most can be seen.
    """
    return tiles.draw(rows(method, batch, task, example))


# ---- the step ----


def rows(method: Any, batch: Any, task: Task, example: int | None = None, stage: int | None = None) -> list[Row]:
    """The rows of the picture, from one step of the method; its buffers and the random state are left as they were.

    Args:
        stage: index of the stage that the step is of, with a batch of its views; None = the last, with the method's.
    """
    seen, watched = step(method, batch, stage)
    paths = {name.rpartition("/")[0]: {} for name in seen}
    for name, value in seen.items():
        paths[name.rpartition("/")[0]][name.rpartition("/")[2]] = value
    look = stream_of(method).look
    batch = of_batch(batch, look)
    if not paths:
        return [*([_labelled(batch, task)] if "x" in batch else []), *_finished(method, batch, task)]
    main = paths.get("", {})
    for path in paths.values():
        for key in ("weak", "mixed"):
            path.setdefault(key, main.get(key, next(iter(paths.values())).get(key)))
    paths = {name: of_path(path, look) for name, path in paths.items()}
    main = paths.get("", {})
    shown = {name: path for name, path in paths.items() if {"target", "loss"} & path.keys()}
    if not shown:
        return [_labelled(batch, task, main["mixed"])]
    first = next(iter(shown.values()))
    k = _telling(first, watched) if example is None else example
    plain = [view for stream in batch.values() for view in (stream.weak, *stream.strong)]
    said = framed(method, batch, task.num_classes), frames(method, batch)
    scene = _Scene(k, watched, plain, task, any("features" in name for name in shown), *said)
    found = [row for name, path in list(shown.items())[:4] for row in scene.path(name, path)]
    found[0].cells.extend(_beside(first, k, watched))
    return found


def step(method: Any, batch: Any, stage: int | None = None) -> tuple[dict[str, Any], Watched]:
    """(what `Losses.see` handed out, what was seen besides) of one step late in a stage, see `rows`."""
    from ...methods import Clock

    kept, stages = {name: value.clone() for name, value in method.state_dict().items()}, method.stages()
    losses = None if stage is None else stages[stage].losses
    stage = len(stages) - 1 if stage is None else stage
    clock = Clock(step=round(LATE * 100), steps=100, epoch_steps=10, stage=stage, overall=LATE)
    state = random.getstate()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        random.seed(0)
        method.train()
        try:
            with watching(method) as watched:
                seen = (losses or method.losses)(batch, clock).seen
        finally:
            method.load_state_dict(kept)
            random.setstate(state)
    return seen, watched


def _telling(path: dict[str, Any], watched: Watched) -> int:
    """The example in which most is to be seen: several classes, some of them kept, and a pasting of middling size."""
    amount = len(path["mixed"])
    points = torch.zeros(amount)
    for k in range(amount):
        if "target" in path:
            target = path["target"]
            kept = (target.weight[k] > 0) & (target.valid[k] > 0)
            points[k] += len(target.label[k][kept].unique()) + 3 * float(kept.float().mean() > 0.1)
        pasting = _pasting(path["mixed"], k, watched)
        if pasting is not None:
            share = float(pasting[0].float().mean())
            points[k] += 4 * float(0.1 < share < 0.9) + min(share, 1 - share)
    return int(points.argmax())


def _pasting(
    mixed: Tensor, k: int, watched: Watched, plain: Sequence[Tensor] = ()
) -> tuple[Tensor, Tensor, Tensor] | None:
    """(mask, inside, outside) of the mixing whose result is nearest to `mixed[k]`, of two in a row the last one; None
    where a plain view is nearer. It may be recoloured since, so what counts is how alike light and dark are."""
    best: tuple[float, Pasting] | None = None
    for pasting in watched.pastings:
        if pasting.made.shape == mixed.shape:
            apart = _unlike(pasting.made[k], mixed[k])
            best = (apart, pasting) if best is None or apart <= best[0] else best
    near = [_unlike(view[k], mixed[k]) for view in plain if view.shape == mixed.shape]
    if best is None or best[0] >= min(near, default=2.0):
        return None
    mask, share = best[1].mask[k], float(best[1].mask[k].float().mean())
    own, other = best[1].outside[k], best[1].inside[k]
    if share > 0.5:  # what covers less of the picture counts as pasted in
        mask, own, other = ~mask, other, own
    return mask, other, own


def _unlike(one: Tensor, two: Tensor) -> float:
    """1 - correlation of two images' brightness, in [0, 2]."""
    a, b = (t.mean(0) - t.mean() for t in (one, two))
    return 1 - float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12))


# ---- the rows ----


def _labelled(batch: Any, task: Task, strong: Tensor | None = None) -> Row:
    x = batch.x
    k = int(torch.tensor([len(label.unique()) for label in x.label]).argmax())
    cells = [Cell("labelled image", tiles.picture(x.weak[k]))]
    if strong is not None:
        cells.append(Cell("the network sees", tiles.picture(strong[k])))
    cells.append(Cell("its label is taught", colour(tiles.indices(x.label[k]), task.palette)))
    return Row(ALONE, cells)


def _finished(method: Any, batch: Any, task: Task) -> list[Row]:
    """What the headline's `finish`, if it has one, makes of the image in which it changes most."""
    name, net = next(iter(method.predictors().items()))
    if not hasattr(net, "finish"):
        return []
    image = list(batch.values())[-1].weak
    with torch.no_grad(), evaluating(net):
        scores = net(image)
        before, after = scores.argmax(1), net.finish(image, scores).argmax(1)
    k = int((before != after).flatten(1).sum(1).argmax())
    said = [colour(tiles.indices(label[k]), task.palette) for label in (before, after)]
    shown = zip(("image without mask", "the network says", LAST_WORD), (tiles.picture(image[k]), *said))
    return [Row(name, [Cell(title, pixels) for title, pixels in shown])]


class _Scene:
    """What the rows of one picture have in common."""

    def __init__(
        self,
        k: int,
        watched: Watched,
        plain: Sequence[Tensor],
        task: Task,
        named: bool,
        framed: dict[int, tuple[str, Tensor]],
        frames: dict[int, Tensor],
    ) -> None:
        self.k, self.watched, self.plain, self.task, self.framed, self.frames = k, watched, plain, task, framed, frames
        self.named = named  # a path of its own is about features
        self.told: list[np.ndarray] = []  # images whose features were shown

    def path(self, name: str, path: dict[str, Any]) -> list[Row]:
        """The row of one path, and below it the copies of its features where they are several."""
        weak, mixed, k = path["weak"], path["mixed"], self.k
        pasting = _pasting(mixed, k, self.watched, self.plain)
        cells = self.before(weak[k] if weak is not None else mixed[k], mixed[k], pasting, "target" in path)
        if weak is not None and weak.data_ptr() in self.framed:
            title, inside = self.framed[weak.data_ptr()]
            cells[0] = Cell(title, tiles.picture(weak[k]), inside[k].cpu().numpy())
        if weak is not None and weak.data_ptr() in self.frames:
            cells.insert(1, Cell("another frame", tiles.picture(self.frames[weak.data_ptr()][k])))
        damages = self.damages(name, mixed[k])
        if len(damages) == 1:
            cells += _features(damages[0])
        if "target" in path:
            target = path["target"]
            nothing = not bool(((target.weight > 0) & (target.valid > 0)).any())
            cells.append(Cell(NOTHING if nothing else "it is taught", tiles.taught(target, k, self.task)))
        loss = tiles.cost(path, k)
        if loss is not None:
            cells.append(Cell("where it costs", loss))
        if "target" in path:
            cells.append(Cell("weight by confidence", tiles.points(path["target"]), kind=PLOT))
        return [Row(name, cells), *([_copies(damages)] if len(damages) > 1 else [])]

    def before(self, weak: Tensor, mixed: Tensor, pasting: Any, taught: bool) -> list[Cell]:
        """What is labelled, what is pasted in, and what the student sees."""
        if pasting is not None:
            mask, inside, outside = pasting
            first = outside if _unlike(inside, weak) < _unlike(outside, weak) else weak
            outline = mask.cpu().numpy()
            pasted = [
                Cell("pasted in", tiles.picture(inside), outline),
                Cell("the student sees", tiles.picture(mixed), outline),
            ]
            return [Cell(LABELS, tiles.picture(first)), *pasted]
        cells = [Cell(LABELS if taught else "seen once", tiles.picture(weak))]
        if not torch.equal(weak, mixed):
            cells.append(Cell("the student sees" if taught else "seen again", tiles.picture(mixed)))
        return cells

    def damages(self, name: str, image: Tensor) -> list[tuple[str, Tensor, Tensor]]:
        """What is done to the features of this image, told once for an image."""
        pixels = tiles.picture(image)
        if (self.named and "features" not in name) or any(np.array_equal(pixels, other) for other in self.told):
            return []
        found = _damages(image, self.watched)
        if found:
            self.told.append(pixels)
        return found


def _damages(image: Tensor, watched: Watched) -> list[tuple[str, Tensor, Tensor]]:
    """(decoder, features before, and after) of what was done to the features of this image."""
    found = []
    for damage in watched.damages:
        row = _row_of(image, damage)
        if row is not None:
            found.append((damage.name, damage.before[row], damage.after[row]))
    return found


def _row_of(image: Tensor, damage: Damage) -> int | None:
    if damage.image.shape[1:] != image.shape:
        return None
    apart = (damage.image - image).abs().flatten(1).amax(1)
    return int(apart.argmin()) if float(apart.min()) < 1e-6 else None


def _copies(damages: list[tuple[str, Tensor, Tensor]]) -> Row:
    first = _features(damages[0])[0]
    return Row("features", [first, *(_features(d)[1] for d in damages[:MOST])])


def _features(damage: tuple[str, Tensor, Tensor]) -> list[Cell]:
    """Some channels of the features as they were, and as the decoder gets them: what was set to zero is grey; where
    nothing was, what was added."""
    name, before, after = damage
    lost = (after == 0) & (before != 0)
    dropped = float(lost.float().mean() / (before != 0).float().mean().clamp(min=1e-6)) > 1e-3
    spread = before.flatten(1).std(1)
    chosen = spread.topk(min(4 * CHANNELS, len(spread))).indices
    chosen = chosen[:: max(1, len(chosen) // CHANNELS)][:CHANNELS].sort().values
    title = name.rstrip("0123456789") or ("features, dropped" if dropped else "what is added")
    shown = (
        tiles.mosaic(after[chosen], before[chosen], lost[chosen])
        if dropped
        else tiles.added(after[chosen] - before[chosen])
    )
    return [Cell("its features", tiles.mosaic(before[chosen], before[chosen])), Cell(title, shown)]


def _beside(path: dict[str, Any], k: int, watched: Watched) -> list[Cell]:
    """What further heads draw and critics say."""
    drawn = [Cell(name, tiles.picture(image[_at(image, path, k)])) for name, image in watched.drawn.items()]
    scores = {name: score[_at(score, path, k)].sigmoid().cpu().numpy() for name, score in watched.judged.items()}
    words = {name: "real?" if s.size > 1 else f"{s.item():.2f} real" for name, s in scores.items()}
    return [*drawn, *(Cell(f"{name} says: {words[name]}", score) for name, score in scores.items())][:2]


def _at(made: Tensor, path: dict[str, Any], k: int) -> int:
    """The row of an output that belongs to example k: unlabelled images come last in a joint batch."""
    return len(made) - len(path["mixed"]) + k if len(made) > len(path["mixed"]) else k
