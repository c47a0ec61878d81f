"""The gallery: all methods in one table that can be searched, each with its idea as a picture, and their family tree.

ideas = s4.gallery.ideas(lesson, runs)      # a picture of each method from a real step of it
s4.gallery.page(ideas)                      # the table; .save_html(path) writes it as a page of its own
s4.gallery.tree()                           # who extends whom
s4.gallery.measured("price")                # what a step costs; "family_cotraining": what the methods reach
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .. import methods
from ..data.task import VOID
from ..errors import S4Error
from ..nets import Boxed, FrequencyDecoder, MaskHead, NeuralProcessHead, SegNet, evaluating
from ..nets.detector import Detector
from ..report import text
from ..report.comparing.figures import heads
from ..report.setup import BASELINES
from ..report.tables import Table
from .family_tree import Tree
from .gallery_page import Gallery

MEASURED = Path(__file__).parents[1] / "report" / "benchmarking" / "measured"
SEED, IMAGES = 0, 3  # of the batch
BRIEF = 30  # steps of a network that is trained for one picture; after a hundred it is sure of more
OWN = (Boxed, Detector, FrequencyDecoder, MaskHead, NeuralProcessHead)  # what answers beside the usual decoder

# ---- the pictures ----


def networks(lesson: Any) -> list[Any]:
    """Two trained runs to borrow from: the lesson's supervised baselines where they are there, else brief ones."""
    done = lesson.runs()
    return [done.get(name) or _brief(lesson, name) for name in BASELINES]


def _brief(lesson: Any, name: str, runs: Sequence[Any] = (), brief: int = 100) -> Any:
    """A short run of a method, which begins with what it can borrow from others."""
    steps = min(brief, lesson.steps)
    fit = {"steps": steps, "evaluate_every": steps, "probes": 0}
    start = partial(borrow, runs=runs) if runs else None
    return lesson.train(name, f"brief {name}", fit=fit, start=start, progress=False)


