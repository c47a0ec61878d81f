"""The idea of each method as a picture of a real step of it, with networks that are borrowed from trained runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ... import methods
from ...data import dataset
from ...data.task import VOID
from ...engine.run import STORE
from ...nets import Boxed, Factorised, FrequencyDecoder, MaskHead, NeuralProcessHead, SegNet, Tagger, evaluating
from ...nets.detector import Detector
from ...report.setup import BASELINES

SEED, IMAGES = 0, 3  # of the batch
POOL, SCORED = 16, 8  # images of a brief training, unlabelled and val: few more than it can see
BRIEF = 30  # steps of a network that is trained for one picture; after a hundred it is sure of more
LONGER = 3  # times as many, where more than these were asked for and nothing is taught after them
DRAWS = 8  # batches of such a network that are looked at until something is
HOME = {"video": "clips"}  # by family, where images would do but nothing moves
OWN = (Boxed, Detector, Factorised, FrequencyDecoder, MaskHead, NeuralProcessHead)  # beside the usual decoder


def networks(lesson: Any) -> list[Any]:
    """Two trained runs to borrow from: the lesson's supervised baselines where they are there, else brief ones."""
    done = lesson.runs()
    return [done.get(name) or _brief(lesson, name) for name in BASELINES]


def _brief(lesson: Any, name: str, runs: Sequence[Any] = (), brief: int = 100, called: str = "brief") -> Any:
    """A short run of a method on few of the images, which begins with what it can borrow from others."""
    steps = min(brief, lesson.steps)
    fit = {"steps": steps, "evaluate_every": steps, "probes": 0}
    of = lesson.task
    near = {frame for row in of.labelled for frame in of.train.clip(row)}  # of clips those with a label
    rows = sorted(of.unlabelled, key=lambda row: row not in near)[:POOL]
    task = {"unlabelled": [of.train.ids[row] for row in rows]}
    if not dataset(lesson.data).marker:  # embedded: as many as wanted
        task["n_val"] = SCORED
    start = partial(borrow, runs=runs) if runs else None
    return lesson.train(name, f"{called} {name}", task=task, fit=fit, start=start, progress=False)


def borrow(method: Any, runs: Sequence[Any]) -> Any:
    """Give the networks of a fresh method the weights of trained ones, where they fit; returns the method.

    An untrained network labels nothing but noise. The first network and every teacher get those of the first run,
    further students those of the next, so that two networks which teach each other differ.

    Args:
        method: for the same task. runs: of `supervised` and the like: methods with a `student`.
    """
    return _lend(method, _weights(runs))


def _weights(runs: Sequence[Any]) -> list[dict[str, Any]]:
    return [run.load("last")[0].student.state_dict() for run in runs]


def _lend(method: Any, weights: Sequence[dict[str, Any]]) -> Any:
    students = 0
    for name, net in method.named_modules():
        if isinstance(net, SegNet):
            given = weights[0 if name.startswith("teacher") else students % len(weights)]
            own = net.state_dict()
            if isinstance(net.decoder, Boxed | Factorised):  # the usual one is inside
                given = {k.replace("decoder.", "decoder.decoder.", 1): v for k, v in given.items()}
            net.load_state_dict({k: v for k, v in given.items() if k in own and v.shape == own[k].shape}, strict=False)
            students += not name.startswith("teacher")
    return method


def _keep(method: Any, batch: Any) -> None:
    """What a stage would have kept of the images of a batch: here what the method's first network says of them."""
    net = next(iter(method.predictors().values()))
    for views in batch.values():
        if views.maps:
            with evaluating(net):
                label = net(views.weak).argmax(1)
            views.maps = dict.fromkeys(views.maps, label.where(views.valid > 0, VOID))


