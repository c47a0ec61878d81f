"""Box generators: areas, limits, and masks that are replayable."""

import numpy as np
import torch

from s4kit.views import any_area_box, half_area_box, half_box, paste, rasterise, three_boxes, unimatch_box


def masks(recipe, n: int, side: int = 64) -> torch.Tensor:
    draws = np.stack([recipe.draw(np.random.default_rng(i), side) for i in range(n)])
    return rasterise(torch.from_numpy(draws), (side, side))


def test_half_area_boxes_cover_half():
    for recipe in (half_area_box(), half_box()):
        share = masks(recipe, 200).float().mean((1, 2))
        assert (share - 0.5).abs().max() < 0.02


def test_boxes_of_any_area_are_uniform_in_it_and_mostly_hold_the_middle():
    """How often the middle is kept follows from area and height share alone: 0.777, by a sum over both."""
    found = masks(any_area_box(), 3000)
    share = np.sort(found.float().mean((1, 2)).numpy())
    assert np.abs(share - np.linspace(0, 1, 3000)).max() < 0.04, "uniform in [0, 1]"
    uniform = np.linspace(0.0005, 0.9995, 1000)
    height = uniform[:, None] ** uniform
    across, down = (np.minimum(side / (1 - side), 1.0) for side in (uniform[:, None] / height, height))
    assert abs((across * down).mean() - 0.777) < 0.002
    assert abs(float(found[:, 32, 32].float().mean()) - 0.777) < 0.03


def test_unimatch_box_is_absent_half_the_time_and_within_its_area():
    share = masks(unimatch_box(), 1000).float().mean((1, 2))
    assert abs(float((share == 0).float().mean()) - 0.5) < 0.065
    assert share.max() <= 0.4 and share[share > 0].min() > 0.01


def test_two_boxes_cancel_where_they_overlap():
    boxes = torch.tensor([[[0, 0, 4, 4], [2, 2, 4, 4]]])
    mask = rasterise(boxes, (8, 8))[0]
    assert mask[0, 0] and mask[5, 5] and not mask[2, 2] and not mask[7, 7]
    assert mask.sum() == 16 + 16 - 2 * 4


def test_three_boxes_cover_at_most_the_drawn_share():
    share = masks(three_boxes(), 300).float().mean((1, 2))
    assert share.max() < 0.56 and share.mean() > 0.2


def test_paste_takes_the_inside_where_the_mask_is_true():
    mask = torch.tensor([[[True, False]]])
    a, b = torch.ones(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    assert paste(mask, a, b)[0, 0].tolist() == [[1.0, 0.0]]
    assert paste(mask, a[:, 0], b[:, 0])[0].tolist() == [[1.0, 0.0]]
