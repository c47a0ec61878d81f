"""A training's folder, reopened by path."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..data.kept import Kept
from ..data.task import Evaluation
from ..errors import S4Error
from ..methods.base import Clock
from ..methods.trained import as_created
from . import checkpoint, cost, distributed, images, records
from .device import pick_device, pick_precision
from .evaluate import evaluate
from .scores import AnyScores, by_class
from .settings import Settings, clock_at
from .snapshots import Snapshots
from .survey_file import Survey

STORE = "store"  # folder of the maps that a run keeps of whole images


class Run:
    """The directory of a training.

    Files: `config.json`, `images.json` (which images it has), `metrics.csv` (one row a step: the loss terms),
    `evaluations.csv` (validation scores), `pseudo.csv` (quality of the pseudo-labels on the probe set),
    `norms.csv` (where batch norm tells training and evaluation apart), `timing.csv`, `last.pt`, `best.pt`, `probes/`
    (snapshots); of methods with rounds also `store/` (labels of whole images, by stage) and `initial.pt`.

    Raises:
        S4Error: the folder holds no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.interrupted = False
        file = self.path / "config.json"
        if not file.is_file():
            raise S4Error(f"{self.path} holds no run: there is no {file.name}. Give the folder that `--out` named.")
        try:
            self.config: dict[str, Any] = json.loads(file.read_text())
        except json.JSONDecodeError as error:
            raise S4Error(f"{file} is no valid JSON ({error}); the run cannot be reopened without it.") from error

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of `metrics.csv`, numbers as numbers, blanks as None."""
        return records.numbers(records.read(self.path / "metrics.csv"))

    def evaluations(self) -> list[dict[str, Any]]:
        """Rows of `evaluations.csv`: step, predictor, then what the score says; of images miou, accuracy,
        iou_<class>."""
        return records.numbers(records.read(self.path / "evaluations.csv"))

    def pseudo(self) -> list[dict[str, Any]]:
        """Rows of `pseudo.csv`: step, name, coverage, precision, and both per class."""
        return records.numbers(records.read(self.path / "pseudo.csv"))

    def norms(self) -> list[dict[str, Any]]:
        """Rows of `norms.csv`: step, predictor, apart (share of the probe pixels that the statistics of a batch give
        another class than the running ones); none without live batch norms."""
        return records.numbers(records.read(self.path / "norms.csv"))

    def timing(self) -> list[dict[str, Any]]:
        """Rows of `timing.csv`: step, seconds_per_step (mean since the row before), peak_memory (bytes; 0 on a CPU)."""
        return records.numbers(records.read(self.path / "timing.csv"))

    @property
    def split(self) -> str:
        """The published split that it was trained on, by its canonical name; "" where it was another one."""
        from ..data.splitting.published import is_name

        labelled = (self.config.get("task") or {}).get("labelled")
        return labelled if is_name(labelled) else ""

    @property
    def headline(self) -> list[dict[str, Any]]:
        """The evaluations of the paper's headline predictor (the first one of the method)."""
        rows = self.evaluations()
        return [row for row in rows if row["predictor"] == rows[0]["predictor"]]

    @property
    def score(self) -> str:
        """Name of the headline score, see `AnyScores`; runs are ranked with those of the same alone, see
        `one_score`."""
        return self.config.get("score", "mIoU")

    @property
    def column(self) -> str:
        """Where the headline score stands in `evaluations.csv`, `last`, `best` and `rounds`: "miou" of mIoU."""
        return self.score.lower()

    @property
    def course(self) -> list[tuple[int, float]]:
        """(step, headline score in 0..1) of each evaluation."""
        return [(row["step"], row[self.column]) for row in self.headline]

    def by_class(self, row: dict[str, Any] | None = None) -> dict[str, float]:
        """What the score says of each class, see `scores.by_class`.

        Args:
            row: of `headline`; default the last one.
        """
        return by_class(self.score, row or (self.headline or [{}])[-1])

    @property
    def weak_labels(self) -> str:
        """What its method was told of the unlabelled images, "tags", "boxes" or both; "" where nothing was revealed."""
        return " and ".join(self.config.get("reveals", ()))

    @property
    def asked(self) -> float:
        """The share of the area of its unlabelled images whose labels its method has asked for so far, see `cost`."""
        found = images.stored(self.path)
        return cost.share(self.path / STORE, len(found["unlabelled"])) if found else 0.0

    @property
    def told(self) -> str:
        """What its method was told of the unlabelled images, as it stands beside its name; "" where nothing was."""
        weak = f"weak labels: {self.weak_labels}" if self.weak_labels else ""
        return ", ".join(filter(None, (weak, f"asked: {100 * self.asked:.1f} % of the area" if self.asked else "")))

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """The stages of a training of several, as far as they are done: name, first step, steps, and the score (0..1,
        under `column`) of the headline at its end, None where it was not evaluated there; [] of a training in one
        piece."""
        stages, scores = self.config.get("stages", ()), dict(self.course)
        done = [s for s in stages if scores and s["first"] <= max(scores)] if len(stages) > 1 else []
        return [stage | {self.column: scores.get(stage["first"] + stage["steps"] - 1)} for stage in done]

    @property
    def last(self) -> dict[str, Any]:
        """Step and score (0..1, under `column`) of the last evaluation; {} before the first."""
        return self._scored(max(self.course, default=None))

    @property
    def best(self) -> dict[str, Any]:
        """Step and score (0..1, under `column`) of the best evaluation on val: optimistic, since it is chosen there."""
        return self._scored(max(self.course, key=lambda at: (at[1], -at[0]), default=None))

    def _scored(self, at: tuple[int, float] | None) -> dict[str, Any]:
        return {"step": at[0], self.column: at[1]} if at else {}

    def task(self, now: bool = False) -> Any:
        """The run's task, loaded again with the run's own images; what has changed since it began is said.

        Args:
            now: draw the split from the data as it is now instead: another split, where something has changed.

        Raises:
            S4Error: it was trained on images in memory, or the data is not there.
        """
        from ..data import load

        return load(**self._loaded()) if now else self._own(images.say)[0]

    def changes(self) -> images.Changes:
        """How the data differs from what it was when the run began.

        Raises:
            S4Error: see `task`.
        """
        return self._own(lambda folder, words: None)[1]

    def _loaded(self) -> dict[str, Any]:
        """The arguments of `load`."""
        if not self.config.get("task"):
            raise S4Error(f"The run in {self.path} was trained on images in memory; pass its task yourself.")
        return self.config["task"]

    def _own(self, say: Callable[[Path, str], None]) -> tuple[Any, images.Changes]:
        return images.reopened(self.path, self._loaded(), self.config.get("protocol", ""), say)

    def load(self, which: str = "last", task: Any = None, device: str = "auto") -> tuple[Any, Any]:
        """(method, task) with the weights of the checkpoint `which`, "last" or "best".

        Args:
            task: default the run's own. device: as of `fit`.

        Raises:
            S4Error: no such checkpoint, or its data set is not there.
        """
        return self.restored(which, task, device)[:2]

    def restored(self, which: str = "last", task: Any = None, device: str = "auto") -> tuple[Any, Any, Clock]:
        """(method, task, clock): as `load`, with the moment of the last step that the checkpoint has seen; the task has
        the maps that the run had kept by then."""
        task = task or self.task()
        method = as_created(self.config, task, self.path)
        state = checkpoint.load(self.path / f"{which}.pt")
        method.load_state_dict(state["method"])
        clock = clock_at(method.stages(), task, self.settings, max(0, state["step"] - 1), state["score"])
        kept = Kept(str(self.path / STORE), clock.stage)
        return method.to(pick_device(device)).eval(), replace(task, kept=kept), clock

    @property
    def settings(self) -> Settings:
        """What `fit` was told; what an older version did not store has its default."""
        return Settings(**self.config["fit"])

    def evaluate(
        self, which: str = "last", task: Any = None, device: str = "auto", how: Evaluation | None = None
    ) -> dict[str, AnyScores]:
        """Score every predictor of the method on the validation set; {name: Scores}.

        Args:
            which: the checkpoint, "last" or "best". device: as of `fit`.
            task: default the run's own, see `task`.
            how: the protocol (`PROTOCOLS["cityscapes/cps"].evaluation`); default the task's own.

        Raises:
            S4Error: no checkpoint, or images of its validation set are gone.
        """
        distributed.join_world(pick_device(device))  # under torchrun the processes share the images out
        task = task or self.task()
        images.need(self.path, task, ("val",), "be scored", f"score what is there now: s4kit eval {self.path} --now")
        method, task = self.load(which, task, device)
        precision = pick_precision(self.config["fit"]["precision"], next(method.parameters()).device)
        return {n: evaluate(net, task, how, precision=precision) for n, net in method.predictors().items()}

    def sweep(self, which: str = "last", against: str | Path | None = None, **options: Any) -> Survey:
        """One row per unlabelled and validation image: coverage, entropy, disagreement, IoU, ...; see `survey.sweep`.

        A sweep that was interrupted goes on; one that is done is read again.

        Args:
            against: the other checkpoint of this run, or another run's folder (its last one), to say where they differ.
        """
        from .survey import sweep

        here = against in ("last", "best")
        other = None if against is None else (self, str(against)) if here else (Run(against), "last")
        return sweep(self, which, other, **options)

    def snapshots(self) -> Snapshots:
        """What the method believed of the probe images over the training, read one image at a time.

        Raises:
            S4Error: nothing was recorded, or by an older version of the kit.
        """
        return Snapshots(self.path / "probes")

    def __repr__(self) -> str:
        last, best, key = self.last, self.best, self.column
        told = f" ({self.told})" if self.told else ""
        scores = (
            f"{self.score} {100 * last[key]:.1f} at step {last['step']}, best {100 * best[key]:.1f} at {best['step']}"
            if last
            else "not evaluated yet"
        )
        return f"Run({str(self.path)!r}: {self.config['method']}{told}, {scores})"


def open_run(path: str | Path) -> Run:
    """Reopen a run by its folder."""
    return Run(path)


def peak_memory(device: torch.device) -> int:
    """Peak bytes that PyTorch has allocated on a CUDA device; 0 elsewhere."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
