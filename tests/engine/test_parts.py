"""IoU of nested parts, and points through the whole engine."""

import pytest
import torch
from torch import nn
from toy import toy_points

from s4kit import methods
from s4kit.data.gathered import Gathered
from s4kit.data.task import VOID
from s4kit.engine import evaluate, fit, open_run
from s4kit.engine.scores import PartScores

NET = "voxel(width=4, grid=16, depth=2, hidden=16)"


@pytest.fixture(scope="module")
def task():
    return toy_points()


class Oracle(nn.Module):
    """Knows a point's part by where it lies; takes part 3 for part 2, or, by its own coarse head, for 'low'."""

    def __init__(self, heads: bool) -> None:
        super().__init__()
        if heads:
            self.levels = self._levels

    def forward(self, points):
        part = 2 * (points[..., 1] > 0) + (points[..., 0] > 0)
        return nn.functional.one_hot(torch.where(part == 3, 2, part), 4).movedim(2, 1).float()

    def _levels(self, points):
        part = 2 * (points[..., 1] > 0) + (points[..., 0] > 0)
        coarse = (part == 2).long()
        return {"coarse": nn.functional.one_hot(coarse, 2).movedim(2, 1).float(), "fine": self(points)}


@pytest.mark.parametrize("heads", [False, True], ids=["one head", "a head for each level"])
def test_parts_are_scored_at_each_level_as_a_slow_count_does(task, heads):
    found = evaluate(Oracle(heads), task, device="cpu")
    label = torch.cat([task.val.read(k).label for k in range(len(task.val))]).long()
    label = label[label != VOID]
    said = torch.where(label == 3, 2, label)
    iou = [float(((said == c) & (label == c)).sum() / ((said == c) | (label == c)).sum()) for c in range(4)]
    assert isinstance(found, PartScores) and found.name == "PartIoU"
    row = found.row()
    assert row["partiou"] == pytest.approx(sum(iou) / 4) == found.headline and next(iter(row)) == "partiou"
    assert row["iou_class_2"] == pytest.approx(iou[2]) and row["accuracy"] == pytest.approx(
        float((said == label).double().mean())
    )
    low, high = label < 2, label == 2
    mixed = [float(low.sum() / (low | (label == 3)).sum()), float(high.sum() / (label > 1).sum())]
    assert row["partiou_coarse"] == pytest.approx(sum(mixed) / 2 if heads else 1.0)
    assert "coarse: mIoU" in str(found) and found.to_dict()["levels"]["coarse"]["miou"] == row["partiou_coarse"]


def test_the_baseline_of_points_learns_is_kept_and_reopened(task, tmp_path):
    torch.manual_seed(0)
    method = methods.create("supervised", task, net=NET)
    assert type(method).__name__ == "SupervisedPoints" and method.name == "supervised"
    chosen = {"batch": 4, "lr": 0.01, "head": 1.0, "evaluate_every": 30, "probes": 3, "probe_size": 48, "device": "cpu"}
    run = fit(method, task, 60, out=tmp_path / "run", workers=0, threads=1, progress=False, **chosen)
    assert run.score == "PartIoU" and run.last["partiou"] > 0.7
    again = open_run(run.path).evaluate(task=task, device="cpu")["student"]
    assert again.headline == pytest.approx(run.last["partiou"], abs=1e-6)
    shots = run.snapshots()
    assert (shots.height, shots.width) == (48, 48) and shots.image(0)["truth"].max() == VOID
    survey = run.sweep(task=task, device="cpu", workers=0, show=False)
    assert len(survey) == len(task.unlabelled) + len(task.val)


def test_a_run_is_opened_on_a_list_of_its_own(task):
    """As a run is whose data have changed since: the items are those of the list, and still points."""
    gathered = Gathered(list(reversed(task.train.ids)), [task.train])
    own = task.with_(train=gathered)
    assert methods.create("supervised", own, net=NET).views["x"].check(own, "x") is None
    assert torch.equal(gathered.read(0).points, task.train.read(len(task.train) - 1).points)
