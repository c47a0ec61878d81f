"""Snapshots: what is written is what the method said, what is lost is said, and recording changes nothing."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import toy_task

import s4kit as s4
from s4kit.engine import checkpoint, maps, probe, snapshots, watched, writer
from s4kit.errors import S4Error
from s4kit.methods import Clock, PseudoLabels

SMALL = dict(batch=2, lr=1e-2, evaluate_every=2, checkpoint_every=2, probes=3, progress=False, device="cpu")


@pytest.fixture(scope="module")
def task():
    return toy_task()


def build(name, task, seed=0, **options):
    torch.manual_seed(seed)
    return s4.methods.create(name, task, net="tiny", **options)


def pseudo(images=2, side=8, classes=5, seed=0):
    """Random but believable pseudo-labels and the probabilities behind them."""
    p = (3 * torch.randn(images, classes, side, side, generator=torch.Generator().manual_seed(seed))).softmax(1)
    confidence, label = p.max(1)
    return PseudoLabels(label, confidence, (confidence > 0.6).float(), torch.ones_like(confidence)), p


# ---- maps ----


def test_maps_are_what_they_say():
    labels, p = pseudo()
    for k, stored in enumerate(maps.beliefs(labels, p, box=8)):
        q = p[k].double().numpy()
        order = np.argsort(-q, axis=0)[:3]
        assert np.array_equal(stored["label"], q.argmax(0))
        assert np.array_equal(stored["top"], order)
        assert np.abs(stored["prob"] / 255 - np.take_along_axis(q, order, 0)).max() <= 0.5 / 255 + 1e-6
        entropy = -(q * np.log(q)).sum(0) / math.log(5)
        assert np.abs(stored["entropy"] / 255 - entropy).max() <= 0.5 / 255 + 1e-6
        assert np.array_equal(stored["weight"], 255 * (q.max(0) > 0.6))
        assert all(a.dtype == np.uint8 for a in stored.values())


def test_single_objects_are_numbered_by_image():
    labels, p = pseudo()
    ids = torch.zeros(2, 8, 8, dtype=torch.long)
    ids[0, :2], ids[0, 4:, 3:], ids[1] = 3001, 1007, torch.arange(64).view(8, 8) * 5 + 1000
    one, two = maps.beliefs(replace(labels, ids=ids), p, box=8)
    expected = np.select([ids[0] == 1007, ids[0] == 3001], [1, 2], 0)
    assert np.array_equal(one["object"], expected) and one["object"].dtype == np.uint8
    assert np.array_equal(two["object"], np.arange(1, 65).reshape(8, 8)), "of an image without background, too"
    many = torch.arange(1000, 1300).view(1, 15, 20)
    assert maps.numbered(many).flatten().tolist() == [*range(1, 256), *range(1, 46)]
    assert "object" not in maps.beliefs(labels, p, box=8)[0]


def test_a_small_weight_is_not_rejected_and_two_classes_leave_a_blank():
    labels, p = pseudo(classes=2)
    (stored, _) = maps.beliefs(replace(labels, weight=torch.full_like(labels.weight, 1e-4)), p, box=8)
    assert (stored["weight"] == 1).all()
    assert (stored["top"][2] == 255).all() and (stored["prob"][2] == 0).all()


def test_large_maps_are_picked_not_blurred():
    labels, p = pseudo(side=20)
    (stored, _) = maps.beliefs(labels, p, box=6)
    rows = [int((i + 0.5) * 20 / 6) for i in range(6)]
    assert np.array_equal(stored["label"], labels.label[0].numpy()[np.ix_(rows, rows)])
    picture = maps.pictures(torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4) / 255, box=2)
    assert np.allclose(picture[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]], atol=0.5)


# ---- the files ----


@pytest.fixture
def files(tmp_path):
    return writer.Writer(tmp_path / "probes", tuple("abcde"), ((1, 2, 3),) * 5, side=256)


def scene(side, real=None, seed=0):
    """A random image with a void line and, outside `real`, padding."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 5, (side, side), dtype=np.uint8)
    truth[0] = 255
    top, left, bottom, right = real or (0, 0, side, side)
    valid = np.zeros((side, side), np.uint8)
    valid[top:bottom, left:right] = 1
    return probe.Scene(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), truth, valid)


def looked(labels, p):
    """What a rule says of the first images, by name, with the same probabilities."""
    return probe.Looked(list(range(len(p))), labels, dict.fromkeys(labels, p), torch.zeros(0), torch.zeros(0))


