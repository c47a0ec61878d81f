"""Images in, index maps and colour masks out."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy import TINY, toy_arrays, toy_points

from s4kit import data
from s4kit.engine import fit
from s4kit.errors import S4Error
from s4kit.methods import create
from s4kit.report.pictures import VOID_COLOUR, colour, picture_iou
from s4kit.report.predict import _names, predict_files


def test_maps_have_the_images_size_and_bad_files_are_named(run, tmp_path):
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    Image.fromarray(np.full((37, 50, 3), 90, np.uint8)).save(images / "a.png")
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(images / "a.jpg")
    (images / "bad.png").write_bytes(b"")
    found = predict_files(run, [images], out)
    assert [f["image"] for f in found["skipped"]] == [str(images / "bad.png")] and found["ok"] is False
    assert len(found["written"]) == 2
    assert len({f["index"] for f in found["written"]}) == 2  # two files of one name
    for file in found["written"]:
        size = Image.open(file["image"]).size
        index, mask = np.array(Image.open(file["index"])), np.array(Image.open(file["colour"]))
        assert index.shape == size[::-1] and mask.shape == (*size[::-1], 3)
        assert index.max() < 4 and sum(file["classes"].values()) == pytest.approx(1, abs=1e-3)
    assert [c["name"] for c in json.loads((out / "classes.json").read_text())] == [
        "ground",
        "red <b>",
        "blue",
        "yellow",
    ]
    assert Image.open(out / "legend.png").size[0] > 50


def test_nothing_readable_is_an_error(run, tmp_path):
    with pytest.raises(S4Error, match="missing"):
        predict_files(run, [tmp_path / "none.png"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(S4Error, match="no image"):
        predict_files(run, [tmp_path / "empty"], tmp_path / "out")


def test_void_looks_like_no_class():
    label = np.full((12, 12), 255, np.uint8)
    label[:6] = 1
    out = colour(label, [(0, 0, 0), (200, 0, 0)])
    assert (out[:6] == (200, 0, 0)).all()
    assert {tuple(p) for p in out[6:].reshape(-1, 3)} == {VOID_COLOUR, (150, 150, 150)}


def test_iou_of_one_picture_leaves_void_out():
    truth = np.array([[0, 0, 1, 255]])
    assert picture_iou(np.array([[0, 1, 1, 0]]), truth, 3) == pytest.approx(0.5)


def test_output_names_differ():
    files = [Path(name) for name in ("x/a.png", "x/a_2.png", "y/a.png", "z/a_2.png")]
    assert list(_names(files).values()) == ["a", "a_2", "a_3", "a_2_2"]


def test_a_run_on_images_in_memory_needs_its_task(tmp_path):
    images, labels = toy_arrays(10)
    task = data.load_arrays(images[:8], labels[:8], images[8:], labels[8:], classes=4, labelled=4, crop=32)
    method = create("supervised", task, net="tiny")
    fitted = fit(method, task, steps=1, batch=2, probes=0, out=tmp_path / "run", progress=False)
    with pytest.raises(S4Error, match="in memory"):
        fitted.task()
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    assert predict_files(fitted.path, [tmp_path / "a.png"], tmp_path / "out", task=task)["ok"]


def test_a_run_on_points_takes_no_images(tmp_path):
    task = toy_points()
    settings = dict(out=tmp_path / "run", batch=2, progress=False, device="cpu", workers=0, probes=0)
    fit(create("supervised", task, net=TINY[False]), task, 1, **settings)
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(S4Error, match="segments points"):
        predict_files(tmp_path / "run", [tmp_path / "a.png"], tmp_path / "out", task=task)
