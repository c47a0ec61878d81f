"""Labels corrected by hand: who is labelled then, with which map, what the protocol says, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from toy_folder import write_folder

import s4kit as s4
from s4kit.data.corrections import read_corrections, stem
from s4kit.data.palettes import indexed
from s4kit.errors import S4Error

CLASSES = ["ground", "red <b>", "blue", "yellow"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("corrected") / "data")


@pytest.fixture
def folder(tmp_path):
    """Two images labelled anyhow and one corrected: all yellow, with a void corner; two pixels painted."""
    made = tmp_path / "corrections"
    made.mkdir()
    index = {"version": 1, "classes": CLASSES, "labelled": ["train/train_0", "train/train_1"]}
    (made / "corrections.json").write_text(json.dumps(index))
    add(made, "train/train_5", yellow())
    return made


def yellow(size=40):
    label = np.full((size, size), 3, np.uint8)
    label[:4, :4] = 255
    return label


def add(folder, id, label, painted=2):
    indexed(label, [(0, 0, 0), (9, 9, 9), (0, 0, 200), (200, 200, 0)]).save(folder / f"{stem(id)}.png")
    (folder / f"{stem(id)}.json").write_text(json.dumps({"id": id, "painted": painted}))


def task_of(root, **how):
    return s4.load("folder", root=str(root), crop=32, **how)


def test_a_folder_is_a_labelled_set(root, folder):
    task = task_of(root, labelled=str(folder))
    ids = [task.train.ids[row] for row in task.labelled]
    assert ids == ["train/train_0", "train/train_1", "train/train_5"]
    assert not set(task.labelled) & set(task.unlabelled) and len(task.unlabelled) == 9
    assert task.protocol == "3 labelled of corrections, 1 corrected by hand (2 pixels painted)"
    row = task.labelled[-1]
    assert np.array_equal(task.train.read(row).label, yellow()) and np.array_equal(task.train.label(row), yellow())
    plain = task_of(root, labelled=4)
    assert np.array_equal(task.train.read(row).image, plain.train.read(row).image)
    for other in range(12):
        if other != row:
            assert np.array_equal(task.train.read(other).label, plain.train.read(other).label)
    assert task.train.read(row, label=False).label is None
    assert task.class_pixels.sum() == sum((task.train.read(r).label != 255).sum() for r in task.labelled)


def test_the_config_opens_the_same_again_wherever_one_is(root, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder.parent)
    task = task_of(root, labelled="corrections")
    assert task.config["corrections"] == str(folder) == task.config["labelled"]
    monkeypatch.chdir(root)
    again = s4.load(**json.loads(json.dumps(task.config)))
    assert again.labelled == task.labelled and np.array_equal(again.train.read(5).label, task.train.read(5).label)
    listed = s4.load(**task.config | {"labelled": ["train/train_5", "train/train_1", "train/train_0"]})
    row = listed.labelled[0]
    assert np.array_equal(listed.train.read(row).label, yellow()), "as a run lists its images"
    apart = s4.load(**task.config | {"labelled": ["train/train_1", "train/train_0", "train/train_2"]})
    assert not np.array_equal(apart.train.read(row).label, yellow()), "unlabelled here: judged by its own truth"


def test_an_image_without_a_mask_becomes_labelled(tmp_path, folder):
    root = write_folder(tmp_path / "partial")
    (root / "labels" / "train" / "train_5.png").unlink()
    task = task_of(root, labelled=str(folder), partial=True)
    assert np.array_equal(task.train.read(task.labelled[-1]).label, yellow())
    with pytest.raises(S4Error, match="train_5 is listed as labelled but has no label map"):
        task_of(root, labelled=["train/train_1", "train/train_5"], partial=True)


def test_palettes_of_the_data_set_and_of_the_corrections_may_differ(tmp_path, folder):
    root = write_folder(tmp_path / "indexed")
    for file in (root / "labels").glob("*/*.png"):
        indexed(np.array(Image.open(file)), [(1, 2, 3), (50, 0, 0), (0, 50, 0), (0, 0, 50)]).save(file)
    task = task_of(root, labelled=str(folder))
    assert np.array_equal(task.train.read(task.labelled[-1]).label, yellow())


def test_embedded_images_too(tmp_path):
    made = tmp_path / "c"
    made.mkdir()
    plain = s4.load("scenes", labelled=4, n_train=12, n_val=2, side=32, cover=0)
    ids = [plain.train.ids[row] for row in plain.labelled]
    index = {"version": 1, "classes": list(plain.classes), "labelled": ids}
    (made / "corrections.json").write_text(json.dumps(index))
    row = plain.unlabelled[0]
    label = np.zeros((32, 32), np.uint8)
    add(made, plain.train.ids[row], label)
    task = s4.load("scenes", labelled=made, n_train=12, n_val=2, side=32)
    assert task.labelled == (*plain.labelled, row) and not task.train.read(row).label.any()
    assert task.train.label_path(row).endswith(".png") and task.train.label_path(plain.labelled[0]) is None
    with pytest.raises(S4Error, match="part no object from another"):
        s4.load("scenes", labelled=made, n_train=12, n_val=2, side=32, instances=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / f"{stem('train/train_5')}.png").unlink(), "missing"),
        (lambda f: add(f, "train/train_5", yellow(39)), "39 x 39"),
        (lambda f: add(f, "train/train_5", np.full((40, 40), 7, np.uint8)), "id 7"),
        (lambda f: add(f, "val/val_0", yellow()), "validation images"),
        (lambda f: add(f, "train/train_77", yellow()), "not among"),
        (lambda f: (f / "x.json").write_text('{"id": "train/train_2", "painted": 1}'), "rename"),
        (lambda f: (f / f"{stem('train/train_5')}.json").write_text("[]"), "no object"),
        (lambda f: (f / f"{stem('train/train_5')}.json").write_text('{"id": "train/train_5"}'), "painted"),
        (lambda f: (f / "corrections.json").write_text('{"version": 9}'), "version 9"),
        (
            lambda f: (f / "corrections.json").write_text('{"version": 1, "classes": ["a"], "labelled": []}'),
            "classes a",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(root, folder, damage, words):
    damage(folder)
    with pytest.raises(S4Error, match=words):
        task_of(root, labelled=str(folder))


def test_names_of_files_hold_no_folder():
    names = ["a/b", "../../etc/passwd", "a b", "ü.png", ".hidden", "a%2Fb"]
    assert all("/" not in stem(name) and not stem(name).startswith(".") for name in names)
    assert len({stem(name) for name in names}) == len(names)


def test_one_image_is_labelled_once(folder):
    index = json.loads((folder / "corrections.json").read_text())
    (folder / "corrections.json").write_text(json.dumps(index | {"labelled": ["train/train_5", "train/train_1"]}))
    assert read_corrections(folder).labelled == ["train/train_1", "train/train_5"]
