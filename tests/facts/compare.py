"""What a release's configuration says against the kit's recipe, field by field, and whether a sentence names it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from s4kit import methods, nets
from s4kit.data.objects import MaskEvaluation
from s4kit.nets import DeepLabV3Plus

FACTS = json.loads((Path(__file__).parent / "recipes.json").read_text("utf-8"))
NETWORK = (
    "backbone", "stem", "output_stride", "multi_grid", "frozen_bn", "bn_momentum", "head", "aspp", "aspp_rates",
    "aspp_channels", "aspp_kernel", "low_channels", "decoder_convs", "align_corners", "dropout", "dropout_kind", "aux",
)  # fmt: skip
ENCODER = {"stem", "output_stride", "multi_grid", "frozen_bn", "bn_momentum", "aspp_rates"}
DECODER = {"aspp", "aspp_rates", "aspp_kernel", "aspp_channels", "low_channels", "decoder_convs", "align_corners"}
DECODER |= {"dropout", "dropout_kind", "aux"}
PROTOCOLS = {  # of releases whose protocol had no name in the kit when the facts were read
    "sliding 800 cut": "cityscapes/augseg",
    "sliding 769 cut": "cityscapes/imas",
    "resize to multiples of 8": "voc/psmt",
    "resize to a shorter side of 512": "voc/guidedmix",
    "cityscapes/whole at full size": "cityscapes/whole",
}
SCHEDULES = {"poly down to 1e-4": "poly_to_hundredth", "poly 1.0": "linear"}  # the first of a rate of 0.01
SHORTER = 375  # side of a VOC image, of which the facts' factors are unless they name another ("short")
ANOTHER = re.compile(r"^the network is (DeepLabV2|SwiftNet) there")  # then its details need no sentence of their own


class Difference(NamedTuple):
    """One field in which a recipe does not do what the release does."""

    field: str
    official: Any
    kit: Any

    def named_by(self, sentence: str) -> bool:
        """Whether "<field>: <official> there, <kit> here" stands in the sentence, with every figure of both values."""
        if not re.search(rf"\b{re.escape(self.field)}:.* there\b.* here\b", sentence):
            return False
        there, _, here = sentence.split(f"{self.field}:", 1)[1].partition(" there")
        in_words = self.field in ("evaluation", "head")  # what the kit does has a name there, and a description here
        return _says(there, self.official) and (in_words or _says(here, self.kit))


def _says(text: str, value: Any) -> bool:
    """Whether the text holds the value: every figure of it, or its word."""
    wanted = value if isinstance(value, (list, tuple)) else [value]
    found = [float(figure.replace(",", "")) for figure in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?", text)]
    for item in wanted:
        if isinstance(item, bool) or item is None:
            if not re.search(
                {True: "yes|on all|True|a head|auxiliary", False: r"\bno\b|none|not|False"}[bool(item)], text
            ):
                return False
        elif isinstance(item, (int, float)):
            if not any(near(item, figure, 2e-3) for figure in found):
                return False
        elif not all(word in text.lower() for word in re.findall(r"[\w.+-]+", str(item).lower())):
            return False
    return True


def near(a: Any, b: Any, rel: float = 1e-6) -> bool:
    both = isinstance(a, (int, float)) and isinstance(b, (int, float))
    return a == b or (both and abs(a - b) <= rel * max(abs(a), abs(b)))


def landed() -> list[dict[str, Any]]:
    """The facts of the kit's methods whose variant is the recipe's."""
    return [f for f in FACTS if f["method"] in methods.names() and f.get("compare", True)]


def views_of(name: str) -> dict[str, Any]:
    """The streams of a method, made on a small task."""
    task = SimpleNamespace(
        num_classes=21, classes=tuple(f"c{i}" for i in range(21)), train=list(range(50)), labelled=tuple(range(10)),
        unlabelled=tuple(range(40)), crop=64, scale=(0.5, 2.0), name="voc", val=[], palette=None,
    )  # fmt: skip
    return methods.create(name, task, net="dinov2_tiny" if name == "unimatch_v2" else "tiny").views


def differences(fact: dict[str, Any], split: str | None) -> Iterator[Difference]:
    """Every field in which the recipe for this list does not do what the fact says."""
    recipe = methods.recipe(fact["method"], fact["data"], split)
    skip = set(fact.get("skip", ()))
    skip |= (ENCODER if "backbone" in skip else set()) | (DECODER if "head" in skip else set())
    for part in (_geometry, _optimisation, _length, _network, _loss, _scoring):
        yield from (d for d in part(fact, recipe, split) if d.field not in skip)


def _geometry(fact: dict, recipe: dict, split: Any) -> Iterator[Difference]:
    task = recipe["task"]
    x = views_of(fact["method"]).get("x")
    if "crop" in fact and fact["crop"] != task.get("crop"):
        yield Difference("crop", fact["crop"], task.get("crop"))
    if "scale" in fact:
        own = x.weak.scale if x is not None else None
        has, unit = tuple(own or task.get("scale", (0.5, 2.0))), task.get("short", SHORTER) / fact.get("short", SHORTER)
        official = fact["scale"]
        if len(official) != len(has) or any(abs(a - b * unit) > 0.03 for a, b in zip(official, has)):
            yield Difference("scale", official, has)
        elif fact.get("halves") and not x.weak.halves:
            yield Difference("scale", "as often below as above 1", "uniform")
    if x is None:
        return
    flip = recipe["method"].get("flip", x.weak.flip)
    if fact.get("flip", flip) != flip:
        yield Difference("flip", fact["flip"], flip)
    has = x.weak.pad + (" centred" if x.weak.centred else "")
    if "pad_image" in fact and fact["pad_image"] != has:
        yield Difference("pad_image", fact["pad_image"], has)
    if fact.get("pad_label", 255) != 255:
        yield Difference("pad_label", fact["pad_label"], 255)


def _optimisation(fact: dict, recipe: dict, split: Any) -> Iterator[Difference]:
    fit = recipe["fit"]
    head = fit["lr"] * fit.get("head", 1.0)
    figures = {
        "batch": fit["batch"], "lr": fit["lr"], "head_lr": head, "weight_decay": fit["weight_decay"],
        "decay_norms": fit.get("decay_norms", True), "optimiser": fit["optimiser"],
        "betas": list(fit.get("betas", (0.9, 0.999))), "schedule": fit["schedule"],
        "warmup": bool(fit.get("warmup")), "processes": (recipe.get("published") or {}).get("processes"),
    }  # fmt: skip
    for field, has in figures.items():
        official = SCHEDULES.get(fact.get(field), fact.get(field)) if field == "schedule" else fact.get(field)
        if official is not None and not near(official, has):
            yield Difference(field, official, has)


def _length(fact: dict, recipe: dict, split: Any) -> Iterator[Difference]:
    fit = recipe["fit"]
    has = fit.get("epochs", fit.get("steps"))
    if "steps" in fact:
        if fact["steps"] != fit.get("steps"):
            yield Difference("length", fact["steps"], has)
        return
    official = fact.get("epochs")
    if isinstance(official, dict):
        place = methods.recipes.read_split(fact["data"], split)
        official = official.get(place.share.replace("_", "/"), official.get(str(place.count)))
    if official is None:
        return
    if fact["over"] == "labelled":
        place = methods.recipes.read_split(fact["data"], split)
        if not place.count:
            if not near(official, fit.get("labelled_epochs")):
                yield Difference("length", official, has)
        elif fit.get("steps") != official * max(1, place.count // fit["batch"]):
            yield Difference("length", official, has)
    elif not near(official, fit.get("epochs")):
        yield Difference("length", official, has)


def described(net: str) -> dict[str, Any]:
    """A network spec in the words of the facts, its defaults filled in."""
    name, given = nets.parse(net)
    kind = nets.backbones.kind_of(name)
    signature = inspect.signature(DeepLabV3Plus).parameters
    decoder = {k: p.default for k, p in signature.items() if p.default is not p.empty}
    psp = given.get("decoder") in ("psp", "pspnet")
    found = decoder | kind.decoder | {"output_stride": 16, "multi_grid": None, "freeze_bn": False, "aux": False} | given
    found["backbone"] = name.rstrip("c") if name.startswith("resnet") else name
    found["stem"] = "deep" if name.endswith("c") else "plain"
    found["frozen_bn"] = found["freeze_bn"]
    found["head"] = "PSP" if psp else {"dpt": "DPT", "segformer": "SegFormer"}.get(kind.head, "DeepLabV3+")
    found["head"] = "DeepLabV2" if given.get("aspp") == "squeezed" else found["head"]
    found["bn_momentum"] = given.get("bn_momentum", 0.1)
    convs = found["decoder_convs"]
    rates = found["dropout"]
    found["dropout"] = list(rates) if isinstance(rates, (list, tuple)) else [rates] * (1 + convs)
    if len(found["dropout"]) == convs + 2:  # the facts count the classifier's own to the last convolution
        *behind, conv, last = found["dropout"]
        found["dropout"] = [*behind, max(conv, last)]
    return found


def _network(fact: dict, recipe: dict, split: Any) -> Iterator[Difference]:
    has = described(recipe["method"]["net"])
    if methods.get(fact["method"]).scored_by is MaskEvaluation:
        has |= {"head": "Mask R-CNN with FPN", "output_stride": 32}
    resnet = has["backbone"].startswith("resnet")
    both_plus = has["head"] == fact["net"].get("head") == "DeepLabV3+"
    for field in NETWORK:
        if field not in fact["net"]:
            continue
        official, own = fact["net"][field], has.get(field)
        if field in ENCODER - {"aspp_rates"} and not resnet:
            continue
        if field == "backbone" and str(official) in str(own):
            continue
        if field == "head" and ("PSP" in str(official)) == (own == "PSP") and (own != "DeepLabV3+" or both_plus):
            continue
        if field in DECODER - {"aux", "align_corners"} and not both_plus:
            continue
        if field == "align_corners" and own is True and not both_plus and has["head"] != "PSP":
            continue
        if field == "dropout":
            official = official if isinstance(official, list) else [official] * len(own)
        if field == "dropout_kind" and not any(has["dropout"]):
            continue
        if field == "aspp_kernel" and has["aspp"] == "cps":
            continue
        if field == "output_stride" and official == 32:
            continue
        official = None if official == "none" else official
        own = list(own) if isinstance(own, tuple) else own
        if official != own:
            yield Difference(field, official, own)


def _loss(fact: dict, recipe: dict, split: Any) -> Iterator[Difference]:
    if "ohem" not in fact:
        return
    has = str(recipe["method"].get("supervised", "ce"))
    found = re.fullmatch(r"ohem\(thresh=([\d.]+), per_image=(\d+)(, class_weight=.*)?\)", has)
    own = [float(found[1]), int(found[2])] if found else "none"
    if fact["ohem"] != own:
        yield Difference("ohem", fact["ohem"], own)


def _scoring(fact: dict, recipe: dict, split: Any) -> Iterator[Difference]:
    own = recipe["evaluation"] or fact["data"]
    if "evaluation" in fact and PROTOCOLS.get(fact["evaluation"], fact["evaluation"]) != own:
        yield Difference("evaluation", fact["evaluation"], own)
    if "selection" in fact and fact["selection"] != recipe["selection"]:
        yield Difference("selection", fact["selection"], recipe["selection"])
    signature = inspect.signature(methods.get(fact["method"]).__init__).parameters
    given = {k: p.default for k, p in signature.items() if k not in ("self", "task")} | recipe["method"]
    asked = dict(fact.get("options", {}))
    if "ema" in fact and isinstance(given.get("decay"), float):
        asked["decay"] = fact["ema"]
    if "weight" in fact and isinstance(given.get("weight"), (int, float)):
        asked["weight"] = fact["weight"]
    for field, official in asked.items():
        if not near(official, given.get(field), 1e-3):
            yield Difference(field, official, given.get(field))
