"""A small real training to look into: what the explorer's questions are asked of."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

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
    from ..report.comparing.compare import finished

    folder = _folder(method)
    if (folder / "config.json").is_file() and finished(folder):
        return open_run(folder)
    return _train(method, folder, resume=(folder / "config.json").is_file())


def own_run(method: str, like: str) -> Any:
    """The same training for a class of one's own, such as one that calls the functions of a notebook.

    It is always trained anew, since those functions may have changed.

    Args:
        method: the name that it was registered by. like: the kit's method whose options it takes over.

    Returns:
        The `Run`.
    """
    folder = _folder(method)
    shutil.rmtree(folder, ignore_errors=True)
    return _train(method, folder, like=like)


def _folder(method: str) -> Path:
    from ..walk.places import runs_folder

    return runs_folder("classroom") / f"small-{method}"


def _train(method: str, folder: Path, resume: bool = False, like: str = "") -> Any:
    from ..methods import recipe
    from ..report import setup

    fit = {"steps": STEPS, "batch": 8, "evaluate_every": max(1, STEPS // 5), "probes": 8, "device": "cpu", "workers": 0}
    options = recipe(like, "scenes")["method"] if like else {}
    setups = [
        setup.of(name, "scenes", {"n_val": 16}, own, fit) for name, own in (("supervised", {}), (method, options))
    ]
    return setup.train(setup.match(setups)[1], folder, resume=resume)


def numbers(
    run: Any, threshold: float, image: int = 0, track: int = 0, policy: str = "fixed", snapshot: int = -1
) -> dict[str, Any]:
    """What the explorer says of an image, by default at the last snapshot: coverage, precision and more, in [0, 1]."""
    from ..explore.state import State

    view = _view(run)
    state = State(image, snapshot % len(view.meta["tracks"][track]["steps"]), threshold, policy, tracks=[track])
    return view.numbers(track, state)


def disagreement(run: Any, image: int = 0, snapshot: int = -1) -> float:
    """The share of an image's valid pixels to which the tracks of a run give different labels."""
    from ..explore import policies
    from ..explore.state import State

    view = _view(run)
    tracks = list(range(len(view.meta["tracks"])))
    state = State(image, snapshot % len(view.meta["tracks"][0]["steps"]), tracks=tracks)
    labels = np.stack([view.maps(track, state)["label"] for track in tracks])
    return float(
        (policies.disagreement(labels, view.scene(state)["valid"]) > 0).sum() / (view.scene(state)["valid"] > 0).sum()
    )


@lru_cache(maxsize=8)
def _view(run: Any) -> Any:
    from ..explore.view import View

    return View(run)
