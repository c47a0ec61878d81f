"""Before a GPU hour is spent: what a training needs, on which GPU it fits, how long it may take.

    plan("unimatch", "cityscapes", split="1_8", gpu="T4,A100")

Nothing is computed, and of a data set that `data.outline` knows no file need be there. The memory is PyTorch's own
account of a full-size step (`rehearsal`).
Where a step depends on what it finds in the images (`Method.syncs`), small ones are taken here (`capacity.Tried`).
The time is an estimate by a roofline, kernel by kernel: the larger of

    operations / (0.5 x peak),    bytes moved / (0.75 x bandwidth),    6 microseconds

and no measurement of this kit on a GPU: take it for the order of magnitude. Once `s4kit verify` has measured a card on
this machine, that card is planned for by its own speeds, and the plan says so. The same sum for training ResNet-50 (224
px, 256 images) says, in images/s, 1202 for a V100 in mixed precision and 254 in float32, where NVIDIA reported 893 and
380 (DeepLearningExamples, resnet50v1.5, container 19.10), and 2356 for an A100 with 40 GB, 2817 with 80 GB, where a
user of timm reported 2600 (pytorch-image-models, issue 1491: AMP, channels_last).
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Sequence
from typing import Any

import torch

from ...data import dataset, load
from ...data.outline import OUTLINES, known, outline
from ...data.task import Task
from ...engine.device import pick_workers
from ...engine.settings import Settings, pass_steps, steps_in
from ...errors import S4Error
from ...methods import create, get
from ...methods.base import Method
from ...methods.lengths import passes
from ...methods.recipes import read_split, recipe_for
from ...methods.trained import is_run
from ...nets import live_norms, parse
from ..setup import without_weights
from .capacity import Scene, Tried
from .feeding import seconds_per_image
from .gpus import GPU, gpus
from .planned import OnGpu, Planned
from .rates import rates
from .rehearsal import stand_in

CONTEXT = 0.6e9  # bytes of a GPU that CUDA and its libraries take
SLACK = GPU.slack  # of what is predicted: workspaces of cuDNN, gaps between allocations


def plan(
    method: str | Method,
    task: str | Task,
    gpu: str | Sequence[str] = "T4",
    split: str | None = None,
    batch: int | None = None,
    crop: int | None = None,
    precision: str = "auto",
    options: dict[str, Any] | None = None,
    fit: dict[str, Any] | None = None,
    host: bool = True,
) -> Planned:
    """Memory, operations, time, and the batch that fits, of a training that need not be possible here.

    Args:
        method: a name, which is planned as its recipe for the data set says; or a built method, as it is.
        task: a `Task`, or the name of a data set that is planned for without its files ("voc", "cityscapes", ...).
        gpu: names, see `gpus.gpus`: "T4", "T4,L4,A100", "24GB", "auto".
        split: name of a published list ("classic/183", "1_8"), which says how many images are labelled.
        batch: labelled images a step; by default the recipe's. crop: side of the crop.
        precision: "auto" is bf16 where the GPU has it, else fp16, and float32 where steps are taken, since a CPU may be
            very slow in the others; or "float32", "fp16", "bf16".
        options: of the method, over the recipe's, such as {"net": "resnet50c"}.
        fit: settings over the recipe's: optimiser, steps, epochs, unlabelled_batch, ...
        host: also measure what it takes here to decode and crop an image.

    Raises:
        S4Error: unknown names, or no recipe for the data set.
    """
    found = gpus(gpu if isinstance(gpu, str) else list(gpu))
    kind = get(method) if isinstance(method, str) else type(method)
    recipe = _recipe(kind, task if isinstance(task, str) else task.name, split, named=isinstance(method, str))
    task = _task(task, split, recipe["task"], crop)
    settings = _settings(recipe["fit"] | (fit or {}), batch, task)
    if isinstance(method, str):
        built, network = _build(kind, method, task, recipe["method"] | (options or {}))
    else:
        built, network = method, "as built"
    scene, wanted = _scene(built, task, settings), settings.batch
    precision = "float32" if scene.real and precision == "auto" else precision
    feed = seconds_per_image(task, scene.views) if host else None
    rows = tuple(_on(gpu, scene, precision, feed) for gpu in found)
    first = scene.cost(wanted, rows[0].precision != "float32")
    return Planned(
        method=getattr(built, "name", kind.__name__),
        data=task.name,
        protocol=task.protocol,
        network=network,
        crop=task.crop,
        batch=wanted,
        images=scene.images(wanted),
        optimiser=settings.optimiser,
        steps=settings.steps or None,
        rates=rates(recipe | {"fit": vars(settings) | {"batch": recipe["fit"].get("batch", settings.batch)}}),
        parameters=sum(p.numel() for p in built.parameters()),
        trained=sum(p.numel() for p in built.parameters() if p.requires_grad),
        norms=len(live_norms(built)),
        flops=first.work,
        memory=first.memory,
        parts=first.parts | {"activations": max(0, first.memory - sum(first.parts.values()))},
        host_seconds=feed,
        workers=pick_workers("auto", torch.device("cuda")),
        gpus=rows,
        tried=scene.real,
    )


def demand(method: str, task: Task, options: dict[str, Any], fit: dict[str, Any]) -> float:
    """Bytes of a GPU that a training takes with its whole batch at once, and CUDA with it.

    Args:
        options, fit: of a settled plan, see `setup.settle`.
    """
    settings = Settings(**fit)
    built, _ = _build(get(method), method, task, options)
    scene = _scene(built, task, settings)
    cost = scene.cost(settings.batch, settings.precision != "float32" and not scene.real)
    return cost.memory * (1 + SLACK) + CONTEXT


def _scene(built: Method, task: Task, settings: Settings) -> Scene:
    if not built.syncs:
        return Scene(stand_in(built), task, settings)
    name = getattr(built, "name", type(built).__name__)
    print(f"{name}: a step depends on what it finds in the images; small ones are taken here", file=sys.stderr)
    return Tried(copy.deepcopy(built), task, settings)


def _recipe(kind: type[Method], data: str, split: str | None, named: bool) -> dict[str, Any]:
    """The recipe, or the kit's usual settings where a built method is planned for data that has none."""
    try:
        return recipe_for(kind, data, split)
    except S4Error:
        if named:
            raise
        return {"task": {}, "method": {}, "fit": {}}


