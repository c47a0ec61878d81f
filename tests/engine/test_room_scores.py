"""AP of the objects of rooms: against a slow count, its edges, two processes' share of it, and a whole training."""

import numpy as np
import pytest
import torch
from toy import ROOMS, toy_points, toy_rooms

from s4kit import methods
from s4kit.data.points.clouds import RoomEvaluation
from s4kit.engine import distributed, evaluate, fit, open_run
from s4kit.engine.scores import RoomScores, RoomTally
from s4kit.engine.scores.rooms import area, overlaps
from s4kit.errors import S4Error
from s4kit.nets.rooms import Proposed

HOW = RoomEvaluation((1, 2), 5)


def proposed(ids, labels, scores):
    return Proposed(torch.zeros(3, len(ids)), torch.tensor(ids), torch.tensor(labels), torch.tensor(scores))


def slow_ap(rooms, label, iou, least):
    """The benchmark's count in words: every score that occurs is a threshold, from the lowest to the highest."""
    said, total = [], 0  # (score, whether it is right)
    for found, ids in rooms:
        truth = [
            ids == name for name in ids.unique().tolist() if name // 1000 == label and (ids == name).sum() >= least
        ]
        small = ids == 255
        for name in ids.unique().tolist():
            if name // 1000 == label and (ids == name).sum() < least:
                small = small | (ids == name)
        mine = [
            (float(s), found.ids == k + 1) for k, (c, s) in enumerate(zip(found.labels, found.scores)) if c == label
        ]
        mine = [(s, mask) for s, mask in mine if mask.sum() >= least]
        total += len(truth)

        def over(a, b):
            return float((a & b).sum()) / float((a | b).sum()) > iou

        taken = set()
        for one in truth:
            near = [(s, k) for k, (s, mask) in enumerate(mine) if k not in taken and over(mask, one)]
            if near:
                taken.add(max(near)[1])
        for k, (s, mask) in enumerate(mine):
            if k in taken:
                said.append((s, True))
            elif any(over(mask, one) for one in truth) or float((mask & small).sum() / mask.sum()) <= iou:
                said.append((s, False))
    if not said:
        return 0.0
    points = []
    for threshold in sorted({s for s, _ in said}):
        above = [right for s, right in said if s >= threshold]
        points.append((sum(above) / len(above), sum(above) / total))
    points.append((1.0, 0.0))
    recall = [points[0][1], *(r for _, r in points), 0.0]
    return sum(p * (recall[k] - recall[k + 2]) / 2 for k, (p, _) in enumerate(points))


