"""The survey of the whole set: its numbers are numpy's, a kill costs nothing, a foreign folder is told."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from toy import toy_task

import s4kit as s4
from s4kit.data.sources import MemorySource
from s4kit.engine import later, probe, survey, watched
from s4kit.engine.survey_file import Survey, columns
from s4kit.errors import S4Error

FIT = dict(steps=4, batch=2, lr=1e-2, evaluate_every=2, progress=False, device="cpu", probes=2)
NUMBERS = columns(())[2:-3]


@pytest.fixture(scope="module")
def task():
    return toy_task(n_unlabelled=6, n_val=3)


@pytest.fixture(scope="module")
def runs(task, tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("swept"), {}
    for name in ("fixmatch", "cps"):
        torch.manual_seed(0)
        options = {"tau": 0.4} if name == "fixmatch" else {}
        method = s4.methods.create(name, task, net="tiny", **options)
        found[name] = s4.fit(method, task, out=folder / name, **FIT)
    return found


def swept(run, task, **options):
    return run.sweep(task=task, device="cpu", show=False, **options)


def by_numpy(run, task, item, which="last"):
    """The numbers of one image, from the network's probabilities alone."""
    method, _, clock = run.restored(which, task, "cpu")
    views, truth = probe.Probe(task, [item], whole=True).views([0], torch.device("cpu"))
    labels, chances = probe.said(method, views, clock)
    label, truth = next(iter(labels.values())).label[0].numpy(), truth[0].numpy()
    kept = [one.weight[0].numpy() > 0 for one in labels.values()]
    p = [one[0].double().numpy() for one in chances.values()]
    known, c = truth != 255, len(task.classes)
    union = [((label == k) | (truth == k))[known].sum() for k in range(c)]
    hit = [((label == k) & (truth == k))[known].sum() for k in range(c)]
    with torch.no_grad():
        voices = [net(views.weak).argmax(1)[0].numpy() for net in method.predictors().values()]
    return label, {
        "coverage": np.mean(kept),
        "confidence": np.mean([one.confidence.numpy() for one in labels.values()]),
        "entropy": np.mean([-(q * np.log(q)).sum(0) for q in p]) / np.log(c),
        "disagreement": (voices[0] != voices[-1]).mean() if len(voices) > 1 else np.nan,
        "accuracy": (label == truth)[known].mean(),
        "miou": np.mean([h / u for h, u in zip(hit, union) if u]),
        "precision": (label == truth)[known & kept[0]].mean() if (known & kept[0]).any() else np.nan,
    } | {f"share_{name}": (label == k).mean() for k, name in enumerate(task.classes)}


@pytest.mark.parametrize("name", ["fixmatch", "cps"])
def test_every_number_is_numpys(runs, task, name):
    found = swept(runs[name], task)
    assert len(found) == 9 and found.lists == ["unlabelled"] * 6 + ["val"] * 3
    assert found.ids == [task.train.ids[row] for row in task.unlabelled] + task.val.ids
    for row, item in enumerate(watched.find(task, found.ids)):
        label, expected = by_numpy(runs[name], task, item)
        for column, value in expected.items():
            assert found.columns[column][row] == pytest.approx(value, abs=1e-5, nan_ok=True), column
        picture = Image.open(io.BytesIO(found.thumbnail(row)))
        assert picture.format == "JPEG" and picture.size == (40, 40)
        drawn = Image.open(io.BytesIO(found.thumbnail(row, labels=True)))
        assert drawn.format == "PNG" and np.array_equal(np.array(drawn), label)
        assert tuple(drawn.getpalette()[:3]) == task.palette[0]
    assert np.isnan(found.columns["changed"]).all()


def test_another_checkpoint_is_held_against_it(runs, task):
    run = runs["fixmatch"]
    best, last = (run.restored(which, task, "cpu") for which in ("best", "last"))
    found = swept(run, task, which="best", against=runs["cps"].path)
    assert found.about["which"] == "best" and found.about["step"] == run.best["step"]
    other = runs["cps"].restored("last", task, "cpu")
    for row, item in enumerate(watched.find(task, found.ids)):
        views, _ = probe.Probe(task, [item], whole=True).views([0], torch.device("cpu"))
        one, two = (next(iter(probe.said(m, views, clock)[0].values())).label for m, _, clock in (best, other))
        assert found.columns["changed"][row] == pytest.approx(float((one != two).float().mean()), abs=1e-5)
    assert last[2].step == 3
    assert np.allclose(swept(run, task, which="best", against="best").columns["changed"], 0)


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_kill_costs_nothing_whatever_it_tears(runs, task, tmp_path, monkeypatch):
    run = runs["fixmatch"]
    straight = content(swept(run, task).folder)
    looked = []
    row = survey.Looking.row

    def dying(self, views, truth, other=None):
        if len(looked) == 4:
            raise KeyboardInterrupt
        looked.append(int(views.index[0]))
        return row(self, views, truth, other)

    (run.path / "sweep" / "last" / "survey.json").unlink()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(survey.Looking, "row", dying)
        swept(run, task)
    part = Survey(run.path / "sweep" / "last")
    assert len(part) == 4 and "4 images of 9" in repr(part) and part.thumbnail(3)
    rows, thumbnails = part.folder / "rows.csv", part.folder / "thumbnails.bin"
    rows.write_bytes(rows.read_bytes()[:-7])  # the fourth row is torn, thumbnails of a fifth are there
    thumbnails.write_bytes(thumbnails.read_bytes() + b"more")
    seen = []
    monkeypatch.setattr(survey.Looking, "row", lambda *a: seen.append(1) or row(*a))
    assert content(swept(run, task).folder) == straight and len(seen) == 6
    assert content(swept(run, task).folder) == straight and len(seen) == 6


