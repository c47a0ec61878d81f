"""Data sets without their files."""

import time

import pytest

from s4kit.data import dataset
from s4kit.data.objects import OBJECTS, split
from s4kit.data.outline import OUTLINES, outline
from s4kit.errors import S4Error
from s4kit.methods import get, names
from s4kit.views import draw_step, render


@pytest.mark.parametrize("name", OUTLINES)
def test_an_outline_is_a_task_that_views_can_be_drawn_from(name):
    task = outline(name, labelled=8, crop=33)
    assert task.num_classes == dataset(name).classes and len(task.palette) == task.num_classes
    assert len(task.labelled) == 8 and not task.overlap and len(task.labelled) + len(task.unlabelled) == len(task.train)
    plan = get("unimatch").views
    batch = render(draw_step(task, plan, 2, 0, 0, 0), plan)
    assert batch.u.strong[0].shape == (2, 3, 33, 33)
    labels = batch.x.label[batch.x.label != 255]
    assert labels.max() < task.num_classes and (batch.u.label == 255).all()


def test_counts_sizes_and_protocol():
    task = outline("cityscapes", labelled=372, size=0.5, scale=(1.0, 1.0), masks="ignored")
    sample = task.train.read(0)
    assert sample.image.shape == (3, 512, 1024) and set(sample.label.unique().tolist()) == set(range(19))
    assert (len(task.train), len(task.val), len(task.labelled)) == (2975, 500, 372) and task.scale == (1.0, 1.0)
    assert task.evaluation.mode == "sliding" and task.evaluation.window == 801
    assert len(outline("voc", labelled=732, train=1464).unlabelled) == 732
    assert len(outline("camvid", labelled="1/10").labelled) == len(outline("camvid", labelled=0.1).labelled) == 37
    assert task.train.read(0, label=False).label is None


@pytest.mark.parametrize(("name", "classes"), [("cityscapes", 9), ("coco", 81), ("scenes", 7)])
def test_an_outline_of_single_objects(name, classes):
    task = outline(name, labelled=8, crop=33, instances=True)
    assert task.num_classes == len(task.palette) == classes and task.evaluation.of == "masks of single objects"
    found, masks = split(task.train.map(OBJECTS, 3))
    assert len(found) == 8 and min(found // 1000) >= 1 and max(found // 1000) < classes
    assert (masks.sum(0) <= 1).all() and task.train.maps == (OBJECTS,) and outline(name).train.maps == ()
    with pytest.raises(S4Error, match=r"objects of voc cannot be loaded; scenes, cityscapes or coco"):
        outline("voc", instances=True)


def test_every_recipe_can_be_planned_for():
    """What a recipe asks of `load` is understood without the files, too."""
    for name in names():
        for data in get(name).recipes.keys() & OUTLINES.keys():
            assert len(outline(data, **get(name).recipe(data)["task"]).labelled), (name, data)


def test_a_large_list_starts_at_once():
    began = time.process_time()
    assert len(outline("coco", labelled=232).unlabelled) == 118_287 - 232
    assert time.process_time() - began < 1


def test_mistakes():
    with pytest.raises(S4Error, match="cityscapes"):
        outline("cityscape")
    with pytest.raises(S4Error, match="10582"):
        outline("voc", labelled=20_000)
