"""The training of a reproduction, and its best and last beside the reported number."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import S4Error
from .. import setup
from . import words
from .literature import score_of, value_of
from .reproduction import Reproduction

if TYPE_CHECKING:
    from ..planning.planned import Planned


def micro_batches(batch: int, accumulate: int, world: int = 1) -> tuple[int, int]:
    """(images, micro-batches) of a process, at least `accumulate` of them, so that a step has `batch` images in all.

    Raises:
        S4Error: the processes cannot share the batch.
    """
    if batch % world:
        raise S4Error(f"{world} processes cannot share the paper's batch of {batch} evenly; use a divisor of {batch}.")
    mine = batch // world
    parts = next((k for k in range(max(1, accumulate), mine + 1) if mine % k == 0), mine)
    return mine // parts, parts


def train(
    asked: Reproduction,
    planned: Planned,
    root: str | None,
    out: str | Path | None,
    accumulate: int | None,
    fit: dict[str, Any],
) -> Any:
    """Train by the set-up; the effective batch and with it the learning rate stay the paper's. Returns the `Run`."""
    from ...engine import distributed
    from ...engine.device import pick_device
    from ...methods import get

    recipe = asked.recipe
    world = int(os.environ.get("WORLD_SIZE", 1))
    wanted = accumulate or (wanted_parts(planned) if on_gpu(fit) else 1)
    batch, parts = micro_batches(recipe["fit"]["batch"], wanted, world)
    settings = recipe["fit"] | {"batch": batch, "accumulate": parts, "steps": asked.steps}
    if asked.changed and "warmup" in settings:
        settings["warmup"] = min(settings["warmup"], asked.steps // 10)  # a short trial would spend itself on it
    settings |= {"evaluate_every": max(1, asked.steps // asked.evaluations)} | fit
    task = {"name": asked.data, **recipe["task"], "labelled": asked.split} | ({"root": root} if root else {})
    specs = [name for name in get(asked.method).specs if name in recipe["method"]]
    options = recipe["method"] | {name: _with_weights(recipe["method"][name]) for name in specs}
    made = setup.Setup(asked.method, task, options, settings)
    seed = fit.get("seed", 0)
    folder = Path(out or Path("runs") / f"reproduce-{asked.method}-{asked.split.replace('/', '-')}-seed{seed}")
    if parts > 1:
        print(words.accumulated(recipe["fit"]["batch"], batch, parts, world))
    print(f"Run: {folder}", flush=True)
    distributed.join_world(pick_device(fit.get("device", "auto")))
    goes_on = distributed.same(continues(made, seed, folder))
    return setup.train(made, folder, goes_on, evaluation=asked.protocol.evaluation)


def wanted_parts(planned: Planned) -> int:
    """Micro-batches of the plan's first GPU.

    Raises:
        S4Error: not even one image at a time fits.
    """
    first = planned.gpus[0]
    if first.accumulate is None:
        raise S4Error(f"{first.gpu} has too little memory for this training, even with one labelled image at a time.")
    return first.accumulate


def continues(chosen: setup.Setup, seed: int, folder: Path) -> bool:
    """Whether `folder` holds a run of this set-up, which then goes on.

    Raises:
        S4Error: it holds another one.
    """
    from ...data import load
    from ..comparing.compare import difference

    if not (folder / "config.json").is_file():
        return False
    task = load(**chosen.task)
    other = difference(setup.settle(chosen, task), seed, folder, task)
    if other:
        raise S4Error(f"{folder} holds a run with another set-up ({other}). Give another --out, or delete it.")
    print(f"{folder} holds a run of this set-up: it goes on where it ended.")
    return True


def on_gpu(fit: dict[str, Any]) -> bool:
    """Whether the training runs on a GPU."""
    from ...engine.device import pick_device

    return pick_device(fit.get("device", "auto")).type == "cuda"


def _with_weights(net: str) -> str:
    """The network with ImageNet weights, as the papers start; a network that has none, or names others, as it is."""
    from ...nets import parse

    name, options = parse(net)
    bare = name in ("tiny", "dinov2_tiny", "mit_tiny", "tiny_vit_micro", "deit_micro")
    return net if bare or "weights" in options else setup.with_weights(net)


def outcome(asked: Reproduction, run: Any) -> dict[str, Any]:
    """Best and last of a run beside the nearest reported number of the same score; in percent."""
    best, last = run.best, run.last
    nearest = next((of for of in asked.rows if score_of(of.row) == run.score), None)
    row, number = (nearest.row, value_of(nearest.row)) if nearest else ({}, None)
    gained = {"best": 100 * best[run.column], "best_step": best["step"], "last": 100 * last[run.column]}
    selection = asked.recipe["selection"]
    same = nearest is not None and nearest.exact and not asked.changed
    return {
        "run": str(run.path),
        "score": run.score,
        "obtained": gained,
        "selection": selection,
        "reported_best": number,
        "reported_last": row.get("last"),
        "difference": None if number is None else gained[selection] - number,
        "comparable": same,
    }
