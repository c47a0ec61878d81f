"""A comparison within a lesson: methods of the kit and of the notebook, in the lesson's folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

from ..errors import S4Error
from .folders import put_aside
from .places import shown
from .profiles import Profile


def compare(
    out: Path,
    data: str,
    settings: Profile,
    asked: dict[str, Any],
    methods: Sequence[str],
    seeds: Sequence[int],
    options: dict[str, Any],
) -> dict[str, Any]:
    """`report.comparing.compare` under a lesson's profile: one protocol, a table, curves, pictures and a page.

    Runs with the same set-up are kept. One of a registered class that has changed since is put aside and trained anew.

    Args:
        out: the folder. data: its name. settings: of the lesson's profile. asked: over its arguments of `load`.
        methods: names. seeds: of the training. options: for every method that has them.

    Returns:
        What `report.comparing.compare` returns, and "opened": the first seed's `Run` of each method by name.

    Raises:
        S4Error: it was stopped, a training failed, or a run is there with other options.
    """
    from ..engine import open_run
    from ..report.comparing.compare import compare as compared

    folders = {name: [out / "runs" / f"{name}-seed{seed}" for seed in seeds] for name in methods}
    for name, of in folders.items():
        _renew(name, of)
    task = settings.task | asked
    with redirect_stderr(sys.stdout):  # what the kit says aside belongs to the cell's text
        found = compared(methods, data, out, seeds, task, settings.options | options, settings.fit, baselines=False)
    if found["interrupted"]:
        raise S4Error("The comparison was stopped; run the cell again, it goes on where it was.")
    if found["failed"]:
        raise S4Error(f"{found['failed'][0]['method']} failed: {found['failed'][0]['error']}")
    table = found["table"].replace(str(out), shown(out))
    return found | {"table": table, "opened": {name: open_run(of[0]) for name, of in folders.items()}}


def _renew(name: str, folders: Sequence[Path]) -> None:
    """Put aside the runs of a class that is not the one which is registered now."""
    from ..engine import open_run
    from ..methods import fingerprint

    for folder in folders:
        if (folder / "config.json").is_file() and open_run(folder).config.get("code", "") != fingerprint(name):
            put_aside(folder, "its class has changed since")
