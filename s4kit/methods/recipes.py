"""The set-ups of the papers and of the kit, as data: `task` for load, `method` for create, `fit` for fit.

A method's own figures are in its class attribute `recipes`, under a data set ("voc"), a family of lists ("voc/classic",
"voc/blended", "voc/cps", "cityscapes/u2pl") or one list ("voc/classic/92"); the narrower one overrides. Besides the
three parts an entry may say

    evaluation  name of the protocol by which the paper scores, see `engine.protocols`
    selection   "best": the paper's numbers are of the best evaluation on val; "last": of the end of the training
    source      where the figures come from; by default the official code of the card, else the paper
    differs     sentences: what of the paper's set-up this one cannot say, or where its sources are unsure
    epochs      passes over the unlabelled list by share of labels, {"1_16": 32, ...}, where the paper varies them
    labelled_epochs  passes over the labelled list, where the paper counts these: steps follow with the list
    processes   number of GPUs, one process each, on which the release trains
    divided     what the release divides by `processes` before `backward`, although its gradients are averaged over
                them besides: "all" its losses, or the name of the `method` option that weighs the one term

An entry with a `fit` is complete: it stands for itself. Without one `COMMON` stands in, and `differs` says so. What is
shared and what the kit recommends for its own small data sets is here. Rates, weight decay and batch are as published,
batch sizes over all GPUs (`fit` takes them per process). What `recipe_for` gives is the effective set-up, the one that
trains the same where nothing is divided, on one process or on any number; `published` keeps the figures of the release.
A divided loss has 1/W of the gradient, which means, see `_undivided`:

    SGD                         lr / W and weight decay x W: the momentum holds gradients, the decay is part of them
    Adam                        weight decay x W: only the loss's share of the gradient shrinks, not its direction
    AdamW                       nothing: the step does not depend on the gradient's size, the decay not on the gradient
    any, gradients clipped      the largest norm x W
    one term                    its weight / W
"""

from __future__ import annotations

from inspect import signature
from typing import Any, ClassVar, NamedTuple, Protocol

from ..data.splitting import published
from ..errors import S4Error, closest

Recipe = dict[str, Any]


class Carded(Protocol):
    """What a recipe asks of a method's class: its own figures, who published it, and which of the `task` arguments make
    the data what it is for, such as single objects or a second domain."""

    card: Any
    recipes: ClassVar[dict[str, Recipe]]
    kind: ClassVar[tuple[str, ...]]


PARTS = ("task", "method", "fit")

# What every paper here does unless its entry says otherwise; momentum is 0.9.
USUAL = {"optimiser": "sgd", "weight_decay": 1e-4, "schedule": "poly"}

# DeepLabV3+ and SGD as in UniMatch, which most later papers took over. For VOC and Cityscapes those of its supervised
# baselines, whose batch is twice that of the semi-supervised runs (each GPU has four images, and OHEM keeps 200,000 of
# their pixels); twice the epochs give the same number of steps, so that neither is trained longer. COCO and ADE20K have
# no such baseline: there it is the batch and the length of the semi-supervised runs.
COMMON: dict[str, Recipe] = {
    "voc": {
        "task": {"crop": 321},
        "method": {"net": "resnet101c"},
        "fit": {"epochs": 160, "batch": 16, "lr": 1e-3, "head": 10.0},
        "evaluation": "voc",
    },
    "cityscapes": {
        "task": {"crop": 801},
        "method": {"net": "resnet101c", "supervised": "ohem(thresh=0.7, per_image=50000)"},
        "fit": {"epochs": 480, "batch": 16, "lr": 5e-3, "head": 1.0},
        "evaluation": "cityscapes",
    },
    "coco": {
        "task": {"crop": 513},
        "method": {"net": "resnet101c"},
        "fit": {"epochs": 30, "batch": 8, "lr": 4e-3, "head": 10.0},
        "evaluation": "coco",
    },
    "ade20k": {  # PrevMatch's length and rate
        "task": {"crop": 513},
        "method": {"net": "resnet101c"},
        "fit": {"epochs": 40, "batch": 8, "lr": 4e-3, "head": 10.0},
        "evaluation": "ade20k",
    },
}
STANDS_IN = "its sources give no set-up for {dataset}: the field's usual figures stand in"

