"""From a recipe to a training."""

import pytest

from s4kit.report import setup


@pytest.mark.parametrize("method", ["fixmatch", "cps", "u2pl"])
def test_the_papers_network_is_named_but_not_fetched_unasked(method, capsys):
    assert "net" not in setup.plan(method, "voc").options
    assert "weights='imagenet')" in capsys.readouterr().err
    assert setup.plan(method, "voc", options={"net": "resnet18"}).options["net"] == "resnet18"
    assert capsys.readouterr().err == ""


def test_what_was_asked_for_goes_over_the_recipe():
    plan = setup.plan("u2pl", "scenes", {"labelled": 20}, {"warmup": 0.2}, {"steps": 30, "batch": 4})
    assert plan.task == {"name": "scenes", "labelled": 20} and plan.options["warmup"] == 0.2
    assert plan.fit["steps"] == 30 and plan.fit["reference_batch"] == 8 and plan.fit["warmup"] == 3
