"""Pages and pictures of runs by their folders: what `s4kit explore` writes, and what lies beside a report."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import S4Error
from .. import figure
from ..state import start
from ..view import View
from .page import BESIDE, ranked, save


def beside(run: Path, path: Path) -> bool:
    """Write a small page of a run, to lie beside a report; opens with the worst image at the last snapshot.

    Returns:
        Whether there is anything to look into.
    """
    try:
        view = View(run)
        state = start(view.meta, view.threshold, {"image": ranked(view)[0]})
        save(path, view, state, budget=BESIDE)
    except S4Error:
        return False
    return True


def write(
    runs: Sequence[str],
    page: str | None,
    picture: str | None,
    images: Sequence[int] | None,
    steps: Sequence[int] | None,
) -> dict[str, Any]:
    """What `s4kit explore` does: the page, the picture of what it opens with, or both, of runs by their folders.

    Opens with the first of `images`, default the worst one, at the last snapshot.

    Returns:
        {"html", "png": paths or None, "images", "steps": what the page holds, "size": its bytes, "shown": the image
        that it opens with, "tracks": for each of them title, coverage and precision there}.

    Raises:
        S4Error: a file cannot be written, or a run, an image or a step is not there.
    """
    view = View(list(runs))
    for run in view.runs:
        _say_changes(run)
    at = {"image": images[0] if images else ranked(view)[0]}
    state = start(view.meta, view.threshold, at)
    found: dict[str, Any] = {"html": page, "png": picture, "shown": view.meta["images"][state.image]["id"]}
    numbers = {view.meta["tracks"][t]["title"]: view.numbers(t, state) for t in state.tracks}
    found["tracks"] = [{"title": t, "coverage": n["coverage"], "precision": n["precision"]} for t, n in numbers.items()]
    if page:
        saved = save(Path(page), view, state, images, steps)
        print(saved)
        found |= {"images": saved.images, "steps": saved.steps, "size": saved.size}
    if picture:
        try:
            Path(picture).parent.mkdir(parents=True, exist_ok=True)
            Path(picture).write_bytes(figure.png(view.figure(state), dpi=150))
        except OSError as error:
            raise S4Error(f"{picture} cannot be written: {error.strerror}.") from error
        print(f"{picture}: {found['shown']} at the last snapshot, as the page opens")
    return found


def _say_changes(run: Any) -> None:
    """Say what has changed since the run began; the snapshots are shown as recorded, without the data as well."""
    with suppress(S4Error):  # the data is not here, or was in memory
        run.task()