def ideas(lesson: Any, runs: Sequence[Any], names: Sequence[str] | None = None, brief: int = BRIEF) -> dict[str, Any]:
    """The idea picture of each method: of a real step on the same images of the lesson, with borrowed networks.

    Args:
        lesson: of `s4.lesson`.
        runs: see `borrow`; a method with decoders of its own, one that keeps what such networks do not say, one whose
            prediction has a last word, see `Method.predictors`, and one that teaches nothing with borrowed networks are
            trained briefly.
        names: of the methods; None = all of the kit.
        brief: steps of these trainings. Of more the pictures show more, and where nothing is taught after them, the
            training is three times as long.
    """
    from ..plots.ideas import LAST_WORD, NOTHING
    from ..plots.tiles import draw

    found, weights = {}, _weights(runs)
    for name in names or sorted(methods.files()):
        of = _home(lesson, name)
        if of is not lesson:  # of another kind, with networks from which there is nothing to borrow, or of frames
            found[name] = draw(_taught(of, name, runs if of.task.classes == lesson.task.classes else (), brief))
            continue
        method, task = lesson.method(name), lesson.task_of(name)
        own = any(isinstance(module, OWN) for module in method.modules()) or _told_otherwise(method)
        if all(stream.source == "labelled" for stream in method.views.values()):
            rows = steps(_lend(method, weights), task)  # whatever the network knows
        else:
            rows = [] if own else steps(_lend(method, weights), task, _keep)
        if not rows or _titles(rows) & {LAST_WORD, NOTHING}:
            rows = _taught(lesson, name, runs, brief)
        found[name] = draw(rows)
    return found


def _home(lesson: Any, name: str) -> Any:
    """The lesson on data on which a method's idea can be seen."""
    data = HOME.get(methods.get(name).card.family)
    return type(lesson)(lesson.profile, data, {}) if data not in (None, lesson.data) else lesson.fitting(name)


def _told_otherwise(method: Any) -> bool:
    """Whether what it keeps is of no network that could be borrowed: answers of a person, labels by a classifier."""
    maps = [name for stream in method.views.values() for name in stream.maps]
    return "asked" in maps or (bool(maps) and any(isinstance(module, Tagger) for module in method.modules()))


def _titles(rows: Sequence[Any]) -> set[str]:
    return {cell.title for row in rows for cell in row.cells}


def _taught(lesson: Any, name: str, runs: Sequence[Any], brief: int) -> list[Any]:
    """The rows of a method that is trained briefly, or for longer, see `ideas`; on the images that it has kept maps of,
    if it keeps any."""
    from ..plots.ideas import NOTHING

    for called, times in (("brief", 1), ("longer", LONGER))[: 2 if brief > BRIEF else 1]:
        run = _brief(lesson, name, runs, times * brief, called)
        kept = (run.path / STORE).is_dir()
        rows = steps(*run.load("last", None if kept else lesson.task_of(name), "cpu"), draws=DRAWS)
        if NOTHING not in _titles(rows) or brief >= lesson.steps:  # longer than a lesson's nothing is trained
            break
    return rows


def steps(method: Any, task: Any, keep: Callable[[Any, Any], None] | None = None, draws: int = 1) -> list[Any]:
    """The rows of a method's idea picture: of its last stage, before it those of earlier stages with losses of their
    own in which unlabelled images teach; what a path showed in an earlier round is not shown again.

    Args:
        keep: (method, batch) -> None gives a batch the maps that the stage before would have kept; None = the task has
            them.
        draws: batches that are looked at, at most, until there is one in which something is taught.
    """
    from ...views import draw_step, render
    from ..plots.ideas import ALONE, NOTHING, rows

    found, stages = [], method.stages()
    for index, stage in enumerate(stages):
        last = index == len(stages) - 1
        if not (last or stage.losses):
            continue
        plan = stage.views or method.views
        for draw in range(draws):
            batch = render(draw_step(task, plan, IMAGES, SEED, 0, draw), plan)
            if keep:
                keep(method, batch)
            shown = rows(method, batch, task, stage=index)
            if NOTHING not in _titles(shown):
                break
        told = {row.name for row in found if row.name} | (set() if last else {ALONE})
        found += [row for row in shown if row.name not in told]
    return found
