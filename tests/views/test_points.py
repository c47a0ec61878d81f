"""Streams of points: moved copies of the same points, and how they are drawn from four sides."""

import pickle

import numpy as np
import pytest
import torch
from toy import toy_points, toy_rooms, toy_task

from s4kit.data.points.sides import seen_points
from s4kit.errors import S4Error
from s4kit.views import PointStream, Rigid, Stream, Upright, ViewPlan, draw_step, render
from s4kit.views.looks import POINTS

PLAN = ViewPlan(x=PointStream("labelled"), u=PointStream("unlabelled", copies=3, batch=2.0))


@pytest.fixture(scope="module")
def task():
    return toy_points()


def test_copies_are_rigid_up_to_one_scale(task):
    still = PointStream("labelled", rigid=Rigid(0, 0.0, 0.0))
    plain = render(draw_step(task, ViewPlan(x=still), 4, 0, 0, 0), ViewPlan(x=still)).x
    batch = render(draw_step(task, PLAN, 4, 0, 0, 0), PLAN)
    assert torch.equal(plain.index, batch.x.index) and torch.equal(plain.label, batch.x.label)
    assert torch.equal(plain.weak, plain.strong[0])
    turns = []
    for copy in (batch.x.weak, *batch.x.strong):
        for before, after in zip(plain.weak, copy):
            distances = torch.cdist(after[:, :3], after[:, :3]) / torch.cdist(before[:, :3], before[:, :3])
            scale = distances[0, 1:].median()
            assert 0.75 <= scale <= 1.25
            assert torch.allclose(
                torch.cdist(after[:, :3], after[:, :3]), scale * torch.cdist(before[:, :3], before[:, :3]), atol=1e-3
            )
            turn = torch.linalg.lstsq(before[:, 3:], after[:, 3:]).solution
            assert torch.allclose(turn @ turn.T, torch.eye(3), atol=1e-4) and torch.linalg.det(turn) > 0
            centre = after[:, :3].mean(0) / scale - before[:, :3].mean(0) @ turn
            assert centre.abs().max() <= 0.25 + 1e-4
            assert torch.allclose(after[:, :3], scale * (before[:, :3] @ turn + centre), atol=1e-3)
            turns.append(turn)
    angles = [torch.rad2deg(torch.arccos(((t.trace() - 1) / 2).clamp(-1, 1))).item() for t in turns]
    assert 1 < max(angles) < 18 and len({round(a, 2) for a in angles}) > 6


def test_what_has_left_the_cube_in_any_copy_is_not_valid(task):
    batch = render(draw_step(task, PLAN, 4, 0, 0, 0), PLAN)
    u = batch.u
    assert u.weak.shape == (8, 96, 6) and len(u.strong) == 2 and not u.labelled.any() and bool((u.label == 255).all())
    inside = torch.stack([c[..., :3].abs().amax(2) <= 1 for c in (u.weak, *u.strong)]).all(0)
    assert torch.equal(u.valid > 0, inside) and 0 < u.valid.mean() < 1
    assert batch.x.labelled.all() and bool((batch.x.label[:, 2:] < 4).all())


def test_the_draw_is_a_function_of_its_place_and_goes_to_workers(task):
    one, two = (draw_step(task, PLAN, 2, 0, 0, 5) for _ in range(2))
    other = draw_step(task, PLAN, 2, 1, 0, 5)
    again = pickle.loads(pickle.dumps(one))
    for name in PLAN:
        for a, b in zip(one[name].copies, two[name].copies):
            assert torch.equal(a, b)
        assert torch.equal(again[name].copies[1], one[name].copies[1])
    assert not torch.equal(one["u"].copies[0], other["u"].copies[0])


def test_a_still_hides_its_label(task):
    stream = PLAN["u"]
    still, val = stream.still(task, "train", 1), stream.still(task, "val", 0)
    assert bool((still.host.label == 255).all()) and torch.equal(still.truth[0], task.train.read(1).label)
    views = stream.render(stream.join([still.host, val.host]), torch.device("cpu"))
    assert views.weak.shape == (2, 96, 6) and views.valid.all() and views.index.tolist() == [1, -1]
    whole = stream.render(stream.whole(task, 0), torch.device("cpu"))
    assert torch.equal(whole.label[0], task.train.read(0).label.long())
    assert bool((stream.render(stream.whole(task, 20), torch.device("cpu")).label == 255).all())


