"""Film strips, and mIoU over the distance to the labelled frame."""

import numpy as np
import pytest
import torch
from torch import nn

from s4kit.data import load
from s4kit.engine import evaluate
from s4kit.errors import S4Error
from s4kit.explore import plots
from s4kit.explore.plots.clips import motion


class Bright(nn.Module):
    """Says class 1 where the picture is bright."""

    def forward(self, image):
        bright = image.mean(1, keepdim=True) > 0.5
        return torch.cat([~bright, bright, torch.zeros_like(image.repeat(1, 2, 1, 1)[:, :5]).bool()], 1).float()


@pytest.fixture(scope="module")
def task():
    return load("clips", n_train=4, n_val=1, frames=3, side=32, labelled=2)


def test_motion_has_a_direction_and_a_strength():
    flow = np.zeros((1, 4, 2))
    flow[0, 1], flow[0, 2], flow[0, 3] = (6, 0), (-3, 0), (60, 0)
    found = motion(flow)[0]
    assert np.allclose(found[0], 1) and np.allclose(found[1], (1, 0, 0)) and np.allclose(found[3], found[1])
    assert np.allclose(found[2], (0.5, 1, 1)), "to the left cyan, half as strong"


def test_a_film_strip_shows_frames_truth_and_motion(task):
    row = task.labelled[0]
    axes = [axis for axis in plots.clip(task, row, Bright()).axes if axis.images]
    assert len(axes) == 5 * 3 and [axis.get_title() for axis in axes[:3]] == ["-1", "labelled", "+1"]
    assert [axis.get_ylabel() for axis in axes[::3]] == ["image", "truth", "said", "motion", "seen"]
    assert np.asarray(axes[10].images[0].get_array())[..., :3].min() in (1, 255), "nothing moves from a frame to itself"
    with pytest.raises(S4Error, match="in no clip"):
        plots.clip(load("scenes", n_train=8, n_val=1, side=32), 0)


def test_scores_over_the_distance_are_those_of_these_frames(task):
    net = Bright()
    axis = plots.by_distance({"bright": net}, task).axes[0]
    (line,) = axis.get_lines()
    assert line.get_xdata().tolist() == [0, 1]
    sources = task.train
    middle = [task.train.read(row) for row in task.labelled]
    confusion = torch.zeros(7, 7)
    for sample in middle:
        said, known = net(sample.image[None] / 255).argmax(1)[0], sample.label != 255
        confusion += torch.bincount(sample.label[known].long() * 7 + said[known], minlength=49).view(7, 7)
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    expected = 100 * (confusion.diag() / union)[union > 0].mean().item()
    assert line.get_ydata()[0] == pytest.approx(expected, rel=1e-5)
    assert evaluate(net, task).miou != pytest.approx(expected) and len(sources) == 12
    with pytest.raises(S4Error, match="no distance"):
        plots.by_distance({"bright": net}, load("scenes", n_train=8, n_val=1, side=32, labelled=2))
