"""Which images a run watches, how they are looked at, and what is told of those that came later."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toy import PALETTE, toy_arrays, toy_task

import s4kit as s4
from s4kit.data.sources import MemorySource
from s4kit.engine import later, probe, watched
from s4kit.errors import S4Error
from s4kit.explore.packing.codec import decode
from s4kit.explore.view import View

SMALL = dict(steps=4, batch=2, lr=1e-2, evaluate_every=2, progress=False, device="cpu")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def task():
    return toy_task()


def train(task, folder, name="fixmatch", **fit):
    torch.manual_seed(0)
    options = {} if name in ("cps", "supervised") else {"tau": 0.4}
    return s4.fit(s4.methods.create(name, task, net="tiny", **options), task, out=folder, **SMALL | fit)


# ---- choosing ----


def test_images_are_chosen_by_number_by_name_and_from_a_file(task, tmp_path):
    drawn = watched.chosen(task, 5)
    assert [item.kind for item in drawn] == ["unlabelled"] * 5 and drawn == watched.chosen(task, 5)
    assert len(watched.chosen(task, 99)) == len(task.unlabelled) and watched.chosen(task, 0) == []
    named = watched.chosen(task, ["val_1", "train_9", "train_2", "val_1"])
    assert [(i.part, i.row, i.id, i.kind) for i in named] == [
        ("val", 1, "val_1", "val"),
        ("train", 9, "train_9", "unlabelled"),
        ("train", 2, "train_2", "labelled"),
    ]
    file = tmp_path / "watch.txt"
    file.write_text("# the hard ones\nval_1\ntrain_9\nsomewhere/train_2.png\n")
    assert watched.chosen(task, str(file)) == named
    assert len(watched.chosen(task, "worst")) == 16


def test_what_is_in_no_list_is_unused_and_what_is_in_both_unlabelled(task):
    apart = task.with_(unlabelled=(0, *range(10, 24)))
    kinds = {item.id: item.kind for item in watched.find(apart, ["train_0", "train_1", "train_9"])}
    assert kinds == {"train_0": "unlabelled", "train_1": "labelled", "train_9": "unused"}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["trian_9"], "no image 'trian_9'. Did you mean train_9"),
        ("nowhere.txt", "nowhere.txt does not exist"),
        (-1, "probes=-1"),
        (True, "probes=True"),
        (2.5, "probes=2.5"),
    ],
)
def test_what_cannot_be_watched_is_said(task, wanted, words):
    with pytest.raises(S4Error, match=words):
        watched.chosen(task, wanted)


def test_a_bare_name_of_two_images_is_refused():
    arrays = toy_arrays(4)
    train = MemorySource(*arrays, 4, ["a/x", "b/x", "a/y", "a/z"])
    val = MemorySource(*toy_arrays(1), 4, ["v"])
    task = s4.data.task.Task("t", tuple("abcd"), PALETTE[:4], train, (0,), (1, 2, 3), val, 32)
    assert watched.find(task, ["y"])[0].id == "a/y"
    with pytest.raises(S4Error, match="'x' fits a/x, b/x"):
        watched.find(task, ["x"])


# ---- looking ----


def uneven() -> s4.data.task.Task:
    """Images of several sizes."""
    sizes = [(40, 30), (40, 30), (24, 60), (40, 30), (33, 20)]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    labels = [rng.integers(0, 4, size, dtype=np.uint8) for size in sizes]
    source = MemorySource(images, labels, 4, [f"i{k}" for k in range(5)])
    val = MemorySource(images[:2], labels[:2], 4, ["v0", "v1"])
    return s4.data.task.Task("uneven", tuple("abcd"), PALETTE[:4], source, (0, 1), (2, 3, 4), val, 24, (0.8, 1.5))


@pytest.mark.parametrize(("pixels", "chunks"), [(10**6, [[0, 1], [2], [3], [4]]), (1, [[0], [1], [2], [3], [4]])])
def test_a_forward_has_images_of_one_size_and_no_more_than_it_may(monkeypatch, pixels, chunks):
    monkeypatch.setattr(probe, "PIXELS", pixels)
    task = uneven()
    watch = probe.Probe(task, watched.find(task, task.train.ids), whole=True)
    seen = list(watch.chunks(CPU))
    assert [places for places, _, _ in seen] == chunks
    for places, views, truth in seen:
        assert views.weak.dtype == torch.float32 and (views.label == 255).all() and not views.labelled.any()
        for k, place in enumerate(places):
            sample = task.train.read(place)
            assert torch.equal(views.weak[k], sample.image / 255) and torch.equal(truth[k], sample.label.long())
            assert (views.valid[k] == 1).all() and views.index[k] == place


def test_whole_images_of_any_size_are_recorded_as_the_rule_says(tmp_path):
    task = uneven()
    run = train(task, tmp_path / "r", probes=["v1", *task.train.ids], probe_whole=True, probe_size=40)
    read, (method, _, clock) = run.snapshots(), run.restored("last", task, "cpu")
    assert read.kinds == ["val", "labelled", "labelled", "unlabelled", "unlabelled", "unlabelled"]
    assert (read.height, read.width, read.crop, read.path_size) == (40, 40, 60, (24, 24)) and clock.step == 3
    assert "16 x 40 were picked" in read.lost and read.path(3, "pseudo", 0)["weak"].shape == (24, 24, 3)
    watch = probe.Probe(task, watched.find(task, read.ids), whole=True)
    for k in range(len(read)):
        views, truth = watch.views([k], CPU)
        labels, _ = probe.said(method, views, clock)
        height, width = truth.shape[1:]
        scene, maps = read.image(k), read.read(3, "pseudo", k)
        shown = (slice(0, 16), slice(0, 40)) if height == 24 else (slice(0, height), slice(0, width))
        rows = (torch.arange(16) * 3 + 1) // 2 if height == 24 else torch.arange(height)
        columns = (torch.arange(40) * 3 + 1) // 2 if height == 24 else torch.arange(width)
        picked = labels["pseudo"].label[0][rows[:, None], columns]
        assert np.array_equal(maps["label"][shown], picked)
        assert np.array_equal(scene["truth"][shown], truth[0][rows[:, None], columns])
        outside = np.ones((40, 40), bool)
        outside[shown] = False
        assert (scene["valid"] == ~outside).all() and (scene["truth"][outside] == 255).all()
        assert not maps["weight"][outside].any()


def test_the_quality_of_pseudo_labels_is_that_of_unlabelled_images(task, tmp_path):
    run = train(task, tmp_path / "r", probes=["val_0", "train_1", "train_9", "train_12"])
    read, row = run.snapshots(), run.pseudo()[-1]
    kept = right = known = 0
    for k in (2, 3):
        maps, scene = read.read(3, "pseudo", k), read.image(k)
        there = scene["truth"] != 255
        known += there.sum()
        kept += (there & (maps["weight"] > 0)).sum()
        right += (there & (maps["weight"] > 0) & (maps["label"] == scene["truth"])).sum()
    assert 0 < right < kept
    assert row["coverage"] == pytest.approx(kept / known) and row["precision"] == pytest.approx(right / kept)


def test_the_worst_are_those_of_least_accuracy_at_the_first_evaluation(task, tmp_path, monkeypatch):
    monkeypatch.setattr(watched, "USUAL", 3)
    run = train(task, tmp_path / "r", probes="worst")
    every = train(task, tmp_path / "all", probes=99).snapshots()
    accuracy = {}
    for k, name in enumerate(every.ids):
        label, truth = every.read(1, "pseudo", k)["label"], every.image(k)["truth"]
        accuracy[name] = (label == truth)[truth != 255].mean()
    read = run.snapshots()
    assert len(read) == 3 and set(read.ids) == set(sorted(accuracy, key=accuracy.get)[:3])
    assert read.steps == {"pseudo": [1, 3]}


def test_a_resumed_run_watches_what_it_watched(task, tmp_path, monkeypatch):
    monkeypatch.setattr(watched, "USUAL", 3)
    run = train(task, tmp_path / "r", probes="worst", checkpoint_every=2)
    ids = run.snapshots().ids
    again = train(task, tmp_path / "r", probes="worst", steps=6, resume=True)
    assert again.snapshots().ids == ids and again.snapshots().steps == {"pseudo": [1, 3, 5]}


# ---- later ----


@pytest.fixture
def run(task, tmp_path):
    """A run that was best in mid-training, as far as its files say."""
    return train(task, tmp_path / "r", probes=3, steps=6)


def test_what_is_added_is_what_the_checkpoints_say(run, task):
    before = run.snapshots()
    first = before.ids
    old = before.read(5, "pseudo", 1)
    assert later.add(run, ["val_2", first[0], "train_0"], task, "cpu") == ["val_2", "train_0"]
    assert later.add(run, ["val_2"], task, "cpu") == []
    read, best = run.snapshots(), run.best["step"]
    assert read.ids == [*first, "val_2", "train_0"] and read.kinds[-2:] == ["val", "labelled"]
    assert all(np.array_equal(a, old[name]) for name, a in read.read(5, "pseudo", 1).items())
    assert read.recorded("pseudo", 0) == [1, 3, 5] and read.recorded("pseudo", 4) == sorted({best, 5})
    for which, step in (("best", best), ("last", 5)):
        method, _, clock = run.restored(which, task, "cpu")
        views, truth = probe.Probe(task, watched.find(task, ["val_2"])).views([0], CPU)
        labels, _ = probe.said(method, views, clock)
        assert np.array_equal(read.read(step, "pseudo", 3)["label"], labels["pseudo"].label[0])
        assert np.array_equal(read.image(3)["truth"], truth[0])


def test_the_explorer_shows_the_nearest_step_of_an_image_that_was_added_and_says_so(run, task):
    alone = decode(View(run).data.pack("summary/0"))[0]
    later.add(run, ["val_2"], task, "cpu")
    steps = run.snapshots().recorded("pseudo", 3)
    view = View(run)
    nearest = [min(steps, key=lambda s: abs(s - step)) for step in (1, 3, 5)]
    about = view.meta["tracks"][0]
    assert about["partial"] == {"3": nearest} and view.meta["images"][3]["kind"] == "val"
    maps, _ = decode(view.data.pack("track/0/3"))
    for s, step in enumerate(nearest):
        assert np.array_equal(maps["label"][s], run.snapshots().read(step, "pseudo", 3)["label"])
    both, head = decode(view.data.pack("summary/0"))
    assert all(np.array_equal(both[name], values) for name, values in alone.items()) and head["all"] is False


def test_a_run_that_watched_nothing_can_watch_later(task, tmp_path):
    run = train(task, tmp_path / "r", probes=0)
    assert later.add(run, ["train_9", "val_0"], task, "cpu") == ["train_9", "val_0"]
    assert run.snapshots().ids == ["train_9", "val_0"] and 3 in run.snapshots().steps["pseudo"]
    assert View(run).meta["images"][1]["kind"] == "val"


def test_what_cannot_be_added_is_said(run, task, monkeypatch):
    for wanted, words in ((3, "by their ids"), ("worst", "s4kit sweep")):
        with pytest.raises(S4Error, match=words):
            later.add(run, wanted, task, "cpu")
    with monkeypatch.context() as patch, pytest.raises(S4Error, match="fixmatch has no rule"):
        patch.setattr(probe, "said", lambda *_: ({}, {}))
        later.add(run, ["val_0"], task, "cpu")
    for name in ("best.pt", "last.pt"):
        (run.path / name).unlink()
    with pytest.raises(S4Error, match="no checkpoint yet"):
        later.add(run, ["val_0"], task, "cpu")