def test_points_and_images_are_told_apart(task):
    with pytest.raises(S4Error, match="'u' draws points, and toy has none"):
        PLAN["u"].check(toy_task(), "u")
    with pytest.raises(S4Error, match=r"'x' draws images, and toy points has none: take .*`supervised`"):
        Stream("labelled").check(task, "x")


def test_of_several_points_on_a_line_of_sight_the_nearest_is_seen():
    eye = np.array([0.0, 1.0, 0.0])  # the last view is from above
    places = np.concatenate([k * 0.4 * eye[None] + [[0.3, 0.0, 0.1]] for k in (-1, 1, 0)])
    above = seen_points(places, 64)[32:, 32:]
    assert set(np.unique(above)) == {-1, 1}
    index = seen_points(np.random.default_rng(0).uniform(-1, 1, (400, 3)), 96)
    assert index.shape == (96, 96) and all((tile >= 0).mean() > 0.2 for tile in (index[:48, :48], index[48:, 48:]))


def test_a_look_puts_the_values_of_points_into_the_picture(task):
    points = torch.stack([task.train.read(k).points for k in range(2)])
    look = POINTS.bind(points, 48)
    label = torch.stack([task.train.read(k).label for k in range(2)])
    seen = look.maps(label, 255)
    assert seen.shape == (2, 48, 48) and torch.equal(seen == 255, (look.at < 0) | (seen == 255))
    k, y, x = (look.at >= 0).nonzero()[7].tolist()
    assert seen[k, y, x] == label[k, look.at[k, y, x]]
    chances = torch.rand(2, 4, 96)
    assert torch.equal(look.maps(chances)[k, :, y, x], chances[k, :, look.at[k, y, x]])
    pictures = look.pictures(points)
    assert (
        pictures.shape == (2, 3, 48, 48)
        and pictures.min() >= 0
        and pictures[look.at.lt(0)[:, None].expand_as(pictures)].eq(1).all()
    )


def test_an_item_for_people_is_a_picture_with_its_label(task):
    sample = task.val.view(0)
    assert sample.image.shape == (3, 240, 240) and sample.image.dtype == torch.uint8 and sample.id == task.val.ids[0]
    cloud = task.val.read(0)
    at = seen_points(cloud.points[:, :3].numpy(), 240)
    assert np.array_equal(sample.label.numpy()[at >= 0], cloud.label.numpy()[at[at >= 0]])
    assert (sample.label.numpy()[at < 0] == 255).all() and (sample.image[0].numpy()[at < 0] == 255).all()


def test_a_room_stays_upright_and_its_objects_come_with_it():
    rooms = toy_rooms()
    stream = PointStream("labelled", copies=2, rigid=Upright(3.0, 0.2), cube=False, maps=("instance",))
    views = render(draw_step(rooms, ViewPlan(x=stream), 4, 0, 0, 0), ViewPlan(x=stream)).x
    assert views.valid.all() and views.maps["instance"].shape == (4, 200)
    for k, row in enumerate(views.index.tolist()):
        before = rooms.train.read(row).points
        assert torch.equal(views.maps["instance"][k], rooms.train.objects(row).long())
        for copy in (views.weak[k], views.strong[0][k]):
            turn = torch.linalg.lstsq(before[:, 3:], copy[:, 3:]).solution
            assert torch.allclose(turn @ turn.T, torch.eye(3), atol=1e-4) and turn[1, 1] == pytest.approx(1, abs=1e-4)
            scale = torch.linalg.lstsq(before[:, :3] @ turn, copy[:, :3]).solution
            assert torch.allclose(scale, scale[0, 0] * torch.eye(3), atol=1e-4) and 0.8 <= scale[0, 0] <= 1.2
            angle = torch.rad2deg(torch.atan2(turn[0, 2].abs(), turn[0, 0].abs())).item()
            assert min(angle, 90 - angle) <= 3
    hidden = PointStream("unlabelled", cube=False, maps=("instance",))
    views = hidden.render(hidden.whole(rooms, 6), torch.device("cpu"))
    assert (views.maps["instance"] == 255).all() and (views.label == 255).all(), "nothing is kept of it"
    views = hidden.render(hidden.whole(rooms, 1), torch.device("cpu"))
    assert torch.equal(views.maps["instance"][0], rooms.train.objects(1).long()), "a labelled one is known"
    with pytest.raises(S4Error, match="draws rooms with objects, not toy points"):
        stream.check(toy_points(), "x")
