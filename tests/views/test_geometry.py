"""The weak view: the same pixels as resizing the whole image and cropping afterwards."""

import numpy as np
import pytest
from PIL import Image

from s4kit.views.geometry import Geometry, Window, placement, weak

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (61, 83, 3), dtype=np.uint8)
LABEL = RNG.integers(0, 5, (61, 83), dtype=np.uint8)


def slow(array: np.ndarray, window: Window, crop: int, method: Image.Resampling, fill) -> np.ndarray:
    whole = np.asarray(Image.fromarray(array).resize((window.width, window.height), method))
    canvas = np.empty((crop, crop, *array.shape[2:]), np.uint8)
    canvas[:] = fill
    for y in range(crop):
        for x in range(crop):
            if 0 <= y + window.top < window.height and 0 <= x + window.left < window.width:
                canvas[y, x] = whole[y + window.top, x + window.left]
    return canvas[:, ::-1] if window.flip else canvas


@pytest.mark.parametrize("position", range(12))
@pytest.mark.parametrize("geometry", [weak(), weak(pad="mean", centred=True), weak(scale=(0.5, 0.75, 1.5, 2.0))])
def test_crop_equals_resizing_everything_first(position, geometry):
    crop = (32, 64, 97)[position % 3]
    window = geometry.draw(np.random.default_rng(position), IMAGE.shape[:2], crop, (0.5, 2.0))
    fill = np.array((124, 116, 104) if geometry.pad == "mean" else (0, 0, 0), np.uint8)
    expected = slow(IMAGE, window, crop, Image.Resampling.BILINEAR, fill)
    got = geometry.image(IMAGE, window, crop)
    assert abs(got.astype(int) - expected).max() <= 1
    assert (got == expected).mean() > 0.98  # Pillow keeps the box in single precision
    assert (geometry.label(LABEL, window, crop) == slow(LABEL, window, crop, Image.Resampling.NEAREST, 255)).all()


def test_padding_is_void_and_its_place_is_known():
    geometry = weak()
    for position in range(20):
        window = geometry.draw(np.random.default_rng(position), (40, 50), 64, (0.5, 1.5))
        label = geometry.label(np.zeros((40, 50), np.uint8), window, 64)
        top, left, bottom, right = placement(window, 64)
        inside = np.zeros((64, 64), bool)
        inside[top:bottom, left:right] = True
        assert ((label == 255) == ~inside).all()


def test_longer_side_is_a_uniform_integer_and_flip_is_fair():
    draws = [weak().draw(np.random.default_rng(i), (60, 80), 32, (0.5, 2.0)) for i in range(3000)]
    sides = np.array([d.width for d in draws])
    assert sides.min() == 40 and sides.max() == 160
    assert abs(sides.mean() - 100) < 4 * sides.std() / np.sqrt(3000)
    assert abs(np.mean([d.flip for d in draws]) - 0.5) < 0.04
    assert all(abs(d.height - d.width * 0.75) <= 0.5 for d in draws)


def test_halves_shrink_as_often_as_they_enlarge():
    shares = []
    for halves in (False, True):
        draws = [weak(halves=halves).draw(np.random.default_rng(i), (60, 80), 32, (0.5, 2.0)) for i in range(3000)]
        sides = np.array([d.width for d in draws])
        assert sides.min() == 40 and sides.max() == 160
        shares.append((sides < 80).mean())
    assert abs(shares[0] - 1 / 3) < 0.04 and abs(shares[1] - 1 / 2) < 0.04
    above = [weak(halves=True).draw(np.random.default_rng(i), (60, 80), 32, (1.0, 2.0)).width for i in range(100)]
    assert min(above) < 90 and max(above) > 150, "a range beside 1 stays whole"


def test_scales_of_a_shorter_side():
    """Factors of a shorter side of 512, whatever the image has: mmsegmentation's Resize of (2048, 512)."""
    for size in ((60, 80), (80, 50), (640, 400)):
        draws = [weak().draw(np.random.default_rng(i), size, 32, (0.5, 2.0), 512) for i in range(600)]
        shorter = np.array([min(d.height, d.width) for d in draws])
        assert 255 <= shorter.min() < 270 and 1000 < shorter.max() <= 1024
        assert all(abs(d.height / d.width - size[0] / size[1]) < 0.01 for d in draws)
    chosen = {weak().draw(np.random.default_rng(i), (60, 80), 32, (0.5, 1.0, 2.0), 120).height for i in range(60)}
    assert chosen == {60, 120, 240}


def test_flip_can_be_off_and_scale_fixed():
    window = Geometry(scale=(1.0, 1.0), flip=0.0).draw(np.random.default_rng(0), (40, 40), 40, (0.5, 2.0))
    assert window == Window(40, 40, 0, 0, False)
    assert (Geometry().image(IMAGE[:40, :40], window, 40) == IMAGE[:40, :40]).all()
