"""The embedded data set of points: its solids, its nested parts, and shapes made by part substitution."""

import pickle

import numpy as np
import pytest
import torch

import s4kit.data as data
from s4kit.data.embedded.shapes_paint import Ball, Box, Rod
from s4kit.data.embedded.shapes_plans import TREE
from s4kit.data.points.clouds import Cloud, PartEvaluation, lifted
from s4kit.data.points.substituted import fitted, substitute
from s4kit.data.seeding import generator
from s4kit.errors import S4Error


@pytest.fixture(scope="module")
def task():
    return data.load("shapes", n_train=24, n_val=6, points=512, labelled=6, substituted=5)


def test_a_shape_is_points_with_normals_and_nested_parts(task):
    cloud = task.train.read(0)
    assert isinstance(cloud, Cloud) and task.train.item is Cloud and isinstance(task.evaluation, PartEvaluation)
    assert cloud.points.shape == (512, 6) and cloud.points.dtype == torch.float32
    assert cloud.label.shape == (512,) and cloud.label.dtype == torch.uint8
    distance = cloud.points[:, :3].norm(dim=1)
    assert distance.max() == pytest.approx(1, abs=1e-6)
    assert torch.allclose(cloud.points[:, 3:].norm(dim=1), torch.ones(512), atol=1e-5)
    assert task.train.read(0, label=False).label is None
    assert torch.equal(pickle.loads(pickle.dumps(task.train)).read(0).points, cloud.points)


def test_every_part_occurs_and_each_level_is_a_function_of_the_finest(task):
    whole = data.load("shapes")
    seen = set()
    for row in whole.labelled:
        label = whole.train.read(row).label
        seen |= set(label.tolist())
        names = {whole.classes[k] for k in label.tolist()}
        coarse = {whole.levels["coarse"][k] for k in lifted(label, whole.parents["coarse"]).tolist()}
        assert coarse == {TREE[name][0] for name in names}
    assert seen == set(range(25)), "each part is in a labelled shape"
    assert [len(names) for names in task.levels.values()] == [9, 20, 25] and task.levels["fine"] == task.classes
    assert lifted(torch.tensor([0, 255]), task.parents["coarse"]).tolist() == [0, 255]


@pytest.mark.parametrize(
    "solid",
    [
        Box(np.array([1.0, 2, 3]), np.array([0.3, 0.1, 0.2]), np.eye(3)),
        Rod(np.array([0.0, 0, 0]), np.array([0.2, 1, 0]), (0.1, 0.3)),
        Ball(np.zeros(3), 0.5),
    ],
    ids=["box", "rod", "ball"],
)
def test_points_lie_evenly_on_a_solid_and_normals_point_out(solid):
    places, normals = solid.surface(np.random.default_rng(0), 20_000)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    # the flux of x through a closed surface is its volume times three; a wrong share of a face or a normal shows
    volume = solid.area * (places * normals).sum(1).mean() / 3
    true = {
        "Box": lambda: 8 * np.prod(solid.half),
        "Rod": lambda: np.pi / 3 * (0.1**2 + 0.1 * 0.3 + 0.3**2) * np.linalg.norm(solid.end),
        "Ball": lambda: 4 / 3 * np.pi * solid.radius**3,
    }[type(solid).__name__]()
    assert volume == pytest.approx(true, rel=0.05 if type(solid) is not Box else 0.5)


def test_substituted_shapes_are_labelled_and_made_of_the_labelled_ones_alone(task):
    plain = data.load("shapes", n_train=24, n_val=6, points=512, labelled=6)
    assert task.labelled == (*plain.labelled, 24, 25, 26, 27, 28) and task.unlabelled == plain.unlabelled
    assert task.train.ids[24] == "substituted_0000" and "5 more by part substitution" in task.protocol
    own = {k for row in plain.labelled for k in plain.train.read(row).label.tolist()}
    changed = 0
    for k, row in enumerate(task.labelled[6:]):
        made = task.train.read(row)
        assert made.points.shape == (512, 6) and made.points[:, :3].norm(dim=1).max() <= 1 + 1e-6
        assert set(made.label.tolist()) <= own
        changed += set(made.label.tolist()) != set(plain.train.read(plain.labelled[k]).label.tolist())
    assert changed >= 1
    again = data.load(**{"name": "shapes", **{k: v for k, v in task.config.items() if k != "name"}})
    assert again.labelled == task.labelled and torch.equal(again.train.read(25).points, task.train.read(25).points)


def test_a_part_is_fitted_to_the_one_that_it_replaces():
    rng = np.random.default_rng(0)
    source, target = rng.uniform(-1, 1, (50, 3)) * (0.2, 0.5, 0.3), rng.uniform(0.1, 0.4, (40, 3))
    box = np.array([[-1.0] * 3, [1.0] * 3])
    scale, shift = fitted(source, target, source, box)
    moved = source * scale + shift
    assert np.allclose(moved.min(0), target.min(0)) and np.allclose(moved.max(0), target.max(0))
    part = np.concatenate([source, [[0.0, 5.0, 0.0]]])  # leaves the box along y alone
    other, _ = fitted(source, target, part, box)
    assert np.allclose(other[[0, 2]], scale[[0, 2]]) and other[1] == pytest.approx(
        2 / (part[:, 1].max() - part[:, 1].min())
    )


def test_a_part_is_replaced_as_a_whole_or_not_at_all():
    """Two shapes of the same two parts, told apart by a normal that no own point of the template has."""
    grid = np.random.default_rng(0).uniform(-0.5, 0.5, (80, 3))
    label = torch.arange(80) // 40
    shapes = [
        Cloud(torch.from_numpy(np.concatenate([grid, np.tile(n, (80, 1))], 1)).float(), label.to(torch.uint8), str(n))
        for n in ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    ]
    parents, found = [np.arange(256)], set()
    for k in range(20):
        points, made = substitute(generator(k), shapes, parents, 0)
        theirs = [bool((points[made == part, 3] > 0.5).all()) for part in (0, 1)]
        mixed = [bool((points[made == part, 3] > 0.5).any()) for part in (0, 1)]
        assert theirs == mixed and len(points) == 80
        found.add(tuple(theirs))
    assert len(found) == 4
    same, _ = substitute(generator(0), shapes, parents, 0, chance=0.0)
    assert np.array_equal(same, shapes[0].points.numpy())


def test_what_cannot_be_is_said():
    with pytest.raises(S4Error, match="has no images: leave out crop"):
        data.load("shapes", crop=64)
    with pytest.raises(S4Error, match="no pixels: leave out size"):
        data.load("shapes", size=0.5)
    with pytest.raises(S4Error, match="points >= 64"):
        data.load("shapes", points=3)
