"""Connected regions against SciPy's, on real label maps and on the shapes that are hardest for parallel labelling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from s4kit.methods.parts.components import components, regions


def expected(mask: np.ndarray) -> np.ndarray:
    """SciPy's regions, each numbered by 1 + the place of its last pixel."""
    found, count = ndimage.label(mask, np.ones((3, 3)))
    last = np.zeros(count + 1, np.int64)
    np.maximum.at(last, found.ravel(), np.arange(1, mask.size + 1))
    last[0] = 0
    return last[found]


def assert_exact(*masks: np.ndarray) -> None:
    ours = components(torch.from_numpy(np.stack(masks))).numpy()
    for one, mask in zip(ours, masks):
        np.testing.assert_array_equal(one, expected(mask))


def spiral(height: int, width: int) -> np.ndarray:
    """One arm of width 1 from the corner to the centre."""
    mask = np.zeros((height, width), bool)
    y, x, dy, dx, turns = 0, 0, 0, 1, 0
    mask[0, 0] = True
    while turns < 2:
        ahead, after = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
        inside = 0 <= ahead[0] < height and 0 <= ahead[1] < width
        free = not (0 <= after[0] < height and 0 <= after[1] < width and mask[after])
        if inside and free and not mask[ahead]:
            y, x, turns = *ahead, 0
            mask[y, x] = True
        else:
            dy, dx, turns = dx, -dy, turns + 1
    return mask


def snake(height: int, width: int) -> np.ndarray:
    """Full rows, joined at the right and at the left in turn."""
    mask = np.zeros((height, width), bool)
    mask[::2] = mask[1::4, -1] = mask[3::4, 0] = True
    return mask


def comb(height: int, width: int) -> np.ndarray:
    """Teeth that meet in the first row alone, which the numbers reach last."""
    mask = np.zeros((height, width), bool)
    mask[:, ::2] = mask[0] = True
    return mask


def maze(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A tree: every chamber has a way up or to the left."""
    mask = np.zeros((height | 1, width | 1), bool)
    mask[::2, ::2] = True
    up = np.random.default_rng(seed).random(mask[::2, ::2].shape) < 0.5
    up[0], up[1:, 0] = False, True
    mask[1::2, ::2], mask[::2, 1::2] = up[1:], ~up[:, 1:]
    return mask[:height, :width]


def checks(height: int, width: int) -> np.ndarray:
    """Squares that touch at their corners alone."""
    return np.indices((height, width)).sum(0) % 2 == 0


def stripes(height: int, width: int) -> np.ndarray:
    """Diagonals that do not touch."""
    return np.indices((height, width)).sum(0) % 3 == 0


def rings(height: int, width: int) -> np.ndarray:
    """One in the other, each with an opening for nobody."""
    y, x = np.indices((height, width))
    return np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x)) % 2 == 0


def shuffled(height: int, width: int) -> np.ndarray:
    """Thin arms of random lengths on a spine: many roots that only one neighbour can join."""
    mask = np.zeros((height, width), bool)
    mask[height // 2] = True
    reach = np.random.default_rng(3).integers(0, height, (2, width))
    y = np.indices((height, width))[0]
    return mask | ((y > height // 2 - reach[0]) & (y < height // 2 + reach[1]) & (np.arange(width) % 2 == 0))


SHAPES = (spiral, snake, comb, maze, checks, stripes, rings, shuffled)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 2), (7, 5), (32, 32), (45, 78)])
def test_winding_shapes_in_all_their_positions(size):
    for shape in SHAPES:
        masks = [shape(*size), ~shape(*size)]
        masks += [m[::-1, ::-1].copy() for m in masks]
        assert_exact(*masks, *(m[:, ::-1].copy() for m in masks))


@pytest.mark.parametrize("share", [0.05, 0.3, 0.407, 0.5, 0.9])  # 0.407: where 8-connected regions become endless
def test_noise(share):
    assert_exact(*(np.random.default_rng(8).random((4, 61, 90)) < share))


def test_all_masks_of_a_small_image():
    bits = np.arange(2**12)[:, None] >> np.arange(12) & 1
    assert_exact(*bits.astype(bool).reshape(-1, 3, 4))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_street_scene_size(shape):
    assert_exact(shape(1024, 2048))


@pytest.mark.parametrize("enlarged, every", [(1, 120), pytest.param(2, 400, marks=pytest.mark.slow)])
def test_classes_of_real_label_maps(real_data, enlarged, every):
    files = sorted((real_data / "data/camvid/trainannot").glob("*.png"))[::every]
    assert files
    for file in files:
        label = np.asarray(Image.open(file)).repeat(enlarged, 0).repeat(enlarged, 1)
        assert_exact(*(label == c for c in np.unique(label)))


def test_extents_of_regions():
    mask = maze(24, 31) & (np.random.default_rng(0).random((24, 31)) < 0.9)
    found = regions(torch.from_numpy(mask)[None])
    label, count = ndimage.label(mask, np.ones((3, 3)))
    assert count > 3
    for n, (rows, columns) in enumerate(ndimage.find_objects(label), 1):
        number = expected(mask)[label == n][0]
        sides = [getattr(found, side)[0, number].item() for side in ("top", "left", "bottom", "right")]
        assert sides == [rows.start, columns.start, rows.stop - 1, columns.stop - 1]
