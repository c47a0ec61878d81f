"""A small real training to look into: what the explorer's questions are asked of."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

STEPS = 60


@lru_cache(maxsize=8)
def small_run(method: str = "fixmatch") -> Any:
    """A finished short training on `scenes` with snapshots of its pseudo-labels; made once, then opened.

    It takes about half a minute on one core: 60 steps, five snapshots of eight images. Numbers of another machine
    may differ a little.

    Args:
        method: of the kit; those with two networks have two tracks in the explorer.

    Returns:
        The `Run`.
    """
    from ..engine import open_run
    from ..report import setup
    from ..walk.lesson import finished, runs_folder

    folder = runs_folder("classroom") / f"small-{method}"
    if finished(folder):
        return open_run(folder)
    fit = {"steps": STEPS, "batch": 8, "evaluate_every": STEPS // 5, "probes": 8, "device": "cpu", "workers": 0}
    task = {"n_val": 16}
    plans = [setup.plan(name, "scenes", task, {}, fit) for name in ("supervised", method)]
    return setup.train(setup.match(plans)[1], folder, resume=True)


def numbers(run: Any, threshold: float, image: int = 0, track: int = 0) -> dict[str, Any]:
    """What the explorer shows below a picture of the last snapshot: coverage, precision and the rest, in [0, 1]."""
    from ..explore.state import State
    from ..explore.view import View

    view = View(run)
    last = len(view.meta["tracks"][0]["steps"]) - 1
    return view.numbers(track, State(image, last, threshold, "fixed", tracks=[track]))