def _task(task: str | Task, split: str | None, asked: dict[str, Any], crop: int | None) -> Task:
    """The stand-in for a name, or the task at the wanted crop."""
    if isinstance(task, Task):
        return task.with_(crop=crop) if crop else task
    asked = asked | ({"crop": crop} if crop else {})
    if not split:
        return outline(task, **asked) if task in OUTLINES or dataset(task).marker else load(task, **asked)
    count = read_split(task, split).count
    if count is None:
        raise S4Error(f"No published list of {task} is called {split!r}: `s4.splits.table()` has their names.")
    train = 1464 if split.endswith("_pseudoseg") else known(task).train
    words = f"{split.removeprefix(task + '/')}: {count} of {train:,} labelled; planned without its files"
    return outline(task, **(asked | {"labelled": count, "train": train, "protocol": words}))


def _settings(given: dict[str, Any], batch: int | None, task: Task) -> Settings:
    """What `fit` would be told, with epochs as steps."""
    given = {k: v for k, v in given.items() if k != "reference_batch"} | ({"batch": batch} if batch else {})
    epochs, before, steps = (given.pop(name, None) for name in ("epochs", "before", "steps"))
    if given.get("batch", 1) < 1:
        raise S4Error(f"batch must be at least 1, not {given['batch']}.")
    settings = Settings(steps=steps or 0, **given)
    if epochs and not steps:
        settings.steps = steps_in(epochs, passes(before or 0), pass_steps(task, settings))
    return settings


def _build(kind: type[Method], name: str, task: Task, options: dict[str, Any]) -> tuple[Method, str]:
    """The method with networks that load no weights, and the spec of the one that is `net`."""
    known = inspect.signature(kind.of(task).__init__).parameters
    specs = {option: options.get(option, known[option].default) for option in kind.specs}
    named = {option: spec for option, spec in specs.items() if isinstance(spec, str) and not is_run(spec)}
    bare = {option: without_weights(spec) for option, spec in named.items()}
    if "net" not in bare:
        return create(name, task, **options | bare), getattr(specs["net"], "__name__", "own")
    base, own = parse(specs["net"])
    shown = specs["net"] if "weights" not in own else base
    try:
        return create(name, task, **options | bare), shown
    except S4Error:  # a network without weights to leave out
        return create(name, task, **options | named), shown


def _precision(gpu: GPU, asked: str) -> str:
    if asked not in ("auto", "float32", "bf16", "fp16"):
        raise S4Error(f"precision is 'auto', 'float32', 'bf16' or 'fp16', not {asked!r}.")
    return asked if asked != "auto" else "bf16" if gpu.bf16 else "fp16"


def _on(gpu: GPU, scene: Scene, precision: str, feed: float | None) -> OnGpu:
    """One row of the table."""
    chosen, wanted = _precision(gpu, precision), scene.settings.batch
    half, room = chosen != "float32", (gpu.memory - CONTEXT) / (1 + gpu.slack)
    largest = scene.largest(room, half)
    held = scene.split(largest, room, half)
    micro, count, bytes_held = held or (None, None, None)
    seconds = scene.seconds(gpu, count, half) if count and gpu.timed else None
    steps, images = scene.settings.steps, scene.images(wanted)
    peak = scene.cost(wanted, half).memory
    return OnGpu(
        gpu=gpu.name,
        memory=gpu.memory,
        precision=chosen,
        peak=peak,
        fits=peak <= room,
        largest_batch=largest,
        batch=micro,
        accumulate=count,
        held=bytes_held,
        step_seconds=seconds,
        hours=seconds * steps / 3600 if seconds and steps else None,
        images_per_second=images / seconds if seconds else None,
        cores=feed * images / seconds if seconds and feed is not None else None,
        measured=gpu.measured,
    )