# The network of short trainings with small batches. A batch norm takes its statistics from labelled, unlabelled and
# mixed views in turn, which are nobody's, and trainings on pseudo-labels collapse under them: here those of the
# backbone keep what ImageNet taught them, and the decoder has group norms.
STEADY = "efficientnet_lite0(freeze_bn=True, norm='group')"
# The light network on small images: AdamW, with a short warm-up for the new layers beside pretrained ones.
LIGHT_FIT = {"optimiser": "adamw", "lr": 6e-4, "head": 5.0, "weight_decay": 1e-3, "warmup": 50}
# A network of points begins with random weights: a higher rate for all of it.
POINTS_FIT = {"optimiser": "adamw", "lr": 6e-3, "head": 1.0, "weight_decay": 1e-3, "warmup": 20}
KIT: dict[str, Recipe] = {
    "scenes": {"task": {}, "method": {"net": STEADY}, "fit": {**LIGHT_FIT, "steps": 600, "batch": 4}},
    "clips": {"task": {}, "method": {"net": STEADY}, "fit": {**LIGHT_FIT, "steps": 600, "batch": 4}},
    "rooms": {"task": {}, "method": {}, "fit": {**POINTS_FIT, "steps": 600, "batch": 2, "lr": 3e-3}},
    "shapes": {"task": {}, "method": {}, "fit": {**POINTS_FIT, "steps": 600, "batch": 4}},
    "shapenetpart": {"task": {}, "method": {}, "fit": {**POINTS_FIT, "steps": 2400, "batch": 8}},
    "camvid": {
        # Six images, every class in two of them at least: with 23 as many steps leave nothing to be gained.
        "task": {"size": 0.5, "crop": 112, "labelled": 6, "cover": 2},
        "method": {},
        "fit": {**LIGHT_FIT, "steps": 1200, "batch": 4, "lr": 1.5e-3},  # of 6e-4, 1.5e-3 and 3e-3, by `supervised`
    },
    "folder": {"task": {}, "method": {}, "fit": {**LIGHT_FIT, "steps": 2400, "batch": 4}},
    "ucmerced": {"task": {}, "method": {}, "fit": {**LIGHT_FIT, "steps": 2400, "batch": 4}},
    "deepglobe": {"task": {"size": 256, "crop": 256}, "method": {}, "fit": {**LIGHT_FIT, "steps": 2400, "batch": 4}},
}


def is_light(method: type[Carded], dataset: str) -> bool:
    """Whether the kit's own figures for small data stand, since no paper has trained the method there."""
    return dataset in KIT and "lr" not in method.recipes.get(dataset, {}).get("fit", {})


class Place(NamedTuple):
    """Where a recipe is asked for: "voc/cps/1323" has family "cps", share "1_8", 1323 labelled.

    `family` and `share` are "" and `count` is None where no published list was named; classic lists have no share.
    """

    family: str = ""
    share: str = ""
    count: int | None = None


def read_split(dataset: str, split: Any) -> Place:
    """What the name of a published list says; an empty place for a share, a count, a file or nothing.

    Raises:
        S4Error: it is meant as such a name, and there is none.
    """
    if dataset in KIT or not published.is_name(split):
        return Place()
    found = published.get(split, dataset=dataset)
    return Place(found.family, found.fraction.replace("/", "_"), found.count)


