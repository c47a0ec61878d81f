"""Labels that go with the motion."""

import numpy as np
import pytest
import torch
from toy import ToyClips, toy_task

from s4kit.data import load
from s4kit.errors import S4Error
from s4kit.views import Cycle, Stream, ViewPlan, draw_step, render
from s4kit.views.motion import along, carried

PLAN = ViewPlan(x=Stream("labelled", batch=4.0, maps=(Cycle(2),)), u=Stream("unlabelled", maps=(Cycle(2),)))


@pytest.fixture(scope="module")
def clips():
    return load("clips", n_train=6, n_val=1, frames=5, side=48, labelled=4)


def slow(label, flow, seen, holes):
    """Pixel by pixel."""
    height, width = label.shape
    out = np.full_like(label, 255)
    for y, x in np.ndindex(height, width):
        column, row = round(x + float(flow[y, x, 0])), round(y + float(flow[y, x, 1]))
        if 0 <= column < width and 0 <= row < height and (seen[y, x] or holes == "ghost"):
            out[y, x] = label[row, column]
    return out


@pytest.mark.parametrize("holes", ["unknown", "ghost"])
def test_a_label_is_fetched_from_where_the_motion_leads(holes):
    rng = np.random.default_rng(0)
    label, seen = rng.integers(0, 5, (7, 9), np.uint8), rng.random((7, 9)) < 0.7
    flow = (3 * rng.standard_normal((7, 9, 2))).astype(np.float32)
    assert np.array_equal(carried(label, flow, seen, holes), slow(label, flow, seen, holes))
    assert np.array_equal(carried(label, np.zeros((7, 9, 2)), np.ones((7, 9), bool), holes), label)


def test_away_and_back_leaves_holes_and_little_else(clips):
    """What comes back is right but for edges; it is unknown where a surface was out of sight on the way."""
    right = known = 0
    lost = np.zeros((2, 2))
    for row in clips.labelled:
        truth = clips.train.read(row).label.numpy()
        there = row + 2
        back = along(clips.train, truth, [row, row + 1, there, row + 1, row])
        seen = clips.train.flow(row, there)[1].numpy()
        both = (truth != 255) & (back != 255)
        right, known = right + (truth == back)[both].sum(), known + both.sum()
        for k, where in enumerate((seen, ~seen)):
            at = where & (truth != 255)
            lost[k] += (at & (back == 255)).sum(), at.sum()
    assert right / known > 0.99
    in_sight, out_of_sight = lost[:, 0] / lost[:, 1]
    assert out_of_sight > 0.7 > 0.1 > in_sight
    ghost = along(clips.train, truth, [row, row + 1, there, row + 1, row], "ghost")
    assert (ghost != 255).sum() > (back != 255).sum()


def test_a_stream_carries_the_label_away_and_back_anew_each_time(clips):
    seen = []
    for micro in range(4):
        step = draw_step(clips, PLAN, 1, 0, 0, micro)
        assert torch.equal(step["x"].maps["cycle"], draw_step(clips, PLAN, 1, 0, 0, micro)["x"].maps["cycle"])
        batch = render(step, PLAN)
        label, cycle = batch.x.label, batch.x.maps["cycle"]
        known = (label != 255) & (cycle != 255)
        assert (label == cycle)[known].float().mean() > 0.97, "the same crop and flip as the label"
        assert bool((batch.u.maps["cycle"] == 255).all()), "a hidden label goes nowhere"
        seen += [(int(row), int((c == 255).sum())) for row, c in zip(batch.x.index, cycle)]
    assert len(set(seen)) > 1.5 * len(clips.labelled), "to different frames"
    plain = ViewPlan(x=Stream("labelled", batch=4.0))
    assert torch.equal(draw_step(clips, plain, 1, 0, 0, 3)["x"].image, step["x"].image), "no other draw depends on it"


def test_what_cannot_be_carried_is_said():
    with pytest.raises(S4Error, match="reach=0"):
        Cycle(0)
    with pytest.raises(S4Error, match="holes='none'"):
        Cycle(holes="none")
    scenes = load("scenes", n_train=24, n_val=2, side=48)
    with pytest.raises(S4Error, match=r"in no clip.*load\(\"clips\"\)"):
        PLAN["x"].check(scenes, "x")
    alone = draw_step(scenes, PLAN, 1, 0, 0, 0)["x"]
    assert torch.equal(alone.maps["cycle"], alone.label), "drawn all the same, it stays where it is"
    task = toy_task()
    PLAN["x"].check(task, "x")
    still = type("Still", (type(task.train),), {"flow": lambda self, a, b: super(ToyClips, self).flow(a, b)})
    film = still(task.train.images, task.train.labels, 4, task.train.ids)
    with pytest.raises(S4Error, match="is not known"):
        PLAN["x"].check(task.with_(train=film), "x")