def made(rng, points=120):
    """A room of true objects, some of them small, with void; and what somebody finds there."""
    ids = np.zeros(points, np.int32)
    for k, start in enumerate(range(0, points - 20, 14)):
        ids[start : start + int(rng.integers(3, 14))] = 1000 * int(rng.integers(1, 3)) + k + 1
    ids[-12:] = 255
    own = np.where(ids > 0, (np.arange(points) + int(rng.integers(-3, 4))) // 14 + 1, 0)
    own = np.where(rng.random(points) < 0.1, rng.integers(0, own.max() + 1, points), own)
    names, own = np.unique(own, return_inverse=True)
    count = len(names) - 1
    label = rng.integers(1, 3, count).tolist()
    truth = [ids[own == k + 1] for k in range(count)]
    label = [
        int(t[t >= 1000][0]) // 1000 if (t >= 1000).any() and rng.random() < 0.8 else c for t, c in zip(truth, label)
    ]
    scores = rng.choice([0.2, 0.4, 0.5, 0.9, 0.95], count).tolist()
    return proposed(own.tolist(), label, scores), torch.from_numpy(ids)


def test_it_is_what_a_slow_count_gives():
    rng = np.random.default_rng(0)
    rooms = [made(rng) for _ in range(6)]
    counted = [overlaps(found, ids, HOW) for found, ids in rooms]
    values = []
    for label in HOW.things:
        for iou in (0.5, 0.7, 0.9):
            values.append(area([room[label] for room in counted], iou))
            assert values[-1] == pytest.approx(slow_ap(rooms, label, iou, HOW.least), abs=1e-9)
    assert 0.05 < np.mean(values) < 0.95


def test_edges():
    ids = torch.tensor([1001] * 10 + [0] * 10 + [2001] * 3 + [255] * 7)
    none = proposed([0] * 30, [], [])
    assert area([overlaps(none, ids, HOW)[1]], 0.5) == 0.0
    assert np.isnan(area([overlaps(none, ids, HOW)[2]], 0.5)), "its only object is too small"
    own = [1] * 10 + [2] * 10 + [3] * 10
    both = overlaps(proposed(own, [1, 1, 1], [0.5, 0.4, 0.9]), ids, HOW)[1]
    # the second lies on the floor and is wrong; the third in void, where nothing is wrong
    assert area([both], 0.5) == pytest.approx(0.5 * (1 + 1) * 0.5 + 0.5 * (1 / 2) * 0 + 0.5 * 1.0)
    few = overlaps(proposed([1] * 4 + [0] * 26, [1], [0.9]), ids, HOW)[1]
    assert len(few.found) == 0


class Oracle(torch.nn.Module):
    """Finds the true objects of the validation rooms; `wrong` of them are of another class."""

    def __init__(self, task, wrong=0):
        super().__init__()
        self.known = {task.val.read(row).points.sum().item(): row for row in range(len(task.val))}
        self.task, self.wrong = task, wrong

    def find(self, points):
        row = self.known[points.sum().item()]
        label, ids = self.task.val.read(row).label.long(), self.task.val.objects(row).long()
        logits = torch.nn.functional.one_hot(label.where(label != 255, 0), 4).float().T
        names, own = torch.where(ids >= 1000, ids, 0).unique(return_inverse=True)
        label = names[1:] // 1000
        label[: self.wrong] = label[: self.wrong] % 3 + 1
        return [Proposed(logits, own, label, torch.linspace(0.5, 0.9, len(label)))]


def test_who_knows_all_has_an_ap_of_one_and_scores_are_told(monkeypatch):
    task = toy_rooms()
    scores = evaluate(Oracle(task), task, device="cpu")
    assert isinstance(scores, RoomScores) and scores.headline == pytest.approx(1) == scores.points.miou
    row = scores.row()
    assert next(iter(row)) == "pointap" == scores.name.lower() and row["pointap50"] == row["pointap25"] == 1
    assert {"pointap_low", "pointap_middle", "pointap_high", "points_miou"} < row.keys() and "AP25" in str(scores)
    less = evaluate(Oracle(task, 1), task, device="cpu")
    assert 0.2 < less.headline < 0.9 and less.points.miou == 1 and "<td>" in less._repr_html_()
    halves = []
    for rank in (0, 1):
        tally = RoomTally(task, task.evaluation, torch.device("cpu"), "float32")
        tally.add(Oracle(task, 1), [task.val.read(row) for row in range(rank, len(task.val), 2)])
        halves.append(tally)
    whole, sums = {**halves[0].seen, **halves[1].seen}, halves[0].confusion + halves[1].confusion
    monkeypatch.setattr(distributed, "gathered", lambda mine: dict(reversed(whole.items())))
    monkeypatch.setattr(distributed, "summed", lambda mine: sums)
    assert all(tally.scores().to_dict() == less.to_dict() for tally in halves)


def test_the_baseline_of_rooms_learns_is_kept_and_reopened(tmp_path):
    task = toy_rooms()
    torch.manual_seed(0)
    method = methods.create("supervised", task, net=ROOMS)
    assert type(method).__name__ == "SupervisedRooms" and method.name == "supervised"
    chosen = {"batch": 4, "lr": 0.01, "head": 1.0, "evaluate_every": 30, "probes": 3, "probe_size": 48, "device": "cpu"}
    run = fit(method, task, 60, out=tmp_path / "run", workers=0, threads=1, progress=False, **chosen)
    end = run.headline[-1]
    assert run.score == "PointAP" and end["points_miou"] > 0.6 and end["pointap25"] > 0.2, end
    again = open_run(run.path).evaluate(task=task, device="cpu")["student"]
    assert again.headline == pytest.approx(run.last["pointap"], abs=1e-6)
    shots = run.snapshots()
    assert (shots.height, shots.width) == (48, 48)
    assert len(run.sweep(task=task, device="cpu", workers=0, show=False)) == len(task.unlabelled) + len(task.val)


def test_rooms_and_shapes_are_told_apart(tmp_path):
    rooms, shapes = toy_rooms(), toy_points()
    with pytest.raises(S4Error, match=r"shape3d predicts parts of points, but toy rooms .* by objects of points"):
        method = methods.create("shape3d", rooms, net="voxel(width=4, grid=16, depth=2)")
        fit(method, rooms, 2, batch=2, out=tmp_path / "a", progress=False)
    with pytest.raises(S4Error, match="toy points has no rooms"):
        methods.create("twist", shapes)
    with pytest.raises(S4Error, match=r"'x' draws rooms with objects, not toy points"):
        fit(methods.create("twist", rooms, net=ROOMS), shapes, 2, batch=2, out=tmp_path / "b", progress=False)
