"""Runs that may still be training: what there is of them now, read again where something new has come."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from ...engine import Run, later, open_run, tags
from ...engine.survey_file import Survey
from ...errors import S4Error
from ..full import Loaded
from ..packing.codec import encode
from ..state import for_browser, start
from ..view import View
from . import answers


class Live:
    """Some runs as a page shows them.

    Args:
        runs: their folders.

    Raises:
        S4Error: a folder holds no run, or runs do not fit together.
    """

    def __init__(self, runs: Sequence[str | Path]) -> None:
        self.runs = [open_run(run) for run in runs]
        self._lock = threading.RLock()
        self._seen = self._words = ""
        self._view: View | None = None
        self._surveys: dict[tuple[int, str], tuple[str, Survey]] = {}
        self._loaded: dict[tuple[int, str], Loaded] = {}
        self.view()
        if self._view is None and not self.surveys() and any(self._finished(run) for run in self.runs):
            raise S4Error(self._words)

    # ---- the watched images ----

    def version(self) -> str:
        """Changes whenever a snapshot comes, an image is added or a survey grows."""
        said = hashlib.sha256()
        for run in self.runs:
            for folder in (run.path / "probes", run.path / "sweep" / "last", run.path / "sweep" / "best"):
                said.update(_listing(folder).encode("utf-8", "surrogatepass"))
        return said.hexdigest()[:16]

    def view(self) -> View | None:
        """The explorer of what there is; None before the first snapshot."""
        with self._lock:
            version = self.version()
            if version != self._seen:
                try:
                    self._view = View([run.path for run in self.runs])
                    _ = self._view.meta
                except S4Error as error:
                    if self._seen and self._view is not None:  # a folder in the middle of a change: the old one stays
                        return self._view
                    self._view, self._words = None, str(error)
                self._seen = version
            return self._view

    def respond(self, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes | None, Exception | None]:
        """See `answers.respond`; one at a time, but for packs."""
        view = self.view()
        if view is None:
            return {"kind": "pack", "key": asked.get("key"), "error": "there is no snapshot yet"}, None, None
        with nullcontext() if asked["kind"] == "need" else self._lock:
            return answers.respond(view, asked)

    def news(self) -> dict[str, Any]:
        """What the page is told: {"version", "meta" or None, "words": why there is none, "surveys"}."""
        view = self.view()
        return {
            "version": self._seen,
            "meta": None if view is None else for_browser(view.meta) | {"kernel": True},
            "words": "" if view is not None else self._words,
            "surveys": self.surveys(),
        }

    def state(self) -> dict[str, Any]:
        """Where the page begins: the last snapshot of the first image, and the news."""
        view = self.view()
        begin = {} if view is None else vars(start(view.meta, view.threshold, {}))
        return begin | self.news()

    def _finished(self, run: Run) -> bool:
        """Whether nothing more is to be expected of it."""
        return bool(run.last) and run.last["step"] >= run.settings.steps - 1

    # ---- the whole set ----

    def surveys(self) -> list[dict[str, Any]]:
        """The surveys that there are: {"run": index, "which", "title", "count", "of", "step"}."""
        found = []
        for r, run in enumerate(self.runs):
            for which in ("last", "best"):
                try:
                    one = self.survey(r, which)
                except S4Error:
                    continue
                title = f"{run.path.resolve().name}, {which} checkpoint, step {one.about['step']}"
                about = {"run": r, "which": which, "title": title, "count": len(one)}
                found.append(about | {"of": one.about["images"], "step": one.about["step"]})
        return found

    def survey(self, r: Any, which: Any) -> Survey:
        """A survey, read again where it has grown.

        Raises:
            S4Error: there is none.
        """
        run = self._run(r)
        if which not in ("last", "best"):
            raise S4Error(f"There is no checkpoint {which!r}: last or best.")
        folder = run.path / "sweep" / which
        with self._lock:
            stamp, (known, found) = _stamp(folder / "survey.json"), self._surveys.get((r, which), ("", None))
            if found is not None and known == stamp:
                with suppress(S4Error, OSError, ValueError):  # made anew: read from its beginning
                    found.more()
                    return found
            self._surveys[r, which] = (stamp, found := Survey(folder))
            return found

    def rows(self, r: Any, which: Any) -> bytes:
        """The columns of a survey, packed; in the header ids, lists, columns, classes, palette and tags."""
        found = self.survey(r, which)
        columns = {f"column/{name}": values for name, values in found.columns.items()}
        about = {name: found.about[name] for name in ("classes", "palette", "step")}
        about |= {"ids": found.ids, "lists": found.lists, "columns": list(found.columns)}
        return encode(columns, **about, tags=tags.read(self._run(r)))

    def look(self, r: Any, id: Any) -> bytes:
        """One whole image of the set, as `View.full` packs it, by the last weights.

        Raises:
            S4Error: the checkpoint or the image is not there.
        """
        run = self._run(r)
        with self._lock:
            key = (r, _stamp(run.path / "last.pt"))
            if key not in self._loaded:
                self._loaded = {key: Loaded(run)}
            maps = self._loaded[key].look(str(id))
        return encode({k: v if k in ("image", "truth", "valid") else v[None] for k, v in maps.items()})

    def tag(self, r: Any, tag: Any, ids: Any, on: Any) -> dict[str, list[str]]:
        """Mark images of a run, or take the mark away; all marks behind."""
        with self._lock:
            return tags.mark(self._run(r), tag, ids, bool(on))

    def watch(self, r: Any, ids: Any) -> list[str]:
        """Watch more images of a run, see `later.add`.

        Raises:
            S4Error: `ids` is no list of words, no such run or image, or the run cannot watch more.
        """
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise S4Error(f"ids={ids!r}: give a list of ids.")
        with self._lock:
            return later.add(self._run(r), ids)

    def _run(self, r: Any) -> Run:
        if isinstance(r, bool) or not isinstance(r, int) or not 0 <= r < len(self.runs):
            raise S4Error(f"There is no run {r!r}: the page has {len(self.runs)}, counted from 0.")
        return self.runs[r]


def _listing(folder: Path) -> str:
    try:
        found = sorted((e.name, e.stat().st_mtime_ns, e.stat().st_size) for e in os.scandir(folder))
    except OSError:
        return ""
    return repr([entry for entry in found if not entry[0].startswith(".")])


def _stamp(file: Path) -> str:
    try:
        return str(file.stat().st_mtime_ns)
    except OSError:
        return ""
