"""Groups of points that meet, what is seen of them as a whole, and the network that makes them."""

from itertools import product

import pytest
import torch
from toy import ROOMS, toy_points, toy_rooms

from s4kit.errors import S4Error
from s4kit.nets.rooms import Groups, RoomUNet, alone, connected, grouped, pooled, room_net


def slow_groups(places, kinds, reach, least):
    """{frozenset of (room, point)}: a search from cell to cell, one room and one kind after the other."""
    found = set()
    for b, kind in product(range(len(places)), kinds.unique().tolist()):
        cells = {}
        for k in (kinds[b] == kind).nonzero()[:, 0].tolist() if kind >= 0 else []:
            cells.setdefault(tuple((places[b, k] / reach).floor().long().tolist()), []).append((b, k))
        while cells:
            queue, group = [next(iter(cells))], []
            while queue:
                cell = queue.pop()
                group += cells.pop(cell, [])
                near = (tuple(c + d for c, d in zip(cell, step)) for step in product((-1, 0, 1), repeat=3))
                queue += [other for other in near if other in cells]
            if len(group) >= least:
                found.add(frozenset(group))
    return found


def test_groups_are_those_of_a_slow_search():
    g = torch.Generator().manual_seed(0)
    places = 2 * torch.rand(3, 220, 3, generator=g) - 1
    kinds = torch.randint(-1, 3, (3, 220), generator=g)
    for reach, least in ((0.15, 2), (0.3, 4), (0.05, 1)):
        groups = grouped(places, kinds, reach, least)
        found = {
            frozenset(map(tuple, (groups.ids == number).nonzero().tolist())) for number in range(1, groups.count + 1)
        }
        assert found == slow_groups(places, kinds, reach, least) and len(found) == groups.count
    assert grouped(places, torch.full_like(kinds, -1), 0.1, 1).count == 0
    far = places.clone()
    far[0, 0], far[1, 1] = torch.nan, 1e30
    assert grouped(far, kinds, 0.1, 1).count > 0


def test_chains_are_followed_to_their_end():
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    assert (connected(500, order[:-1], order[1:]) == 0).all()
    assert connected(4, torch.tensor([3, 1]), torch.tensor([1, 1])).tolist() == [0, 1, 2, 1]


def test_a_group_is_seen_by_mean_and_largest_feature_and_extent():
    g = torch.Generator().manual_seed(0)
    features, places = torch.randn(2, 30, 5, generator=g), torch.randn(2, 30, 3, generator=g)
    ids = torch.randint(0, 4, (2, 30), generator=g)
    ids[1] = torch.where(ids[1] > 0, ids[1] + 3, 0)
    found = pooled(features, places, Groups(ids, 6))
    for number in range(1, 7):
        f, p = features[ids == number], places[ids == number]
        expected = torch.cat([f.mean(0), f.amax(0), p.amax(0) - p.amin(0)])
        torch.testing.assert_close(found[number - 1], expected)
    assert pooled(features, places, Groups(torch.zeros_like(ids), 0)).shape == (0, 13)
    own, places = alone(ids[1])
    assert sorted(own.unique().tolist()) == [0, 1, 2, 3] and places.tolist() == [3, 4, 5]
    assert alone(torch.full((3,), 2))[0].tolist() == [1, 1, 1]


def test_the_grid_is_as_large_as_the_room_and_is_read_at_the_points():
    net = RoomUNet(4, (1,), width=4, depth=0, cell=0.5)
    net.down[0] = torch.nn.Identity()
    g = torch.Generator().manual_seed(0)
    steps = torch.stack([torch.randint(0, side, (40,), generator=g) for side in (9, 3, 5)], 1)
    steps = torch.cat([torch.tensor([[0, 0, 0], [8, 2, 4]]), steps]).unique(dim=0)
    points = torch.cat([0.5 * steps - 7.0, torch.randn(steps.shape, generator=g)], 1)[None]
    volume, at = net.cells(points)
    assert volume.shape == (1, 4, 5, 3, 9) and volume[:, 3].sum() == len(steps) and at.abs().max() <= 1
    moved = points + torch.tensor([0.25, 0.25, 0.25, 0, 0, 0])  # from the corners of the cells to their middles
    moved = torch.cat([points[:, :1], moved], 1)
    read = net.features(moved)[0, :, 1:]
    counted = volume[0, :, steps[:, 2], steps[:, 1], steps[:, 0]]
    inner = (steps > 0).any(1)
    torch.testing.assert_close(read[3, inner], counted[3, inner])
    torch.testing.assert_close(read[:3, inner].mT, points[0, inner, 3:], atol=1e-5, rtol=0)
    assert RoomUNet(4, (1,), width=4, depth=2, cell=0.5).cells(points)[0].shape == (1, 4, 8, 4, 12)


def test_what_is_found_is_told_of_each_room_alone():
    task = toy_rooms()
    net = room_net(ROOMS, task).eval()
    points = torch.stack([task.train.read(k).points for k in range(3)])

    def groups(points, label, offset):
        ids = torch.stack([task.train.objects(k).long() for k in range(len(points))])
        ids = torch.where(ids >= 1000, ids % 1000, 0) * (torch.arange(len(points)) > 0)[:, None]
        return Groups(torch.where(ids > 0, ids + 3 * (torch.arange(len(points))[:, None] - 1), 0), 6)

    net.groups = groups
    none, one, two = net.find(points)
    assert len(none.labels) == 0 and not none.ids.any()
    assert one.ids.max() == two.ids.max() == 3 and len(one.scores) == 3 and set(one.labels.tolist()) <= {1, 2, 3}
    assert net(points).shape == (3, 4, 200) and torch.equal(net.read(points).logits, net(points))


def test_specs():
    net = room_net("voxel(width=4, cell=0.2, depth=1)", toy_rooms())
    assert net.classes == 4 and net.things.tolist() == [1, 2, 3] and net.cell == 0.2
    assert room_net(lambda classes, things: RoomUNet(classes, things, cell=0.3), toy_rooms()).cell == 0.3
    with pytest.raises(S4Error, match=r'toy points has no rooms .*load\("rooms"\)'):
        room_net("voxel", toy_points())
    with pytest.raises(S4Error, match=r"no option 'grid'"):
        room_net("voxel(grid=8)", toy_rooms())
    with pytest.raises(S4Error, match="no network of points"):
        room_net("resnet50", toy_rooms())
