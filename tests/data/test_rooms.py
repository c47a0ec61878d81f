"""The embedded rooms, and what scanned ones are made of: normals, ids of objects."""

import pickle

import numpy as np
import pytest
import torch

import s4kit.data as data
from s4kit.data.gathered import Gathered
from s4kit.data.points.clouds import Cloud, RoomEvaluation
from s4kit.data.points.scanned import estimated_normals, object_ids
from s4kit.errors import S4Error


@pytest.fixture(scope="module")
def task():
    return data.load("rooms", n_train=10, n_val=2, points=2000, labelled=4)


def test_a_room_is_points_in_metres_with_classes_and_objects(task):
    cloud, ids = task.train.read(0), task.train.objects(0)
    assert (
        isinstance(cloud, Cloud)
        and isinstance(task.evaluation, RoomEvaluation)
        and task.evaluation.things == (2, 3, 4, 5)
    )
    assert cloud.points.shape == (2000, 6) and ids.shape == cloud.label.shape == (2000,) and ids.dtype == torch.int32
    low, high = cloud.points[:, :3].amin(0), cloud.points[:, :3].amax(0)
    assert (low + high).abs().max() < 0.3 and 3.5 < (high - low)[0] < 5 and 2 < (high - low)[1] < 2.4
    assert torch.allclose(cloud.points[:, 3:].norm(dim=1), torch.ones(2000), atol=1e-5)
    assert task.train.read(0, label=False).label is None
    assert torch.equal(pickle.loads(pickle.dumps(task.train)).read(0).points, cloud.points)
    other = data.load("rooms", n_train=30, n_val=1, points=2000, labelled=4)
    assert torch.equal(other.train.read(0).points, cloud.points) and not torch.equal(
        task.val.read(0).points, cloud.points
    )


def test_every_object_is_of_one_class_and_the_floor_and_walls_are_of_none(task):
    counts = []
    for row in range(10):
        cloud, ids = task.train.read(row), task.train.objects(row)
        assert torch.equal(ids >= 1000, cloud.label >= 2) and (ids[cloud.label < 2] == 0).all()
        assert torch.equal(ids[ids >= 1000] // 1000, cloud.label[ids >= 1000].int())
        counts.append(len(ids.unique()) - 1)
        floor = cloud.label == 0
        assert (cloud.points[floor, 4] == 1).all() and cloud.points[floor, 1].std() < 0.02
        inward = cloud.points[cloud.label == 1]
        assert (inward[:, [3, 5]].abs().sum(1) == 1).all()
        assert ((inward[:, :3] * inward[:, 3:]).sum(1) < 0).all(), "walls look into the room"
    assert min(counts) >= 2 and max(counts) <= 8
    whole = data.load("rooms")
    seen = {k for row in whole.labelled for k in whole.train.read(row).label.unique().tolist()}
    assert seen == set(range(6)) and len(whole.labelled) == 4
    gathered = Gathered(list(reversed(task.train.ids)), [task.train])
    assert torch.equal(gathered.objects(0), task.train.objects(9))


def test_normals_of_a_box_are_found_and_look_inside():
    rng = np.random.default_rng(0)
    places, axis, side = rng.uniform(-1, 1, (6000, 3)), rng.integers(0, 3, 6000), rng.choice([-1, 1], 6000)
    places[np.arange(6000), axis] = side
    places += 0.002 * rng.standard_normal(places.shape)
    found = estimated_normals(places + 5.0, 0.2)
    true = -np.eye(3)[axis] * side[:, None]
    inner = np.sort(np.abs(places), 1)[:, 1] < 0.6  # not near an edge
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert ((found * true).sum(1)[inner] > 0.97).all()


def test_ids_follow_from_classes_and_numbers_of_objects():
    classes = np.array([0, 2, 2, 3, 255, 2, 3, 255, 255])
    number = np.array([0, 4, 4, 4, 4, 0, 7, 9, 9])
    ids = object_ids(classes, number, (2, 3))
    assert ids[0] == 0 and ids[5] == 255, "the floor is of none, a thing of no object is not known"
    assert len(set(ids[1:5])) == 1 and ids[1] // 1000 == 2, "an object is of the class of most of its points"
    assert ids[6] // 1000 == 3 and (ids[7:] == 255).all()


def test_what_cannot_be_is_said():
    with pytest.raises(S4Error, match="no pixels: leave out size"):
        data.load("rooms", size=0.5)
    with pytest.raises(S4Error, match="points >= 256"):
        data.load("rooms", points=3)
    with pytest.raises(S4Error, match="has no images: leave out crop"):
        data.load("rooms", crop=64)
