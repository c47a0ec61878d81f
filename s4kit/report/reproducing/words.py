"""What `reproduce` prints: set-up, reported numbers, plan, result; at most 92 columns."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .. import text
from ..planning.rates import per_process, reason
from .literature import entries, score_of, value_of
from .reported import Reported, network
from .reproduction import Reproduction, network_facts

if TYPE_CHECKING:
    from ..planning.planned import Planned

WIDTH = 92
LABEL = 14  # columns of the names on the left
MOST_ROWS = 4
SCHEDULES = {
    "poly": "poly 0.9",
    "poly_after": "poly 0.9 (set after the step)",
    "poly_to_hundredth": "poly 0.9 down to a hundredth",
    "linear": "linear to 0",
    "quarter_cosine": "quarter cosine",
    "tenths": "a tenth from half on, a hundredth from three quarters on",
    "constant": "constant",
}
SELECTIONS = {"best": "the evaluation that is best on val", "last": "the end of the training"}
OPTIMISERS = {"sgd": "SGD, momentum 0.9", "nesterov": "SGD, Nesterov's momentum 0.9", "adam": "Adam", "adamw": "AdamW"}


def block(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """A title over names and values, wrapped."""
    lines = [title]
    for name, value in rows:
        first, *more = wrap(value, WIDTH - LABEL - 2, break_on_hyphens=False) or [""]
        lines.append(f"  {name:<{LABEL}}{first}")
        lines += [" " * (LABEL + 2) + line for line in more]
    return "\n".join(lines) + "\n"


def head(asked: Reproduction) -> str:
    """What is reproduced."""
    from ...methods import get

    card = get(asked.method).card
    line = f"{asked.method} on {asked.data}, the list {asked.split}"
    paper = wrap(f"{card.title} ({card.authors}, {card.venue} {card.year})", WIDTH)
    return "\n".join([line, "═" * len(line), *paper]) + "\n"


# ---- the set-up ----


def _network(net: str) -> str:
    encoder, decoder, stride = network(net)
    facts = network_facts(net)
    if facts["decoder"] not in ("deeplabv3plus", "psp"):
        return f"{encoder}, {decoder}; its pretrained weights"
    said = [
        f"{encoder}{', deep stem' if facts['backbone'].endswith('c') else ''}, {decoder}",
        f"output stride {stride}",
    ]
    if "aspp_rates" in facts:
        said.append(f"ASPP {'/'.join(map(str, facts['aspp_rates']))}{' of CPS' if facts['aspp'] == 'cps' else ''}")
        said.append(f"{facts['low_channels']} low-level channels")
    grid = "/".join(map(str, facts["multi_grid"])) if facts["multi_grid"] else "none"
    said += [f"multi-grid {grid}", f"auxiliary head {'yes' if facts['aux'] else 'no'}"]
    said.append(f"align_corners {'yes' if facts['align_corners'] else 'no'}")
    usual = {"aspp_kernel": 1, "dropout": 0.0, "dropout_kind": "channel", "decoder_convs": 2, "freeze_bn": False}
    usual |= {"stem_width": 64, "bn_momentum": 0.1}
    said += [f"{k} {facts[k]}" for k, value in usual.items() if facts.get(k, value) != value]
    return "; ".join(said) + ("" if facts["backbone"] == "tiny" else "; ImageNet weights")


def setup(asked: Reproduction) -> str:
    """The training set-up."""
    recipe, fit = asked.recipe, asked.recipe["fit"]
    counts, task = asked.counts, recipe["task"]
    scale = task.get("scale", (0.5, 2.0))
    scales = f"{scale[0]:g} to {scale[1]:g}" if len(scale) == 2 else ", ".join(f"{s:g}" for s in scale)
    scales = "scale 1" if scale in ((1.0, 1.0), [1.0, 1.0]) else f"scales {scales}"
    scales += f" of a shorter side of {task['short']}" if "short" in task else ""
    half = f", images resized by {task['size']:g}" if "size" in task else ""
    kind = "nesterov" if fit.get("nesterov") else fit["optimiser"]
    rate = f"{fit['lr']:g} backbone, {fit['lr'] * fit['head']:g} the rest; {OPTIMISERS[kind]}, "
    warm = f", warm-up of {fit['warmup']:,} steps" if fit.get("warmup") else ""
    norms = "" if fit.get("decay_norms", True) else " (none on norms and biases)"
    passes = f", {asked.passes}" if asked.passes and not any("steps" in c for c in asked.changed) else ""
    shares, why = per_process(recipe["published"]), reason(recipe["published"])
    each, of_all = f"; {shares}" if shares else "", recipe["published"]["divided"] == "all"
    options = {k: v for k, v in recipe["method"].items() if k not in ("net", "supervised")}
    shown = ", ".join(f"{k}={_short(v)}" for k, v in options.items())
    rows = [
        ("network", _network(recipe["method"]["net"])),
        ("images", f"{counts['labelled']:,} labelled, {counts['unlabelled']:,} unlabelled, {counts['val']:,} val"),
        ("views", f"crop {task['crop']}, {scales}{half}"),
        ("batch", f"{fit['batch']} labelled{_streams(asked.method)} a step, over all GPUs{each}"),
        ("rate", f"{rate}decay {fit['weight_decay']:g}{norms}, {SCHEDULES[fit['schedule']]}{warm}"),
        *([("", f"· {why}")] if of_all and why else []),
        ("length", f"{asked.steps:,} steps{passes}"),
        ("loss", _loss(recipe["method"].get("supervised", "ce"))),
        *([("options", shown)] if shown else []),
        *([("", f"· {why}")] if why and not of_all else []),
        ("scored", f"{recipe['evaluation']}: {asked.protocol}; {asked.evaluations} times on the way"),
        ("reported is", SELECTIONS[recipe["selection"]]),
        ("source", recipe["source"]),
        *[("the list" if i == 0 else "", s) for i, s in enumerate(asked.notes)],
        *[("not as there" if i == 0 else "", f"· {s}") for i, s in enumerate(recipe["differs"])],
        *[("chosen" if i == 0 else "", f"· {s}") for i, s in enumerate(asked.chosen)],
        *[("changed" if i == 0 else "", f"· {s}") for i, s in enumerate(asked.changed)],
    ]
    title = "Set-up that stands in for the paper's" if recipe["stands_in"] else "Set-up of the paper"
    return block(title + (", changed" if asked.changed else ""), rows)


def _streams(method: str) -> str:
    """The unlabelled images beside each labelled one."""
    from ...methods import get

    plan = get(method).views
    return " and as many unlabelled" if any(s.source in ("unlabelled", "all") for s in plan.values()) else ""


def _short(value: Any) -> str:
    """A value for one line: long tables are counted, not shown."""
    if isinstance(value, tuple | list) and len(value) > 8:
        return f"({len(value)} values)"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _loss(spec: str) -> str:
    return "cross entropy" if spec == "ce" else f"{spec.replace('ohem', 'OHEM cross entropy ', 1)}"


# ---- reported numbers ----


def reported(asked: Reproduction) -> str:
    """The nearest reported numbers with sources; several training logs of one set-up stand together."""
    exact = [r for r in asked.rows if r.exact]
    near = [r for r in asked.rows if not r.exact]
    shown = _grouped(exact)[:MOST_ROWS] + _grouped(near)[: 1 if exact else MOST_ROWS]
    lines = [(f"{_range(group)}", _about(group)) for group in shown]
    if not lines:
        lines = [("—", "The kit has no number of this method with this many labels on this data set.")]
    elif not exact:
        lines.insert(0, ("", "None with this list, network and crop. The nearest ones:"))
    score = score_of(asked.rows[0].row) if asked.rows else "mIoU"
    return block(f"Reported val {score} (%)", lines)


def _grouped(rows: Sequence[Reported]) -> list[list[Reported]]:
    """Rows of one set-up, kind and repository together, in the order of their first ones."""
    groups: dict[tuple[str, str, str], list[Reported]] = {}
    for row in rows:
        groups.setdefault((row.words, row.kind, _repository(row)), []).append(row)
    return list(groups.values())


def _repository(row: Reported) -> str:
    return "/".join(row.row["source"].split(" ")[0].split("/")[:2])


def _range(group: Sequence[Reported]) -> str:
    numbers = [f"{value_of(row.row):.1f}" for row in group]
    return numbers[0] if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"


def _about(group: Sequence[Reported]) -> str:
    """How near, of what kind, where from, and what is left without choosing on val."""
    first = group[0]
    lasts = [f"{row.row['last']:.1f}" for row in group if row.row.get("last") is not None]
    if len(group) > 1:
        best = ", ".join(f"{value_of(row.row):.1f}" for row in group)
        kind = first.kind.replace("training log", "training logs").replace("table", "tables")
        source = f"{kind}, {len(group)} of {_repository(first)}: {best}"
    else:
        note = f" ({first.row['note']})" if first.row.get("note") else ""
        source = f"{first.kind}, {first.row['source']}{note}"
    return f"{first.words}; {source}" + (f"; at the end {', '.join(lasts)}" if lasts else "")


# ---- the plan ----


def planned(asked: Reproduction, planned: Planned) -> str:
    """Memory, the batch that fits and the time, by GPU; what accumulation changes."""
    whole = asked.recipe["fit"]["batch"]
    batch = (
        f"the batch of {whole}" if planned.batch == whole else f"its share of the batch, {planned.batch} of {whole},"
    )
    rows = [(on.gpu, _on(on, batch)) for on in planned.gpus]
    frozen = planned.parameters - planned.trained
    copies = f", {frozen / 1e6:.1f} M of them copies or frozen" if frozen else ""
    networks = f"{planned.parameters / 1e6:.1f} M parameters{copies}; {planned.flops / 1e12:.1f} TFLOP a step"
    if any(on.accumulate and on.accumulate > 1 for on in planned.gpus):
        rows.append(("accumulation", KEEPS))
    return block("Plan (memory by PyTorch's account of a step; times are estimates)", [("networks", networks), *rows])


KEEPS = (
    "The step sees as many images as the paper's, so the learning rate stays. Batch norms, and whatever a method takes "
    "over a batch (percentiles, means, partners), see one micro-batch at a time."
)


def _on(on: Any, batch: str) -> str:
    words = f"{text.size(on.memory)}, {on.precision}: {batch} takes {text.size(on.peak)}"
    if on.fits:
        words += " and fits"
    elif on.accumulate is None:
        return words + "; not even one labelled image at a time fits"
    else:
        words += f"; at most {on.largest_batch} fit at once, so {on.accumulate} micro-batches of {on.batch}"
        words += f" ({text.size(on.held)})"
    if on.hours is None:
        return words
    return words + f"; {on.step_seconds:.2g} s a step, about {text.duration(3600 * on.hours)}, scoring not counted"


def accumulated(whole: int, batch: int, parts: int, world: int) -> str:
    """What accumulation keeps and what it changes."""
    at_once = batch * world
    each = f"{parts} micro-batches of {batch}" + (f" on each of {world} processes" if world > 1 else "")
    words = (
        f"The batch of {whole} comes as {each}: a step sees as many images, so the learning rate stays. Batch norms, "
        f"and whatever a method takes over a batch (percentiles, means, partners), see {at_once} at a time."
    )
    return "\n".join(wrap(words, WIDTH))


# ---- the result ----


def result(asked: Reproduction, found: dict[str, Any]) -> str:
    """Reported beside obtained, best and last, and which of them is comparable."""
    got, selection = found["obtained"], found["selection"]
    reported = {"best": found["reported_best"], "last": found["reported_last"]}
    if selection == "last":
        reported = {"best": None, "last": found["reported_best"]}
    rows = []
    for which, label in (("best", "best on val"), ("last", "at the end")):
        gap = None if reported[which] is None else got[which] - reported[which]
        mark = "← the paper's kind of number" if which == selection else ""
        rows.append((label, _plain(reported[which]), _plain(got[which]), "—" if gap is None else f"{gap:+.1f}", mark))
    table = text.table((f"val {found['score']} (%)", "reported", "obtained", "difference", ""), rows, "lrrrl")
    return "\n".join([table, "", *wrap(_verdict(asked, found), WIDTH), f"run: {found['run']}"])


def _plain(value: float | None) -> str:
    return text.MISSING if value is None else f"{value:.1f}"


def _verdict(asked: Reproduction, found: dict[str, Any]) -> str:
    got = found["obtained"]
    if found["selection"] == "best":
        which = "The paper reports the evaluation that is best on val, so the best compares; it is optimistic."
    else:
        which = "The paper reports the end of the training, so that compares."
    middle, most = gaps()
    usual = f"in the logs of papers the median is {middle:.1f}, the most {most:.1f}"
    spread = f"Best and last are {got['best'] - got['last']:.1f} points apart here; {usual}."
    if asked.changed:
        return f"Not comparable with the reported number: {'; '.join(asked.changed)}. {which} {spread}"
    if not found["comparable"]:
        near = asked.rows[0].words.removeprefix("but ") if asked.rows else "there is none"
        return f"The reported number is not for this set-up: {near}. {which} {spread}"
    return f"{which} {spread}"


def gaps() -> tuple[float, float]:
    """(median, largest) of best minus last over the training logs of the literature, in points of mIoU."""
    logs = [row for row in entries() if row.get("last") is not None and score_of(row) == "mIoU"]
    found = [value_of(row) - row["last"] for row in logs]
    return median(found), max(found)
