"""The distortion of SSD against its operations one by one, sample by sample."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
import torch

from s4kit.views import Distortion
from s4kit.views.distortion import saturate


def one_by_one(pixel: np.ndarray, change: np.ndarray, contrast_first: bool) -> np.ndarray:
    """A pixel (3,) after brightness, contrast, saturation and hue, in floats."""
    added, contrast, saturation, turns = (float(v) for v in change)
    pixel = np.clip(pixel + added, 0, 1)
    if contrast_first:
        pixel = np.clip(pixel * contrast, 0, 1)
    h, s, v = colorsys.rgb_to_hsv(*pixel)
    pixel = np.array(colorsys.hsv_to_rgb((h + turns) % 1, min(s * saturation, 1), v))
    return pixel if contrast_first else np.clip(pixel * contrast, 0, 1)


def test_by_loops():
    torch.manual_seed(0)
    recipe, rng = Distortion(), np.random.default_rng(0)
    image = torch.rand(16, 3, 3, 4)
    image[0, :, 0] = 0.5  # grey: no hue to turn, no saturation to scale
    draws = [recipe.draw(rng) for _ in image]
    params = {key: np.stack([d[key] for d in draws]) for key in draws[0]}
    before, out = image.clone(), recipe.apply(image, params)
    assert torch.equal(image, before)
    for b, y, x in np.ndindex(16, 3, 4):
        expected = one_by_one(image[b, :, y, x].double().numpy(), draws[b]["change"], draws[b]["contrast_first"])
        assert out[b, :, y, x].tolist() == pytest.approx(expected.tolist(), abs=2e-5)


def test_each_operation_has_a_coin_and_a_range_of_its_own():
    rng = np.random.default_rng(1)
    drawn = [Distortion().draw(rng) for _ in range(4000)]
    change = np.stack([d["change"] for d in drawn]) - [0, 1, 1, 0]
    assert np.abs((change != 0).mean(0) - 0.5).max() < 0.04 and abs(np.corrcoef((change != 0).T)[0, 1:]).max() < 0.06
    assert np.abs(np.abs(change).max(0) / [32 / 255, 0.5, 0.5, 0.1] - 1).max() < 0.01
    assert abs(np.mean([d["contrast_first"] for d in drawn]) - 0.5) < 0.04


def test_without_coins_nothing_changes():
    image, recipe = torch.rand(2, 3, 5, 5), Distortion(p=0.0)
    assert torch.allclose(recipe.sample(image), image, atol=1e-6)
    assert torch.allclose(saturate(image, torch.full((2, 1, 1, 1), 9.0)).amin(1), torch.zeros(2, 5, 5), atol=1e-6)