def filled(files, steps=(3, 7), side=8):
    scenes = [scene(side), scene(side, real=(0, 0, side, 4))]
    files.images(scenes, ["x.png", "<y>.png"], ["unlabelled", "val"], path=side)
    written = {}
    for step in steps:
        labels, p = pseudo(side=side, seed=step)
        odd = replace(labels, label=(labels.label + 1) % 5, confidence=labels.confidence / 2)
        files.step(step, [looked({"1 teaches 2": labels, "odd": odd}, p)])
        written[step] = {"1 teaches 2": maps.beliefs(labels, p, 256), "odd": maps.beliefs(odd, p, 256)}
    return scenes, written


def test_what_is_read_is_what_was_written(files):
    scenes, written = filled(files)
    read = snapshots.Snapshots(files.folder)
    assert read.ids == ["x.png", "<y>.png"] and read.classes == list("abcde") and len(read) == 2
    assert read.kinds == ["unlabelled", "val"]
    assert read.steps == {"1 teaches 2": [3, 7], "odd": [3, 7]} and read.path_steps == {}
    for k in range(2):
        assert all(np.array_equal(a, getattr(scenes[k], name)) for name, a in read.image(k).items())
        for step, names in written.items():
            for name, expected in names.items():
                found = read.read(step, name, k)
                assert found.keys() == expected[k].keys()
                assert all(np.array_equal(found[field], expected[k][field]) for field in found)


def test_equal_arrays_are_left_out_and_others_are_not(files):
    filled(files)
    with np.load(files.folder / "0000003.npz") as file:
        assert "odd/0/label" in file and "odd/0/confidence" in file
        assert "1 teaches 2/0/label" not in file and "1 teaches 2/0/confidence" not in file


def test_an_unchanged_picture_stands_once_and_is_found(files):
    filled(files, steps=())
    plane, picture = np.zeros((8, 8), np.uint8), np.full((8, 8, 3), 7, np.uint8)
    for step, level in ((1, 10), (2, 10), (3, 20), (4, 20)):
        mixed = np.full_like(picture, level)
        loss = np.full((8, 8), step, np.float16)
        example = {"weak": picture, "mixed": mixed, "label": plane, "weight": plane + step, "loss": loss}
        files.path(step, {"pseudo": [example]}, {"pseudo": ["one"]})
    read = snapshots.Snapshots(files.folder)
    assert read.path_steps == {"pseudo": [1, 2, 3, 4]} and read.examples("pseudo") == 1
    assert read.path_ids == {"pseudo": ["one"]}
    with np.load(files.folder / "0000002_path.npz") as file:
        assert "pseudo/0/weak" not in file and "pseudo/0/mixed" not in file
    levels = []
    for step in (1, 2, 3, 4):
        found = read.path(step, "pseudo", 0)
        assert (found["weak"] == 7).all() and (found["weight"] == step).all() and (found["loss"] == step).all()
        levels.append(int(found["mixed"][0, 0, 0]))
    assert levels == [10, 10, 20, 20]


@pytest.mark.parametrize("labels", [4, 21])
def test_what_is_lost_is_said(tmp_path, labels):
    files = writer.Writer(tmp_path / "p", tuple(f"c{k}" for k in range(labels)), ((0, 0, 0),) * labels, side=16)
    files.images([scene(32)], ["x"], ["unlabelled"], path=32)
    lost = snapshots.Snapshots(files.folder).lost
    assert "1/255" in lost and "25 %" in lost and f"of {labels} classes" in lost


def test_broken_and_foreign_folders_are_named(files, tmp_path):
    with pytest.raises(S4Error, match="holds no snapshots"):
        snapshots.Snapshots(tmp_path / "nothing")
    filled(files)
    file = files.folder / "0000007.npz"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(S4Error, match=r"0000007\.npz is missing or damaged"):
        snapshots.Snapshots(files.folder).read(7, "odd", 0)
    index = files.folder / "index.json"
    given = json.loads(index.read_text())
    for change, words in (({"version": 99}, "version 99"), ({"classes": None}, "damaged"), ({"height": 9}, "damaged")):
        index.write_text(json.dumps(given | change))
        with pytest.raises(S4Error, match=words):
            snapshots.Snapshots(files.folder).read(3, "odd", 0)


def test_a_pickle_in_a_snapshot_is_never_opened(files, tmp_path):
    filled(files)

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    np.savez(files.folder / "0000003.npz", **{f"odd/0/{n}": np.array([Evil()]) for n in ("top", "prob", "label")})
    with pytest.raises(S4Error, match="damaged"):
        snapshots.Snapshots(files.folder).read(3, "odd", 0)
    assert not (tmp_path / "opened").exists()


