"""AdvCAM: how an image climbs, what its maps find, and where a walk stops."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from toy import toy_task

from s4kit import fit, methods
from s4kit.data.kept import Kept
from s4kit.errors import S4Error
from s4kit.methods.base import Clock
from s4kit.methods.parts.climbing import Climb, climbing, moved
from s4kit.methods.parts.random_walk import colour_edges, random_walk, transitions, ways
from s4kit.methods.parts.rounds import KEPT
from s4kit.methods.weak.advcam import LOOK, gathered, steps_at

TAGS = torch.tensor([0, 2])


@pytest.fixture
def toy():
    """(encode, weight, pair): features by a convolution and ReLU, three classes."""
    torch.manual_seed(0)
    kernel, weight = torch.randn(6, 3, 3, 3), torch.rand(3, 6) - 0.2
    image = torch.randn(1, 3, 16, 20)
    return lambda x: F.conv2d(x, kernel, stride=2, padding=1).relu(), weight, torch.cat([image, image.flip(-1)])


def objective(encode, weight, image, c):
    y = torch.einsum("bdhw,kd->bkhw", encode(image), weight).relu().mean((2, 3))
    return float((2 * y[:, c] - y.sum(1)).sum())


# ---- the climb ----


def test_the_first_look_is_the_plain_activation_map(toy):
    encode, weight, pair = toy
    (only,) = climbing(encode, weight, TAGS, pair, Climb(1, hold=0.0))
    cam = torch.einsum("bdhw,kd->bkhw", encode(pair), weight)[:, TAGS].relu().movedim(1, 0)
    for seen, plain in zip(only.seen, cam):
        for a, b in zip(seen, plain):
            torch.testing.assert_close(a / a.max(), b / b.max())
    torch.testing.assert_close(only.map, only.seen[:, 0] + only.seen[:, 1].flip(-1))


def test_the_score_rises_while_the_steps_are_small(toy):
    encode, weight, pair = toy
    rungs = list(climbing(encode, weight, TAGS, pair, Climb(12, 0.01, 0.0)))
    for k, c in enumerate(TAGS.tolist()):
        heights = [objective(encode, weight, rung.image[k], c) for rung in rungs]
        assert all(low < high for low, high in pairwise(heights))


def test_nothing_is_held_before_it_has_grown(toy):
    encode, weight, pair = toy
    free, held = (list(climbing(encode, weight, TAGS, pair, Climb(6, 0.2, hold))) for hold in (0.0, 1e4))
    torch.testing.assert_close(free[0].upward, held[0].upward)
    assert not torch.allclose(free[1].upward, held[1].upward)
    for rungs in (free, held):
        assert all(rung.image.amin() >= pair.amin() and rung.image.amax() <= pair.amax() for rung in rungs)


def test_what_was_found_stays_where_it_is_held(toy):
    encode, weight, pair = toy
    growth = []
    for hold in (0.0, 100.0):
        rungs = list(climbing(encode, weight, TAGS, pair, Climb(20, 0.05, hold)))
        known = rungs[0].map > 0.5 * rungs[0].map.amax((1, 2), keepdim=True)
        growth.append(float(((rungs[-1].map - rungs[0].map).abs() * known).sum()))
    assert growth[1] < 0.5 * growth[0]


def test_classes_climb_alone(toy):
    encode, weight, pair = toy
    both = list(climbing(encode, weight, TAGS, pair, Climb(4, 0.2)))
    for k in range(2):
        alone = list(climbing(encode, weight, TAGS[k : k + 1], pair, Climb(4, 0.2)))
        for together, one in zip(both, alone):
            torch.testing.assert_close(together.seen[k : k + 1], one.seen)
            torch.testing.assert_close(together.upward[k : k + 1], one.upward)


def test_a_step_is_as_long_as_the_steepest_pixel_and_stays_in_range():
    image, upward = torch.zeros(1, 2, 3, 4, 4), torch.zeros(1, 2, 3, 4, 4)
    image[0, 0, 0, 0], upward[0, 1, 2, 1, 1] = torch.tensor([-1.0, 1.0, 0.0, 0.0]), -5.0
    assert moved(image, upward, 0.25)[0, 1, 2, 1, 1] == -0.25
    assert moved(image, upward, 9.0)[0, 1, 2, 1, 1] == -1
    assert torch.equal(moved(image, torch.zeros_like(upward), 0.25), image)


def test_scales_are_added_and_small_ones_climb_half_as_far():
    assert (
        [steps_at(s, 27) for s in (0.5, 1.0, 2.0)] == [13, 27, 27] and steps_at(0.5, 8) == 5 and steps_at(0.5, 3) == 3
    )
    sums = [torch.zeros(2, 4, 6), torch.zeros(2, 8, 12)]
    sums[0][0], sums[1][0, :, :6] = 1.0, 2.0
    maps = gathered(sums, (8, 12))
    assert maps[0].max() == pytest.approx(1, abs=1e-4) and maps[0, 0, -1] == pytest.approx(1 / 3, abs=1e-4)
    assert not maps[1].any()


# ---- the walk ----


def test_ways_are_straight():
    found = dict(ways(5))
    assert len(found) == 34 and all((0, 0) in way and end in way for end, way in found.items())
    assert found[0, 3] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert set(found[2, -2]) == {(k, -j) for k in range(3) for j in range(3) if abs(k - j) < 2}


def test_a_walk_spreads_evenly_and_stops_at_an_edge():
    torch.manual_seed(0)
    step = transitions(torch.rand(6, 7), 4, 3.0)
    torch.testing.assert_close(step.sum(0), torch.ones(42))
    assert (step >= 0).all()
    spot = torch.zeros(1, 8, 12)
    spot[0, 3, 2] = 1
    even = random_walk(spot, torch.zeros(8, 12), doublings=14)
    assert even.max() / even.min() < 4, "only the ends have fewer neighbours"
    edge = torch.zeros(8, 12)
    edge[:, 6] = 1
    left = random_walk(spot, edge, doublings=14)
    assert left[..., :6].min() > 0 and not left[..., 6:].any()


def test_edges_are_where_colours_change():
    image = torch.zeros(3, 6, 8)
    image[:, :, 5:] = 0.5
    edge = colour_edges(image, 0.2)
    assert edge[:, 5].min() > 0.98 and not edge[:, :5].any() and not edge[:, 6:].any()
    assert torch.equal(colour_edges(image.mT, 0.2), edge.T)


# ---- the method ----


def test_climbing_leaves_the_classifier_as_it_is(build, draw):
    method = build("advcam", steps=2).train()
    view = draw(method, plan=method.stages()[0].views).c
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with torch.no_grad():
        rungs = method.rungs(view.map(lambda t: t[:1]), TAGS, 0.5)
    assert len(rungs) == 2 and rungs[0].image.shape == (2, 2, 3, 16, 16)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in method.classifier.parameters())
    assert all(m.training for m in method.classifier.modules())


def test_seeds_are_of_tags_alone(build, draw):
    method = build("advcam", steps=2, scales=(1.0,))
    view = draw(method, plan=method.stages()[0].views).c.map(lambda t: t[:1])
    for tags in ([1.0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]):
        view.tags = torch.tensor([tags])
        label = method.seeds(view)
        there = {c for c, tag in enumerate(tags) if tag}
        assert label.shape == view.weak.shape[-2:] and set(label.unique().tolist()) <= there
    street = build("advcam", steps=2, scales=(1.0,), background=False)
    view.tags = torch.tensor([[0.0, 1, 1, 0]])
    assert set(street.seeds(view).unique().tolist()) <= {1, 2, 255}


@pytest.mark.parametrize(("spread", "activation"), [("walk", 0.25), ("pamr", 0.5)])
def test_an_object_is_found_up_to_its_edges(spread, activation, build, draw):
    """A map that leaves out a corner and bleeds over the other one."""
    method = build("advcam", spread=spread, dilations=(1, 2))
    view = draw(method, plan=method.stages()[0].views).c.map(lambda t: t[:1])
    view.weak = torch.full((1, 3, 32, 32), 0.1)
    view.weak[:, 0, 8:24, 8:24] = 0.9
    view.weak += 0.01 * torch.rand_like(view.weak)
    maps = torch.zeros(1, 8, 8)
    maps[0, 2:6, 2:6] = 1
    maps[0, 2, 2], maps[0, 6, 5] = 0, 1
    method.climbed = lambda *_: [maps]
    method.activation = activation
    view.tags = torch.tensor([[1.0, 0, 1, 0]])
    label = method.seeds(view) == 2
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[8:24, 8:24] = True
    assert (label & inside).sum() > 0.6 * inside.sum() and (label & ~inside).sum() < 0.1 * inside.sum()


def test_wrong_options(build):
    with pytest.raises(S4Error, match="spread='crf'"):
        build("advcam", spread="crf")


def test_the_first_look_and_the_kept_labels_are_shown(build, draw):
    method = build("advcam")
    view = draw(method).u
    view.tags = torch.tensor([[1.0, 0, 1, 0]]).expand(len(view), -1)
    maps, kept = method.teach(view)
    assert maps[:, [0, 2]].eq(0).all() and maps.max() <= 1
    found = method.pseudo_labels((maps, kept), view, Clock(0, 1))
    assert found.keys() == {LOOK, KEPT} and set(found[LOOK].label.unique().tolist()) <= {0, 2}


def test_a_run_keeps_seeds_and_is_marked(tmp_path):
    task = toy_task(n_unlabelled=3)
    torch.manual_seed(0)
    method = methods.create("advcam", task, net="tiny", steps=2, scales=(1.0,))
    settings = dict(batch=2, lr=1e-2, optimiser="sgd", probes=2, progress=False, device="cpu", evaluate_every=99)
    run = fit(method, task, steps=4, out=tmp_path / "run", **settings)
    assert run.weak_labels == "tags"
    kept = Kept(str(run.path / "store"), 1)
    for row in task.unlabelled:
        tags = set(task.train.read(row).label.unique().tolist())
        assert set(kept.read("label", row).ravel().tolist()) <= tags | {0}
    assert kept.read("label", task.labelled[0]) is None
