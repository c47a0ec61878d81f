"""`reproduce`: a line of a paper's table again, by its set-up, on its list, scored by its protocol."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import S4Error
from ..text import finite
from . import words
from .reported import reported
from .reproduction import Reproduction
from .train import outcome, train

if TYPE_CHECKING:
    from ..planning.planned import Planned

RESULT = "reproduce.json"
MOST_EVALUATIONS = 80  # on the way, one an epoch in most papers
FIXED_EVALUATIONS = 40  # of a training whose length is a number of steps
TRIAL_EVALUATIONS = 4


def prepare(
    method: str,
    data: str,
    split: str | None,
    backbone: str | None = None,
    crop: int | None = None,
    steps: int | None = None,
    batch: int | None = None,
) -> Reproduction:
    """The set-up of a paper for a published list, with what the user changes. Needs neither data nor network.

    Raises:
        S4Error: no such method, data set or list, or no set-up of a paper for this data set.
    """
    from ...data import outline as outlines
    from ...data.splitting import published
    from ...engine.settings import steps_in
    from ...methods import get, lengths, recipe
    from ...methods.recipes import COMMON, STANDS_IN

    get(method)
    if data not in COMMON:
        raise S4Error(f"No paper's table is on {data!r}: reproduce takes {', '.join(COMMON)}.")
    if not split:
        raise S4Error(f"Say which list of labelled images: --split NAME, one of {', '.join(published.names(data))}.")
    entry = published.get(split, dataset=data)
    known = recipe(method, data, entry.name)
    known["published_crop"] = known["task"]["crop"]
    known["stands_in"] = STANDS_IN.format(dataset=data) in known["differs"]
    counts = {"labelled": entry.count, "unlabelled": entry.unlabelled_count, "val": outlines.known(data).val}
    length, ours = known["fit"].pop("epochs", None), get(method).recipes.get(data, {}).get("labelled_epochs")
    before = lengths.passes(known["fit"].pop("before", 0))
    passes = f"{length:g} passes over the unlabelled images" if length else ""
    passes += f" and {before.count:g} over the {before.over} ones before" if length and before else ""
    passes = f"{ours:g} passes over the labelled images" if ours else passes
    each = {name: math.ceil(counts[name] / known["fit"]["batch"]) for name in ("labelled", "unlabelled")}
    whole = known["fit"].pop("steps", None) or steps_in(length, before, each)
    chosen = _change(known, "method", "net", backbone and _with_options(backbone, known["method"]["net"]))
    chosen += _change(known, "task", "crop", crop)
    changed = [f"{change}, the learning rate in proportion" for change in _change(known, "fit", "batch", batch)]
    if steps and steps != whole:
        changed.append(f"{steps} steps instead of {whole:,}")
    often = min(MOST_EVALUATIONS, round(length or ours or FIXED_EVALUATIONS))
    if steps and steps < whole:
        often = min(often, TRIAL_EVALUATIONS, steps)
    rows = reported(method, data, entry.name, known["method"]["net"], known["task"]["crop"])
    if not rows or rows[0].other or rows[0].unsaid:
        changed, chosen = chosen + changed, []
    return Reproduction(
        method, data, entry.name, known, counts, steps or whole, passes, often, rows, changed, chosen, [entry.note]
    )


def _with_options(backbone: str, net: str) -> str:
    """A ResNet named without options has those of the recipe's."""
    from ...nets import parse

    bare = backbone.isidentifier() and backbone.startswith("resnet") and parse(net)[0].startswith("resnet")
    return net.replace(parse(net)[0], backbone, 1) if bare else backbone


def _change(recipe: dict[str, Any], part: str, key: str, wish: Any) -> list[str]:
    """Put a wish of the user's into a recipe; what it changes, in words."""
    before = recipe[part][key]
    if not wish or wish == before:
        return []
    recipe[part][key] = wish
    return [f"{'network' if key == 'net' else key} {wish} instead of {before}"]


def reproduce(
    method: str,
    data: str,
    split: str | None,
    dry_run: bool = False,
    gpu: str | None = None,
    root: str | None = None,
    out: str | Path | None = None,
    backbone: str | None = None,
    crop: int | None = None,
    steps: int | None = None,
    batch: int | None = None,
    accumulate: int | None = None,
    fit: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Print a paper's set-up, its reported numbers and the plan; train, score by the paper's protocol, compare.

    Args:
        method, data, split: what, as in `prepare`.
        dry_run: stop before the training; needs neither data, nor a GPU, nor a network.
        gpu: plan for this one; by default the one at hand, without one a T4.
        root: where the data set lies.
        out: folder of the run; a run with this set-up that is there is continued.
        backbone, crop, steps, batch: instead of the paper's; the result is then not comparable, and that is said.
        accumulate: micro-batches per step; by default what the plan needs to keep the paper's batch.
        fit: further settings: device, workers, precision, seed, checkpoint_every.

    Returns:
        The set-up, the reported rows, the plan, and, but for a dry run, what was obtained; scores in percent.

    Raises:
        S4Error: as `prepare`, or what the training raises.
    """
    asked = prepare(method, data, split, backbone, crop, steps, batch)
    print(words.head(asked))
    print(words.setup(asked))
    print(words.reported(asked))
    planned = plan_of(asked, gpu, (fit or {}).get("precision", "auto"))
    print(words.planned(asked, planned))
    found = asked.to_dict() | {"plan": planned.to_dict(), "dry_run": dry_run}
    if dry_run:
        return found
    run = train(asked, planned, root, out, accumulate, dict(fit or {}))
    if run.interrupted:
        print("Stopped. The same command continues it.")
        return found | {"run": str(run.path), "interrupted": True}
    result = outcome(asked, run)
    print(words.result(asked, result))
    _keep(run.path, found | result)
    return found | result


def _keep(folder: Path, found: dict[str, Any]) -> None:
    """Write everything beside the run's files; of several processes the first one does."""
    from ...engine import checkpoint, distributed

    if distributed.rank() == 0:
        text = json.dumps(finite(found), indent=2, default=str)
        checkpoint.write_atomic(folder / RESULT, lambda file: file.write(text.encode()))


def plan_of(asked: Reproduction, gpu: str | None = None, precision: str = "auto") -> Planned:
    """What the training takes on a GPU, or on several with commas; by default the one at hand, without one a T4."""
    import torch

    from ..planning.planner import plan

    recipe, world = asked.recipe, int(os.environ.get("WORLD_SIZE", 1))
    return plan(
        asked.method,
        asked.data,
        gpu=gpu or ("auto" if torch.cuda.is_available() else "T4"),
        split=asked.split,
        batch=max(1, recipe["fit"]["batch"] // world),
        crop=recipe["task"]["crop"],
        precision=precision,
        options={"net": recipe["method"]["net"]},
        fit={"steps": asked.steps},
        host=False,
    )
