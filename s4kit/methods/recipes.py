"""The set-ups of the papers and of the kit, as data: `task` for load, `method` for create, `fit` for fit.

A method's own figures are in its class attribute `recipes`; what the field shares, and what the kit recommends for its
own small data sets, is here. Batch sizes are over all GPUs, as published; `fit` takes them per process.
"""

from __future__ import annotations

from typing import Any

from ..errors import S4Error, closest
from .base import Method

Recipe = dict[str, dict[str, Any]]

# DeepLabV3+ and SGD as in UniMatch's supervised baselines, which most later papers took over. Their batch is twice that
# of the semi-supervised runs; twice the epochs give the same number of steps, so that neither is trained longer.
PAPER: dict[str, Recipe] = {
    "voc": {
        "task": {"crop": 321},
        "method": {"net": "resnet101c"},
        "fit": {"epochs": 160, "batch": 16, "optimiser": "sgd", "lr": 1e-3, "head": 10.0, "weight_decay": 1e-4},
    },
    "cityscapes": {
        "task": {"crop": 801},
        "method": {"net": "resnet101c", "supervised": "ohem(thresh=0.7, per_image=100000)"},
        "fit": {"epochs": 480, "batch": 16, "optimiser": "sgd", "lr": 5e-3, "head": 1.0, "weight_decay": 1e-4},
    },
    "coco": {
        "task": {"crop": 513},
        "method": {"net": "resnet101c"},
        "fit": {"epochs": 30, "batch": 8, "optimiser": "sgd", "lr": 4e-3, "head": 10.0, "weight_decay": 1e-4},
    },
}

# The light network on small images: AdamW, with a short warm-up for the new layers beside pretrained ones.
LIGHT_FIT = {"optimiser": "adamw", "lr": 6e-4, "head": 5.0, "weight_decay": 1e-3, "warmup": 50}
KIT: dict[str, Recipe] = {
    "scenes": {"task": {}, "method": {}, "fit": {**LIGHT_FIT, "steps": 600, "batch": 8}},
    "camvid": {"task": {"size": 0.5}, "method": {}, "fit": {**LIGHT_FIT, "steps": 2400, "batch": 4}},
    "folder": {"task": {}, "method": {}, "fit": {**LIGHT_FIT, "steps": 2400, "batch": 4}},
}


def recipe_for(method: type[Method], dataset: str) -> Recipe:
    """The set-up of a method for a data set: the shared figures, overridden by the method's own.

    Returns:
        {"task": for `load(dataset, ...)`, "method": for `create(name, task, ...)`, "fit": for `fit(method, task,
        ...)`}.

    Raises:
        S4Error: nothing is known for this data set.
    """
    shared = PAPER | KIT
    own = getattr(method, "recipes", {})
    if dataset not in shared and dataset not in own:
        raise S4Error(f"There is no recipe for {dataset!r}. {closest(dataset, sorted(shared.keys() | own.keys()))}")
    sources = (shared.get(dataset, {}), own.get(dataset, {}))
    merged = {part: {k: v for s in sources for k, v in s.get(part, {}).items()} for part in ("task", "method", "fit")}
    if "steps" in own.get(dataset, {}).get("fit", {}):
        merged["fit"].pop("epochs", None)  # one length, the method's
    if dataset not in KIT:
        merged["fit"]["reference_batch"] = merged["fit"]["batch"]  # another batch scales the published rate
    return merged
