"""Streams that draw another frame of a clip."""

import numpy as np
import pytest
import torch
from toy import toy_task

from s4kit.data import load
from s4kit.errors import S4Error
from s4kit.views import STRONG, SameBox, Stream, ViewPlan, draw_step, render

PLAN = ViewPlan(
    u=Stream("unlabelled", batch=4.0),
    other=Stream("unlabelled", batch=4.0, of="u", other=True, weak=SameBox(), strong=(STRONG,)),
)


@pytest.fixture(scope="module")
def task():
    return toy_task(size=48, crop=24)


def drawn(task, micro, plan=PLAN):
    return draw_step(task, plan, 2, 0, 0, micro)


def test_another_frame_of_the_same_clip_each_time(task):
    pairs = set()
    for micro in range(12):
        step = drawn(task, micro)
        for a, b in zip(step["u"].index.tolist(), step["other"].index.tolist()):
            assert a != b and b in task.train.clip(a)
            pairs.add((a, b))
    assert len(pairs) > 24, "any of the others, in turn"
    assert all(torch.equal(drawn(task, 3)[name].image, drawn(task, 3)[name].image) for name in PLAN)


def test_the_same_crop_with_a_flip_of_its_own(task):
    turned = set()
    for micro in range(6):
        step = drawn(task, micro)
        for first, second in zip(step["u"].where, step["other"].where):
            assert first[0] == second[0] and first[1] == second[1] and abs(first[2]) == abs(second[2])
            turned.add((bool(first[2] < 0), bool(second[2] < 0)))
    assert len(turned) == 4


def test_views_of_the_pair_are_made_like_any_other(task):
    batch = render(drawn(task, 0), PLAN)
    assert batch.other.strong[0].shape == batch.u.weak.shape == (8, 3, 24, 24)
    assert not batch.other.labelled.any() and bool((batch.other.label == 255).all())


def test_a_clip_of_one_is_refused_but_draws_itself():
    task = load("scenes", n_train=24, n_val=2, side=48, crop=24)
    with pytest.raises(S4Error, match=r"'other' draws two frames of a clip, and train_.* load\(\"clips\"\)"):
        PLAN["other"].check(task, "other")
    step = drawn(task, 0)
    assert np.array_equal(step["u"].index, step["other"].index)
