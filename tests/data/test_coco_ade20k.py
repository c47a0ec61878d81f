"""COCO from its instances and ADE20K in both of its forms, in their true layouts; real samples where they are given."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import s4kit.data as data
from s4kit.data.palettes import ADE20K_CLASSES, COCO_CLASSES
from s4kit.data.sets import ade20k, coco, coco_masks
from s4kit.errors import S4Error

from .conftest import index_map, picture

# The category ids of COCO 2017 have gaps: 80 of 1..90.
CATEGORY_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
TEST_DATA = os.environ.get("S4KIT_TEST_DATA", "")


def box(left, top, right, bottom):
    """The polygon of the pixels left..right-1, top..bottom-1."""
    return [[left, top, right, top, right, bottom, left, bottom]]


def instances(numbers, height=24, width=32):
    """An annotation file: a person, a crowd of cars over its left, a toothbrush of two parts over its right."""
    crowd = np.zeros((height, width), np.uint8)
    crowd[2:6, 0:8] = 1
    runs, flat = [], crowd.T.ravel()  # uncompressed run lengths, column by column, zeros first
    for value in np.split(flat, np.flatnonzero(np.diff(flat)) + 1):
        runs.append(len(value))
    annotations = []
    for number in numbers[:-1]:  # the last image shows nothing
        annotations += [
            {"image_id": number, "category_id": 1, "segmentation": box(4, 4, 20, 20), "iscrowd": 0},
            {
                "image_id": number,
                "category_id": 3,
                "segmentation": {"counts": runs, "size": [height, width]},
                "iscrowd": 1,
            },
            {
                "image_id": number,
                "category_id": 90,
                "segmentation": box(16, 10, 18, 12) + box(24, 0, 28, 2),
                "iscrowd": 0,
            },
        ]
    return {
        "images": [{"id": n, "height": height, "width": width} for n in numbers],
        "annotations": annotations,
        "categories": [{"id": i, "name": n} for i, n in zip(CATEGORY_IDS, COCO_CLASSES[1:])],
    }


@pytest.fixture
def coco_root(tmp_path):
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for part, numbers in (("train2017", [9, 25, 581929]), ("val2017", [139, 285])):
        for number in numbers:
            picture(root / f"{part}/{number:012d}.jpg", seed=number)
        (root / f"annotations/instances_{part}.json").write_text(json.dumps(instances(numbers)))
    return root


def expected_map(crowd=3):
    wanted = np.zeros((24, 32), np.uint8)
    wanted[4:20, 4:20] = 1
    wanted[2:6, 0:8] = crowd
    wanted[10:12, 16:18] = wanted[0:2, 24:28] = 80
    return wanted


def test_coco_masks_are_drawn_in_the_order_of_the_file(coco_root):
    assert data.make_coco_masks(coco_root) == 5
    task = data.load("coco", root=coco_root, labelled=["000000000009"])
    assert task.train.ids == ["000000000009", "000000000025", "000000581929"] and task.num_classes == 81
    assert task.val.ids == ["000000000139", "000000000285"] and task.crop == 513
    assert (task.train.read(0).label.numpy() == expected_map()).all()
    assert (task.train.read(2).label.numpy() == 0).all()
    assert task.classes[1] == "person" and task.classes[3] == "car" and task.classes[80] == "toothbrush"
    shutil.rmtree(coco_root / "masks")
    data.make_coco_masks(coco_root, crowd="void", workers=2)
    again = data.load(**json.loads(json.dumps(task.config)))
    assert (again.train.read(1).label.numpy() == expected_map(crowd=255)).all()


def test_coco_masks_that_are_there_stay(coco_root):
    told = []
    index_map(coco_root / "masks/000000000025.png", 81)
    before = (coco_root / "masks/000000000025.png").read_bytes()
    coco.get_coco(coco_root, archives=(), progress=lambda *t: told.append(t))
    assert (coco_root / "masks/000000000025.png").read_bytes() == before
    assert told == [(2, 2, "masks of train2017"), (2, 2, "masks of val2017")]
    coco.get_coco(coco_root, archives=(), progress=lambda *t: told.append(t))
    assert len(told) == 2


@pytest.mark.parametrize("layout", ["masks/train2017", "images"])
def test_coco_layouts(coco_root, layout):
    data.make_coco_masks(coco_root)
    for part in ("train2017", "val2017"):
        if layout == "images":
            (coco_root / "images").mkdir(exist_ok=True)
            (coco_root / part).rename(coco_root / "images" / part)
        else:
            (coco_root / "masks" / part).mkdir()
            for image in (coco_root / part).iterdir():
                (coco_root / f"masks/{image.stem}.png").rename(coco_root / f"masks/{part}/{image.stem}.png")
    task = data.load("coco", root=coco_root, labelled=1)
    assert all(task.train.read(row).label is not None for row in range(3)) and len(task.val) == 2


def test_coco_errors(coco_root):
    with pytest.raises(S4Error, match=r"COCO: 2 of 2 val images have no index map in .*s4kit data get coco --root"):
        data.load("coco", root=coco_root)
    data.make_coco_masks(coco_root)
    (coco_root / "masks/000000000025.png").unlink()
    assert data.load("coco", root=coco_root, labelled="all").unlabelled == (1,)
    path = coco_root / "annotations/instances_train2017.json"
    whole = json.loads(path.read_text())
    whole["categories"][0]["name"] = "cat"
    for broken, words in (
        (json.dumps(whole), "80 categories"),
        ("{}", "KeyError: 'categories'"),
        ("{", "JSONDecodeErr"),
    ):
        path.write_text(broken)
        with pytest.raises(S4Error, match=words):
            data.make_coco_masks(coco_root)
    whole = instances([9, 25, 581929])
    whole["annotations"][0]["segmentation"] = [[1.0, 2.0]]
    path.write_text(json.dumps(whole))
    (coco_root / "masks/000000000009.png").unlink()
    with pytest.raises(
        S4Error, match=r"1 instance maps of .*instances_train2017.json could not be drawn \(first: 000000000009"
    ):
        coco_masks.make_coco_masks(coco_root)
    path.unlink()
    with pytest.raises(S4Error, match=r"instances_train2017.json is missing. Unpack annotations_trainval2017.zip"):
        data.make_coco_masks(coco_root)


@pytest.fixture
def ade_root(tmp_path):
    """Raw maps: 0..150."""
    root = tmp_path / "ade"
    for split, name, n in (("training", "train", 4), ("validation", "val", 2)):
        for k in range(1, n + 1):
            picture(root / f"images/{split}/ADE_{name}_{k:08d}.jpg", seed=k)
            index_map(root / f"annotations/{split}/ADE_{name}_{k:08d}.png", 151, seed=k)
    return root


def test_ade20k_raw(ade_root):
    task = data.load("ade20k", root=ade_root, labelled=1)
    assert task.num_classes == 150 and task.train.ids[0] == "ADE_train_00000001" and "raw annotations" in task.protocol
    stored = np.array(Image.open(ade_root / "annotations/validation/ADE_val_00000001.png"))
    label = task.val.read(0).label.numpy()
    assert (label == stored - 1).all() and stored.dtype == np.uint8  # 0 - 1 is 255 in uint8: void
    with pytest.raises(S4Error, match="has the label id 150 at"):
        data.load("ade20k", root=ade_root, stored="shifted", labelled=1).val.read(0)


def test_ade20k_shifted(ade_root):
    raw = data.load("ade20k", root=ade_root, labelled=1).val.read(1).label
    for path in ade_root.glob("annotations/*/*.png"):
        Image.fromarray(np.array(Image.open(path)) - 1).save(path)
    task = data.load("ade20k", root=ade_root, labelled=1)
    assert task.config["stored"] == "shifted" and (task.val.read(1).label == raw).all()
    with pytest.raises(S4Error, match="has the label id 255 at"):
        data.load("ade20k", root=ade_root, stored="raw", labelled=1).val.read(0)


def test_ade20k_errors(ade_root, tmp_path):
    with pytest.raises(S4Error, match="stored='old': give 'raw'"):
        data.load("ade20k", root=ade_root, stored="old")
    (ade_root / "annotations/training/ADE_train_00000002.png").unlink()
    assert data.load("ade20k", root=ade_root, labelled="all").unlabelled == (1,)
    (ade_root / "annotations/validation/ADE_val_00000002.png").unlink()
    with pytest.raises(S4Error, match=r"1 validation images have no map in .*ADE_val_00000002.png"):
        data.load("ade20k", root=ade_root)
    shutil.rmtree(ade_root / "annotations/training")
    with pytest.raises(S4Error, match=r"annotations/training is not a folder. Expected: ROOT \(or ROOT/ADEChallenge"):
        data.load("ade20k", root=ade_root)


@pytest.mark.skipif(not TEST_DATA, reason="S4KIT_TEST_DATA is not set: no real samples")
def test_real_ade20k(tmp_path):
    real = Path(TEST_DATA) / "samples/ade20k/ADEChallengeData2016"
    for part in ("images", "annotations"):
        shutil.copytree(real / part / "validation", tmp_path / f"ADEChallengeData2016/{part}/validation")
        shutil.copytree(real / part / "validation", tmp_path / f"ADEChallengeData2016/{part}/training")
    task = data.load("ade20k", root=tmp_path, labelled=1)
    assert task.config["stored"] == "raw" and len(task.val) == 3
    names = [line.split("\t")[4] for line in (real / "objectInfo150.txt").read_text().splitlines()[1:]]
    assert [name.split(",")[0].strip() for name in names] == list(ADE20K_CLASSES)
    label = task.val.read(0).label
    shown = {ADE20K_CLASSES[c] for c in label.unique().tolist() if c != 255}
    assert {"wall", "floor"} <= shown or {"sky", "building"} & shown, shown
    assert ade20k.label_table("raw")[0] == 255
