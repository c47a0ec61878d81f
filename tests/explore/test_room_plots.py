"""Rooms from four sides: classes and objects, true and found."""

import numpy as np
import pytest
import torch
from toy import ROOMS, toy_points, toy_rooms

from s4kit import methods
from s4kit.errors import S4Error
from s4kit.explore import plots
from s4kit.explore.plots.rooms import said_of
from s4kit.nets.rooms import Proposed
from s4kit.views import draw_step, render


@pytest.fixture(scope="module")
def task():
    return toy_rooms()


def shown(figure):
    return [axis for axis in figure.axes if axis.images]


def test_a_room_has_its_classes_and_objects_and_what_is_found(task):
    method = methods.create("supervised", task, net=ROOMS).eval()
    axes = shown(plots.room(task, 0, method.student, part="val"))
    assert len(axes) == 3 + 2 and [axis.get_title() for axis in axes[:3]] == ["points", "classes", "objects"]
    colours = [{tuple(c) for c in np.asarray(axis.images[0].get_array()).reshape(-1, 3).tolist()} for axis in axes[1:3]]
    assert set(task.palette) <= colours[0] and len(colours[1]) == 1 + 1 + 3, "white, points of none, three objects"
    assert len(shown(plots.room(task, 0))) == 3
    with pytest.raises(S4Error, match="toy points has no rooms"):
        plots.room(toy_points(), 0)


def test_what_is_mended_stands_beside_what_was_there_at_first_and_the_truth(task):
    torch.manual_seed(0)
    method = methods.create("twist", task, net=ROOMS).eval()
    axes = shown(plots.mended(method, task, 5))
    assert len(axes) == 6 and [axis.get_title() for axis in axes[:2]] == ["classes", "objects"]
    pictures = [np.asarray(axis.images[0].get_array()) for axis in axes]
    assert len({tuple(c) for c in pictures[5].reshape(-1, 3).tolist()}) == 1 + 1 + 3
    assert not np.array_equal(pictures[0], pictures[4])
    with pytest.raises(S4Error, match="supervised mends no labels"):
        plots.mended(methods.create("supervised", task, net=ROOMS), task, 5)


def test_only_what_is_sure_enough_is_shown(task):
    class Net(torch.nn.Module):
        def find(self, points):
            return [
                Proposed(torch.zeros(4, 3), torch.tensor([0, 1, 2]), torch.tensor([1, 3]), torch.tensor([0.9, 0.1]))
            ]

    assert said_of(Net(), torch.zeros(1, 3, 6))[1].tolist() == [0, 1001, 0]


def test_the_idea_of_a_method_of_rooms_is_a_picture(task):
    torch.manual_seed(0)
    for name, tiles in (("twist", 4), ("supervised", 2)):
        method = methods.create(name, task, net=ROOMS)
        batch = render(draw_step(task, method.views, 2, 0, 0, 0), method.views)
        (row,) = plots.ideas.rows(method, batch, task)
        assert len(row.cells) == tiles and row.cells[0].pixels.shape == (200, 200, 3)
