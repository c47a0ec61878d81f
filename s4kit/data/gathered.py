"""Images of several lists as one, in an order of one's own; some of them may be gone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import S4Error
from .task import Sample, Source


class Gathered(Source):
    """The images of `ids`, wherever in `sources` they lie.

    Args:
        ids: in the wanted order. sources: searched in turn; of two images of one name the first counts.

    Attributes:
        missing: ids that no source has; reading one is an error, the others can be read.
    """

    def __init__(self, ids: Sequence[str], sources: Sequence[Source]) -> None:
        self.ids, self.sources = list(ids), list(sources)
        places: dict[str, tuple[Source, int]] = {}
        for source in reversed(self.sources):
            places |= {name: (source, row) for row, name in enumerate(source.ids)}
        self.places = [places.get(name) for name in self.ids]
        self.scenes = self.sources[0].scenes if self.sources else ()
        self.item = self.sources[0].item if self.sources else Sample
        known = [set(source.maps) for source in self.sources] or [set()]
        self.maps = tuple(sorted(set.intersection(*known)))
        self.rows = {name: row for row, name in enumerate(self.ids)}
        self.missing = [name for name, place in zip(self.ids, self.places) if place is None]

    def _at(self, row: int) -> tuple[Source, int]:
        place = self.places[row]
        if place is None:
            raise S4Error(f"The image {self.ids[row]} is not in the data set any more.")
        return place

    def read(self, row: int, label: bool = True) -> Sample:
        source, place = self._at(row)
        return source.read(place, label)

    def scene(self, row: int) -> int:
        source, place = self._at(row)
        return source.scene(place)

    def clip(self, row: int) -> list[int]:
        """Those frames of the clip that are in the list."""
        source, place = self._at(row)
        found = (self.rows.get(source.ids[frame]) for frame in source.clip(place))
        return [frame for frame in found if frame is not None]

    def flow(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        (source, first), (other, then) = self._at(a), self._at(b)
        return source.flow(first, then) if source is other else super().flow(a, b)

    def map(self, name: str, row: int) -> Tensor:
        source, place = self._at(row)
        return source.map(name, place)

    def objects(self, row: int) -> Tensor:
        source, place = self._at(row)
        return source.objects(place)

    def shape(self, row: int) -> tuple[int, int]:
        """(H, W) by the source that the row is of."""
        source, place = self._at(row)
        return source.shape(place)

    def image_path(self, row: int) -> str:
        """By the source that the row is of."""
        source, place = self._at(row)
        return source.image_path(place)

    def label_path(self, row: int) -> str | None:
        """By the source that the row is of; None where that has no label file."""
        source, place = self._at(row)
        return source.label_path(place)

    def reserve(self) -> None:
        """See `Cached.reserve`."""
        for source in self.sources:
            if hasattr(source, "reserve"):
                source.reserve()
