"""shape3d: two copies of a shape, three kinds of agreement."""

import pytest
import torch
from toy import tiny_net, toy_points, toy_task

from s4kit import methods
from s4kit.engine import fit
from s4kit.errors import S4Error
from s4kit.methods.base import Clock
from s4kit.methods.points.shape3d import divergence, part_differences

MIDDLE = Clock(50, 100)


def terms(losses, kind):
    return {name.removeprefix(f"{kind}_"): value for name, (value, _) in losses.items() if name.startswith(kind)}


def test_equal_copies_agree_but_levels_may_still_differ(build, draw):
    method = build("shape3d").eval()
    batch = draw(method)
    for view in batch.values():
        view.strong = [view.weak]
    losses = method.losses(batch, MIDDLE)
    assert all(abs(value) < 1e-5 for kind in ("point", "part") for value in terms(losses, kind).values())
    assert terms(losses, "hierarchy")["coarse"] > 1e-4
    z = method.student.levels(batch.u.weak)
    p = {level: logits.softmax(1) for level, logits in z.items()}
    p["coarse"] = method.nested.merged(p["fine"], "coarse")
    assert torch.allclose(p["coarse"].sum(1), torch.ones(p["coarse"].shape[::2]), atol=1e-6)
    assert method.between(p, p, "coarse", "fine", batch.u.valid) < 1e-6


def test_both_copies_learn_and_so_does_the_coarse_head_from_the_fine_one(build):
    method = build("shape3d")
    z = [{"coarse": torch.randn(2, 2, 30), "fine": torch.randn(2, 4, 30)} for _ in "ab"]
    leaves = [logits.requires_grad_() for copy in z for logits in copy.values()]
    p, q = ({level: logits.softmax(1) for level, logits in copy.items()} for copy in z)
    valid = torch.ones(2, 30)
    found = torch.autograd.grad(method.between(p, q, "coarse", "fine", valid), leaves, retain_graph=True)
    assert all(g.abs().sum() > 0 for g in found)
    for term in (divergence(p["fine"], q["fine"]).sum(), part_differences(p["fine"], q["fine"], valid).sum()):
        one, other = torch.autograd.grad(term, [leaves[1], leaves[3]], retain_graph=True)
        assert one.abs().sum() > 0 and other.abs().sum() > 0


def test_a_part_that_is_predicted_nowhere_is_judged_by_the_rest_alone():
    p = torch.tensor([[0.7, 0.6], [0.2, 0.3], [0.1, 0.1]])[None]
    q = torch.tensor([[0.5, 0.4], [0.1, 0.1], [0.4, 0.5]])[None]
    found = part_differences(p, q, torch.ones(1, 2))
    # p sees part 0 alone: of it the inside counts, of others the outside. q sees 0 at the first point, 2 at the second
    of_p = torch.tensor([0.2**2, 0.15**2, 0.35**2])
    of_q = torch.tensor([(0.2**2 + 0.2**2) / 2, 0.15**2, (0.4**2 + 0.3**2) / 2])
    torch.testing.assert_close(found[0], (of_p + of_q) / 2)
    assert not part_differences(p, q, torch.zeros(1, 2)).any()


def test_points_that_have_left_the_cube_count_in_no_agreement(build, draw):
    method = build("shape3d").eval()
    batch = draw(method)
    before = method.losses(batch, MIDDLE)
    gone = batch.u.valid == 0
    assert gone.any()
    p = [torch.rand(2, 4, 96).softmax(1) for _ in "ab"]
    valid = (torch.rand(2, 96) > 0.3).float()
    changed = [torch.where(valid[:, None] > 0, one, torch.rand(2, 4, 96).softmax(1)) for one in p]
    torch.testing.assert_close(part_differences(*p, valid), part_differences(*changed, valid))
    assert before["x_fine"][0] > 0


def test_a_shape_with_few_points_weighs_as_much_as_one_with_many(build, draw):
    method = build("shape3d").eval()
    batch = draw(method, batch=2)
    alone = []
    for k in range(2):
        one = batch.map(lambda t, k=k: t[k : k + 1])
        alone.append(method.losses(one, MIDDLE)["point_fine"][0])
    torch.testing.assert_close(method.losses(batch, MIDDLE)["point_fine"][0], sum(alone) / 2, rtol=1e-4, atol=1e-7)


def test_weights_are_those_that_were_asked_for(build, draw):
    method = build("shape3d", point=0.2, part=0.3, hierarchy=0.4)
    weights = {name: weight for name, (_, weight) in method.losses(draw(method), MIDDLE).items()}
    assert weights == {
        "x_coarse": 1, "point_coarse": 0.2, "part_coarse": 0.3, "x_fine": 1, "point_fine": 0.2, "part_fine": 0.3,
        "hierarchy_coarse": 0.4,
    }  # fmt: skip


def test_images_are_refused_and_so_are_points_by_methods_of_images(tmp_path):
    task = toy_points()
    with pytest.raises(S4Error, match=r'toy has no points, .* load\("shapes"\)'):
        methods.create("shape3d", toy_task())
    with pytest.raises(S4Error, match="toy points has points, from which a network of images"):
        methods.create("cutmix", task, net="tiny")
    with pytest.raises(S4Error, match="draws points, and toy has none"):
        fit(methods.create("shape3d", task, net=tiny_net(task)), toy_task(), 2, out=tmp_path / "a", progress=False)
    with pytest.raises(S4Error, match="draws images, and toy points has none"):
        fit(methods.create("cutmix", toy_task(), net="tiny"), task, 2, out=tmp_path / "b", progress=False)
    with pytest.raises(S4Error, match="no network of points"):
        methods.create("shape3d", task, net="tiny")
