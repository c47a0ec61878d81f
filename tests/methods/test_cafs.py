"""What a correct CAFS shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import s4kit as s4
from s4kit.data.task import VOID
from s4kit.errors import S4Error
from s4kit.methods import Clock
from s4kit.methods.consistency.cafs import VOC_IOU
from s4kit.methods.parts import calibration
from s4kit.views import Batch

MIDDLE = Clock(50, 100)


def test_counts_by_loops():
    torch.manual_seed(0)
    p, label = (3 * torch.randn(2, 4, 7, 6)).softmax(1), torch.randint(0, 4, (2, 7, 6))
    label[0, :2] = VOID
    levels = torch.tensor([0.5, 0.7, 0.9])
    kept, regions = calibration.count(p, label, levels)
    slow, areas = np.zeros((2, 4, 3), int), np.zeros((3, 4), int)
    for b, y, x in np.ndindex(2, 7, 6):
        truth = label[b, y, x].item()
        if truth == VOID:
            continue
        guess = p[b, :, y, x].argmax().item()
        areas[1, guess] += 1
        areas[2, truth] += 1
        areas[0, guess] += guess == truth
        for j, t in enumerate(levels):
            if p[b, guess, y, x] >= t:
                slow[1, guess, j] += 1
                slow[0, guess, j] += guess == truth
    assert np.array_equal(kept.numpy(), slow) and np.array_equal(regions.numpy(), areas) and slow.all(0).any()


def test_a_threshold_is_the_lowest_that_can_be_trusted():
    levels = torch.tensor([0.85, 0.90, 0.95])
    right = torch.tensor([[95, 60, 30], [80, 60, 30], [50, 40, 20], [0, 0, 0]])
    total = torch.tensor([[100, 62, 30], [100, 62, 30], [100, 60, 30], [0, 0, 0]])
    tau = calibration.lowest_level(right, total, levels, 0.95)
    assert torch.allclose(tau, torch.tensor([0.85, 0.90, 0.95, 0.95]))


def test_repeats_are_those_of_the_authors():
    n = calibration.repeats(torch.tensor(VOC_IOU), 10, 1)
    assert {c: v for c, v in enumerate(n.tolist()) if v} == {9: 4, 11: 5, 16: 4, 18: 3, 20: 1}
    assert not calibration.repeats(torch.full((21,), 0.3), 10, 1).any()
    unknown = calibration.repeats(torch.tensor([0.0, 0.9, 0.7, torch.nan]), 10, 1)
    assert unknown.tolist() == [0, 0, 1, 0]


def test_equal_thresholds_are_unimatch(build, draw):
    ours = build("cafs", thresholds=[0.4] * 4, class_iou=[0.5] * 4)
    theirs = build("unimatch", tau=0.4)
    theirs.student.load_state_dict(ours.student.state_dict())
    batch, totals = draw(ours), []
    for method in (ours, theirs):
        torch.manual_seed(1)
        totals.append(method.train().losses(batch, MIDDLE).total)
    assert torch.equal(*totals)


def test_a_threshold_moves_only_pixels_of_its_class(build, draw):
    found = []
    for tau in ([0.9] * 4, [0.9, 0.9, 0.3, 0.9]):
        method = build("cafs", thresholds=tau, class_iou=[0.5] * 4)
        u = draw(method).u
        torch.manual_seed(3)
        p = (2 * torch.randn(len(u), 4, 32, 32)).softmax(1)
        found.append(method.pseudo_labels(p.log(), u, MIDDLE))
        either = (p >= torch.tensor(tau)[:, None, None]).any(1)  # the released form; equal for thresholds above 1/2
        if min(tau) > 0.5:
            assert torch.equal(found[-1].weight > 0, either)
    changed = found[0].weight != found[1].weight
    assert changed.any() and (found[0].label[changed] == 2).all()


def test_the_scout_learns_and_is_measured_on_different_images(build, draw, task):
    method = build("cafs").train()
    stage = method.stages()[0]
    batch = draw(method, batch=8, plan=stage.views)
    rows = torch.tensor(task.labelled)
    assert set(method.held.tolist()) < set(task.labelled) and len(method.held) == 2
    only = Batch(x=batch.x, held=batch.held)
    only.x.index, only.held.index = method.held[torch.zeros(8, dtype=torch.long)], rows[torch.full((8,), 1)]
    assert method.scout_losses(only, Clock(90, 100)).total == 0 and not method.kept.any()
    only.x.index, only.held.index = only.held.index, only.x.index
    assert method.scout_losses(only, Clock(79, 100)).total > 0 and not method.kept.any()
    method.scout_losses(only, Clock(80, 100))
    assert method.regions[1].sum() == (only.held.label != VOID).sum() == method.regions[2].sum() > 0


def test_weak_classes_come_more_often(build, task, tmp_path):
    method = build("cafs", thresholds=[0.9] * 4, class_iou=[0.1, 0.9, 0.9, 0.3])
    times = method.sampling(task)["labelled"]
    for row, many in zip(task.labelled, times.tolist()):
        assert many == 1 + 4 * bool((task.train.read(row).label == 3).any())
    longer = s4.engine.settings.sampled(task, {"labelled": times})
    assert len(longer.labelled) == times.sum() and set(longer.labelled) == set(task.labelled)
    assert longer.unlabelled == task.unlabelled
    assert build("cafs", thresholds=[0.9] * 4, class_iou=[0.5] * 4).sampling(task) == {}


def test_both_stages_run_and_leave_thresholds(build, task, tmp_path):
    method = build("cafs", lowest=0.2, tau=0.9, target=0.3)
    options = dict(batch=2, lr=1e-2, evaluate_every=80, probes=0, progress=False, device="cpu")
    s4.fit(method, task, steps=80, out=tmp_path / "r", **options)
    assert method.regions.sum() > 0 and method.taus.min() >= 0.2 and method.taus.max() <= 0.9 + 1e-6
    assert (method.taus < 0.89).any()


def test_half_of_the_figures_is_refused(build):
    with pytest.raises(S4Error, match="both"):
        build("cafs", thresholds=[0.9] * 4)
    with pytest.raises(S4Error, match="3 values for 4"):
        build("cafs", thresholds=[0.9] * 3, class_iou=[0.9] * 3)
