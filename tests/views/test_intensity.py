"""AugSeg's intensity operations against Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from s4kit.views import Intensity
from s4kit.views.intensity import OPERATIONS


def picture(size: tuple[int, int] = (30, 33)) -> np.ndarray:
    rng = np.random.default_rng(0)
    image = rng.integers(20, 200, (*size, 3), dtype=np.uint8)
    image[5:15, 5:20] = (90, 40, 160)
    return image


def pillow(name: str, image: Image.Image, u: float) -> Image.Image:
    factor = 0.95 - 0.9 * u
    return {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "blur": lambda: image.filter(ImageFilter.GaussianBlur(0.1 + 1.9 * u)),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": lambda: ImageOps.posterize(image, 8 - max(1, int(np.ceil(4 * u)))),
        "solarize": lambda: ImageOps.solarize(image, 256 - max(1, int(np.ceil(255 * u)))),
    }[name]()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "hue"])
def test_operations_are_pillows(name):
    """Blends and the blur up to Pillow's rounding in between, the others to the level."""
    most = {"blur": 3, "autocontrast": 1, "contrast": 1.5, "brightness": 1, "color": 1.5, "sharpness": 1.5}.get(
        name, 1e-3
    )
    image = picture()
    given = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    for u in (0.0, 0.13, 0.5, 0.77, 0.999):
        ours = 255 * OPERATIONS[name](given, u)[0].permute(1, 2, 0).numpy()
        assert np.abs(ours - np.asarray(pillow(name, Image.fromarray(image), u))).max() <= most


@pytest.mark.parametrize("name", list(OPERATIONS))
def test_a_flat_image_stays_finite_and_in_range(name):
    for value in (0.0, 0.5, 1.0):
        out = OPERATIONS[name](torch.full((1, 3, 8, 9), value), 0.6)
        assert out.shape == (1, 3, 8, 9) and out.min() >= 0 and out.max() <= 1


def test_the_number_of_operations_is_uniform_and_each_sample_has_its_own():
    recipe, rng = Intensity(), np.random.default_rng(0)
    draws = [recipe.draw(rng) for _ in range(3000)]
    number = np.array([(d["operation"] >= 0).sum() for d in draws])
    assert np.allclose(np.bincount(number)[1:] / 3000, 1 / 3, atol=0.03)
    used = np.bincount(np.concatenate([d["operation"][d["operation"] >= 0] for d in draws]))
    assert np.allclose(used / used.sum(), 1 / len(OPERATIONS), atol=0.02)

    images = torch.rand(4, 3, 16, 16)
    params = {k: np.stack([d[k] for d in draws[:4]]) for k in draws[0]}
    together, before = recipe.apply(images, params), images.clone()
    for i in range(4):
        alone = recipe.apply(images[i : i + 1], {k: v[i : i + 1] for k, v in params.items()})
        assert torch.equal(together[i : i + 1], alone)
    assert torch.equal(images, before) and recipe.sample(images).shape == images.shape
