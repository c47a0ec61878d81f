"""The pseudo-labels of runs that are looked at side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...engine import Run
from ...engine.snapshots import Snapshots
from ...errors import S4Error


@dataclass(frozen=True)
class Track:
    """One pseudo-label of one run: its recorded steps, and the images whose way through the training was recorded."""

    title: str
    run: Run
    snapshots: Snapshots
    name: str
    steps: tuple[int, ...]
    examples: tuple[tuple[str, int], ...]  # (path, image of it)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """Those of which it was recorded, at any of the steps, who takes part."""
        recorded = self.snapshots.role_steps.items()
        return tuple(name for name, steps in recorded if set(steps) & set(self.steps))


def titles_of(runs: Sequence[Run]) -> list[str]:
    """Method, seed and published split; with the folder where that does not tell the runs apart."""
    plain = [f"{run.config['method']} · seed {run.config.get('fit', {}).get('seed', 0)}" for run in runs]
    plain = [f"{title} · {run.split}" if run.split else title for title, run in zip(plain, runs)]
    return [
        f"{title} · {run.path.resolve().name}" if plain.count(title) > 1 else title for title, run in zip(plain, runs)
    ]


def tracks_of(title: str, run: Run, snapshots: Snapshots, wanted: Sequence[int] | None) -> list[Track]:
    """The tracks of a run: a path goes with the pseudo-label of its name; one of another name with all of them.

    Raises:
        S4Error: the run has no snapshot, or none at the wanted steps.
    """
    if not snapshots.steps:
        raise S4Error(
            f"{run.path} has no snapshot: it has not come to an evaluation, or {run.config['method']} has no rule "
            "for pseudo-labels."
        )
    tracks = []
    for name, recorded in snapshots.steps.items():
        steps = tuple(step for step in recorded if wanted is None or step in wanted)
        if not steps:
            raise S4Error(f"{run.path} has no snapshot at these steps; it has {', '.join(map(str, recorded))}.")
        paths = [path for path in snapshots.path_steps if path == name or path not in snapshots.steps]
        examples = tuple((path, k) for path in paths for k in range(snapshots.examples(path)))
        tracks.append(
            Track(title if len(snapshots.steps) == 1 else f"{title} · {name}", run, snapshots, name, steps, examples)
        )
    return tracks


def same_pixels(one: Snapshots, other: Snapshots) -> None:
    """Raises S4Error where two runs do not show the same pixels."""
    for what in ("classes", "ids", "height", "width", "crop"):
        a, b = getattr(one, what), getattr(other, what)
        if a != b:
            if isinstance(a, list):
                a, b = (", ".join(x for x in mine if x not in yours) or len(mine) for mine, yours in ((a, b), (b, a)))
            name = "probe images" if what == "ids" else what
            raise S4Error(
                f"{one.folder.parent} and {other.folder.parent} cannot be seen side by side: their {name} differ ({a} "
                f"here, {b} there). Train them on the same task with the same seed, probes and probe_size."
            )
