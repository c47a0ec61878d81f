"""What a training leaves behind: its folder, the tables, the snapshots, and what a person sees meanwhile."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.kept import Kept
from ..data.task import Task
from ..errors import S4Error
from ..methods import fingerprint
from ..methods.base import Clock, Losses, Method, PseudoLabels, Stage
from ..methods.parts.roles import Cast
from ..nets import live_norms
from . import checkpoint, images, probe, records, roles, trace, watched, writer
from .progress import Progress
from .run import STORE, peak_memory
from .scores import AnyScores, tally_of
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
        self.stream, self.score = probe.stream_of(method), tally_of(task.evaluation).name
        self.writer = writer.Writer(folder / "probes", task.classes, task.palette, chosen.probe_size)
        self.since = 0.0  # when the pending steps began; 0 = unknown, after anything but steps
        self.progress = Progress(method, chosen.steps, show and leader, self.score)
        if leader:
            with checkpoint.writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            self.tables = {name: records.Table(folder / f"{name}.csv") for name in TABLES}
        self.events = tensorboard(folder) if leader else None

    def begin(self, resume: bool, stages: list[tuple[Stage, int, int]]) -> None:
        """Write what the run is; remove what a training that was killed before its first checkpoint left here.

        Args:
            stages: with their first step and number of steps.
        """
        if not self.leader:
            return
        if not resume:
            for table in self.tables.values():
                table.clear()
            writer.clear(self.folder / "probes")
            self.kept(0).forget()
            for name in ("config.json", images.FILE, "best.pt"):
                (self.folder / name).unlink(missing_ok=True)
        if not (self.folder / images.FILE).is_file():  # a run of an older version keeps from here on what it has now
            images.store(self.folder, self.task, [item.id for item in watched.chosen(self.task, self.chosen.probes)])
        if not (self.folder / "config.json").is_file():
            self._config(stages)

    def _config(self, stages: list[tuple[Stage, int, int]]) -> None:
        """Write `config.json`: all that is needed to load the run again."""
        from .. import __version__

        options = getattr(self.method, "options", {})
        name = getattr(self.method, "name", type(self.method).__name__)
        config = {
            "method": name,
            "code": fingerprint(name),
            "options": {k: v for k, v in options.items() if not callable(v)},
            "not_stored": [k for k, v in options.items() if callable(v)],
            "network": self.method.network,
            "norms": len(live_norms(self.method)),  # batch norms that look at the batch
            "task": self.task.config,
            "protocol": self.task.protocol,
            "reveals": list(self.method.revealed()),
            "score": self.score,
            "stages": [{"name": stage.name, "first": first, "steps": steps} for stage, first, steps in stages],
            "notices": [*self.task.notices, *self.task.label_notices],
            "fit": vars(self.chosen),
            "versions": {"s4kit": __version__, "torch": torch.__version__},
        }
        text = json.dumps(config, indent=2, default=str)
        checkpoint.write_atomic(self.folder / "config.json", lambda file: file.write(text.encode()))

    def kept(self, stage: int) -> Kept:
        """The maps that the run has kept, as a stage reads them."""
        return Kept(str(self.folder / STORE), stage)

    def enter(self, task: Task) -> None:
        """A stage begins, with these kept maps: the watched images have them, too."""
        self.task, self.probe = task, None

    def note(self, clock: Clock, step: int, rate: float, rows: list[dict[str, Tensor]]) -> None:
        """Keep the measures of a step's micro-batches, scalars by name, on the device until `flush`."""
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

    def scores(self, step: int, predictor: str, scores: AnyScores) -> None:
        """Add a row to `evaluations.csv`."""
        if not self.leader:
            return
        self.tables["evaluations"].append([{"step": step, "predictor": predictor} | scores.row()])
        if self.events:
            self.events.add_scalar(f"val/{scores.name.lower()}/{predictor}", scores.headline, step)
        self.since = 0.0

    def close(self, step: int, score: float | None) -> None:
        """The last words of the progress line, and the end of what TensorBoard reads; `score` is None where none was
        taken."""
        self.progress.close(step, score)
        if self.events:
            self.events.close()

    def look(self, clock: Clock, step: int) -> None:
        """Record the method's rule on the watched images: a snapshot, and its quality in `pseudo.csv`."""
        if not self.leader or not self.chosen.probes:
            return
        watch = self._watched()
        if self.writer.there is None:
            watch = self._choose(watch, clock)
        quality: dict[str, probe.Quality] = {}
        self.writer.step(step, self._judged(watch, clock, quality))
        self.tables["pseudo"].append([{"step": step, "name": name} | found.row() for name, found in quality.items()])

    def _choose(self, watch: probe.Probe, clock: Clock) -> probe.Probe:
        """Store the watched images; where the worst are wanted, this is the moment to tell which they are."""
        if self.chosen.probes == watched.WORST:
            among = self._probe(watched.drawn(self.task, watched.CANDIDATES))
            watch = self.probe = self._probe(probe.worst(self.method, among, clock, watched.USUAL))
        scenes = (watch.scene(k, self.chosen.probe_size) for k in range(len(watch)))
        self.writer.images(scenes, watch.ids, watch.kinds, self.task.crop or self.chosen.probe_size)
        return watch

    def _judged(self, watch: probe.Probe, clock: Clock, quality: dict[str, probe.Quality]) -> Iterator[probe.Looked]:
        """What is seen, handed on while its quality is added up: that of unlabelled images, where some are watched."""
        judged = {k for k, kind in enumerate(watch.kinds) if kind == "unlabelled"}
        for found in probe.look(self.method, watch, clock):
            rows = [k for k, place in enumerate(found.places) if place in judged or not judged]
            for name, labels in found.labels.items():
                quality.setdefault(name, probe.Quality(self.task.classes)).add(labels[rows], found.truth[rows])
            yield found.pictured(watch.stream.look, self.chosen.probe_size)

    def norms(self, step: int) -> None:
        """Record in `norms.csv` how far apart batch norm's two networks are, see `probe.apart`."""
        if not self.leader or not self.chosen.probes:
            return
        device, size, watch = next(self.method.parameters()).device, self.chosen.batch, self._watched()
        nets = {name: net for name, net in self.method.predictors().items() if isinstance(net, nn.Module)}
        found = {name: probe.apart(net, watch.batches(size, device)) for name, net in nets.items()}
        rows = [{"step": step, "predictor": name, "apart": v} for name, v in found.items() if v is not None]
        self.tables["norms"].append(rows)

    def rehearse(self, clock: Clock) -> None:
        """Look at the watched images without recording: what cannot work or is too large shows before the training."""
        if self.leader and self.chosen.probes:
            for _ in probe.look(self.method, self._watched(), clock):
                pass

    def _watched(self) -> probe.Probe:
        """The images that are watched: those that the folder has already, or what is chosen."""
        if self.probe is None:
            there, wanted = self.writer.there, self.chosen.probes
            self.probe = self._probe(watched.find(self.task, there.ids) if there else watched.chosen(self.task, wanted))
        return self.probe

    def _probe(self, items: list[watched.Item]) -> probe.Probe:
        return probe.Probe(self.task, items, self.method, self.chosen.probe_whole)

    def path(self, seen: dict[str, Any], ids: Callable[[dict[str, Any]], dict[str, list[str]]], step: int) -> None:
        """Record what a training step makes of a fixed batch, and of which images that is made, see `trace`."""
        if self.leader and (paths := trace.examples(seen, self.chosen.probe_size, self.stream.look)):
            self.writer.path(step, paths, ids(seen))

    def roles(self, casts: list[Cast], step: int) -> None:
        """Record who takes part in the contrasts of that step."""
        if self.leader and (found := roles.arranged(casts, self.chosen.probe_size)):
            self.writer.roles(step, found)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write `<name>.pt` into the run's folder, by the first process alone."""
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
            writer.cut(self.folder / "probes", done)
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
