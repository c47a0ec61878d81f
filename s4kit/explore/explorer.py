"""The explorer as a notebook widget: its traits in step with the browser, data sent when the browser asks for it."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from ..errors import S4Error
from ..report.tables import Table
from .marks import Marked, marked
from .serving import answers
from .serving.script import script, style
from .state import NAMES, State, check, for_browser, start
from .view import View

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise S4Error(
        "The explorer in a notebook needs anywidget: pip install 's4kit[notebooks]', and restart the notebook server. "
        "Without it `s4kit explore RUN --html FILE` writes the same explorer as a page."
    ) from error

# The picture for where the widget does not live; without an explorer behind it JupyterLab's error gives way to it.
STILL = """<div class="s4x-still" data-key="{key}"><img src="data:image/png;base64,{picture}" alt="{words}"></div>
<style>.jp-OutputArea-child:has(.s4x-still) + .jp-OutputArea-child:not(:has(.s4x)) {{ display: none; }}</style>"""


class Refused(S4Error, traitlets.TraitError):
    """A value that a trait cannot take."""


class Explorer(anywidget.AnyWidget):
    """Pseudo-labels of one or several runs, to look into; made by `s4.explore`.

    All traits can be set and observed; the browser reports a change when a drag ends.

    Attributes:
        image, snapshot, threshold, policy, tracks, hidden, selection, marks: see `State`.
        meta: what there is to see (read only).
    """

    _esm = script()
    _css = style()
    meta = traitlets.Dict(read_only=True).tag(sync=True)
    tracks = traitlets.Any().tag(sync=True)
    image = traitlets.Any().tag(sync=True)
    snapshot = traitlets.Any().tag(sync=True)
    threshold = traitlets.Any().tag(sync=True)
    policy = traitlets.Any().tag(sync=True)
    hidden = traitlets.Any().tag(sync=True)
    selection = traitlets.Any().tag(sync=True)
    marks = traitlets.Any().tag(sync=True)

    def __init__(self, runs: Any, **state: Any) -> None:
        self._view = View(runs)
        still = f"s4x-{uuid.uuid4().hex[:12]}"
        self.set_trait("meta", for_browser(self._view.meta) | {"kernel": True, "still": still})
        super().__init__(**asdict(start(self._view.meta, self._view.threshold, state)))
        self.on_msg(self._answer)

    @traitlets.validate(*NAMES)
    def _check(self, proposal: dict[str, Any]) -> Any:
        name = proposal["trait"].name
        try:
            return check(self._view.meta, {"tracks": self.tracks}, name, proposal["value"])
        except S4Error as error:
            raise Refused(str(error)) from None

    @traitlets.observe("tracks")
    def _shorter(self, change: dict[str, Any]) -> None:
        """The first track's steps are what `snapshot` counts: keep it within them."""
        last = len(self._view.meta["tracks"][self.tracks[0]]["steps"]) - 1
        if self.snapshot is not None and self.snapshot > last:
            self.snapshot = last

    def _answer(self, _: Any, asked: dict[str, Any], __: Any) -> None:
        """Send what the browser asks for; what goes wrong is said there, where somebody waits for it."""
        if not answers.known(asked):
            return
        about, data, wrong = answers.respond(self._view, asked)
        self.send(about, buffers=None if data is None else [data])
        if wrong is not None and not isinstance(wrong, S4Error):
            raise wrong

    @property
    def state(self) -> State:
        """Where the explorer stands now."""
        return State(**{name: getattr(self, name) for name in NAMES})

    def numbers(self) -> dict[str, dict[str, Any]]:
        """What the policy keeps of the image now, by the title of each shown track; see `policies.numbers`."""
        titles = [track["title"] for track in self._view.meta["tracks"]]
        return {titles[track]: self._view.numbers(track, self.state) for track in self.tracks}

    def classes(self) -> dict[str, Table]:
        """What becomes of each class over ALL watched images at the snapshot, by the title of each shown track.

        Of its labels and of all labels the share kept, precision, coverage, presence, and since when it starves: its
        pixels are kept at less than a tenth of the rate of all pixels.
        """
        titles = [track["title"] for track in self._view.meta["tracks"]]
        return {titles[track]: self._view.classes(track, self.state) for track in self.tracks}

    def marked(self) -> Marked:
        """Images and pixels that were marked here, and the images that have a tag in a run's folder: a list that shows
        itself; `.ids`, `.csv()`, `.save(folder)` with the masks."""
        return marked(self._view, self.marks)

    def correct(self, painted: str | Path | dict[str, Any]) -> dict[str, Any]:
        """Keep what was painted over a pseudo-label on a saved page (the file that it offers for download).

        Returns:
            See `corrections.take`; the next training takes the folder as `load(..., labelled=FOLDER)`.

        Raises:
            S4Error: it is no such file, or of an image, a track or a step that is not here.
        """
        return self._view.correct(painted)

    def figure(self, dark: bool = False) -> Any:
        """What is shown now as a matplotlib Figure fit for a paper.

        One row per shown track: image, truth, pseudo-label, confidence, what the policy keeps, errors; below it the
        numbers.
        """
        return self._view.figure(self.state, dark)

    def save_html(
        self, path: str | Path, images: Sequence[int] | None = None, steps: Sequence[int] | None = None
    ) -> Path:
        """Write ONE page with all of the explorer, which works without a kernel and without a network.

        Args:
            path: of the page.
            images: indices; default: the worst one, and others spread over the quality, as many as fit in 8 MB.
            steps: training steps; default: all of them where that fits.

        Returns:
            Path: of the page; what was chosen is printed.
        """
        saved = self._view.save_html(path, self.state, images, steps)
        print(saved)
        return saved.path

    def __repr__(self) -> str:
        tracks, images = (self._view.meta[name] for name in ("tracks", "images"))
        return f"Explorer of {', '.join(t['title'] for t in tracks)}: {len(images)} images"

    def _ipython_display_(self) -> None:
        """A picture of the state, and the widget, which hides it while it lives.

        They are two outputs: in a notebook that is opened again there is no widget any more, and JupyterLab would show
        an error in its place, whatever else its output holds.
        """
        from IPython.display import display

        picture = base64.b64encode(self._view.png(self.state)).decode()
        html = STILL.format(key=escape(self.meta["still"]), picture=picture, words=escape(repr(self)))
        display({"text/html": html, "image/png": picture, "text/plain": repr(self)}, raw=True)
        data, metadata = self._repr_mimebundle_()
        display(data, metadata=metadata, raw=True)
