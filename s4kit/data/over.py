"""A source over another one: what it does not say itself, that one says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .task import Sample, Source


class Over(Source):
    """The images of another source, of which some are read in another way.

    Args:
        source: the one behind; its paths and shapes are this one's, too.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.ids, self.scenes = source, source.ids, source.scenes

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)

    def view(self, row: int) -> Sample:
        return self.source.view(row)

    def scene(self, row: int) -> int:
        return self.source.scene(row)

    def clip(self, row: int) -> Sequence[int]:
        return self.source.clip(row)

    def flow(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        return self.source.flow(a, b)
