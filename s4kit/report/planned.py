"""What the planner says of a training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .planner_text import html, show


@dataclass(frozen=True)
class OnGpu:
    """A training on one GPU.

    Attributes:
        gpu, memory: its name and bytes. precision: "bf16", "fp16" or "float32".
        peak: predicted bytes with the wanted batch at once. fits: whether that goes.
        largest_batch: most labelled images at a time, up to four times those wanted and to those there are; 0: none.
        batch, accumulate: micro-batch and how many of them make the wanted batch, None where none fits.
        held: predicted bytes in that set-up.
        step_seconds, hours: estimate of a step and of all of them; None where unknown.
        cores: of a machine like this one that keep the GPU fed.
        images_per_second: that it takes, the host's share.
        measured: when and how well, in words, where `s4kit verify` has measured this card here; else "".
    """

    gpu: str
    memory: float
    precision: str
    peak: int
    fits: bool
    largest_batch: int
    batch: int | None
    accumulate: int | None
    held: int | None
    step_seconds: float | None
    hours: float | None
    cores: float | None
    images_per_second: float | None
    measured: str = ""


@dataclass(frozen=True)
class Planned:
    """What a training needs; prints as a table.

    Attributes:
        method, data, protocol, network, crop: what is trained on what.
        batch, images: labelled images of a step, and images of all streams.
        optimiser, steps: its kind; how many steps the recipe has, None where unknown.
        rates: learning rate and decay, and those of the release, see `rates.rates`.
        parameters, trained: of all networks (EMA copies count), and of those that learn.
        flops: of a step, as PyTorch's flop counter counts (a multiply-add is two).
        memory: bytes at the peak of a step with the wanted batch, on the first GPU.
        norms: batch norms that learn from the batch, over all networks.
        parts: bytes of weights, optimiser, gradients, views, and the rest (activations).
        host_seconds: CPU seconds of this machine to decode and crop one image; None = not measured.
        workers: decode processes that `fit` starts on a machine like this with a GPU.
        gpus: one entry per GPU.
    """

    method: str
    data: str
    protocol: str
    network: str
    crop: int
    batch: int
    images: int
    optimiser: str
    steps: int | None
    rates: dict[str, Any]
    parameters: int
    trained: int
    norms: int
    flops: float
    memory: int
    parts: dict[str, int]
    host_seconds: float | None
    workers: int
    gpus: tuple[OnGpu, ...]

    @property
    def fits(self) -> dict[str, bool]:
        """By GPU: whether the wanted batch fits at once."""
        return {on.gpu: on.fits for on in self.gpus}

    @property
    def largest_batch(self) -> dict[str, int]:
        """By GPU: the most labelled images at a time."""
        return {on.gpu: on.largest_batch for on in self.gpus}

    @property
    def accumulate(self) -> dict[str, int | None]:
        """By GPU: micro-batches that make the wanted batch."""
        return {on.gpu: on.accumulate for on in self.gpus}

    @property
    def hours(self) -> dict[str, float | None]:
        """By GPU: estimated hours of training, evaluations not counted."""
        return {on.gpu: on.hours for on in self.gpus}

    def to_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return show(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html(self)
