"""The brush's Python half: what was painted becomes a label at the size of the image, and the next training has it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from toy import TINY, toy_points

import s4kit as s4
from s4kit.data.corrections import read_corrections
from s4kit.engine.maps import picked
from s4kit.errors import S4Error
from s4kit.explore import corrections
from s4kit.explore.view import View


@pytest.fixture(scope="module")
def view(runs):
    return View([str(runs["fixmatch"]), str(runs["cps"])])


def one_by_one(painted):
    flat = painted.ravel()
    return [[int(i), 1, int(flat[i])] for i in np.flatnonzero(flat != 255)]


def test_runs_are_the_pixels():
    rng = np.random.default_rng(0)
    painted = rng.choice([255, 255, 0, 3], (7, 9)).astype(np.uint8)
    painted[0, :2] = painted[-1, -3:] = 3
    found = corrections.runs(painted)
    assert found[0] == [0, 2, 3] and all(b[0] >= a[0] + a[1] for a, b in pairwise(found))
    label, hand = corrections.painted_map(found, (7, 9), 4)
    assert np.array_equal(label, painted) and np.array_equal(hand, painted != 255)
    label, hand = corrections.painted_map([[3, 2, -1]], (7, 9), 4)
    assert (label == 255).all() and hand.sum() == 2, "not taught, by hand"


@pytest.mark.parametrize("wrong", [None, 5, [[0, 1]], [[0, 1, 4]], [[62, 2, 0]], [[-1, 1, 0]], [[0, 0, 0]],
                                   [["0", 1, 0]], [[0, 1, 1.0]], [[True, 1, 0]]])  # fmt: skip
def test_what_is_no_list_of_runs_is_refused(wrong):
    with pytest.raises(S4Error, match="list of"):
        corrections.painted_map(wrong, (7, 9), 4)


@pytest.mark.parametrize(("size", "crop", "side"), [((50, 70), 32, 32), ((50, 70), 40, 17), ((30, 70), 48, 31)])
@pytest.mark.parametrize("centred", [False, True])
def test_a_picked_map_goes_back_to_the_pixels_it_was_picked_from(size, crop, side, centred):
    """A value of its own at each pixel of the image: cropped, picked and put back, each lands near itself."""
    from s4kit.views.geometry import Geometry, Window

    number = np.arange(size[0] * size[1]).reshape(size)
    geometry = Geometry(centred=centred)
    top, left = (geometry.middle(s, crop) for s in size)
    parts = [geometry.label(part.astype(np.uint8), Window(*size, top, left, False), crop) for part in
             (number // 256 + 1, number % 256)]  # fmt: skip
    real = geometry.label(np.zeros(size, np.uint8), Window(*size, top, left, False), crop) != 255
    small = [picked(torch.tensor(part), side).numpy().astype(int) for part in parts]
    valid = picked(torch.tensor(real), side).numpy()
    stored = np.where(valid, (small[0] - 1) * 256 + small[1], -2)
    back = corrections.onto_image(stored, valid, crop, size, -1)
    assert (back != -1).sum() == min(size[0], crop) * min(size[1], crop)
    y, x = np.nonzero(back >= 0)
    found = back[y, x]
    far = max(abs(found // size[1] - y).max(), abs(found % size[1] - x).max())
    assert far <= np.ceil(crop / side) - 1 and set(stored[valid]) == set(found), "near itself, and each cell somewhere"


def test_a_map_of_a_whole_image_goes_back_too():
    number = np.arange(9 * 16).reshape(9, 16)
    stored, valid = np.full((10, 8), -5), np.zeros((10, 8), bool)
    stored[:4, :8], valid[:4, :8] = number[1::2][:, 1::2][:4], True
    back = corrections.onto_image(stored, valid, None, (9, 16), -1)
    assert set(np.unique(back)) == set(np.unique(stored[:4])) and (np.diff(back, axis=1) >= 0).all()


def test_what_is_painted_is_kept_with_all_that_is_known(view, runs, tmp_path):
    scene, maps = view.data.first.image(2), view.data.maps(0, 2)
    painted = np.full(scene["truth"].shape, 255, np.uint8)
    painted[10:14, 5:25] = scene["truth"][10:14, 5:25] % 4
    asked = {"kind": "correct", "image": 2, "track": 0, "at": 1, "painted": corrections.runs(painted)}
    answer = corrections.take(view, asked, tmp_path / "c")
    id = view.meta["images"][2]["id"]
    assert answer["id"] == id and answer["painted"] == (painted != 255).sum()
    label = np.array(Image.open(answer["file"]))
    sample = view.task(0).train.read(view.task(0).train.ids.index(id))
    inside = label[4:36, 4:36]  # the middle 32 of 40
    assert label.shape == sample.image.shape[1:] and (label == 255).sum() == 40 * 40 - 32 * 32 == answer["not_taught"]
    assert np.array_equal(inside, np.where(painted != 255, painted, maps["label"][1]))
    assert answer["changed"] == ((painted != 255) & (painted != maps["label"][1])).sum() > 0
    assert answer["of_the_model"] == 32 * 32 - answer["painted"]
    about = read_corrections(tmp_path / "c").made[id].about
    assert (about["run"], about["method"], about["step"], about["pseudo_label"]) == (
        "fixmatch",
        "fixmatch",
        3,
        "pseudo",
    )
    assert about["rest"] == "model" and about["when"].endswith("+00:00") and not {"user", "who", "host"} & about.keys()
    where = np.zeros(40 * 40, bool)
    for first, many in about["pixels"]:
        where[first : first + many] = True
    assert np.array_equal(where.reshape(40, 40)[4:36, 4:36], painted != 255) and where.sum() == answer["painted"]
    only = corrections.take(view, asked | {"rest": "void"}, tmp_path / "only")
    assert (np.array(Image.open(only["file"])) != 255).sum() == (painted != 255).sum()
    assert only["of_the_model"] == 0
    listed = corrections.so_far(view.runs[0], tmp_path / "c")["made"]
    assert [one["id"] for one in listed] == [id] and listed[0]["strokes"]["painted"] == asked["painted"]


def test_the_whole_image_at_its_own_resolution(view, tmp_path):
    painted = np.full((40, 40), 255, np.uint8)
    painted[:3] = 2
    answer = corrections.take(view, {"image": 0, "track": 1, "at": None, "painted": one_by_one(painted)}, tmp_path)
    label, maps = np.array(Image.open(answer["file"])), view.looked(0, 1)
    assert np.array_equal(label, np.where(painted != 255, painted, maps["label"])) and answer["not_taught"] == 0


def test_the_next_training_says_so(view, runs, tmp_path):
    """A run is corrected, trained on, corrected again: labels, protocol, and which images are labelled."""
    painted = [[100, 30, 1]]
    for image in (1, 3):
        view.answer({"kind": "correct", "image": image, "track": 0, "at": -1, "painted": painted})
    folder = runs["fixmatch"] / "corrections"
    assert view.answer({"kind": "corrections", "track": 0})["folder"] == str(folder)
    config = view.runs[0].config["task"]
    task = s4.load(**config | {"labelled": str(folder)})
    ids = [view.meta["images"][k]["id"] for k in (1, 3)]
    assert len(task.labelled) == 6 and {task.train.ids[row] for row in task.labelled[-2:]} == set(ids)
    assert task.protocol == "6 labelled of corrections, 2 corrected by hand (60 pixels painted)"
    torch.manual_seed(0)
    run = s4.fit(
        s4.methods.create("fixmatch", task, net="tiny", tau=0.4), task, steps=2, batch=2, probes=3, out=tmp_path / "r",
        device="cpu", progress=False,
    )  # fmt: skip
    assert run.config["protocol"] == task.protocol and run.config["task"]["corrections"] == str(folder)
    again, changes = run.task(), run.changes()
    row = again.train.ids.index(ids[0])
    assert not changes and again.protocol == task.protocol
    assert np.array_equal(again.train.read(row).label, np.array(Image.open(task.train.label_path(row))))
    later = View([run])
    done = later.answer({"kind": "correct", "image": 0, "track": 0, "at": 0, "painted": painted})
    known = read_corrections(done["folder"])
    assert {done["id"], *ids} == known.made.keys() and len(known.before) == 4 and len(known.labelled) == 7
    assert s4.load(**config | {"labelled": done["folder"]}).protocol.count("3 corrected by hand")
    view.answer({"kind": "correct", "image": 1, "track": 0, "at": -1, "painted": [[0, 400, 2]]})
    assert run.changes().content == [ids[0]], "corrected once more since"
    shutil.rmtree(folder)


def test_what_cannot_be_corrected_is_refused(view, runs, tmp_path):
    run, task = view.runs[0], view.task(0)
    ids, blank = task.train.ids, np.zeros((40, 40), np.uint8)
    with pytest.raises(S4Error, match="has a label already"):
        corrections.correct(run, ids[task.labelled[0]], blank, folder=tmp_path)
    with pytest.raises(S4Error, match="validation image"):
        corrections.correct(run, task.val.ids[0], blank, folder=tmp_path)
    with pytest.raises(S4Error, match="none of its training images"):
        corrections.correct(run, "../x", blank, folder=tmp_path)
    with pytest.raises(S4Error, match=r"\(39, 40\)"):
        corrections.correct(run, ids[task.unlabelled[0]], blank[1:], folder=tmp_path)
    with pytest.raises(S4Error, match="other values"):
        corrections.correct(run, ids[task.unlabelled[0]], blank + 4, folder=tmp_path)
    wrongs = [
        ({"painted": []}, "Nothing is painted"), ({"rest": "all"}, "rest"), ({"image": 9}, "image"),
        ({"track": 7}, "track"), ({"at": 5}, "snapshot"), ({"kind": "x"}, "does not know"),
    ]  # fmt: skip
    for wrong, words in wrongs:
        with pytest.raises(S4Error, match=words):
            view.answer({"kind": "correct", "image": 0, "track": 0, "at": 0, "painted": [[0, 1, 0]]} | wrong)
    assert not list(tmp_path.iterdir()) and not (runs["fixmatch"] / "corrections").exists()
    corrections.correct(run, ids[task.unlabelled[0]], blank, folder=tmp_path)
    other = replace(task, labelled=task.labelled[1:])
    with pytest.raises(S4Error, match="other labelled images"):
        corrections.correct(run, ids[task.unlabelled[1]], blank, folder=tmp_path, task=other)


def test_what_is_no_map_of_classes_is_not_painted(tmp_path):
    task = toy_points()
    settings = dict(steps=1, batch=2, probes=2, progress=False, device="cpu", workers=0)
    run = s4.fit(s4.methods.create("supervised", task, net=TINY[False]), task, out=tmp_path / "points", **settings)
    points = View([run])
    assert "points learns what is scored by PartIoU" in points.meta["tracks"][0]["unpaintable"]
    with pytest.raises(S4Error, match="scored by PartIoU"):
        points.answer({"kind": "correct", "image": 0, "track": 0, "at": 0, "painted": [[0, 1, 0]]})
    with pytest.raises(S4Error, match="scored by PartIoU"):
        corrections.correct(run, task.train.ids[task.unlabelled[0]], np.zeros(96, np.uint8), task=task)
    assert not (run.path / "corrections").exists()


def test_the_widget_answers(widget, tmp_path):
    said = []
    widget.send = lambda content, buffers=None: said.append(content)
    widget._answer(widget, {"kind": "corrections", "track": 0, "number": 7}, [])
    widget._answer(widget, {"kind": "correct", "track": 0, "number": 8}, [])
    assert said[0]["number"] == 7 and said[0]["answer"]["made"] == []
    assert said[1]["kind"] == "answer" and said[1]["number"] == 8 and "image" in said[1]["error"]
    json.dumps(said)
