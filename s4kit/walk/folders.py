"""The folders of a lesson's runs: their names, which are finished, and one that has to make room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import S4Error
from ..report import setup, text
from ..report.comparing.compare import finished


def finished_runs(folder: Path) -> dict[str, Any]:
    """The finished runs below a folder by name, in the order of their beginning."""
    from ..engine import open_run

    configs = sorted(folder.glob("*/config.json"), key=lambda file: (file.stat().st_mtime, file))
    folders = [file.parent for file in configs if "~" not in file.parent.name]
    return {of.name: open_run(of) for of in folders if finished(of)}


def asked_for(names: Sequence[str], found: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Those of the runs that are asked for; `place` is where they lie, in words.

    Raises:
        S4Error: one is not there.
    """
    for name in names:
        if name not in found:
            there = ", ".join(found) or "none yet"
            raise S4Error(
                f"There is no finished run {name!r} in {place} (there: {there}). Train it with "
                f'lesson.train("{name}"), or run the notebook that does.'
            )
    return {name: found[name] for name in names}


def run_name(method: str, seed: int, task: dict | None, fit: dict | None, options: dict | None) -> str:
    """ "cutmix", "cutmix tau=0.5", "cutmix labelled=4 seed=1": what differs from the profile, fit for a folder."""
    given = (
        {"split" if key == "seed" else key: value for key, value in (task or {}).items()}
        | (fit or {})
        | (options or {})
    )
    given |= {"seed": seed} if seed else {}
    words = [f"{key}={value}" for key, value in given.items()]
    return " ".join([method, *("".join(c if c.isalnum() or c in "=.-_" else "-" for c in word) for word in words)])


def open_finished(folder: Path) -> Any:
    """The run in `folder`, with a word that it was not trained now."""
    from ..engine import open_run

    run = open_run(folder)
    took = text.duration(setup.extra(folder).get("seconds"))
    print(f"{folder.name}: already trained here (it took {took}), opened. {end_of(run)}.")
    return run


def end_of(run: Any) -> str:
    """ "mIoU 71.3": the score that a run has ended with."""
    return f"{run.score} {text.percent(run.last.get(run.column))}"


def put_aside(folder: Path, why: str) -> None:
    """Rename a run's folder to the first free "name~k"."""
    number = next(k for k in range(1, 10_000) if not folder.with_name(f"{folder.name}~{k}").exists())
    aside = folder.with_name(f"{folder.name}~{number}")
    folder.rename(aside)
    print(f"{folder.name}: the run here had another set-up ({why}); it is kept as {aside.name}, a new one is trained.")
