"""AP of masks: against a slow reference, its edges, and two processes' share of it."""

import numpy as np
import pytest
import torch
from toy import toy_task

import s4kit.data as data
from s4kit import methods
from s4kit.engine import distributed, evaluate, fit
from s4kit.engine.scores import masks
from s4kit.errors import S4Error
from s4kit.nets.objects import Objects


def boxes(*places, side=20):
    """(n, side, side) masks, 1 inside (top, left, bottom, right)."""
    made = torch.zeros(len(places), side, side)
    for mask, (top, left, bottom, right) in zip(made, places):
        mask[top:bottom, left:right] = 1
    return made


def objects(labels, scores, *places):
    return Objects(torch.zeros(len(labels), 4), torch.tensor(labels), torch.tensor(scores), boxes(*places))


def ids(labels, *places):
    found = torch.zeros(20, 20, dtype=torch.int32)
    for number, (label, mask) in enumerate(zip(labels, boxes(*places)), 1):
        found[mask > 0] = 1000 * label + number
    return found


def slow_ap(images, label, iou):
    """Mean over 101 recalls of the best precision at that recall or above; detections by falling score."""
    detections, total = [], 0
    for number, (truth, found) in enumerate(images):
        total += sum(1 for m in truth.unique() if m // 1000 == label)
        detections += [(s, number, m > 0.5) for m, c, s in zip(found.masks, found.labels, found.scores) if c == label]
    taken, right = set(), []
    for _, number, mask in sorted(detections, key=lambda d: -d[0]):
        truth = images[number][0]
        best, which = iou, None
        for one in truth.unique().tolist():
            if one // 1000 == label and (number, one) not in taken:
                other = truth == one
                overlap = float((mask & other).sum() / (mask | other).sum())
                if overlap >= best:
                    best, which = overlap, one
        right.append(which is not None)
        taken.add((number, which))
    hits = np.cumsum(right)
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    return np.mean([max(precision[recall >= r - 1e-12], default=0.0) for r in np.linspace(0, 1, 101)])


def test_it_is_what_a_slow_count_gives():
    g = np.random.default_rng(0)
    images = []
    for _ in range(6):
        places = [(int(t), int(left), int(t) + 6, int(left) + 6) for t in (0, 10) for left in (0, 10)]
        moved = [tuple(int(v + g.integers(0, 3)) for v in place) for place in places]
        labels = g.integers(1, 3, 4).tolist()
        said = [c if g.random() < 0.8 else 3 - c for c in labels]
        images.append((ids(labels, *places), objects(said, g.random(4).tolist(), *moved)))
    found = masks.precisions([(masks.wanted(t, 1, 3), masks.detected(f)) for t, f in images], 2)
    for c in (1, 2):
        for k in (0, 2, 5):
            expected = slow_ap(images, c, masks.IOUS[k])
            assert found[k, :, c - 1].mean().item() == pytest.approx(expected, abs=1e-9)
    assert 0 < found[0].mean() < 1


def test_nothing_found_is_zero_and_no_object_is_left_out():
    truth, place = ids([1], (0, 0, 5, 5)), (0, 0, 5, 5)
    none = objects([], [])
    scores = masks.MaskScores(masks.precisions([(masks.wanted(truth, 1, 3), masks.detected(none))], 2), ("a", "b"))
    assert scores.headline == 0 and scores.row().keys() == {"ap", "ap50", "ap75", "ap_a"}
    right = masks.precisions([(masks.wanted(truth, 1, 3), masks.detected(objects([1], [0.3], place)))], 2)
    scores = masks.MaskScores(right, ("a", "b"))
    assert scores.headline == scores.at(0.75) == pytest.approx(1) and scores.to_dict()["per_class"]["b"] is None
    assert "—" in str(scores) and "AP50  100.0" in str(scores) and "<td>100.0</td>" in scores._repr_html_()


def test_void_and_slivers_are_neither_wanted_nor_wrong():
    truth = ids([1, 1], (0, 0, 6, 6), (10, 10, 12, 12))
    truth[15:20] = 255
    places = (0, 0, 6, 6), (15, 0, 20, 8), (10, 10, 12, 12)
    found = objects([1, 1, 1], [0.5, 0.9, 0.8], *places)
    counted = masks.precisions([(masks.wanted(truth, 9, 3), masks.detected(found))], 2)
    assert counted[:, :, 0].mean() == pytest.approx(1)
    assert (
        masks.precisions([(masks.wanted(truth * (truth != 255), 1, 3), masks.detected(found))], 2)[0, :, 0].mean() < 1
    )


class Told(torch.nn.Module):
    """Finds what it has been told of each image, by its mean colour."""

    def __init__(self, task):
        super().__init__()
        self.known = {float(task.val.read(r).image.float().mean()): task.val.objects(r) for r in range(len(task.val))}

    def forward(self, image):
        mean = float((image * 255).mean())
        truth = self.known[min(self.known, key=lambda m: abs(m - mean))]
        found, shapes = data.objects.split(truth, 9)
        return [Objects(torch.zeros(len(found), 4), found // 1000, torch.ones(len(found)), shapes.float())]


@pytest.fixture(scope="module")
def task():
    return data.load("scenes", n_train=8, n_val=5, side=48, labelled=2, cover=0, instances=True)


def test_who_knows_all_has_an_ap_of_one(task):
    scores = evaluate(Told(task), task)
    assert scores.headline == pytest.approx(1) and scores.classes == task.classes[1:] and scores.name == "AP"


def test_processes_share_the_images_out_and_all_have_the_whole(task, monkeypatch):
    net, halves = Told(task), []
    for rank in (0, 1):
        tally = masks.Masks(task, task.evaluation, torch.device("cpu"), "float32")
        tally.add(net, [task.val.read(row) for row in range(rank, len(task.val), 2)])
        halves.append(tally)
    whole = {**halves[0].seen, **halves[1].seen}
    monkeypatch.setattr(distributed, "gathered", lambda mine: dict(reversed(whole.items())))
    assert all(
        torch.equal(t.scores().precision.nan_to_num(), halves[0].scores().precision.nan_to_num()) for t in halves
    )


def test_methods_and_tasks_of_pixels_and_of_objects_are_told_apart(task, tmp_path):
    with pytest.raises(S4Error, match=r"fixmatch predicts classes of pixels, but scenes .* is scored by masks"):
        fit(methods.create("fixmatch", task, net="tiny"), task, 2, batch=2, out=tmp_path / "run", progress=False)
    assert type(methods.create("supervised", task, net="tiny")) is methods.get("mask_rcnn")
    with pytest.raises(S4Error, match=r"mask_rcnn predicts masks .*, but toy .* give mask_rcnn .*instances=True"):
        fit(methods.create("mask_rcnn", toy_task(), net="tiny"), toy_task(), 2, batch=2, out=tmp_path, progress=False)
