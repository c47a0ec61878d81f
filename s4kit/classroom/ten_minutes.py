"""Ten more minutes of labelling: which images, and what did it bring?

A made-up hand paints the hidden truth over what a pseudo-label got wrong, at a set speed, through the same way as the
brush of the explorer. What it costs is time; which images are worth it is for the student to say.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import S4Error
from ..report.tables import Table
from ..report.text import percent

SECONDS = 600
LOOK = 20  # seconds to look an image through
SPEED = 10  # pixels that a hand paints in a second


@dataclass(frozen=True)
class Sight:
    """What one may know of an image before it is labelled: what the run says of it at its last snapshot, no truth.

    Attributes:
        id: of the image. kept: the share that the method's rule keeps. sure, entropy: means over the pixels, in [0, 1].
        shares: of each class, the share of the pixels that get its label.
    """

    id: str
    kept: float
    sure: float
    entropy: float
    shares: dict[str, float]


def sights(run: Any) -> list[Sight]:
    """The watched unlabelled images of a run, in their order; of several pseudo-labels the first one's."""
    view = _view(run)
    return [_sight(view, k) for k, image in enumerate(view.meta["images"]) if image["kind"] == "unlabelled"]


def _sight(view: Any, k: int) -> Sight:
    maps = {name: values[-1] for name, values in view.data.maps(0, k).items()}
    real = view.data.first.image(k)["valid"] > 0
    counts = np.bincount(maps["label"][real], minlength=len(view.meta["classes"])) / real.sum()
    means = [float((maps[name][real] / 255).mean()) for name in ("confidence", "entropy")]
    shares = dict(zip(view.meta["classes"], counts.tolist()))
    return Sight(view.meta["images"][k]["id"], float((maps["weight"][real] > 0).mean()), *means, shares)


@dataclass(frozen=True)
class Labelled:
    """What was labelled: the folder for `load(..., labelled=...)`, its new images, and what it took."""

    folder: Path
    ids: tuple[str, ...]
    painted: int
    seconds: float

    def __str__(self) -> str:
        return f"{len(self.ids)} images in {self.seconds:.0f} s, {self.painted} pixels painted: {', '.join(self.ids)}"


def label_more(run: Any, order: Sequence[str], folder: str | Path, seconds: float = SECONDS) -> Labelled:
    """Let the hand correct images, one after the other, until the time is up; one that is not finished does not count.

    An image costs 20 seconds to look through, and a second for every ten pixels that its pseudo-label got wrong.

    Args:
        order: ids of `sights`, the first one first. folder: for the labels; what it holds is replaced.

    Raises:
        S4Error: an id that is none of them, or the time is up before the first image is done.
    """
    from ..explore.corrections import take

    view, folder = _view(run), Path(folder)
    places = {image["id"]: k for k, image in enumerate(view.meta["images"]) if image["kind"] == "unlabelled"}
    if unknown := [name for name in order if name not in places]:
        raise S4Error(f"There is no watched unlabelled image {unknown[0]!r}; take the ids of `sights(run)`.")
    shutil.rmtree(folder, ignore_errors=True)
    spent, painted, done = 0.0, 0, []
    for name in dict.fromkeys(order):
        asked, wrong = _corrected(view, places[name])
        price = LOOK + wrong / SPEED
        if spent + price > seconds:
            break
        take(view, asked, folder)
        spent, painted, done = spent + price, painted + wrong, [*done, name]
    if not done:
        raise S4Error(f"{seconds:.0f} seconds are not enough for the first image.")
    return Labelled(folder, tuple(done), painted, spent)


def _corrected(view: Any, k: int) -> tuple[dict[str, Any], int]:
    """What is painted on an image, as the brush says it, and how many pixels were wrong; at least one is confirmed."""
    from ..explore.corrections import runs
    from ..explore.policies import VOID

    scene, label = view.data.first.image(k), view.data.maps(0, k)["label"][-1]
    judged = (scene["valid"] > 0) & (scene["truth"] != VOID)
    wrong = judged & (label != scene["truth"])
    painted = np.where(wrong if wrong.any() else judged, scene["truth"], VOID)
    return {"image": k, "track": 0, "at": -1, "painted": runs(painted)}, int(wrong.sum())


def what_it_brought(run: Any, labelled: Labelled, out: str | Path) -> Table:
    """Train again as the run was trained, with the new labels, and set both beside each other.

    Args:
        out: folder of the new run.

    Returns:
        Table: the last score and that of each class, in percent, before and after.
    """
    from ..report import setup

    config = run.config
    task = config["task"] | {"labelled": str(labelled.folder), "unlabelled": None, "corrections": None}
    after = setup.train(setup.Setup(config["method"], task, config["options"], config["fit"]), out)
    before, now = run.headline[-1], after.headline[-1]
    pairs = {run.score: (before[run.column], now[run.column])}
    pairs |= {name: (of, after.by_class().get(name)) for name, of in run.by_class().items()}
    rows = [(name, percent(one), percent(two), _difference(one, two)) for name, (one, two) in pairs.items()]
    note = f"{after.config['protocol']}. One seed: what is smaller than the spread of seeds says nothing."
    return Table(("class", "before", "after", "difference"), rows, note)


def _difference(before: float | None, after: float | None) -> str | None:
    return None if before is None or after is None else f"{100 * (after - before):+.1f}"


def _view(run: Any) -> Any:
    from ..explore.view import View

    return View(run)
