"""Recipes fit the functions that they are for, and say what they are."""

from __future__ import annotations

import dataclasses
import inspect
import json
from functools import partial

import pytest
import torch
from toy import by_kind

from s4kit import data, engine, methods, nets
from s4kit.engine.protocols import PROTOCOLS
from s4kit.errors import S4Error
from s4kit.methods.parts.losses import criterion
from s4kit.methods.parts.schedules import schedule
from s4kit.methods.recipes import COMMON, KIT, read_split, recipe_for
from s4kit.report.setup import without_weights

EVERY = pytest.mark.parametrize("name", methods.names())
PIXELS = [name for name in methods.names() if methods.get(name).scored_by is data.Evaluation]
USED = [(n, key) for n in methods.names() for key in (*KIT, *COMMON) if n in PIXELS or key in methods.get(n).recipes]
PUBLISHED = [(n, key) for n in methods.names() for key in methods.get(n).recipes if key.split("/")[0] in COMMON]
CLASSES = {"voc": 21, "cityscapes": 19, "coco": 81, "ade20k": 150}


@pytest.mark.parametrize(("name", "dataset"), USED)
def test_a_recipe_can_be_used(name, dataset):
    recipe = methods.recipe(name, dataset)
    parts = {"task", "method", "fit", "kind", "evaluation", "selection", "source", "differs", "published"}
    assert set(recipe) == parts and recipe["kind"].items() <= recipe["task"].items()
    json.dumps(recipe)  # runs are reopened from such text
    for part, known in (
        ("task", {*inspect.signature(data.load).parameters, *inspect.signature(data.dataset(dataset).open).parameters}),
        ("method", inspect.signature(methods.get(name).__init__).parameters),
        ("fit", {*inspect.signature(engine.fit).parameters, *(f.name for f in dataclasses.fields(engine.Settings))}),
    ):
        unknown = set(recipe[part]) - set(known)
        assert not unknown, f"{part}: {unknown}"
    fit = recipe["fit"]
    assert ("steps" in fit) != ("epochs" in fit)
    schedule(fit.get("schedule", "poly"))
    criterion(recipe["method"].get("supervised", "ce"))
    assert nets.parse(recipe["method"].get("net", "efficientnet_lite0"))[0] in nets.names()
    assert recipe["source"] and all(sentence.strip() == sentence for sentence in recipe["differs"])
    assert recipe["evaluation"] in (PROTOCOLS if dataset in COMMON and name in PIXELS else (None,))
    assert recipe["selection"] in ("best", "last")


@pytest.fixture
def short_resnets(monkeypatch):
    """ResNets with one block in each of their first three stages: their options apply all the same."""
    whole = nets.backbones._timm
    less = {"resnet50s": [1, 1, 1, 3], "resnet101s": [1, 1, 1, 3]}
    monkeypatch.setattr(
        nets.backbones,
        "_timm",
        lambda name, *a, **k: whole(name, *a, **k, **({"layers": less[name]} if name in less else {})),
    )


@pytest.mark.parametrize(("name", "key"), by_kind(PUBLISHED))
def test_a_published_recipe_is_complete_and_builds(name, key, short_resnets):
    """An entry stands for itself: nothing of it is left to figures that other papers share."""
    dataset, _, split = key.partition("/")
    some = {"": None, "classic": "classic/183", "classic/92": "classic/92"}
    recipe = methods.recipe(name, dataset, some.get(split, split if split[-1:].isdigit() else f"{split}/1_8"))
    entry = methods.get(name).recipes[dataset]
    if "fit" in entry:
        assert entry["fit"].keys() >= {"batch", "lr", "head"}, key
        assert entry.get("evaluation") or name not in PIXELS, key
        assert {"crop"} <= entry["task"].keys() and {"net"} <= entry["method"].keys(), key
    else:
        assert "stand in" in recipe["differs"][0], key
    specs = [option for option in methods.get(name).specs if option in recipe["method"]]
    task = data.Task(
        name=dataset, classes=tuple(map(str, range(CLASSES[dataset]))), palette=((0, 0, 0),) * CLASSES[dataset],
        train=None, labelled=(0,), unlabelled=(1,), val=None, crop=recipe["task"]["crop"],
    )  # fmt: skip
    try:
        with torch.device("meta"):
            bare = {option: without_weights(recipe["method"][option]) for option in specs}
            made = methods.create(name, task, **recipe["method"] | bare)
    except RuntimeError as error:
        if "meta tensors" not in str(error):
            raise
        pytest.skip("this timm asks for values while it builds a transformer")
    assert any(p.requires_grad for p in made.parameters())


def test_figures_of_the_papers():
    for dataset, figures in {"voc": (321, 0.95, 1e-3, 10.0, 8), "cityscapes": (801, 0.0, 5e-3, 1.0, 8)}.items():
        recipe = methods.recipe("unimatch", dataset)
        fit = recipe["fit"]
        assert (recipe["task"]["crop"], recipe["method"]["tau"], fit["lr"], fit["head"], fit["batch"]) == figures
    cutmix = methods.recipe("cutmix", "voc")
    assert (cutmix["fit"]["steps"], cutmix["fit"]["optimiser"], cutmix["selection"]) == (40_000, "adam", "last")
    assert "epochs" not in cutmix["fit"]


