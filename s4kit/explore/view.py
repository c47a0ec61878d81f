"""The explorer without a browser: the runs' packs, the figure of a state, the page, full resolution.

The widget is this with traits on top; the shell uses it as it is, so that pages and figures need no notebook packages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import Run, open_run
from ..errors import S4Error
from ..report.tables import Table
from . import corrections, figure, policies, selections
from .full import Loaded
from .packing import cells
from .packing.codec import encode
from .packing.pack import Pack
from .serving import page
from .state import State, check


class View:
    """Several runs, to be looked into.

    Args:
        runs: a `Run`, the path of its folder, a list of either, or a dict {title: either}.

    Raises:
        S4Error: no run there, one without snapshots, or runs that do not fit together.
    """

    def __init__(self, runs: Any) -> None:
        self.titles, found = _named(runs)
        self.runs = [run if isinstance(run, Run) else open_run(run) for run in found]
        self.data = Pack(self.runs, self.titles)
        self._loaded: dict[Path, Any] = {}
        self._tasks: dict[Path, Any] = {}

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What there is to see, see `Pack.meta`."""
        return self.data.meta

    @property
    def threshold(self) -> float:
        """Where the slider begins: the first run's own threshold where it has one, else 0.95."""
        options = self.runs[0].config.get("options")
        tau = options.get("tau") if isinstance(options, dict) else None
        return float(tau) if isinstance(tau, int | float) and 0 <= tau <= 1 else 0.95

    def full(self, image: int, track: int) -> bytes:
        """The whole image through the run's last weights, at the resolution of its file, packed as one step.

        Raises:
            S4Error: the checkpoint or the data set is not there (any more).
        """
        maps = self.looked(image, track)
        return encode({k: v if k in ("image", "truth", "valid") else v[None] for k, v in maps.items()})

    def looked(self, image: int, track: int) -> dict[str, np.ndarray]:
        """The maps of `full`, as `full.Loaded.look` gives them."""
        return self.loaded(track).look(self.meta["images"][image]["id"], self.data.tracks[track].name)

    def loaded(self, track: int) -> Loaded:
        """The method of a track's run with its last weights, loaded once."""
        run = self.data.tracks[track].run
        if run.path not in self._loaded:
            self._loaded[run.path] = Loaded(run, self.task(track))
        return self._loaded[run.path]

    def task(self, track: int) -> Any:
        """The task of a track's run, loaded once."""
        run = self.data.tracks[track].run
        if run.path not in self._tasks:
            self._tasks[run.path] = run.task()
        return self._tasks[run.path]

    def correct(self, painted: str | Path | dict[str, Any]) -> dict[str, Any]:
        """Keep what a saved page has offered for download, see `corrections.take`."""
        return corrections.take(self, corrections.offered(self.meta, painted))

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What a page asks for that is no pack.

        {"kind": "correct", ...}: keep what was painted, see `corrections.take`.
        {"kind": "corrections", "track"}: what has been corrected of the track's run, see `corrections.so_far`.
        {"kind": "embedding", "track", "how"}: watched pixels in feature space, see `embedding.points`.

        Raises:
            S4Error: it cannot be done, or nobody knows how.
        """
        if asked.get("kind") == "correct":
            return corrections.take(self, asked)
        if asked.get("kind") == "corrections":
            (track,) = check(self.meta, {}, "tracks", asked.get("track"))
            return corrections.so_far(self.data.tracks[track].run)
        if asked.get("kind") == "embedding":
            from .packing import embedding

            (track,) = check(self.meta, {}, "tracks", asked.get("track"))
            return embedding.points(self, track, str(asked.get("how", "pca")))
        raise S4Error(f"The explorer does not know what {asked.get('kind')!r} is.")

    # ---- the state as a picture ----

    def figure(self, state: State, dark: bool = False) -> Any:
        """One row per shown track, see `figure.draw`; below it the numbers."""
        rows = [self._row(track, state) for track in state.tracks]
        return figure.draw(rows, self.meta["classes"], self.meta["palette"], self._rule(state), dark)

    def png(self, state: State) -> bytes:
        """The figure as a small PNG."""
        return figure.png(self.figure(state))

    def step(self, track: int, state: State) -> int:
        """Index of the track's snapshot that is nearest to the chosen one of the first track; the earlier of two."""
        steps = self.meta["tracks"][track]["steps"]
        wanted = self.meta["tracks"][state.tracks[0]]["steps"][state.snapshot]
        return min(range(len(steps)), key=lambda i: abs(steps[i] - wanted))

    def maps(self, track: int, state: State) -> dict[str, np.ndarray]:
        """What a track says of the chosen image at the chosen snapshot, see `Pack.pack`: (h, w) maps, top and prob (3,
        h, w)."""
        return self._maps_at(track, state, self.step(track, state))

    def _maps_at(self, track: int, state: State, at: int) -> dict[str, np.ndarray]:
        return {name: maps[at] for name, maps in self.data.maps(track, state.image).items()}

    def _then(self, track: int, state: State, snapshot: int) -> dict[str, np.ndarray]:
        """The maps of a track at another snapshot, counted, as that of the state, by the first one's steps."""
        last = len(self.meta["tracks"][state.tracks[0]]["steps"]) - 1
        return self._maps_at(track, state, self.step(track, replace(state, snapshot=min(snapshot, last))))

    def kept(self, track: int, state: State) -> np.ndarray:
        """(h, w) bool: the pixels of the chosen image that the chosen policy keeps."""
        maps = self.maps(track, state)
        level = math.floor(255 * state.threshold + 0.5)
        return policies.kept(state.policy, level, maps | {"prob": maps["prob"][0]}, self.scene(state)["valid"])

    def scene(self, state: State) -> dict[str, np.ndarray]:
        """The chosen image: image (h, w, 3), truth, valid (h, w); uint8."""
        return self.data.first.image(self.data.images[state.image])

    def numbers(self, track: int, state: State) -> dict[str, Any]:
        """Counts, coverage and precision of what the chosen policy keeps, see `policies.numbers`."""
        scene, label = self.scene(state), self.maps(track, state)["label"]
        kept = self.kept(track, state)
        return policies.numbers(kept, label, scene["truth"], scene["valid"], len(self.meta["classes"]))

    def classes(self, track: int, state: State) -> Table:
        """What becomes of each class over the watched images at the chosen snapshot, see `cells.table`.

        Over the unlabelled ones, where some of these are watched: they are what the pseudo-labels are for.
        """
        at, about, counted = self.step(track, state), self.meta["tracks"][track], self.data.counted(track)
        chosen = [place for place, k in enumerate(counted) if self.meta["images"][k]["kind"] == "unlabelled"]
        found = self.data.cells(track)
        words = f"{len(chosen)} unlabelled images" if chosen else f"all {len(counted)} watched images"
        return cells.table(found.only(chosen) if chosen else found, at, self.meta["classes"], about["steps"], words)

    def _row(self, track: int, state: State) -> figure.Row:
        scene, maps = self.scene(state), self.maps(track, state)
        return figure.Row(
            title=self.meta["tracks"][track]["title"],
            caption=self._caption(track, state),
            image=scene["image"],
            truth=scene["truth"],
            valid=scene["valid"] > 0,
            label=maps["label"],
            confidence=maps["confidence"],
            kept=self.kept(track, state),
            shown=~np.isin(maps["label"], state.hidden),
            marked=selections.mask(state.selection, scene, maps, partial(self._then, track, state)),
            objects=maps.get("object"),
        )

    def _caption(self, track: int, state: State) -> str:
        about, found = self.meta["tracks"][track], self.numbers(track, state)
        at = self.step(track, state)
        step = self.data.seen(track, state.image)[at]
        words = f"{self.meta['images'][state.image]['id']}, step {step}: {self._rule(state)}"
        words += f" — {_percent(found['coverage'])} of the pixels"
        if found["precision"] is not None:
            accuracy = about["quality"][at][state.image]["accuracy"]
            words += f"; {_percent(found['precision'])} of these are right, of all {_percent(accuracy)}"
        return words + "."

    def _rule(self, state: State) -> str:
        return {
            "own": "kept by the method's own rule",
            "fixed": f"kept at p ≥ {state.threshold:.3g}",
            "entropy": f"the {100 * state.threshold:.3g} % of least entropy",
            "adaptive": f"kept at class-wise p, {state.threshold:.3g} at most",
        }[state.policy]

    # ---- the page ----

    def save_html(
        self,
        path: str | Path,
        state: State,
        images: Sequence[int] | None = None,
        steps: Sequence[int] | None = None,
    ) -> page.Saved:
        """Write one page that needs neither a kernel nor a network and opens at `state`; of these images and steps,
        None = those that fit, see `page.save`."""
        return page.save(Path(path), self, state, images, steps)


def _named(runs: Any) -> tuple[list[str] | None, list[Any]]:
    """Titles, where they are given, and runs of all that `s4.explore` takes."""
    if isinstance(runs, Run | str | Path):
        return None, [runs]
    if isinstance(runs, dict):
        return [str(title) for title in runs], list(runs.values())
    if isinstance(runs, list | tuple) and all(isinstance(run, Run | str | Path) for run in runs):
        return None, list(runs)
    raise S4Error(f"Give a run, the path of its folder, a list of them or a dict {{title: run}}, not {runs!r}.")


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"
