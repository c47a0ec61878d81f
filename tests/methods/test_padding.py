"""What stands around images that are smaller than the crop is what the releases put there."""

from __future__ import annotations

import pytest
import torch

from s4kit.engine import probe, watched
from s4kit.engine.windows import IMAGENET
from s4kit.views import draw_step, render

STD = (0.229, 0.224, 0.225)
PADDED = {  # method -> its options, whether the padding is on all sides
    "cutmix": ({}, True),
    "colouraug": ({}, True),
    "classmix": ({}, False),
    "pseudoseg": ({}, False),
    "guidedmix": ({}, False),
    "uscs": ({}, None),  # black
}


@pytest.mark.parametrize("name", PADDED)
def test_padding_is_zero_after_normalisation_in_every_view(name, build, task):
    options, centred = PADDED[name]
    method, corners = build(name, **options), []
    batch = render(draw_step(task.with_(crop=72), method.views, 8, 0, 0, 0), method.views)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET, STD))
    for views in batch.values():
        outside = (views.valid == 0)[:, None].expand_as(views.weak)
        assert 0.1 < outside.float().mean() < 0.9
        for image in (views.weak, *views.strong):
            if centred is None:
                assert (image[outside] == 0).all()
            else:
                assert ((image - mean) / std)[outside].abs().max() < 0.01, "half a level of 255"
        corners.append(views.valid[:, :2].amax((1, 2)) == 0)
    if centred is not None:
        assert bool(torch.cat(corners).any()) == centred


@pytest.mark.parametrize(("name", "colour", "top"), [("cutmix", 0.485, 16), ("classmix", 0.485, 0), ("unimatch", 0, 0)])
def test_the_probe_images_are_padded_like_those_of_the_training(name, colour, top, build, task):
    small = task.with_(crop=72)
    watch = probe.Probe(small, watched.chosen(small, 2), build(name))
    views, truth = watch.views(range(2), torch.device("cpu"))
    valid = views.valid[0] > 0
    assert valid.nonzero()[0].tolist() == [top, top] and valid.sum() == 40 * 40
    assert views.weak[0, 0][~valid].unique().tolist() == pytest.approx([colour], abs=0.002)
    assert torch.equal((truth[0] == 255)[~valid], torch.ones(int((~valid).sum()), dtype=torch.bool))