def test_another_step_or_list_begins_anew(runs, task):
    run = runs["fixmatch"]
    swept(run, task)
    fewer = task.with_(unlabelled=task.unlabelled[:2])
    assert len(swept(run, fewer)) == 5 and len(swept(run, task)) == 9


def test_images_without_truth_and_odd_names(task, runs, tmp_path):
    names = ['a,"b"', "line\nbreak", "=1+1", "<i>"]
    images = [task.train.read(k).image.permute(1, 2, 0).numpy() for k in range(4)]
    bare = MemorySource(images, [None] * 4, 4, names)
    both = task.with_(train=bare, labelled=(0,), unlabelled=(1, 2, 3, 0))
    found = swept(runs["fixmatch"], both)
    assert found.ids[:4] == ["line\\nbreak", "=1+1", "<i>", 'a,"b"']
    assert np.isnan(found.columns["accuracy"][:4]).all() and not np.isnan(found.columns["coverage"][:4]).any()
    assert len(swept(runs["fixmatch"], both)) == 7


def test_the_worst_come_first_and_can_be_watched(runs, task):
    run = runs["fixmatch"]
    found = swept(run, task)
    accuracy = dict(zip(found.ids[:6], found.columns["accuracy"][:6]))
    assert found.worst(3) == sorted(accuracy, key=accuracy.get)[:3]
    entropy = found.columns["entropy"]
    assert (np.diff(entropy[found.order("entropy", falling=True)]) <= 0).all()
    there = set(run.snapshots().ids)
    assert set(later.add(run, "worst", task, "cpu")) == set(accuracy) - there
    with pytest.raises(S4Error, match="no column 'hue'"):
        found.order("hue")


def test_a_folder_from_elsewhere_is_told(runs, task, tmp_path):
    with pytest.raises(S4Error, match="holds no survey"):
        Survey(tmp_path)
    found = swept(runs["cps"], task)
    assert list(survey.surveys(runs["cps"])) == ["last"]
    rows = found.folder / "rows.csv"
    good = rows.read_text()
    first = good.splitlines()[1].split(",")
    first[-3] = str(10**9)
    lines = good.splitlines()
    for bad, words in (
        ("id,list\n", "its columns"),
        (good + "x,y\n", "has 2 cells"),
        (good + ",".join(["x", "val", *["a"] * (len(first) - 2)]) + "\n", "could not convert"),
    ):
        rows.write_text(bad)
        with pytest.raises(S4Error, match=words):
            Survey(found.folder)
    rows.write_text("\n".join([lines[0], ",".join(first), *lines[2:]]) + "\n")
    with pytest.raises(S4Error, match="row 0 has no thumbnail"):
        Survey(found.folder).thumbnail(0)
    with pytest.raises(S4Error, match="no row 9"):
        Survey(found.folder).thumbnail(9)
    about = json.loads((found.folder / "survey.json").read_text())
    (found.folder / "survey.json").write_text(json.dumps(about | {"version": 99}))
    with pytest.raises(S4Error, match="holds no survey"):
        Survey(found.folder)


def test_a_survey_that_grows_is_read_on(runs, task):
    found = swept(runs["cps"], task)
    rows = found.folder / "rows.csv"
    lines = rows.read_bytes().splitlines(keepends=True)
    rows.write_bytes(b"".join(lines[:4]) + lines[4][:9])
    part = Survey(found.folder)
    assert len(part) == 3 and not part.more()
    rows.write_bytes(b"".join(lines))
    assert part.more() and part.ids == found.ids and part.thumbnail(8) == found.thumbnail(8)
    assert all(np.array_equal(part.columns[name], found.columns[name], equal_nan=True) for name in found.columns)
    rows.write_bytes(b"".join(lines[:2]))
    with pytest.raises(S4Error, match="made anew"):
        part.more()
    rows.write_bytes(b"".join(lines))
