"""`lesson`: the task, the methods and the runs of a notebook under one profile."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from ..errors import S4Error
from ..methods import fitting
from ..report import setup
from ..report.comparing.compare import difference, finished
from ..report.comparing.figures import beside
from ..report.tables import Table
from . import against, opening, places, profiles, recordings
from .folders import asked_for, finished_runs, open_finished, put_aside, run_name


def lesson(profile: str = "cpu", data: str = "scenes", quiet: bool = False, **task: Any) -> Lesson:
    """Open a lesson: load the data, choose the folder of the runs, and say both.

    Args:
        profile: "cpu", "gpu" or "paper", see `walk.profiles`.
        data: "scenes", "camvid", "voc" or "cityscapes"; "clips" for video, "shapes" and "rooms" for points.
        quiet: say nothing.
        task: over the profile's arguments of `load`, such as `labelled="splits/92.txt"` or `root=...`.

    Raises:
        S4Error: an unknown profile or data set, or data that is not there.
    """
    opened = Lesson(profile, data, task)
    if not quiet:
        print(opened)
    return opened


class Lesson:
    """What the cells of a notebook share.

    Attributes:
        profile, data: as given. settings: the `profiles.Profile`.
        task: the loaded `Task`. asked: what was given for `load`, over the profile.
        folder: where the runs of this lesson lie.
    """

    def __init__(self, profile: str, data: str, task: dict[str, Any]) -> None:
        from ..data import load

        self.profile, self.data = profile, data
        self.settings = profiles.profile(profile, data)
        self.asked = task
        if places.on_drive():
            os.environ.setdefault("S4KIT_DATA", str(places.DRIVE / "s4kit" / "data"))
        self._loaded = self._made("supervised").task
        self.task = load(**self._loaded)
        self.folder = places.runs_folder(f"lesson-{profile}-{data}")
        self._played: dict[str, Any] = {}  # recordings that `open` has opened

    def _made(self, method: str, options: dict | None = None, task: dict | None = None, fit: dict | None = None) -> Any:
        task = setup.meant([method], self.data) | self.asked | (task or {})
        return profiles.setup_of(self.settings, self.data, method, task, options or {}, fit or {})

    def __str__(self) -> str:
        return opening.words(self)

    __repr__ = __str__

    @property
    def steps(self) -> int:
        """Steps of one training of the supervised baseline, and of all methods where they are equal."""
        return self.settled().fit["steps"]

    def settled(self, **fit: Any) -> setup.Setup:
        """The training of the supervised baseline as its run would store it; `fit` goes over the profile's."""
        with redirect_stderr(io.StringIO()):
            return setup.settle(self._made("supervised", fit=fit), self.task)

    # ---- before training ----

    def method(self, name: str, **options: Any) -> Any:
        """The method `name`, untrained, by the profile's network or that of `options`; the same weights each time."""
        from ..methods import create

        chosen = self._made(name, options)
        setup.seed_everything(0)
        return create(name, self.task_of(name), **chosen.options)

    def task_of(self, name: str) -> Any:
        """The lesson's task as a method is trained on it: of the kind that it is for, see `Method.kind`."""
        from ..data import load

        wanted = self._made(name).task
        return self.task if wanted == self._loaded else load(**wanted)

    def fitting(self, name: str) -> Lesson:
        """This lesson, or, where its data are of another kind than those of a method, one on embedded data that are.

        Raises:
            S4Error: none of them is.
        """
        for data in (self.data, *profiles.BEYOND):
            found = self if data == self.data else Lesson(self.profile, data, {})
            if name in fitting(found.task_of(name)):
                return found
        raise S4Error(f"No embedded data set of a lesson is of the kind of {name}.")

    def batch(self, name: str, n: int = 4, seed: int = 0, **options: Any) -> tuple[Any, Any]:
        """(method, batch): as `method`, and a real batch of its own views, `n` images a stream, on the CPU.

        The same seed gives the same images, crops, colours and boxes.
        """
        from ..views import draw_step, render

        method = self.method(name, **options)
        return method, render(draw_step(self.task_of(name), method.views, n, seed, 0, 0), method.views)

    def probe(self, n: int = 16, of: str = "unlabelled") -> tuple[Any, Any]:
        """(views, truth) of centre crops, on the CPU: of the unlabelled images that runs watch, to judge by and never
        to train on; or of the first "labelled" ones, or of the first of "val"."""
        from torch import device

        from ..engine import probe, watched

        items = watched.drawn(self.task, n) if of == "unlabelled" else watched.first(self.task, n, of)
        return probe.Probe(self.task, items).views(range(len(items)), device("cpu"))

    # ---- training ----

    def train(
        self,
        method: Any,
        name: str | None = None,
        *,
        seed: int = 0,
        task: dict[str, Any] | None = None,
        fit: dict[str, Any] | None = None,
        start: Callable[[Any], Any] | None = None,
        progress: bool = True,
        **options: Any,
    ) -> Any:
        """Train a method with live curves; a finished run of the same set-up is opened instead.

        An unfinished one is continued. One of this name with another set-up is put aside, and a new one is trained.

        Args:
            method: its name; one of your own is known after `s4.methods.register`.
            name: of the run in this lesson and in all pictures; by default the method's, with what is given here.
            task: over the profile's arguments of `load`, such as {"labelled": 4}.
            fit: over the profile's arguments of `fit`, such as {"steps": 100}.
            start: what is done with the fresh method, see `setup.train`; name its run, which does not store it.
            progress: show the curves.
            options: of the method.

        Returns:
            The `Run`.
        """
        folder = self.folder / (name or run_name(method, seed, task, fit, options))
        with redirect_stderr(sys.stdout):  # what the kit says aside belongs to the cell's text
            chosen = self._made(method, options, task, (fit or {}) | {"seed": seed})
            goes_on = (folder / "config.json").is_file() and self._goes_on(folder, chosen, seed)
            if goes_on is None:
                return open_finished(folder)
            return setup.train(chosen, folder, resume=goes_on, progress=progress, start=start)

    def open(
        self,
        method: str,
        name: str | None = None,
        *,
        seed: int = 0,
        task: dict[str, Any] | None = None,
        fit: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """What `train` with the same arguments has left here; else the recording of it that the kit ships, with all but
        its weights; else it is trained. Write `train` for `open`, and it is trained here; `open` then opens that.
        """
        called = name or run_name(method, seed, task, fit, options)
        folder, recording = self.folder / called, recordings.of(self.data, called, seed)
        there = [of for of in (folder, recording) if of and (of / "config.json").is_file()]
        with redirect_stderr(io.StringIO()):
            chosen = self._made(method, options, task, (fit or {}) | {"seed": seed}) if there else None
        for of in there:
            if (of == recording or finished(of)) and not self._other(of, chosen, seed):
                played = self._played
                return open_finished(of) if of == folder else played.setdefault(called, recordings.play(called, of))
        return self.train(method, name, seed=seed, task=task, fit=fit, **options)

    def _other(self, folder: Path, chosen: setup.Setup, seed: int) -> str:
        """The first setting in which the run in `folder` is another one than planned; "" if it is the same."""
        from ..data import load

        with redirect_stderr(io.StringIO()):  # `fit` will say it
            task = self.task if chosen.task == self._loaded else load(**chosen.task)
            return difference(setup.settle(chosen, task), seed, folder, task)

    def _goes_on(self, folder: Path, chosen: setup.Setup, seed: int) -> bool | None:
        """What to do where there is a run: True = continue it, None = it is finished, False = it was put aside."""
        other = self._other(folder, chosen, seed)
        if other:
            put_aside(folder, other)
            return False
        if finished(folder):
            return None
        print(f"{folder.name}: an unfinished run is here and goes on.")
        return True

    def references(self, **fit: Any) -> dict[str, Any]:
        """{name: `Run`} of what a method is held against: the supervised baselines (of images two), and `all labels`,
        the first of them with nothing hidden (left out where nothing is).

        Those of this lesson are opened; else recordings of the same set-up; else they are trained. `fit` goes over the
        profile's.
        """
        able = fitting(self.task)
        given = {name: (name, {}, fit) for name in setup.BASELINES if name in able}
        if self._loaded.get("labelled") != "all":
            bound = {"steps": self.steps} | fit | {"probes": 0}  # nothing is unlabelled
            given[setup.ALL_LABELS] = ("supervised", setup.NOTHING_HIDDEN, bound)
        there = {} if fit else self._recorded(setup.REFERENCES)
        trained = finished_runs(self.folder)
        return {
            name: there[name][0]
            if name in there and name not in trained
            else self.train(method, name, task=task, fit=more)
            for name, (method, task, more) in given.items()
        }

    def recorded(self, *names: str) -> dict[str, list[Any]]:
        """Trainings that are shipped with the kit, without their weights: {name: its runs with several seeds}.

        Those named, or all; `s4.plots.curves` and `s4.explore` take them. What was not recorded is left out.
        """
        found = recordings.recorded(self.data, names)
        print(recordings.in_words(found) or f"Nothing is recorded of {', '.join(names) or 'this'} on {self.data}.")
        return found

    def _recorded(self, names: Sequence[str]) -> dict[str, list[Any]]:
        """The recordings that have this lesson's own set-up: they may stand beside its runs."""
        found, mine = recordings.recorded(self.data, names), self.settled()
        return {name: runs for name, runs in found.items() if recordings.fits(runs[0], mine)}

    def curves(self, *names: str, kept: bool = True) -> Any:
        """The course of runs, and what is `kept`, beside both baselines and `all labels`, see `against.curves`."""
        return against.curves(self.runs(*names), self.references(), self._recorded(names), kept)

    def verdict(self, name: str) -> None:
        """Say where a run of this lesson ends, from the references on, see `against.verdict`."""
        against.verdict(name, self.runs(name)[name], self.references(), self._recorded((name, *setup.REFERENCES)))

    def compare(self, *methods: str, seeds: Sequence[int] = (0,), **options: Any) -> dict[str, Any]:
        """Train methods, those of your own included, under this profile's one protocol; see `walk.side_by_side`.

        What was compared before is kept, so that a further method costs only its own training.

        Returns:
            What `report.comparing.compare` returns, and "opened": the first seed's `Run` of each method by name.
        """
        from .side_by_side import compare

        return compare(self.folder / "compare", self.data, self.settings, self.asked, methods, seeds, options)

    # ---- after training ----

    def runs(self, *names: str) -> dict[str, Any]:
        """The finished runs of this lesson by name; those asked for, which may be recordings that `open` has opened, or
        all in the order of their training.

        Raises:
            S4Error: one that was asked for is not there.
        """
        found = finished_runs(self.folder)
        return asked_for(names, self._played | found, places.shown(self.folder)) if names else found

    def explore(self, *names: str, **options: Any) -> Any:
        """The explorer over runs of this lesson: those of these `names`, or all; `options` as of `s4.explore`."""
        from .. import explore

        runs = {name: run for name, run in self.runs(*names).items() if names or name != setup.ALL_LABELS}
        return explore(runs, **options)

    def predictions(self, *names: str, images: int = 4) -> Any:
        """`images` of val, their truth, and what the runs `names` say of them, with the mIoU of each picture."""
        from ..report import pictures

        rows = pictures.varied(self.task, images)
        return pictures.grid(
            self.task,
            rows,
            {name: pictures.predictions(run, rows, self.task) for name, run in self.runs(*names).items()},
        )

    def table(self, *names: str) -> Table:
        """The finished runs side by side, see `report.comparing.figures.beside`; those named, or all."""
        return beside(self.runs(*names))
