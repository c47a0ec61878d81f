"""Every recipe against what its release's configuration says: followed, or named in `differs` with both values."""

from __future__ import annotations

import functools
import re

import compare
import pytest
from compare import ANOTHER, NETWORK, Difference

from s4kit import methods

# Fields whose fact is the whole of it; how a release scores, decays or averages may differ in what the facts leave out.
WHOLE = {*NETWORK, "crop", "scale", "flip", "pad_image", "pad_label", "batch", "lr", "ohem", "length", "selection"}
CASES = [(fact, split) for fact in compare.landed() for split in fact.get("lists", [None])]
compare.views_of = functools.cache(compare.views_of)


@pytest.mark.parametrize(("fact", "split"), CASES, ids=[f"{f['method']}-{f['data']}-{s}" for f, s in CASES])
def test_a_recipe_does_what_the_release_does_or_says_what_it_does_instead(fact, split):
    said = methods.recipe(fact["method"], fact["data"], split)["differs"]
    another = any(ANOTHER.search(sentence) for sentence in said)
    silent = [
        difference for difference in compare.differences(fact, split)
        if not (another and difference.field in NETWORK) and not any(difference.named_by(s) for s in said)
    ]  # fmt: skip
    assert not silent, f"{fact['source']}: neither followed nor named: {silent}; said: {said}"


@pytest.mark.parametrize("name", sorted({fact["method"] for fact in compare.landed()}))
def test_no_sentence_names_a_difference_that_is_none(name):
    """A sentence "field: A there, B here" of a field that the facts hold belongs to a difference."""
    for fact, split in CASES:
        if fact["method"] != name:
            continue
        recipe = methods.recipe(name, fact["data"], split)
        fields = {d.field for d in compare.differences(fact, split)}
        comparable = (set(fact) | set(fact["net"]) | {"length"}) & WHOLE - set(fact.get("skip", ()))
        for sentence in recipe["differs"]:
            found = re.match(r"(\w+):.* there\b.* here\b", sentence)
            if found and found[1] in comparable and "backbone" not in fact.get("skip", ()):
                assert found[1] in fields, f"{name} {fact['data']} {split}: {sentence}"


def test_a_sentence_names_a_difference_by_its_field_and_both_values():
    rate = Difference("lr", 0.0025, 0.01)
    assert rate.named_by("lr: 0.0025 there, 0.01 here: the loss is divided by four processes")
    assert not rate.named_by("lr: 0.0025 there, 0.02 here")
    assert not rate.named_by("the rate is 0.0025 there, 0.01 here")
    assert not rate.named_by("lr: 0.01 there, 0.0025 here")
    grid = Difference("multi_grid", [4, 8, 16], None)
    assert grid.named_by("multi_grid: (4, 8, 16) there, none here") and not grid.named_by(
        "multi_grid: (2, 4, 8) there, none here"
    )
    assert Difference("pad_image", "mean centred", "black").named_by("pad_image: mean centred there, black here")
