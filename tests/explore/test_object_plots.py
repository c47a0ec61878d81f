"""Pictures of single objects."""

import numpy as np
import pytest
import torch

from s4kit.data import load
from s4kit.engine.scores import MaskScores, RoomScores, Scores
from s4kit.errors import S4Error
from s4kit.explore import plots
from s4kit.explore.plots.objects import painted
from s4kit.nets.objects import Objects


class Square(torch.nn.Module):
    """Finds one sure square, and one that is not."""

    classes = 7

    def forward(self, image):
        masks = torch.zeros(2, *image.shape[-2:])
        masks[0, :8, :8] = masks[1, 20:, 20:] = 1
        return [Objects(torch.zeros(2, 4), torch.tensor([3, 2]), torch.tensor([0.9, 0.2]), masks)]


def test_true_and_found_objects_are_shown():
    task = load("scenes", n_train=4, n_val=2, side=32, labelled=2, cover=0, instances=True)
    axes = [axis for axis in plots.objects(task, [0, 1], Square()).axes if axis.images]
    assert len(axes) == 6
    with pytest.raises(S4Error, match="is not known"):
        plots.objects(load("clips", n_train=2, n_val=1, side=32), [0])


def test_two_objects_of_one_class_have_two_colours_and_void_is_grey():
    ids = torch.zeros(9, 12, dtype=torch.int32)
    ids[1:5, 1:5], ids[1:5, 5:9], ids[7:] = 1001, 1002, 255
    shown = painted(torch.full((3, 9, 12), 255, dtype=torch.uint8), ids)
    assert shown.shape == (9, 12, 3) and np.ptp(shown) <= 1
    assert np.abs(shown[2, 2] - shown[2, 6]).max() > 0.2, "told apart"
    assert (shown[0, 0] == 1).all() and (shown[8, 3] == 0.5).all()
    assert not np.allclose(shown[1, 1], shown[2, 2]), "a rim parts them"


def test_an_ap_of_objects_has_no_confusion_matrix():
    areas = torch.full((10, 2), 0.5)
    rooms = RoomScores(areas, ("table", "chair"), Scores(torch.eye(3, dtype=torch.long), ("floor", "table", "chair")))
    for scores in (MaskScores(torch.full((10, 101, 3), 0.5), ("a", "b", "c")), rooms):
        with pytest.raises(S4Error, match=f"{scores.name} is of objects"):
            plots.confusion(scores)
    assert plots.confusion(rooms.points).axes


def test_precision_over_recall_of_each_class():
    precision = torch.full((10, 101, 3), 0.5)
    precision[..., 2] = torch.nan
    scores = MaskScores(precision, ("a", "b", "c"))
    (axis,) = plots.precision_recall(scores).axes
    assert [line.get_label() for line in axis.lines] == ["a 50", "b 50"]
    assert len(plots.precision_recall({"one": scores, "two": scores}, iou=0.75).axes) == 2
