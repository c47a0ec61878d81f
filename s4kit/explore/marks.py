"""Images and pixels that somebody has marked: as a list, as CSV, as masks."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..data.corrections import stem
from ..engine import tags
from ..engine.checkpoint import write_atomic
from ..errors import S4Error
from ..report.tables import Table
from . import selections

COLUMNS = ("id", "tag", "track", "step", "what", "pixels", "mask")


@dataclass(frozen=True)
class Mark:
    """One marked image.

    Attributes:
        id: of the image. tag: the word it was given.
        track, step: whose pseudo-label was looked at, and when; "" and None of images that were tagged in a list.
        what: {}, or the selection whose pixels are meant. mask: they, (h, w) bool of the stored map, or None.
    """

    id: str
    tag: str
    track: str
    step: int | None
    what: dict[str, Any]
    mask: np.ndarray | None

    @property
    def pixels(self) -> int | None:
        """How many pixels are marked; None where a whole image is."""
        return None if self.mask is None else int(self.mask.sum())


class Marked(list[Mark]):
    """All marks, in the order in which they were made; shows itself as a table."""

    def rows(self) -> list[tuple[Any, ...]]:
        """As `COLUMNS`; in the last one the name of the mask's file."""
        words = [" ".join(map(str, one.what.values())) for one in self]
        return [
            (one.id, one.tag, one.track, one.step, what, one.pixels, "" if one.mask is None else self._file(k))
            for k, (one, what) in enumerate(zip(self, words))
        ]

    def _file(self, k: int) -> str:
        return f"{k:03d}_{stem(self[k].id)[:120]}.png"

    def csv(self) -> str:
        """The rows as text; the first line names the columns."""
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *self.rows()])
        return text.getvalue()

    def save(self, folder: str | Path) -> Path:
        """Write `marked.csv`, and each marked image's pixels as a black and white PNG.

        Returns:
            Path: of `marked.csv`, whose ids `load(..., labelled=...)` and `probes=...` can take as a list.

        Raises:
            S4Error: the folder cannot be written.
        """
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for k, one in enumerate(self):
                if one.mask is not None:
                    Image.fromarray(one.mask).save(folder / self._file(k))
        except OSError as error:
            raise S4Error(f"{folder} cannot be written: {error.strerror}.") from error
        write_atomic(folder / "marked.csv", lambda file: file.write(self.csv().encode()))
        return folder / "marked.csv"

    @property
    def ids(self) -> list[str]:
        """The marked images, each once."""
        return list(dict.fromkeys(one.id for one in self))

    def __repr__(self) -> str:
        return repr(Table(COLUMNS[:-1], [row[:-1] for row in self.rows()]))

    def _repr_html_(self) -> str:
        return Table(COLUMNS[:-1], [row[:-1] for row in self.rows()])._repr_html_()


def marked(view: Any, marks: Sequence[dict[str, Any]]) -> Marked:
    """The marks of an explorer, and the tags that images of its runs have, see `engine.tags`.

    Args:
        view: a `View`. marks: as `State.marks`.
    """
    found = Marked(_mark(view, one) for one in marks)
    known = {(one.id, one.tag) for one in found}
    for run in view.runs:
        for tag, ids in tags.read(run).items():
            found += [Mark(id, tag, "", None, {}, None) for id in ids if (id, tag) not in known]
    return found


def _mark(view: Any, one: dict[str, Any]) -> Mark:
    meta, track, image, at = view.meta, one["track"], one["image"], one["snapshot"]
    about, mask = meta["tracks"][track], None
    if one["selection"]:
        maps, last = view.data.maps(track, image), len(about["steps"]) - 1

        def then(step: int) -> dict[str, np.ndarray]:
            return {name: values[min(step, last)] for name, values in maps.items()}

        mask = selections.mask(one["selection"], view.data.first.image(view.data.images[image]), then(at), then)
    return Mark(meta["images"][image]["id"], one["tag"], about["title"], about["steps"][at], one["selection"], mask)
