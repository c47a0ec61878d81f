"""Colours of outcomes: none is that of a class, and lightness alone tells right from wrong."""

from __future__ import annotations

import itertools

import pytest

from s4kit.data import palettes
from s4kit.explore.outcomes import APART, outcomes

PALETTES = {
    "scenes": list(palettes.SCENES.values()),
    "camvid": list(palettes.CAMVID.values()),
    "cityscapes": [rgb for _, rgb in palettes.CITYSCAPES.values()],
    "voc": palettes.voc_palette(21),
    "okabe": [(0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0)],
}


@pytest.mark.parametrize("name", PALETTES)
def test_no_outcome_is_a_class(name):
    found = list(outcomes(PALETTES[name]).values())
    pairs = [*itertools.product(found, PALETTES[name]), *itertools.combinations(found, 2)]
    assert min(sum((a - b) ** 2 for a, b in zip(one, other)) ** 0.5 for one, other in pairs) >= APART


@pytest.mark.parametrize("name", PALETTES)
def test_lightness_tells_right_from_wrong_and_first_from_second(name):
    light = {role: 0.299 * r + 0.587 * g + 0.114 * b for role, (r, g, b) in outcomes(PALETTES[name]).items()}
    assert light["right"] - light["wrong"] > 80 and light["first"] - light["second"] > 80


def test_without_a_free_colour_the_furthest_is_taken():
    crowded = list(itertools.product(range(0, 256, 51), repeat=3))
    assert len(set(outcomes(crowded).values())) == 5
