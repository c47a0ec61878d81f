"""The U-Net over voxels, read at the points."""

from dataclasses import replace

import pytest
import torch
from toy import toy_points, toy_task

from s4kit.errors import S4Error
from s4kit.nets import make, place
from s4kit.nets.voxel import VoxelUNet, voxel, voxels

CLASSES = {"coarse": 2, "fine": 4}


def test_cells_have_the_mean_normal_of_their_points():
    rows = [-0.9, -0.9, -0.9, 0, 0, 1], [-0.8, -0.9, -0.9, 1, 0, 0], [0.9, -0.9, -0.9, 0, 1, 0], [0.0, 1.2, 0, 1, 1, 1]
    points = torch.tensor([rows])
    filled = voxels(points, 4)
    assert filled.shape == (1, 4, 4, 4, 4)
    assert filled[0, :, 0, 0, 0].tolist() == [0.5, 0, 0.5, 1] and filled[0, :, 0, 0, 3].tolist() == [0, 1, 0, 1]
    assert filled[:, 3].sum() == 2, "a point outside of the cube counts nowhere"


def test_features_are_read_where_the_points_are():
    """A network that hands its input on: at the middle of a cell a point finds its own normal, on any axis."""
    net = VoxelUNet(CLASSES, width=4, grid=8, depth=0)
    net.down[0] = torch.nn.Identity()
    places = (torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(0)) * 8).floor() / 4 - 1 + 1 / 8
    places = places.unique(dim=1)
    points = torch.cat([places, torch.randn(places.shape)], 2)
    read = net.features(points)
    assert torch.allclose(read[:, :3].mT, points[..., 3:], atol=1e-5) and torch.allclose(read[:, 3], torch.ones(1))


def test_order_does_not_matter_and_levels_have_their_own_heads():
    net = place(VoxelUNet(CLASSES, width=4, grid=16, depth=2, hidden=8), "cpu").eval()
    points = toy_points().train.read(0).points[None]
    order = torch.randperm(points.shape[1])
    found, turned = net.levels(points), net.levels(points[:, order])
    assert {name: z.shape for name, z in found.items()} == {"coarse": (1, 2, 96), "fine": (1, 4, 96)}
    assert torch.allclose(found["fine"][..., order], turned["fine"], atol=1e-5)
    assert torch.equal(net(points), found["fine"])
    net.train()(points).sum().backward()
    assert net.down[0][0].weight.grad.abs().sum() > 0


def test_specs():
    net = voxel("voxel(width=4, grid=16, depth=2)", toy_points())
    assert net.grid == 16 and net.classes == 4 and list(net.heads) == ["coarse", "fine"]
    flat = replace(toy_points(), levels={}, parents={})
    assert list(voxel("voxel(grid=16)", flat).heads) == ["parts"]
    with pytest.raises(S4Error, match="toy has no points"):
        voxel("voxel", toy_task())
    with pytest.raises(S4Error, match=r"toy points has points, .*`supervised`"):
        make("tiny", toy_points())
    assert voxel(lambda classes: VoxelUNet(classes, grid=8), toy_points()).grid == 8
    with pytest.raises(S4Error, match="no network of points: these have 'voxel'"):
        voxel("resnet50", toy_points())
    with pytest.raises(S4Error, match=r"no option 'gird'.*grid"):
        voxel("voxel(gird=8)", toy_points())
    with pytest.raises(S4Error, match="cannot be halved 3 times"):
        voxel("voxel(grid=12)", toy_points())
