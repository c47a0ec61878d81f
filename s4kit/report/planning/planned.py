"""What the planner says of a training: as data, as text of at most 100 columns, and as HTML."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from .. import text
from ..diagnosing import norms
from .capacity import BEYOND
from .rates import per_process

HEAD = ("GPU", "memory", "type", "needs", "fits", "largest", "run as", "then", "a step", "training", "cores")
NOTES = (
    "needs: predicted peak with the wanted batch. run as: micro-batch x accumulate; then: its peak.",
    "Batch norm sees the micro-batch alone: accumulating is not quite the paper's larger batch.",
    "a step, training: estimates by a roofline, {}; evaluations are not counted.",
    "cores: of a machine like this one, to read and crop as fast as the GPU trains.",
)
TAKEN = (
    "What a step takes depends on what it finds in the images: steps of 1 and 2 labelled images were taken here, by "
    "the networks as they begin; all figures lie on the line through them. timing.csv of a run says what later ones "
    "take."
)


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
        tried: the figures are from small steps that were taken here, see `capacity.Tried`.
    """

    method: str
    data: str
    protocol: str
    network: str
    crop: int | None
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
    tried: bool = False

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


def show(plan: Planned) -> str:
    """What a terminal shows."""
    lines = [
        line
        for name, words in _facts(plan)
        for line in textwrap.wrap(words, 100, initial_indent=f"{name:<9}", subsequent_indent=" " * 9)
    ]
    table = text.table(HEAD, [_row(on, plan.batch) for on in plan.gpus], right="lrlrlrlrrrr")
    notes = [line for note in _notes(plan) for line in textwrap.wrap(note, 100, subsequent_indent="  ")]
    return "\n".join([f"{plan.method} on {plan.data} ({plan.protocol})", *lines, "", table, "", *notes])


def html(plan: Planned) -> str:
    """What a notebook shows."""
    facts = "".join(f"<tr><th style='text-align:left'>{n}</th><td style='text-align:left'>{escape(w)}</td></tr>"
                    for n, w in _facts(plan))  # fmt: skip
    head = "".join(f"<th>{name}</th>" for name in HEAD)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in _row(on, plan.batch)) + "</tr>" for on in plan.gpus
    )
    notes = "<br>".join(map(escape, _notes(plan)))
    title = f"<b>{escape(plan.method)}</b> on {escape(plan.data)} ({escape(plan.protocol)})"
    return f"<p>{title}</p><table>{facts}</table><table><tr>{head}</tr>{rows}</table><p><small>{notes}</small></p>"


def _notes(plan: Planned) -> list[str]:
    """What is under the table; of a card that was measured here how well its estimates meet."""
    known = [f"{on.gpu}: {on.measured}" for on in plan.gpus if on.measured]
    source = "not measured on any GPU" if not known else "by data sheets where nothing else is said"
    return [*(note.format(source) for note in NOTES), *known, *([TAKEN] if plan.tried else [])]


def _facts(plan: Planned) -> list[tuple[str, str]]:
    parts = plan.parts
    held = ", ".join(f"{name} {text.size(parts[name])}" for name in ("weights", "optimiser", "gradients", "views"))
    learn = f"{plan.trained / 1e6:.1f} M of {plan.parameters / 1e6:.1f} M parameters learn"
    length = f"; {plan.steps:,} steps" if plan.steps else ""
    what = f"images in all, crop {plan.crop}" if plan.crop else "sets of points in all"
    found = [
        ("network", f"{plan.network}; {learn}; {plan.optimiser}"),
        ("a step", f"{plan.batch} labelled, {plan.images} {what}: {plan.flops / 1e12:.3g} TFLOP{length}"),
        ("rate", _rate(plan.rates)),
        ("memory", f"{text.size(plan.memory)} at the peak ({plan.gpus[0].precision}): {held}, "
                   f"activations {text.size(parts['activations'])}"),
    ]  # fmt: skip
    if plan.host_seconds is not None:
        found += [
            ("host", f"{1000 * plan.host_seconds:.0f} ms of a core per image, measured here; `fit` would start "
                     f"{plan.workers} workers here. {_feeds(plan)}"),
        ]  # fmt: skip
    smallest = min((on.batch for on in plan.gpus if on.batch), default=plan.batch)
    words = norms.warning(plan.norms, smallest, plan.network)
    return [*found, *([("norms", f"WARNING: {words}")] if words else [])]


def _rate(rates: dict[str, Any]) -> str:
    """For which batch, and why it is not the published one."""
    words = f"{rates['lr']:g}, new layers {rates['head_lr']:g}, decay {rates['weight_decay']:g}"
    shares = per_process(rates["published"])
    words += f", for {rates['batch']} labelled images a step{f' ({shares})' if shares else ''}"
    return words + (f"; {rates['reason']}" if rates["reason"] else "")


def _feeds(plan: Planned) -> str:
    """Which of the GPUs a machine like this one keeps busy."""
    timed = [on for on in plan.gpus if on.cores is not None]
    fed = [on.gpu for on in timed if on.cores <= plan.workers]
    hungry = [on.gpu for on in timed if on.cores > plan.workers]
    words = [f"They feed {', '.join(fed)}."] if fed else []
    if hungry:
        words.append(f"{', '.join(hungry)} would wait for them: take --workers, and cores, as in the last column.")
    return " ".join(words)


def _row(on: OnGpu, wanted: int) -> tuple[str, ...]:
    run = f"{on.batch} x {on.accumulate}" if on.batch else "not even 1"
    return (
        on.gpu,
        f"{on.memory / 1e9:.0f} GB",
        on.precision,
        text.size(on.peak),
        "yes" if on.fits else "no",
        f"{on.largest_batch}{'+' if on.largest_batch == BEYOND * wanted else ''}",
        run,
        text.size(on.held),
        _seconds(on.step_seconds),
        _hours(on.hours),
        text.MISSING if on.cores is None else f"{on.cores:.1f}",
    )


def _seconds(value: float | None) -> str:
    if value is None:
        return text.MISSING
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.1f} s"


def _hours(value: float | None) -> str:
    if value is None:
        return text.MISSING
    return f"{value:.0f} h" if value >= 10 else f"{value:.1f} h" if value >= 1 else f"{60 * value:.0f} min"
