"""Tags and boxes: read off the masks, in the pixels of the view, and for those alone who ask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from toy import toy_task

import s4kit as s4
from s4kit.data.kept import Kept
from s4kit.data.sources import MemorySource
from s4kit.data.task import VOID
from s4kit.engine import watched
from s4kit.engine.probe import Probe
from s4kit.engine.sweep import Sweep
from s4kit.errors import S4Error
from s4kit.methods import Losses, Method
from s4kit.methods.parts.losses import ce
from s4kit.nets import make
from s4kit.views import Stream, ViewPlan, draw_step, render, weak
from s4kit.views.geometry import Window
from s4kit.views.weak_labels import SPECK, boxes_of, regions, said_of, tags_of


def test_regions_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 9), (17, 23), (40, 31)):
        label = rng.integers(0, 3, size).astype(np.uint8)
        label[size[0] // 2 :] = np.repeat(label[size[0] // 2 :, :1], size[1], 1)
        ours, count = regions(label), 0
        for c in range(3):
            theirs, n = ndimage.label(label == c)
            pairs = {*zip(theirs[theirs > 0].tolist(), ours[theirs > 0].tolist())}
            assert len(pairs) == n
            count += n
        assert ours.max() + 1 == count


def test_boxes_are_tight_and_the_largest_come_first() -> None:
    label = np.zeros((30, 40), np.uint8)
    label[2:12, 3:9] = 1
    label[20:28, 30:40] = 1
    label[15, 5] = 2  # a speck
    label[0] = VOID
    boxes = boxes_of(label)
    assert boxes.tolist() == [[0, 1, 0, 30, 40], [1, 20, 30, 28, 40], [1, 2, 3, 12, 9]]
    assert SPECK > 1 and tags_of(label, 4).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.0)])
def test_boxes_follow_the_view(scale) -> None:
    task = toy_task()
    plan = ViewPlan(u=Stream("unlabelled", weak(scale=scale), reveal="boxes"))
    views = render(draw_step(task, plan, 8, 0, 0, 0), plan).u
    known = ViewPlan(u=Stream("labelled", weak(scale=scale)))
    seen = replace(task, labelled=task.unlabelled)
    label = render(draw_step(seen, known, 8, 0, 0, 0), known).u
    assert torch.equal(views.weak, label.weak) and bool((views.label == VOID).all()), "the masks stay hidden"
    slack = 2 if scale[1] > 1 else 0
    for boxes, truth in zip(views.boxes, label.label):
        boxes = boxes[boxes[:, 0] != VOID]
        assert len(boxes)
        inside = torch.zeros(4, *truth.shape, dtype=torch.bool)
        for c, top, left, bottom, right in boxes.tolist():
            assert 0 <= top < bottom <= 32 and 0 <= left < right <= 32
            inside[c, max(0, top - slack) : bottom + slack, max(0, left - slack) : right + slack] = True
        for c in range(1, 4):
            covered = inside[c][truth == c].float()
            assert not len(covered) or covered.mean() > 0.9


def test_tags_are_of_the_whole_image_and_of_hidden_ones_too() -> None:
    task = toy_task()
    plan = ViewPlan(u=Stream("all", reveal="tags"))
    views = render(draw_step(task, plan, 4, 0, 0, 0), plan).u
    for row, tags in zip(views.index.tolist(), views.tags):
        there = set(np.unique(task.train.label(row)).tolist()) - {VOID}
        assert set(tags.nonzero().flatten().tolist()) == there
    other = render(draw_step(task, (p := ViewPlan(u=Stream("all"))), 4, 0, 0, 0), p).u
    assert other.tags is None and other.boxes is None
    train = MemorySource([task.train.images[0]] * 3, None, 4)
    bare = replace(task, train=train, labelled=(0,), unlabelled=(1, 2))
    with pytest.raises(S4Error, match="no label file"):
        draw_step(bare, plan, 2, 0, 0, 0)


class Tagged(Method):
    views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", reveal="tags"))

    def __init__(self, task) -> None:
        super().__init__()
        self.student = make("tiny", task)

    def losses(self, batch, clock) -> Losses:
        z = self.student(batch.u.weak).amax((2, 3))
        tags = torch.nn.functional.binary_cross_entropy_with_logits(z, batch.u.tags)
        return Losses(x=ce(self.student(batch.x.weak), batch.x.label), tags=tags)


def test_a_run_says_what_it_was_told(tmp_path) -> None:
    task = toy_task()
    settings = dict(steps=2, batch=2, progress=False, probes=0, device="cpu")
    run = s4.fit(Tagged(task), task, out=tmp_path / "r", **settings)
    assert run.weak_labels == "tags" and run.config["reveals"] == ["tags"]
    plain = s4.fit(s4.methods.create("supervised", task, net="tiny"), task, out=tmp_path / "s", **settings)
    assert plain.weak_labels == ""
    wrong = Tagged(task)
    wrong.views = ViewPlan(x=Stream("labelled"), u=Stream("unlabelled", reveal="masks"))
    with pytest.raises(S4Error, match="one of tags, boxes"):
        s4.fit(wrong, task, out=tmp_path / "t", **settings)


def test_whole_images_and_watched_ones_are_told_of_as_well(tmp_path) -> None:
    task = toy_task()
    row = task.unlabelled[0]
    there = tags_of(task.train.label(row), 4)
    whole = Stream("unlabelled", reveal="tags").whole(task, row)
    assert bool((whole.label == VOID).all()) and not whole.labelled.any()
    assert np.array_equal(whole.revealed["tags"][0].numpy(), there)
    boxes = Stream("unlabelled", reveal="boxes").whole(task, row).revealed["boxes"][0]
    assert np.array_equal(boxes[boxes[:, 0] != VOID].numpy(), boxes_of(task.train.label(row)))
    for shown in (True, False):
        probe = Probe(task, watched.drawn(task, 3), whole=shown)
        probe.reveals = ("boxes", "tags")
        views, _ = probe.views(range(3), torch.device("cpu"))
        for item, tags in zip(probe.items, views.tags):
            assert np.array_equal(tags.numpy(), tags_of(task.train.label(item.row), 4))
        assert views.boxes.shape[0] == 3 and bool((views.boxes[:, 0, 0] != VOID).all())
    bare = said_of(None, "tags", 4, Window(8, 8, 0, 0, False), 8)
    assert bare.all(), "where nothing is known all classes may be there"
    sweep = Sweep(task, Stream("all"), Kept(str(tmp_path), 0), 0, torch.device("cpu"), "float32", 0, reveals=("tags",))
    ((_, view),) = sweep.over("unlabelled", [row], reveal="tags")
    assert np.array_equal(view.tags[0].numpy(), there)
    with pytest.raises(S4Error, match="no stream of the method reveals"):
        next(sweep.over("unlabelled", [row], reveal="boxes"))