def borrow(method: Any, runs: Sequence[Any]) -> Any:
    """Give the networks of a fresh method the weights of trained ones, where they fit; returns the method.

    An untrained network labels nothing but noise. The first network and every teacher get those of the first run,
    further students those of the next, so that two networks which teach each other differ.

    Args:
        method: for the same task. runs: of `supervised` and the like: methods with a `student`.
    """
    weights = [run.load("last")[0].student.state_dict() for run in runs]
    students = 0
    for name, net in method.named_modules():
        if isinstance(net, SegNet):
            given = weights[0 if name.startswith("teacher") else students % len(weights)]
            own = net.state_dict()
            if isinstance(net.decoder, Boxed):
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
        runs: see `borrow`; a method with decoders of its own, one whose prediction has a last word, see
            `Method.predictors`, and one whose labels are worth nothing with borrowed networks are trained briefly.
        names: of the methods; None = all of the kit.
        brief: steps of these trainings; of more the pictures show more.
    """
    from .plots.ideas import NOTHING
    from .plots.tiles import draw

    found = {}
    for name in names or sorted(methods.files()):
        of = lesson.fitting(name)
        if of is not lesson:  # of another kind, with networks from which there is nothing to borrow
            found[name] = draw(steps(*_brief(of, name, (), brief).load("last", of.task, "cpu")))
            continue
        method, task = lesson.method(name), lesson.task_of(name)
        own = any(isinstance(module, OWN) for module in method.modules())
        mends = any(hasattr(net, "finish") for net in method.predictors().values())
        rows = [] if own or mends else steps(borrow(method, runs), task, _keep)
        if not rows or any(cell.title == NOTHING for row in rows for cell in row.cells):
            begin = () if mends else runs  # a network that knows little has errors to mend
            rows = steps(*_brief(lesson, name, begin, brief).load("last", task, "cpu"))
        found[name] = draw(rows)
    return found


def steps(method: Any, task: Any, keep: Callable[[Any, Any], None] | None = None) -> list[Any]:
    """The rows of a method's idea picture: of its last stage, before it those of earlier stages with losses of their
    own in which unlabelled images teach.

    Args:
        keep: (method, batch) -> None gives a batch the maps that the stage before would have kept; None = the task has
            them.
    """
    from ..views import draw_step, render
    from .plots.ideas import ALONE, rows

    found = []
    *earlier, last = method.stages()
    for stage in [stage for stage in earlier if stage.losses] + [last]:
        plan = stage.views or method.views
        batch = render(draw_step(task, plan, IMAGES, SEED, 0, 0), plan)
        if keep:
            keep(method, batch)
        shown = rows(method, batch, task, losses=stage.losses)
        found += [row for row in shown if stage is last or row.name != ALONE]
    return found


# ---- the tree, the measured tables ----


def tree() -> Tree:
    """The family tree of all methods of the kit."""
    return Tree([row for row in methods.table() if row["name"] in methods.files()])


def measured(name: str) -> Table:
    """A table of the kit's own measurements, or how to make it where it was not made yet.

    Args:
        name: "family_camvid", the consistency family on CamVid; "family_cotraining", co-training on the lesson's
            pictures; or "price", time and memory of a step.

    Raises:
        S4Error: there is no such table.
    """
    if name not in _SHOWN:
        raise S4Error(f"There is no measured table {name!r}; there are {' and '.join(_SHOWN)}.")
    command, show = _SHOWN[name]
    file = MEASURED / f"{name}.json"
    if not file.is_file():
        return Table(("not measured yet; it is made by",), [(command,)])
    found = json.loads(file.read_text(encoding="utf-8"))
    head, rows = show(found)
    made = [found.get(key) for key in ("date", "machine", "settings") if found.get(key)]
    commit = f"commit {found['commit'][:10]}" if found.get("commit") else ""
    return Table(head, rows, " · ".join([found["command"], *map(_words, made), *([commit] if commit else [])]))


def _words(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _family(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple]]:
    """The validation score in percent; the file has shares in [0, 1]."""
    score = found.get("score", "mIoU")
    last, best = (f"{score.lower()}_{which}" for which in ("last", "best"))
    rows = [
        (
            row["method"],
            text.percent(row[last]),
            text.percent(row[best]),
            text.difference(row["over_supervised"]),
            row.get("note", ""),
        )
        for row in found["rows"]
    ]
    return ("method", *heads(score), "vs supervised", "note"), rows


def _lesson(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple]]:
    """Mean and deviation of the score over seeds, in percent; against both baselines; the file has shares in [0, 1]."""
    score = found.get("score", "mIoU")
    rows = [
        (
            row["method"],
            text.spread(row[score.lower()], row["sd"]),
            text.difference(row["over_supervised"]),
            text.difference(row["over_strong"]),
            text.closed(row["closed"]),
            row.get("note", ""),
        )
        for row in found["rows"]
    ]
    return ("method", heads(score)[0], "vs supervised", "vs supervised_strong", "gap closed", "note"), rows


def _price(found: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple]]:
    rows = [(row["method"], f"{row['time']:.2f}", f"{row['memory']:.2f}") for row in found["rows"]]
    of = found["reference"]
    return ("method", f"time of a step, {of} = 1", f"memory, {of} = 1"), rows


_SHOWN = {
    "family_camvid": ("s4kit compare --family consistency --data camvid", _family),
    "family_cotraining": ("s4kit compare --family cotraining --data scenes --seeds 0,1", _lesson),
    "price": ("s4kit bench price", _price),
}


# ---- the table ----


def page(ideas: Mapping[str, Any] | None = None) -> Gallery:
    """All methods of the kit in one table.

    Args:
        ideas: pictures by name, from `ideas`; without them the table has none.
    """
    return Gallery([row for row in methods.table() if row["name"] in methods.files()], ideas or {})