def test_what_a_paper_varies_with_the_list():
    def fit(name, dataset, split):
        return methods.get(name).recipe(dataset, split)["fit"]

    epochs = [fit("cps", "voc", f"cps/{n}")["epochs"] for n in (662, 1323, 2646, 5291)]
    assert epochs == [32, 34, 40, 60] == [fit("cps", "voc", f"voc/blended/1_{n}")["epochs"] for n in (16, 8, 4, 2)]
    assert [fit("cps", "cityscapes", f"1_{n}")["epochs"] for n in (16, 8, 4, 2)] == [128, 137, 160, 240]
    classic = methods.recipe("cps", "voc", "classic/183")
    assert classic["fit"]["steps"] == 39_682 and "resnet101c" in classic["method"]["net"]
    assert methods.recipe("psmt", "voc", "voc/classic/92")["method"]["weight"] == 0.06
    assert methods.recipe("psmt", "voc", "classic/183")["method"]["weight"] == 0.6
    assert methods.recipe("unimatch", "voc", "u2pl/662")["task"]["crop"] == 513  # the published runs
    lengths = [fit("guidedmix", "voc", split)["steps"] for split in ("cps/1323", "cps/2646", "classic/1464")]
    assert lengths == [40_000, 20_000, 20_000]
    shares = [methods.recipe("guidedmix", "cityscapes", split)["method"].get("most") for split in ("1_8", "1_4")]
    assert shares == [0.4, None]
    # a published supervised baseline counts epochs of the labelled images: 80 of 183 at batch 16
    assert fit("supervised", "voc", "classic/183")["steps"] == 80 * (183 // 16)
    assert fit("supervised", "voc", None)["epochs"] == 160  # as long as the semi-supervised methods


def train_on(optimiser, processes, lr, weight_decay, clip=None, divided=True, **_):
    """Two weights after five steps on losses that are (as if) divided by the number of processes."""
    kinds = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    step = kinds[optimiser]([w], lr=lr, weight_decay=weight_decay)
    for k in range(5):
        loss = (w * torch.tensor([3.0, 0.5 + k])).square().sum() / (processes if divided else 1)
        step.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_([w], clip)
        step.step()
    return w.detach()


@pytest.mark.parametrize("clip", [None, 10.0])
@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_the_effective_set_up_trains_as_the_divided_losses_do(optimiser, clip):
    fit = {"optimiser": optimiser, "lr": 1e-2, "weight_decay": 0.1, "head": 1.0, "batch": 8, "epochs": 1}
    fit |= {"clip": clip} if clip else {}
    entry = {"task": {"crop": 9}, "method": {}, "fit": fit, "processes": 4, "divided": "all", "evaluation": "voc"}
    found = recipe_for(type("Divided", (methods.get("cps"),), {"recipes": {"voc": entry}}), "voc")
    official = train_on(processes=4, **fit)
    torch.testing.assert_close(train_on(processes=4, divided=False, **found["fit"]), official, rtol=1e-6, atol=0)
    assert (train_on(processes=4, divided=False, **fit) - official).abs().max() > 1e-4 or optimiser == "adamw"
    assert found["published"] == {
        "lr": 1e-2, "weight_decay": 0.1, "processes": 4, "batch per process": 2, "divided": "all",
    }  # fmt: skip


def test_a_recipe_says_what_makes_data_of_the_methods_kind():
    for name in methods.names():
        for key in methods.get(name).recipes:
            assert set(methods.recipe(name, key.split("/")[0])["kind"]) == set(methods.get(name).kind), (name, key)
    assert methods.recipe("noisy_boundaries", "scenes")["kind"] == {"instances": True}
    assert methods.recipe("ssda_dual_mix", "scenes")["kind"] == {"more": {"domain": "plain"}}
    assert methods.recipe("supervised", "voc")["kind"] == {}


def test_a_divided_term_weighs_less():
    entry = {"task": {"crop": 9}, "method": {"contrast": 1.0}, "fit": COMMON["voc"]["fit"], "evaluation": "voc"}
    entry |= {"processes": 8, "divided": "contrast"}
    found = recipe_for(type("Term", (methods.get("u2pl"),), {"recipes": {"voc": entry}}), "voc")
    assert found["method"]["contrast"] == 0.125 and found["published"]["contrast"] == 1.0
    assert found["fit"]["lr"] == found["published"]["lr"] == 1e-3


def test_nothing_is_published_for_the_kits_own_data():
    assert set(methods.recipe("cps", "scenes")["published"].values()) == {None}


@pytest.mark.parametrize(
    ("dataset", "split", "place"),
    [
        ("voc", "voc/classic/183", ("classic", "", 183)),
        ("voc", "classic/732_pseudoseg", ("classic", "", 732)),
        ("voc", "u2pl/1323", ("u2pl", "1_8", 1323)),
        ("cityscapes", "1_8", ("cps", "1_8", 372)),
        ("cityscapes", "cityscapes/u2pl/372", ("u2pl", "1_8", 372)),
        ("voc", "1/16", ("", "", None)),
        ("voc", "/data/lists/classic/92.txt", ("", "", None)),
        ("scenes", "16", ("", "", None)),
        ("voc", 0.25, ("", "", None)),
        ("voc", None, ("", "", None)),
    ],
)
def test_names_of_lists(dataset, split, place):
    assert read_split(dataset, split) == place


def test_shared_figures_never_stand_in_silently():
    for name in methods.names():
        for dataset in COMMON:
            recipe, entry = methods.recipe(name, dataset), methods.get(name).recipes.get(dataset, {})
            said = any("stand in" in sentence for sentence in recipe["differs"])
            assert ("fit" in entry) != said, (name, dataset)


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(S4Error, match="cityscapes"):
        methods.recipe("unimatch", "cityscape")
