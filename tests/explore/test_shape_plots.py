"""Points from four sides, with their parts at each level."""

import numpy as np
import pytest
import torch
from toy import tiny_net, toy_points, toy_task

from s4kit import methods
from s4kit.errors import S4Error
from s4kit.explore import plots
from s4kit.explore.plots.shapes import palette_of, said_of
from s4kit.views import draw_step, render


@pytest.fixture(scope="module")
def task():
    return toy_points()


def shown(figure):
    return [axis for axis in figure.axes if axis.images]


def test_a_shape_has_a_picture_of_each_level_and_of_what_is_wrong(task):
    method = methods.create("supervised", task, net=tiny_net(task)).eval()
    axes = shown(plots.shape(task, 0, method.student))
    assert len(axes) == 3 + 2 + 2 and [axis.get_title() for axis in axes[:3]] == ["points", "coarse", "fine"]
    colours = {tuple(c) for c in np.asarray(axes[1].images[0].get_array()).reshape(-1, 3).tolist()}
    assert {tuple(c) for c in palette_of(task, "coarse")} <= colours
    said = said_of(method.student, task, task.train.read(0).points[None])
    assert {level: label.shape for level, label in said.items()} == {"coarse": (96,), "fine": (96,)}
    assert len(shown(plots.shape(task, task.val.read(0)))) == 3
    with pytest.raises(S4Error, match="toy has no points"):
        plots.shape(toy_task(), 0)


def test_coarse_parts_have_the_colour_of_their_first_fine_part(task):
    assert palette_of(task, "coarse") == [task.palette[0], task.palette[2]]
    assert palette_of(task, "fine") == list(task.palette)


def test_copies_show_what_counts(task):
    method = methods.create("shape3d", task, net=tiny_net(task))
    batch = render(draw_step(task, method.views, 2, 0, 0, 0), method.views)
    axes = shown(plots.copies(task, batch.u, 1))
    assert len(axes) == 6 and [axis.get_title() for axis in axes[:2]] == ["copy 1", "copy 2"]


def test_the_idea_of_a_method_of_points_is_a_picture(task):
    torch.manual_seed(0)
    for name, tiles in (("shape3d", 5), ("supervised", 2)):
        method = methods.create(name, task, net=tiny_net(task))
        batch = render(draw_step(task, method.views, 2, 0, 0, 0), method.views)
        (row,) = plots.ideas.rows(method, batch, task)
        assert len(row.cells) == tiles and row.cells[0].pixels.shape == (200, 200, 3)