def recipe_for(method: type[Carded], dataset: str, split: str | None = None) -> Recipe:
    """The set-up of a method for a data set, and for a published list where the paper varies it with the list.

    Args:
        method: the class.
        dataset: "voc", "cityscapes", "coco", "ade20k", or one of the kit's own.
        split: name of a published list, "classic/183", "cps/1323", "1_16"; anything else (a share, a file) is none.

    Returns:
        {"task": for `load(dataset, ...)`, "method": for `create(name, task, ...)`, "fit": for `fit(method, task,
        ...)`, "kind": those of "task" that it needs under any other protocol as well, see `Method.kind`, "evaluation":
        name of a protocol, or None for the data set's own, "selection": "best" or "last", "source": str, "differs":
        list of sentences, "published": {"lr", "weight_decay", "processes", "batch per process", "divided"} as the
        release has them, None where it does not say or nothing is published; `fit` and `method` are the effective ones,
        the same unless something is divided}.

    Raises:
        S4Error: nothing is known for this data set, or there is no such list.
    """
    own = method.recipes
    shared = COMMON | KIT
    if dataset not in shared and dataset not in own:
        raise S4Error(f"There is no recipe for {dataset!r}. {closest(dataset, sorted(shared.keys() | own.keys()))}")
    place = read_split(dataset, split)
    layers = [own[key] for key in _keys(dataset, place) if key in own]
    complete, light = "fit" in own.get(dataset, {}), is_light(method, dataset)
    if light:
        layers = [KIT[dataset], *layers]
    else:
        layers = [{"fit": USUAL}, *([] if complete else [_taken(COMMON[dataset], method)]), *layers]
    found: Recipe = {part: {k: v for layer in layers for k, v in layer.get(part, {}).items()} for part in PARTS}
    _set_length(found["fit"], layers, place)
    found["kind"] = {name: found["task"][name] for name in method.kind if name in found["task"]}
    found |= {"evaluation": _last(layers, "evaluation", None), "selection": _last(layers, "selection", "best")}
    found["source"] = _last(layers, "source", _source(method, dataset, complete, light))
    found["differs"] = [sentence for layer in layers for sentence in layer.get("differs", ())]
    if not light:
        if not complete and not any("source" in layer for layer in layers):
            found["differs"].insert(0, STANDS_IN.format(dataset=dataset))
        found["fit"]["reference_batch"] = found["fit"]["batch"]  # another batch scales the published rate
    processes, divided = (_last(layers, key, None) for key in ("processes", "divided"))
    found["published"] = {
        **{key: None if light else found["fit"][key] for key in ("lr", "weight_decay")},
        "processes": processes,
        "batch per process": processes and found["fit"]["batch"] // processes,
        "divided": divided,
    }
    if divided == "all":
        found["fit"] |= _undivided(found["fit"], processes)
    elif divided:
        found["published"][divided] = found["method"][divided]
        found["method"][divided] /= processes
    return found


def _taken(recipe: Recipe, method: type) -> Recipe:
    """A shared recipe with those options alone that the method has: one for points knows no criterion of images."""
    known = signature(method.__init__).parameters
    return {**recipe, "method": {name: value for name, value in recipe["method"].items() if name in known}}


def _undivided(fit: dict[str, Any], processes: int) -> dict[str, Any]:
    """What of `fit` changes so that whole losses train as those divided by `processes` do.

    SGD on g / W with decay d: v = m v + g / W + d p, p -= lr v. With V = W v this is V = m V + g + W d p, p -= lr/W V.
    Adam's step is that of the gradient's direction (but for its epsilon of 1e-8), AdamW's decay stands outside of it.
    """
    changed = {}
    if fit["optimiser"] == "sgd":
        changed["lr"] = fit["lr"] / processes
    if fit["optimiser"] != "adamw":
        changed["weight_decay"] = fit["weight_decay"] * processes
    if fit.get("clip"):
        changed["clip"] = fit["clip"] * processes
    return changed


def _keys(dataset: str, place: Place) -> list[str]:
    """Where an entry for this list may stand, from wide to narrow."""
    keys = [dataset]
    if place.family in ("cps", "u2pl") and dataset == "voc":
        keys.append("voc/blended")
    if place.family:
        keys.append(f"{dataset}/{place.family}")
    if place.count:
        keys.append(f"{keys[-1]}/{place.count}")
    return keys


def _set_length(fit: dict[str, Any], layers: list[Recipe], place: Place) -> None:
    """Keep one length, the narrowest: steps, or epochs, for this share of labels where the paper says so."""
    said = [next(k for k in ("steps", "epochs") if k in part) for part in (x.get("fit", {}) for x in layers)
            if part.keys() & {"steps", "epochs"}]  # fmt: skip
    by_share, labelled = _last(layers, "epochs", {}), _last(layers, "labelled_epochs", None)
    if said[-1] == "epochs" and place.share in by_share:
        fit["epochs"] = by_share[place.share]
    if labelled and place.count:
        fit["steps"], said = labelled * max(1, place.count // fit["batch"]), ["steps"]
    fit.pop("epochs" if said[-1] == "steps" else "steps", None)


def _last(layers: list[Recipe], key: str, default: Any) -> Any:
    return next((layer[key] for layer in reversed(layers) if key in layer), default)


def _source(method: type[Carded], dataset: str, complete: bool, light: bool) -> str:
    if light:
        return "the kit's own figures for its small data sets"
    if not complete and dataset == "ade20k":
        return "PrevMatch's length and rate (wooseok-shin/PrevMatch), UniMatch's batch"
    if not complete:
        return "UniMatch's supervised baseline (LiheYoung/UniMatch: configs, README)"
    card = method.card
    return f"official code, {card.code}" if card.code else f"paper ({card.venue} {card.year}), no official code"
