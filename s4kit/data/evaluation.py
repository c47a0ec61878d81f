"""How class maps are scored: whole images or windows, at which sizes, and how what overlaps adds up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import S4Error


@dataclass(frozen=True)
class Evaluation:
    """How a data set is scored. `s4kit.engine.PROTOCOLS` has the papers' ways by name.

    Attributes:
        mode: "whole" images at their stored size; a "sliding" window; or whole images at sides that are a multiple of
            `multiple`, their scores brought back to the stored size: "resize" to the nearest, with `short` as the
            shorter side, "enlarge" to the next.
        window: side of the square window in pixels (sliding).
        stride: step of the window as a fraction of its side.
        border: "cut": windows start at every multiple of the step (rounded down) inside the image, the last ones are
            smaller. "shift": the last window is moved back to fit (step rounded up); a smaller image is padded round.
        combine: add up softmax "probabilities", or "logits".
        scales: factors of the image's sides; the scores of each, brought back to the stored size, are added up.
        flip: every forward is repeated on the mirrored input, and the scores are added up.
        overlap: where windows overlap their scores stand as "sum" or as "mean". It matters where scores are resized.
        pad: what "shift" pads with: "black", the "mean" colour of the network's normalisation, or "fitting": the mean
            colour where the whole image fits into one window, else black.
        multiple, short: see "resize" and "enlarge"; a `short` of 0 is the image's own.
        corners: whether resizing maps corner pixels onto corner pixels (`align_corners`).
        floor: the sides of a scaled "whole" image are rounded down instead of to the nearest pixel.

    Raises:
        S4Error: a value that is not one of these.
    """

    mode: str = "whole"
    window: int = 0
    stride: float = 2 / 3
    border: str = "cut"
    combine: str = "probabilities"
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    overlap: str = "sum"
    pad: str = "black"
    multiple: int = 1
    short: int = 0
    corners: bool = False
    floor: bool = False
    of: ClassVar[str] = "classes of pixels"
    how: ClassVar[str] = 'any set of images as it is: load("scenes")'

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(float(scale) for scale in self.scales))
        for name, known in _EVALUATION.items():
            if getattr(self, name) not in known:
                raise S4Error(f"{name}={getattr(self, name)!r}: an evaluation has one of {', '.join(known)}.")
        if not self.scales or min(self.scales) <= 0 or not 0 < self.stride <= 1 or self.multiple < 1:
            raise S4Error(
                f"scales={self.scales}, stride={self.stride}, multiple={self.multiple}: an evaluation needs scales "
                "above 0, a stride of at most one window, a multiple of at least 1."
            )
        if min(self.window, self.short) < 0:
            raise S4Error(f"window={self.window}, short={self.short}: sides are in pixels, 0 or more.")


_EVALUATION = {
    "mode": ("whole", "sliding", "resize", "enlarge"),
    "border": ("cut", "shift"),
    "combine": ("probabilities", "logits"),
    "overlap": ("sum", "mean"),
    "pad": ("black", "mean", "fitting"),
}
