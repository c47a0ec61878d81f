"""TWIST: what groups are, and how objects mend classes and classes mend objects."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import ROOMS, toy_rooms

import s4kit.data as data
from s4kit import methods
from s4kit.data.kept import Kept
from s4kit.data.task import VOID
from s4kit.engine import fit
from s4kit.methods.base import Clock
from s4kit.methods.parts.proposals import objects_of, truth_of, ways_to_middle
from s4kit.methods.points.twist import Twist, group_means, of_points
from s4kit.nets.rooms import Groups, Judged, Read

MIDDLE = Clock(50, 100)
SURE = 20.0  # a logit


def some_ids(g, size=(2, 120)):
    """Ids of a few objects, and some points of none, or void."""
    kind = torch.randint(0, 7, size, generator=g)
    label = torch.tensor([0, 0, 1, 1, 2, 3, VOID])[kind]
    return torch.where((label > 0) & (label != VOID), 1000 * label + kind, label)


def test_what_groups_are_is_what_a_slow_count_says():
    g = torch.Generator().manual_seed(0)
    for _ in range(4):
        ids, groups = some_ids(g), torch.randint(0, 4, (2, 120), generator=g)
        groups[1] = torch.where(groups[1] > 0, groups[1] + 3, 0)
        groups = torch.where((torch.rand(2, 120, generator=g) < 0.5) & (ids >= 1000), ids % 10 - 1, groups)
        count = int(groups.max())
        found = truth_of(Groups(groups, count), ids, torch.tensor([1, 2, 3]))
        for k in range(1, count + 1):
            own = groups == k
            known = own & (ids != VOID)
            best, most, kind = 0.0, 0, 0
            for room in (0, 1):
                for name in ids[room].unique().tolist():
                    if name < 1000:
                        continue
                    other = (ids == name) & (torch.arange(2) == room)[:, None]
                    best = max(best, float((known & other).sum() / (known | other).sum()))
                    if (own & other).sum() > most:
                        most, kind = int((own & other).sum()), name // 1000
            assert found.kind[k - 1] == (kind if most >= max(1, int(known.sum())) / 2 else 0)
            assert found.quality[k - 1] == pytest.approx(min(1, max(0, (best - 0.25) / 0.5)), abs=1e-6)
            assert found.known[k - 1] == float((own & ~known).sum() < own.sum() / 2)
    nothing = truth_of(
        Groups(torch.ones(1, 9, dtype=torch.long), 1), torch.zeros(1, 9, dtype=torch.long), torch.tensor([1])
    )
    assert (nothing.kind, nothing.quality, nothing.known) == (0, 0, 1)


def test_ways_lead_to_the_mean_of_an_object():
    g = torch.Generator().manual_seed(0)
    ids, points = some_ids(g), torch.randn(2, 120, 6, generator=g)
    objects = objects_of(ids)
    ways = ways_to_middle(points, objects)
    for room in (0, 1):
        for name in ids[room].unique().tolist():
            own = ids[room] == name
            to = points[room, own, :3].mean(0) - points[room, own, :3] if name >= 1000 else 0 * points[room, own, :3]
            torch.testing.assert_close(ways[room, :, own].T, to, atol=1e-5, rtol=0)
    assert objects.count == len({(room, name) for room in (0, 1) for name in ids[room].tolist() if name >= 1000})
    few = objects_of(ids, int((ids[0] == 1003).sum()) + 1)
    assert not few.ids[0][ids[0] == 1003].any()


def test_objects_name_their_points_as_a_slow_rule_does(build):
    g = torch.Generator().manual_seed(0)
    method = build("twist", tau=0.6, sure=0.4, share=0.5, vote=0.3)
    ids = torch.randint(0, 6, (2, 90), generator=g)
    p = torch.randn(2, 4, 90, generator=g).mul(2).softmax(1)
    judged = Judged(4 * torch.randn(5, 4, generator=g), torch.randn(5, generator=g) + 1)
    found = method.objects_to_classes(p, Groups(ids, 5), judged)
    q = judged.kind.softmax(1)
    named = 0
    for room in (0, 1):
        for k in range(90):
            own = int(p[room, :, k].argmax()) if p[room, :, k].max() >= 0.6 else VOID
            if number := int(ids[room, k]):
                inside = ids == number
                vote = torch.stack([p[:, c][inside].mean() for c in range(4)])
                chance = 0.3 * vote + 0.7 * q[number - 1]  # class 0 is the floor: no object
                score = judged.quality[number - 1].sigmoid() * (1 - q[number - 1, 0])
                if score >= 0.4 and chance.max() >= 0.5 and chance.argmax() > 0:
                    own, named = int(chance.argmax()), named + 1
            assert found[room, k] == own
    assert 0 < named < 180
    assert torch.allclose(group_means(p, Groups(ids, 5))[2], p.mT[ids == 3].mean(0), atol=1e-6)
    assert of_points(torch.tensor([7, 8]), Groups(torch.tensor([[0, 2, 1]]), 2)).tolist() == [[VOID, 8, 7]]


class Told(torch.nn.Module):
    """Reads classes and ways that it is told; judges a group by its true object, as a well trained network does."""

    def __init__(self, net, p, points, ids):
        super().__init__()
        self.things, self.net, self.ids = net.things, net, ids
        self.said = Read(torch.zeros(len(p), 1, p.shape[2]), p.log(), ways_to_middle(points, objects_of(ids)))

    def read(self, points):
        return self.said

    def groups(self, points, label, offset):
        return self.net.groups(points, label, offset)

    def judged(self, features, points, groups):
        truth = truth_of(groups, self.ids, self.things)
        kind = torch.nn.functional.one_hot(truth.kind, 1 + len(self.things))
        return Judged(SURE * kind.float(), SURE * torch.ones_like(truth.quality))


@pytest.fixture(scope="module")
def rooms():
    """(points, labels, ids) of embedded rooms."""
    task = data.load("rooms", n_train=4, n_val=1, points=4000, labelled=2, cover=0)
    every = [
        (task.train.read(k).points, task.train.read(k).label.long(), task.train.objects(k).long()) for k in range(4)
    ]
    return task, *map(torch.stack, zip(*every))


def told(task, p, points, ids, **options):
    method = Twist(task, net="voxel(width=2, depth=0, reach=0.12, least=15)", **options)
    method.student = Told(method.student, p, points, ids)
    return method


def noisy(label, ids, share=0.2, seed=0):
    """Labels of which a share of the points of objects has another class, and the chances that say so."""
    g = torch.Generator().manual_seed(seed)
    hit = (torch.rand(label.shape, generator=g) < share) & (ids >= 1000)
    wrong = torch.where(hit, torch.randint(2, 6, label.shape, generator=g), label)
    return wrong, 0.9 * torch.nn.functional.one_hot(wrong, 6).mT + 0.1 / 6


def same_objects(one, other):
    """Whether the objects of two maps of ids are the same sets of points."""
    return all(
        {frozenset((ids == n).nonzero()[:, 0].tolist()) for n in ids.unique().tolist() if n >= 1000}
        == {frozenset((theirs == n).nonzero()[:, 0].tolist()) for n in theirs.unique().tolist() if n >= 1000}
        for ids, theirs in zip(one, other)
    )


def test_the_truth_stays_as_it_is(rooms):
    task, points, label, ids = rooms
    p = 0.99 * torch.nn.functional.one_hot(label, 6).mT + 0.01 / 6
    found = told(task, p, points, ids).corrected(points)
    assert torch.equal(found.label, label) and same_objects(found.ids, ids)
    assert torch.equal(found.ids[found.ids >= 1000] // 1000, label[found.ids >= 1000])
    again = told(task, 0.99 * torch.nn.functional.one_hot(found.label, 6).mT + 0.01 / 6, points, ids).corrected(points)
    assert torch.equal(again.label, found.label) and torch.equal(again.ids, found.ids), "nothing is left to be mended"


def test_noise_inside_of_objects_goes_away_and_each_way_is_needed(rooms):
    """20 % of the points of each object have another class. Those that are far from their own become no group of
    theirs, so objects have holes until the classes are mended."""
    task, points, label, ids = rooms
    wrong, p = noisy(label, ids)
    inside = ids >= 1000
    both = told(task, p, points, ids, tau=0.95)
    found = both.corrected(points)
    right = (found.label == label)[inside].float().mean()
    assert (wrong == label)[inside].float().mean() < 0.87 < 0.97 < right
    overlap = coverage(found.ids, ids)
    # classes are mended, but the groups are those of the first classes
    groups, judged = both.grouped(both.student.read(points), points, wrong)
    classes = both.objects_to_classes(p, groups, judged)
    _, first = both.classes_to_objects(classes, wrong, groups, judged)
    assert coverage(first, ids) < 0.9 < 0.97 < overlap
    # nothing is mended by objects: points keep what they are sure of
    alone = told(task, p, points, ids, tau=0.8, share=1.1).corrected(points)
    assert (alone.label == label)[inside].float().mean() < 0.9


def coverage(found, truth):
    """Mean over the true objects of the largest IoU with a found one."""
    best = []
    for ids, theirs in zip(found, truth):
        for name in theirs.unique().tolist():
            if name >= 1000:
                own = theirs == name
                others = [n for n in ids[own].unique().tolist() if n >= 1000]
                best.append(max(((own & (ids == n)).sum() / (own | (ids == n)).sum() for n in others), default=0.0))
    return float(np.mean(best))


def test_two_halves_of_different_classes_become_one_object(rooms):
    task, points, label, ids = rooms
    name = next(n for n in ids[0].unique().tolist() if n >= 1000 and (ids[0] == n).sum() > 200)
    own, wrong = ids[0] == name, label[:1].clone()
    left = own & (points[0, :, 0] < points[0, own, 0].median())
    wrong[0, left] = 2 + (name // 1000 - 1) % 4
    p = 0.9 * torch.nn.functional.one_hot(wrong, 6).mT + 0.1 / 6
    found = told(task, p, points[:1], ids[:1]).corrected(points[:1])
    assert (found.label[0, own] == name // 1000).all() and len(found.ids[0, own].unique()) == 1
    by_vote = told(task, p, points[:1], ids[:1], vote=1.0).corrected(points[:1])
    assert len(by_vote.ids[0, own].unique()) > 1, "the points' own majority keeps either half as it is"


def test_an_unlabelled_room_teaches_what_was_kept_of_it(build, draw):
    method = build("twist", weight=0.5)
    batch = draw(method)
    losses = method.losses(batch, MIDDLE)
    weights = {name: weight for name, (_, weight) in losses.items()}
    assert weights["u_class"] == 0.5 * weights["x_class"] and weights["u_kind"] == pytest.approx(0.15)
    batch.u.maps["label"].fill_(VOID)
    none = method.losses(batch, MIDDLE)
    assert all(none[f"u_{name}"][0] == 0 for name in ("class", "offset", "direction", "kind", "quality"))
    assert all(torch.equal(none[f"x_{name}"][0], losses[f"x_{name}"][0]) for name in ("class", "offset"))


def trained(task, out, **options):
    torch.manual_seed(0)
    method = methods.create("twist", task, net=ROOMS, sure=0.1, share=0.3, tau=0.5)
    chosen = {"batch": 2, "lr": 0.01, "head": 1.0, "evaluate_every": 12, "probes": 2, "threads": 1, "device": "cpu"}
    return fit(method, task, 24, out=out, workers=0, progress=False, **chosen | options)


@pytest.mark.slow
def test_rounds_keep_what_they_believe_and_a_killed_one_goes_on(tmp_path, monkeypatch):
    task = toy_rooms()
    straight = trained(task, tmp_path / "straight")
    kept = Kept(str(straight.path / "store"), 2)
    for row in task.unlabelled:
        label, ids = kept.read("label", row)[0], kept.read("instance", row)[0]
        assert label.shape == ids.shape == (200,) and set(label.tolist()) <= {0, 1, 2, 3, VOID}
        assert (ids[ids >= 1000] // 1000 == label[ids >= 1000]).all()
    assert straight.rounds and {"pointap", "points_miou"} <= straight.headline[-1].keys()
    shots = straight.snapshots()
    assert shots.path_steps["kept labels"] and {"network now", "kept labels"} <= shots.steps.keys()
    with monkeypatch.context() as patch:
        patch.setattr(Twist, "after_step", lambda self, clock: 1 / (2 - clock.step - 5 * (2 - clock.stage)))
        with pytest.raises(ZeroDivisionError):
            trained(task, tmp_path / "killed", checkpoint_every=2)
    again = trained(task, tmp_path / "killed", resume=True)
    one, two = (torch.load(run.path / "last.pt", weights_only=True)["method"] for run in (straight, again))
    assert all(torch.equal(one[name], two[name]) for name in one) and straight.metrics() == again.metrics()
