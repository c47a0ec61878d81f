"""The networks of the recipes, as built, against what the releases' codes and logs say of theirs. No memory: meta."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from toy import OF_EACH_KIND

from s4kit import methods, nets
from s4kit.data import Evaluation
from s4kit.data.splitting import published
from s4kit.nets.deeplab import CPSASPP, SqueezedASPP
from s4kit.nets.segnet import SegNet

FACTS = Path(__file__).parents[1] / "facts"
PIXELS = [name for name in methods.names() if methods.get(name).scored_by is Evaluation]  # others have others
RELEASES = [
    fact
    for fact in json.loads((FACTS / "recipes.json").read_text("utf-8"))
    if fact["method"] in PIXELS and fact.get("compare", True)
]
COUNTS = json.loads((FACTS / "networks.json").read_text("utf-8"))
CASES = [(fact, split) for fact in RELEASES for split in fact.get("lists", [None])]
CLASSES = {"voc": 21, "cityscapes": 19, "coco": 81, "ade20k": 150}
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
PLAIN = {16: [1, 2, 2], 8: [2, 4, 4]}  # dilations of the last stage where only its stride is dilated away
OF_BACKBONE = {"backbone", "stem", "output_stride", "multi_grid", "frozen_bn", "bn_momentum", "aspp_rates"}
OF_HEAD = {"aspp", "aspp_rates", "aspp_kernel", "aspp_channels", "low_channels", "decoder_convs", "dropout"}
OF_HEAD |= {"dropout_kind", "align_corners", "aux"}


@functools.cache
def built(spec: str, classes: int) -> SegNet:
    with torch.device("meta"):
        return nets.make(spec, classes, weights="none").train()


def convolutions(module: nn.Module, kernel: int = 0) -> list[nn.Conv2d]:
    found = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    return [m for m in found if not kernel or m.kernel_size == (kernel, kernel)]


@functools.cache
def read(spec: str, classes: int) -> dict[str, Any]:
    """What a network on a ResNet is, in the words of the facts."""
    net = built(spec, classes)
    stages = net.backbone.stages
    blocks = (*(len(s) for s in [stages[0][-1], *stages[1:]]),)
    first = convolutions(stages[0])
    high = net.encode(torch.empty(2, 3, 64, 64, device="meta")).high
    found: dict[str, Any] = {
        "backbone": next(f"resnet{depth}" for depth, found in BLOCKS.items() if found == blocks),
        "stem": "deep" if first[0].kernel_size == (3, 3) else "plain",
        "output_stride": 64 // high.shape[-1],
        "multi_grid": [convolutions(block, 3)[-1].dilation[0] for block in stages[-1]],
        "align_corners": net.decoder.align_corners,
        "aux": net.aux is not None,
    }
    if found["multi_grid"] == PLAIN[found["output_stride"]]:
        found["multi_grid"] = "none"
    norms = [m for m in net.backbone.modules() if isinstance(m, _BatchNorm)]
    states = {(m.training, m.weight.requires_grad) for m in norms}
    names = {(True, True): False, (True, False): "affine", (False, True): "statistics", (False, False): True}
    (found["frozen_bn"],) = (names[state] for state in states)
    (found["bn_momentum"],) = {m.momentum for m in norms}
    return found | (
        _deeplab(net) if hasattr(net.decoder, "aspp") else {"head": "PSP with pixel shuffle", "dropout": 0.0}
    )


def _deeplab(net: SegNet) -> dict[str, Any]:
    decoder, aspp = net.decoder, net.decoder.aspp
    kind = {CPSASPP: "cps", SqueezedASPP: "squeezed"}.get(type(aspp), "standard")
    dilated = [m for m in convolutions(aspp, 3) if m.dilation != (1, 1)]
    joins = [aspp.red_conv] if kind == "cps" else convolutions(aspp.project)  # none: the decoder's convolution joins
    places = [aspp, *decoder.convs, decoder.classifier]
    drops = [[m for m in place.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)] for place in places]
    *rates, before, own = [d[0].p if d else 0.0 for d in drops]
    kinds = {"element" if isinstance(m, nn.Dropout) else "channel" for d in drops for m in d}
    return {
        "head": "DeepLabV3+" if decoder.reduce is not None else _without_low(kind),
        "aspp": kind,
        "aspp_rates": [m.dilation[0] for m in dilated],
        "aspp_channels": dilated[0].out_channels,
        "aspp_kernel": joins[0].kernel_size[0] if joins else None,
        "low_channels": decoder.reduce[0].out_channels if decoder.reduce is not None else 0,
        "decoder_convs": len(decoder.convs),
        "dropout": [*rates, max(before, own)],  # the last convolution's and the classifier's are one to the logits
        "dropout_kind": kinds.pop() if kinds else "channel",
    }


def _without_low(aspp: str) -> str:
    return "DeepLabV2" if aspp == "squeezed" else "ASPPHead without low-level features"


def comparable(fact: dict[str, Any]) -> dict[str, Any]:
    skip = set(fact.get("skip", ()))
    skip |= (OF_BACKBONE if "backbone" in skip else set()) | (OF_HEAD if "head" in skip else set())
    return {k: v for k, v in fact["net"].items() if k not in skip and v is not None}


def case(fact: dict[str, Any], split: str | None) -> Any:
    often = fact["method"] in OF_EACH_KIND
    return pytest.param(
        fact, split, id=f"{fact['method']}-{fact['data']}-{split}", marks=() if often else pytest.mark.slow
    )


@pytest.mark.parametrize(("fact", "split"), [case(*c) for c in CASES])
def test_a_built_network_is_that_of_the_release_or_the_recipe_says_what_it_is_instead(fact, split):
    recipe = methods.recipe(fact["method"], fact["data"], split)
    said = recipe["differs"]
    if recipe["method"]["net"].startswith(("dinov2", "mit", "tiny_vit", "mobilenet")):
        assert str(fact["net"]["backbone"]) in recipe["method"]["net"] or any("backbone" in s for s in said)
        return
    if any(re.match(r"the network is \w+ there", sentence) for sentence in said):
        return
    has = read(recipe["method"]["net"], CLASSES[fact["data"]])
    for field, official in comparable(fact).items():
        own = has.get(field)
        if field == "dropout" and not isinstance(official, list) and isinstance(own, list):
            official = [official] * len(own)
        if field == "aspp_kernel" and has.get("aspp") == "cps":
            continue
        if field == "head" and official.startswith("PSP with pixel shuffle"):
            official = "PSP with pixel shuffle"
        named = any(re.search(rf"\b{field}: ", s) and " there" in s and " here" in s for s in said)
        assert official == own or named, f"{field}: {official} in {fact['source']}, {own} built; said: {said}"


def every_network() -> dict[tuple[str, int], list[str]]:
    """(spec, number of classes) of all recipes for the benchmarks, and who names it."""
    found: dict[tuple[str, int], list[str]] = {}
    for name in PIXELS:
        for data, classes in CLASSES.items():
            for split in (None, *(n.split("/", 1)[1] for n in published.names(data))):
                spec = methods.recipe(name, data, split)["method"]["net"]
                found.setdefault((spec, classes), []).append(f"{name} {data} {split}")
    return found


NETWORKS = every_network()


def conv(outputs: int, inputs: int, kernel: int, *, norm: bool = True, bias: bool = False) -> list[tuple[int, ...]]:
    """Shapes of a convolution's weights and of its batch norm's."""
    return [(outputs, inputs, kernel, kernel), *([(outputs,)] * (2 * norm + bias))]


def resnet(depth: int, deep: int | None) -> list[tuple[int, ...]]:
    """He et al., CVPR 2016, table 1; `deep`: three 3x3 convolutions for a stem, of deep, deep and 2 deep channels."""
    wide = 1 if depth < 50 else 4
    shapes = conv(64, 3, 7) if not deep else conv(deep, 3, 3) + conv(deep, deep, 3) + conv(2 * deep, deep, 3)
    inputs = 2 * deep if deep else 64
    for stage, blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        for _ in range(blocks):
            if wide == 1:
                shapes += conv(width, inputs, 3) + conv(width, width, 3)
            else:
                shapes += conv(width, inputs, 1) + conv(width, width, 3) + conv(4 * width, width, 1)
            if inputs != wide * width:
                shapes += conv(wide * width, inputs, 1)
            inputs = wide * width
    return shapes


def deeplab(low: int, high: int, classes: int, **given: Any) -> list[tuple[int, ...]]:
    """Chen et al., ECCV 2018, with the widths and kernels of the releases."""
    usual = {"aspp": "standard", "aspp_channels": 256, "aspp_kernel": 1, "low_channels": 48, "decoder_convs": 2}
    o = usual | {"decoder_channels": 256, "aspp_rates": (6, 12, 18)} | given
    c, rates, last = o["aspp_channels"], len(o["aspp_rates"]), o["decoder_channels"]
    if o["aspp"] == "squeezed":  # biases everywhere, no pooled branch; two linear layers weigh the joined channels
        joined = (rates + 1) * c
        shapes = conv(c, high, 1, bias=True) + rates * conv(c, high, 3, bias=True) + conv(c, joined, 3, bias=True)
        shapes += [(joined // 16, joined), (joined // 16,), (joined, joined // 16), (joined,)]
        return shapes + conv(classes, c, 1, norm=False, bias=True)
    branches = [conv(c, high, 1, norm=False), *[conv(c, high, 3, norm=False)] * rates]
    shapes = [shape for branch in branches for shape in branch] + conv(c, high, 1)  # the last one: of the pooled map
    context = c
    if o["aspp"] == "cps":  # one batch norm behind the four branches; the pooled map has a reduction of its own
        shapes += [((rates + 1) * c,)] * 2 + conv(c, (rates + 1) * c, 1, norm=False) + conv(c, c, 1)
    else:
        shapes += [(c,)] * (2 * (rates + 1))
        joined = (rates + 2) * c
        shapes += conv(c, joined, o["aspp_kernel"]) if o["aspp"] == "standard" else []
        context = c if o["aspp"] == "standard" else joined
    shapes += conv(o["low_channels"], low, 1) if o["low_channels"] else []
    inputs = context + o["low_channels"]
    for _ in range(o["decoder_convs"]):
        shapes += conv(last, inputs, 3)
        inputs = last
    shapes += conv(classes, inputs, 1, norm=False, bias=True)
    if o.get("aux"):  # on the level before the last
        shapes += conv(last, high // 2, 3) + conv(classes, last, 1, norm=False, bias=True)
    return shapes


def psp(high: int, classes: int, doublings: int) -> list[tuple[int, ...]]:
    """CCT's decoder: four pooled branches of a quarter each, a 3x3 convolution to 512, and as many pixel shuffles."""
    shapes = 4 * conv(high // 4, high, 1) + conv(512, 2 * high, 3) + conv(classes, 512, 1, norm=False)
    return shapes + doublings * conv(4 * classes, classes, 1, norm=False, bias=True)


def pspnet(high: int, classes: int) -> list[tuple[int, ...]]:
    """mmsegmentation's PSPHead: four pooled branches and a 3x3 convolution, all of 512, and the classifier."""
    return 4 * conv(512, high, 1) + conv(512, high + 4 * 512, 3) + conv(classes, 512, 1, norm=False, bias=True)


def published_shapes(spec: str, classes: int) -> list[tuple[int, ...]]:
    """Written from the figures alone: what the weights of such a network have to be."""
    name, given = nets.parse(spec)
    depth = int("".join(filter(str.isdigit, name)))
    high = 512 if depth < 50 else 2048
    shapes = resnet(depth, given.get("stem_width", 64) if name.endswith("c") else None)
    if given.get("decoder") == "psp":
        return shapes + psp(high, classes, {8: 3, 16: 4}[given.get("output_stride", 16)])
    if given.get("decoder") == "pspnet":
        return shapes + pspnet(high, classes)
    return shapes + deeplab(high // 8, high, classes, **given)


@pytest.mark.parametrize(("spec", "classes"), [n for n in NETWORKS if n[0].startswith("resnet")])
def test_every_weight_has_the_shape_that_the_figures_give(spec, classes):
    shapes = Counter(tuple(p.shape) for p in built(spec, classes).parameters())
    assert shapes == Counter(published_shapes(spec, classes)), NETWORKS[spec, classes][:3]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("fact", COUNTS, ids=[f"{f.get('method', f.get('net'))}-{f['data']}" for f in COUNTS])
def test_the_number_of_parameters_is_that_of_the_release(fact):
    spec = fact.get("net") or methods.recipe(fact["method"], fact["data"])["method"]["net"]
    net = built(spec, CLASSES[fact["data"]])
    more = fact.get("more", 0)  # of the release, for nothing, see "why"
    if "parameters" in fact:
        assert count(net) + more == fact["parameters"], fact["source"]
    counted = {"total": count(net) + more, "encoder": count(net.backbone), "decoder": count(net.decoder) + more}
    for key in counted.keys() & fact.keys():  # logs give millions
        assert round(counted[key] / 1e6, 1) == fact[key], f"{key}: {fact['source']}"
