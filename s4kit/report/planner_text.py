"""The planner's answer as text of at most 100 columns, and as HTML."""

from __future__ import annotations

import textwrap
from html import escape
from typing import TYPE_CHECKING, Any

from . import norms, text
from .capacity import BEYOND
from .rates import per_process

if TYPE_CHECKING:
    from .planned import OnGpu, Planned

HEAD = ("GPU", "memory", "type", "needs", "fits", "largest", "run as", "then", "a step", "training", "cores")
NOTES = (
    "needs: predicted peak with the wanted batch. run as: micro-batch x accumulate; then: its peak.",
    "Batch norm sees the micro-batch alone: accumulating is not quite the paper's larger batch.",
    "a step, training: estimates by a roofline, {}; evaluations are not counted.",
    "cores: of a machine like this one, to read and crop as fast as the GPU trains.",
)


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
    return [*(note.format(source) for note in NOTES), *known]


def _facts(plan: Planned) -> list[tuple[str, str]]:
    parts = plan.parts
    held = ", ".join(f"{name} {text.size(parts[name])}" for name in ("weights", "optimiser", "gradients", "views"))
    learn = f"{plan.trained / 1e6:.1f} M of {plan.parameters / 1e6:.1f} M parameters learn"
    length = f"; {plan.steps:,} steps" if plan.steps else ""
    found = [
        ("network", f"{plan.network}; {learn}; {plan.optimiser}"),
        ("a step", f"{plan.batch} labelled, {plan.images} images in all, crop {plan.crop}: "
                   f"{plan.flops / 1e12:.3g} TFLOP{length}"),
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
