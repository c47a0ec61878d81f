"""Recipes fit the functions that they are for."""

from __future__ import annotations

import dataclasses
import inspect
import json

import pytest

from s4kit import data, engine, methods, nets
from s4kit.errors import S4Error
from s4kit.methods.parts.losses import criterion
from s4kit.methods.parts.schedules import schedule

EVERY = pytest.mark.parametrize("name", methods.names())
DATASETS = ("scenes", "camvid", "folder", "voc", "cityscapes", "coco")


@EVERY
@pytest.mark.parametrize("dataset", DATASETS)
def test_a_recipe_can_be_used(name, dataset):
    recipe = methods.recipe(name, dataset)
    assert set(recipe) == {"task", "method", "fit"}
    json.dumps(recipe)  # runs are reopened from such text
    for part, known in (
        ("task", inspect.signature(data.load).parameters),
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


def test_figures_of_the_papers():
    for dataset, figures in {"voc": (321, 0.95, 1e-3, 10.0, 8), "cityscapes": (801, 0.0, 5e-3, 1.0, 8)}.items():
        recipe = methods.recipe("unimatch", dataset)
        fit = recipe["fit"]
        assert (recipe["task"]["crop"], recipe["method"]["tau"], fit["lr"], fit["head"], fit["batch"]) == figures
    cutmix = methods.recipe("cutmix", "voc")["fit"]
    assert (cutmix["steps"], cutmix["optimiser"], cutmix["schedule"]) == (40_000, "adam", "constant")


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(S4Error, match="cityscapes"):
        methods.recipe("unimatch", "cityscape")
