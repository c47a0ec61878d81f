"""What a training leaves behind: its folder, the tables, the snapshots, and what a person sees meanwhile."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.task import Task
from ..errors import S4Error
from ..methods import fingerprint
from ..methods.base import Clock, Losses, Method, PseudoLabels
from . import checkpoint, images, probe, records, snapshots, trace
from .evaluate import Scores
from .progress import Progress
from .run import peak_memory
from .settings import Settings

TABLES = ("metrics", "evaluations", "pseudo", "norms", "timing")


def measure(out: Losses) -> dict[str, Tensor]:
    """The terms of one micro-batch and the kept share of its pseudo-labels, as scalars on the device."""
    row = {"loss": out.total.detach().float()}
    row |= {name: value.detach().float() for name, (value, _) in out.items()}
    for name, seen in out.seen.items():
        if isinstance(seen, PseudoLabels):
            row[f"kept_{name.removesuffix('/target')}"] = (
                (seen.weight > 0) * seen.valid
            ).sum() / seen.valid.sum().clamp(min=1)
    return row


class Recorder:
    """The folder of a run while it is being trained. On ranks other than 0 it checks but writes nothing.

    Args:
        folder: of the run. leader: whether this process writes.
    """

    def __init__(self, folder: Path, method: Method, task: Task, chosen: Settings, leader: bool, show: bool) -> None:
        self.folder, self.method, self.task, self.chosen, self.leader = folder, method, task, chosen, leader
        self.pending: list[tuple[Clock, int, float, list[str], Tensor]] = []
        self.probe: probe.Probe | None = None
        self.writer = snapshots.Writer(folder / "probes", task.classes, task.palette, chosen.probe_size)
        self.since = 0.0  # when the pending steps began; 0 = unknown, after anything but steps
        self.progress = Progress(method, chosen.steps, show and leader)
        if leader:
            with checkpoint.writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self.tables = {name: records.Table(folder / f"{name}.csv") for name in TABLES}
        self.events = tensorboard(folder) if leader else None

    def begin(self, resume: bool) -> None:
        """Write what the run is; remove what a training that was killed before its first checkpoint left here."""
        if not self.leader:
            return
        if not resume:
            for table in self.tables.values():
                table.clear()
            snapshots.clear(self.folder / "probes")
            for name in ("config.json", images.FILE, "best.pt"):
                (self.folder / name).unlink(missing_ok=True)
        if not (self.folder / images.FILE).is_file():  # a run of an older version keeps from here on what it has now
            images.store(self.folder, self.task, self.chosen.probes)
        if not (self.folder / "config.json").is_file():
            self._config()

    def _config(self) -> None:
        """Write `config.json`: all that is needed to load the run again."""
        from .. import __version__

        options = getattr(self.method, "options", {})
        name = getattr(self.method, "name", type(self.method).__name__)
        config = {
            "method": name,
            "code": fingerprint(name),
            "options": {k: v for k, v in options.items() if not callable(v)},
            "not_stored": [k for k, v in options.items() if callable(v)],
            "task": self.task.config,
            "protocol": self.task.protocol,
            "notices": [*self.task.notices, *self.task.label_notices],
            "fit": vars(self.chosen),
            "versions": {"s4kit": __version__, "torch": torch.__version__},
        }
        text = json.dumps(config, indent=2, default=str)
        checkpoint.write_atomic(self.folder / "config.json", lambda file: file.write(text.encode()))

    def note(self, clock: Clock, step: int, rate: float, rows: list[dict[str, Tensor]]) -> None:
        """Keep the measures of a step's micro-batches on the device until `flush`."""
        self.pending.append(
            (clock, step, rate, list(rows[0]), torch.stack([torch.stack(list(r.values())) for r in rows]))
        )

    def flush(self, complain: Callable[[Clock, int, str, float, int], None], score: float | None) -> None:
        """Read the pending measures, check them and write them to `metrics.csv`.

        Args:
            complain: called with (clock, step, term, value, micro-batch) of the first value that is not finite.
        """
        rows, bad = [], None
        for clock, step, rate, names, values in self.pending:
            columns = dict(zip(names, values.T.tolist()))
            for name, column in columns.items():
                for micro, value in enumerate(column):
                    if not math.isfinite(value):
                        bad = bad or (clock, step, name, value, micro)
            means = {name: sum(column) / len(column) for name, column in columns.items()}
            rows.append({"step": step, "stage": clock.stage, "lr": rate} | means)
        self.pending = []
        if rows and self.leader:
            self._write(rows, score)
        if bad:
            complain(*bad)

    def _write(self, rows: list[dict[str, Any]], score: float | None) -> None:
        self.tables["metrics"].append(rows)
        now = time.perf_counter()
        if self.since:
            seconds = (now - self.since) / len(rows)
            memory = peak_memory(next(self.method.parameters()).device)
            self.tables["timing"].append(
                [{"step": rows[-1]["step"], "seconds_per_step": seconds, "peak_memory": memory}]
            )
        self.since = now
        self.progress.update(rows, score)
        if self.events:
            for row in rows:
                for name, value in row.items():
                    self.events.add_scalar(f"train/{name}", value, row["step"])

    def scores(self, step: int, predictor: str, scores: Scores) -> None:
        """Add a row to `evaluations.csv`."""
        if not self.leader:
            return
        per_class = {f"iou_{c}": v for c, v in zip(scores.classes, scores.iou.tolist()) if v == v}
        row = {"step": step, "predictor": predictor, "miou": scores.miou, "accuracy": scores.accuracy}
        self.tables["evaluations"].append([row | per_class])
        if self.events:
            self.events.add_scalar(f"val/miou/{predictor}", scores.miou, step)
        self.since = 0.0

    def close(self, step: int, score: float | None) -> None:
        self.progress.close(step, score)
        if self.events:
            self.events.close()

    def look(self, clock: Clock, step: int) -> None:
        """Record the method's rule on the probe images: a snapshot, and its quality in `pseudo.csv`."""
        found, probabilities = self.rehearse(clock)
        for name, labels in found.items():
            row = {"step": step, "name": name} | probe.quality(labels, self.probe.truth, self.task.classes)
            self.tables["pseudo"].append([row])
        if found:
            self.writer.step(step, found, probabilities)

    def norms(self, step: int) -> None:
        """Record in `norms.csv` how far apart batch norm's two networks are, see `probe.apart`."""
        if self.leader and self.probe is not None:
            nets = {name: net for name, net in self.method.predictors().items() if isinstance(net, nn.Module)}
            found = {name: probe.apart(net, self.probe, self.chosen.batch) for name, net in nets.items()}
            rows = [{"step": step, "predictor": name, "apart": v} for name, v in found.items() if v is not None]
            self.tables["norms"].append(rows)

    def rehearse(self, clock: Clock) -> tuple[dict[str, PseudoLabels], dict[str, Tensor]]:
        """Look at the probe images without recording: what cannot work or is too large shows before the training."""
        if not self.leader or not self.chosen.probes:
            return {}, {}
        if self.probe is None:
            device, shape = next(self.method.parameters()).device, probe.padding_of(self.method)
            self.probe = probe.make_probe(self.task, self.chosen.probes, device, shape=shape)
            views = self.probe.views
            self.writer.images(views.weak, self.probe.truth, views.valid, self.probe.ids)
        return probe.look(self.method, self.probe, clock)

    def path(self, out: Losses, step: int) -> None:
        """Record what a training step makes of a fixed batch, see `trace`."""
        if self.leader and (paths := trace.examples(out.seen, self.chosen.probe_size)):
            self.writer.path(step, paths)

    def save(self, name: str, state: dict[str, Any]) -> None:
        if self.leader:
            checkpoint.save(self.folder / f"{name}.pt", state)

    def restore(self) -> dict[str, Any] | None:
        """The state of `last.pt`, or None where there is none yet; what was recorded after it is removed."""
        path = self.folder / "last.pt"
        state = checkpoint.load(path) if path.is_file() else None
        done = state["step"] if state else 0
        if self.leader:
            for table in self.tables.values():
                table.cut(done)
            snapshots.cut(self.folder / "probes", done)
        return state


def tensorboard(folder: Path) -> Any:
    """A writer of TensorBoard events below the run's folder where TensorBoard is installed, else None."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def folder_of(out: Path | None, method: Method, task: Task, chosen: Settings, resume: bool) -> Path:
    """The folder of a new or resumed run.

    Raises:
        S4Error: it holds another run already.
    """
    if out is None and resume:
        raise S4Error("Say which run to continue: resume=True needs out=FOLDER.")
    if out is None:
        base = Path("runs") / f"{getattr(method, 'name', 'method')}-{task.name}-seed{chosen.seed}"
        out, number = base, 2
        while out.exists():
            out, number = base.with_name(f"{base.name}-{number}"), number + 1
    if not resume and (out / "last.pt").exists():
        raise S4Error(f"{out} already holds a run; continue it with --resume {out}, or name another folder with --out.")
    return out