def test_labels_beyond_the_classes_are_refused(files):
    filled(files)
    labels, p = pseudo()
    labels.label[0, 0, 0] = 77
    files.step(3, [looked({"odd": labels}, p)])
    with pytest.raises(S4Error, match="beyond the 5 classes"):
        snapshots.Snapshots(files.folder).read(3, "odd", 0)


def test_cut_removes_later_steps_only(files):
    filled(files, steps=(3, 7, 12))
    files.path(7, {"pseudo": [{"loss": np.zeros((8, 8), np.float16)}]}, {})
    writer.cut(files.folder, 7)
    assert sorted(f.name for f in files.folder.iterdir()) == ["0000003.npz", "images.npz", "index.json"]


# ---- a run ----


def arrays(run):
    """All that a reader finds in the snapshots of a run."""
    read = run.snapshots()
    found = {("image", k): read.image(k) for k in range(len(read))}
    for name, steps in read.steps.items():
        found |= {(name, step, k): read.read(step, name, k) for step in steps for k in range(len(read))}
    for name, steps in read.path_steps.items():
        found |= {("path", name, s, k): read.path(s, name, k) for s in steps for k in range(read.examples(name))}
    return {(*key, field): values for key, part in found.items() for field, values in part.items()}


def test_a_snapshot_is_the_rule_on_the_probe_images(task, tmp_path):
    method = build("unimatch", task, tau=0.4)
    run = s4.fit(method, task, steps=4, out=tmp_path / "r", **SMALL)
    watch = probe.Probe(task, watched.chosen(task, 3))
    views, truth = watch.views(range(3), torch.device("cpu"))
    rule = method.pseudo_labels(method.teach(views), views, Clock(3, 4))
    read = run.snapshots()
    assert read.ids == watch.ids and read.steps == {"pseudo": [1, 3]}
    for k in range(3):
        found = read.read(3, "pseudo", k)
        assert np.array_equal(found["label"], rule.label[k]) and np.array_equal(found["weight"] > 0, rule.weight[k] > 0)
        assert np.abs(found["confidence"] / 255 - rule.confidence[k].numpy()).max() < 0.51 / 255
        assert np.array_equal(read.image(k)["truth"], truth[k])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cps", "u2pl", "unimatch"])
def test_resumed_snapshots_are_those_of_a_straight_run(name, task, tmp_path):
    straight = s4.fit(build(name, task), task, steps=6, out=tmp_path / "a", **SMALL)

    class Killed(Exception):
        pass

    class Short(s4.engine.training.Training):
        def _between_steps(self, clock):
            super()._between_steps(clock)
            if self.done == 4:  # after the evaluation, and as if before the checkpoint
                (self.record.folder / "last.pt").unlink()
                (self.record.folder / "second.pt").rename(self.record.folder / "last.pt")
                raise Killed
            if self.done == 2:
                checkpoint.save(self.record.folder / "second.pt", checkpoint.load(self.record.folder / "last.pt"))

    settings = s4.engine.Settings(steps=6, **{k: v for k, v in SMALL.items() if k != "progress"})
    with pytest.raises(Killed):
        Short(build(name, task), task, settings, tmp_path / "b", False, False).run()
    resumed = s4.fit(build(name, task, seed=9), task, steps=6, out=tmp_path / "b", resume=True, **SMALL)
    one, two = arrays(straight), arrays(resumed)
    assert one.keys() == two.keys() and all(np.array_equal(one[key], two[key]) for key in one)


def test_a_new_run_in_the_folder_of_a_killed_one_has_none_of_its_snapshots(task, tmp_path):
    run = s4.fit(build("cps", task), task, steps=4, out=tmp_path / "r", **SMALL)
    (run.path / "last.pt").unlink()
    again = s4.fit(build("fixmatch", task), task, steps=2, out=tmp_path / "r", **SMALL)
    assert again.snapshots().steps == {"pseudo": [1]} and again.snapshots().path_steps == {"pseudo": [1]}


def test_runs_without_probes_say_so(task, tmp_path):
    run = s4.fit(build("fixmatch", task), task, steps=2, out=tmp_path / "r", **SMALL | {"probes": 0})
    with pytest.raises(S4Error, match="probes=0"):
        run.snapshots()


def test_the_probe_size_is_kept_to(task, tmp_path):
    run = s4.fit(build("fixmatch", task), task, steps=2, out=tmp_path / "r", probe_size=16, **SMALL)
    read = run.snapshots()
    assert (read.height, read.width, read.crop) == (16, 16, 32) and "16 x 16" in read.lost
    assert read.path(1, "pseudo", 0)["mixed"].shape == (16, 16, 3)
