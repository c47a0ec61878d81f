"""The strong view against torchvision's operations."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as TV

from s4kit.views import Strong
from s4kit.views.photometric import BRIGHTNESS, CONTRAST, HUE, SATURATION, blur, grey, jitter, shift_hue


def images(n: int = 5, size: int = 24) -> torch.Tensor:
    torch.manual_seed(0)
    pictures = torch.rand(n, 3, size, size)
    pictures[0, :, :4] = 0.5  # grey, where the hue is undefined
    pictures[1, :, :4] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    return pictures


def test_grey_is_torchvisions():
    torch.testing.assert_close(grey(images()), TV.rgb_to_grayscale(images()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turn", [-0.5, -0.25, -0.1, 0.0, 0.13, 0.25, 0.5])
def test_hue_is_torchvisions(turn):
    ours = shift_hue(images(), torch.full((5,), turn))
    torch.testing.assert_close(ours, TV.adjust_hue(images(), turn), rtol=1e-4, atol=1e-4)


def test_jitter_applies_each_samples_own_factors_in_its_own_order():
    rng = np.random.default_rng(3)
    pictures = images()
    drawn = [Strong(jitter=1.0).draw(rng) for _ in pictures]
    params = {k: np.stack([d[k] for d in drawn]) for k in drawn[0]}
    assert len({tuple(o) for o in params["order"]}) > 1
    ours = jitter(pictures.clone(), params)
    apply = {BRIGHTNESS: TV.adjust_brightness, CONTRAST: TV.adjust_contrast, SATURATION: TV.adjust_saturation}
    for picture, got, d in zip(pictures, ours, drawn):
        for op in d["order"]:
            picture = (
                TV.adjust_hue(picture, float(d["hue"])) if op == HUE else apply[op](picture, float(d["factor"][op]))
            )
        torch.testing.assert_close(got, picture, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_torchvisions(sigma):
    ours = blur(images(), torch.full((5,), sigma), 2.0)
    torch.testing.assert_close(ours, TV.gaussian_blur(images(), [13, 13], [sigma, sigma]), rtol=1e-4, atol=1e-4)


def test_blur_of_a_tiny_image_keeps_its_mean():
    picture = torch.rand(1, 3, 4, 4)
    out = blur(picture, torch.tensor([2.0]), 2.0)
    assert out.shape == picture.shape and out.min() >= 0 and out.max() <= 1


def test_apply_changes_only_the_samples_that_drew_an_operation():
    pictures = images(64, 12)
    rng = np.random.default_rng(0)
    recipe = Strong()
    drawn = [recipe.draw(rng) for _ in pictures]
    params = {k: np.stack([d[k] for d in drawn]) for k in drawn[0]}
    before = pictures.clone()
    out = recipe.apply(pictures, params)
    assert torch.equal(pictures, before)
    idle = ~(params["jitter"] | params["grey"] | params["blur"])
    assert 0 < idle.sum() < 64
    same = (out == pictures).flatten(1).all(1).numpy()
    assert same[idle].all()
    assert not same[params["jitter"] | params["blur"] & (params["sigma"] > 0.5)].any()
    assert out.min() >= 0 and out.max() <= 1


def test_probabilities_and_ranges_of_the_draw():
    rng = np.random.default_rng(1)
    drawn = [Strong().draw(rng) for _ in range(4000)]
    for key, p in (("jitter", 0.8), ("grey", 0.2), ("blur", 0.5)):
        share = np.mean([d[key] for d in drawn])
        assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / 4000)
    factor = np.stack([d["factor"] for d in drawn])
    hue, sigma = np.array([d["hue"] for d in drawn]), np.array([d["sigma"] for d in drawn])
    assert factor.min() >= 0.5 and factor.max() <= 1.5 and abs(factor.mean() - 1) < 0.02
    assert abs(hue).max() <= 0.25 and sigma.min() >= 0.1 and sigma.max() <= 2.0
