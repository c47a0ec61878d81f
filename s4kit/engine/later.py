"""Images that are watched from now on, though the run began without them: what its stored checkpoints say of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import S4Error
from . import probe, watched
from .run import Run
from .survey_file import Survey
from .writer import Writer

CHECKPOINTS = ("best", "last")


def add(run: Run | str | Path, wanted: watched.Wanted, task: Any = None, device: str = "auto") -> list[str]:
    """Add images to those that the explorer shows of a run; a training that goes on watches them, too.

    Of the past there is what the stored checkpoints say: a snapshot of the best one and of the last one.

    Args:
        wanted: ids, the path of a file of ids, or "worst", those of a sweep over the whole set.
        task: default the run's own.

    Returns:
        The ids that are new.

    Raises:
        S4Error: no such image, no checkpoint, "worst" without a sweep, or the method has no rule for pseudo-labels.
    """
    run = run if isinstance(run, Run) else Run(run)
    watched.check(wanted)
    if isinstance(wanted, int):
        raise S4Error(f"{wanted!r}: name the images to add by their ids, a file of ids, or say 'worst'.")
    found = [which for which in CHECKPOINTS if (run.path / f"{which}.pt").is_file()]
    if not found:
        raise S4Error(f"{run.path} has no checkpoint yet, and nothing can be said of other images without one.")
    if wanted == watched.WORST:
        wanted = Survey(run.path / "sweep" / "last").worst(watched.USUAL)
    task = task or run.task()
    writer = Writer(run.path / "probes", task.classes, task.palette, run.settings.probe_size)
    there = set(writer.there.ids) if writer.there else set()
    items = [item for item in watched.chosen(task, wanted) if item.id not in there]
    if not items:
        return []
    for number, which in enumerate(found):
        method, known, clock = run.restored(which, task, device)
        more = probe.Probe(known, items, method, run.settings.probe_whole)
        if not number:
            first = _room(writer, more)
        seen = (found.pictured(more.stream.look, writer.side) for found in probe.look(method, more, clock))
        if not writer.step(round(clock.overall * run.settings.steps), seen, first):
            raise S4Error(f"{run.config['method']} has no rule for pseudo-labels: there is nothing to watch.")
    if first:
        writer.add(more)
    return more.ids


def _room(writer: Writer, more: probe.Probe) -> int:
    """The place of the first new image; where none is watched yet, the new ones decide how large pictures are."""
    if writer.there:
        return len(writer.there)
    scenes = (more.scene(k, writer.side) for k in range(len(more)))
    writer.images(scenes, more.ids, more.kinds, more.task.crop or writer.side)
    return 0
