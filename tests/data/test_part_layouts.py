"""ShapeNetPart and PartNet in their true layouts: right, and wrong in the ways that happen."""

import json
import shutil

import numpy as np
import pytest
import torch

import s4kit.data as data
from s4kit.data.sets.partnet import merged
from s4kit.data.sets.shapenetpart import PARTS
from s4kit.errors import S4Error

OFFSETS = {"Airplane": "02691156", "Chair": "03001627"}


def table(rows):
    return "\n".join(" ".join(f"{value:g}" for value in row) for row in rows) + "\n"


@pytest.fixture
def shapenet_root(tmp_path):
    rng, root = np.random.default_rng(0), tmp_path / "snp"
    lists = {"train": [], "val": [], "test": []}
    for category, first in (("Airplane", 0), ("Chair", 12)):
        (root / OFFSETS[category]).mkdir(parents=True)
        for k, part in enumerate(("train", "train", "train", "val", "test")):
            points = 5 + 3 * rng.standard_normal((80 + k, 6))
            label = first + np.arange(80 + k) % 4
            (root / OFFSETS[category] / f"{category[0]}{k}.txt").write_text(table(np.column_stack([points, label])))
            lists[part].append(f"shape_data/{OFFSETS[category]}/{category[0]}{k}")
    (root / "synsetoffset2category.txt").write_text("".join(f"{c}\t{o}\n" for c, o in OFFSETS.items()))
    (root / "train_test_split").mkdir()
    for part, names in lists.items():
        (root / "train_test_split" / f"shuffled_{part}_file_list.json").write_text(json.dumps(names[::-1]))
    return root


def test_shapenetpart(shapenet_root):
    task = data.load("shapenetpart", root=shapenet_root, labelled="1/2", points=64)
    assert len(task.train) == 6 and len(task.labelled) == 3 and task.val.ids == ["Airplane/A3", "Chair/C3"]
    assert task.num_classes == 50 == sum(PARTS.values()) and len(task.levels["object"]) == 16
    cloud = task.train.read(task.train.ids.index("Chair/C0"))
    assert cloud.points.shape == (64, 6) and cloud.points[:, :3].norm(dim=1).max() <= 1 + 1e-6
    assert torch.allclose(cloud.points[:, 3:].norm(dim=1), torch.ones(64), atol=1e-5)
    assert set(cloud.label.tolist()) == {12, 13, 14, 15} and task.classes[12] == "Chair 1"
    assert task.levels["object"][task.parents["object"][12]] == "Chair"
    assert torch.equal(task.train.read(0).points, task.train.read(0).points), "the same points each time"
    again = data.load(**json.loads(json.dumps(task.config)))
    assert again.labelled == task.labelled and again.protocol == task.protocol
    assert len(data.load("shapenetpart", root=shapenet_root, labelled=2, points=100).train.read(0).label) == 100


def test_shapenetpart_of_one_category(shapenet_root):
    task = data.load(
        "shapenetpart", root=shapenet_root, labelled=2, points=64, categories="Chair", val="test", substituted=3
    )
    assert task.classes == ("Chair 1", "Chair 2", "Chair 3", "Chair 4") and not task.levels
    assert set(task.train.read(0).label.tolist()) == {0, 1, 2, 3} and task.val.ids == ["Chair/C4"]
    assert "scored on test, Chair alone" in task.protocol and len(task.labelled) == 5
    assert task.train.read(task.labelled[-1]).label.max() < 4


def test_shapenetpart_that_is_broken(shapenet_root):
    with pytest.raises(S4Error, match=r"no category 'Chairs'.*Chair"):
        data.load("shapenetpart", root=shapenet_root, categories="Chairs")
    file = shapenet_root / OFFSETS["Chair"] / "C0.txt"
    task = data.load("shapenetpart", root=shapenet_root, labelled="all", points=64)
    row = task.train.ids.index("Chair/C0")
    whole = file.read_text()
    broken = {
        "1 2 3\n": "3 numbers, which are no rows of 7",
        "": "0 numbers",
        "a b\n": "no table of numbers",
        f"{whole}0 0 0 0 0 1 3\n": "part 3 is none of Chair, which has 12 to 15",
    }
    for text, said in broken.items():
        file.write_text(text)
        with pytest.raises(S4Error, match=said):
            task.train.read(row)
    file.unlink()
    with pytest.raises(
        S4Error, match=r"1 of 6 files of shuffled_train_file_list.json are missing \(first: 03001627/C0.txt\)"
    ):
        data.load("shapenetpart", root=shapenet_root)
    (shapenet_root / "synsetoffset2category.txt").write_text("Chairs 03001627\n")
    with pytest.raises(S4Error, match="'Chairs 03001627' is no category"):
        data.load("shapenetpart", root=shapenet_root)
    (shapenet_root / "synsetoffset2category.txt").unlink()
    with pytest.raises(S4Error, match=r"synsetoffset2category\.txt is missing"):
        data.load("shapenetpart", root=shapenet_root)


LEVELS = {
    1: ["2 chair/chair_back subcomponents", "5 chair/chair_seat subcomponents"],
    2: ["3 chair/chair_back/surface subcomponents", "5 chair/chair_seat leaf", "7 chair/footrest/top leaf"],
    3: ["4 chair/chair_back/surface/bar leaf", "5 chair/chair_seat leaf", "7 chair/footrest/top leaf"],
}
MAPPING = {
    "chair": "chair", "chair/back": "chair/chair_back", "chair/back/surface": "chair/chair_back/surface",
    "chair/back/surface/rod": "chair/chair_back/surface/bar", "chair/seat": "chair/chair_seat",
    "chair/rest": "chair/footrest", "chair/rest/top": "chair/footrest/top",
}  # fmt: skip
TREE = {"name": "chair", "id": 0, "children": [
    {"name": "back", "id": 1, "children": [{"name": "surface", "id": 2, "children": [
        {"name": "rod", "id": 3, "objs": []}, {"name": "rod", "id": 4, "objs": []}]},
        {"name": "knob", "id": 9, "objs": []}]},
    {"name": "seat", "id": 5, "children": [{"name": "cushion", "id": 6, "objs": []}]},
    {"name": "rest", "id": 7, "children": [{"name": "top", "id": 8, "objs": []}]},
]}  # fmt: skip


@pytest.fixture
def partnet_root(tmp_path):
    rng, root = np.random.default_rng(0), tmp_path / "partnet"
    stats = root / "stats"
    for folder in ("after_merging2_label_ids", "merging2_hierarchy_mapping", "train_val_test_split"):
        (stats / folder).mkdir(parents=True)
    for level, lines in LEVELS.items():
        (stats / "after_merging2_label_ids" / f"Chair-level-{level}.txt").write_text("\n".join(lines) + "\n")
    (stats / "merging2_hierarchy_mapping" / "Chair.txt").write_text("".join(f"{a} {b}\n" for a, b in MAPPING.items()))
    for part, ids in {"train": ("42", "43", "44"), "val": ("7",), "test": ("8",)}.items():
        listed = [{"model_id": "m", "anno_id": name} for name in ids]
        (stats / "train_val_test_split" / f"Chair.{part}.json").write_text(json.dumps(listed))
        for name in ids:
            sampled = root / "data_v0" / name / "point_sample"
            sampled.mkdir(parents=True)
            (sampled.parent / "result.json").write_text(json.dumps([TREE]))
            rows = np.column_stack([rng.standard_normal((60, 6)), np.full((60, 3), 200), np.ones(60)])
            (sampled / "sample-points-all-pts-nor-rgba-10000.txt").write_text(table(rows))
            leaves = np.array([3, 4, 6, 8, 9])[np.arange(60) % 5]
            (sampled / "sample-points-all-label-10000.txt").write_text(table(leaves[:, None]))
    return root


def test_partnet(partnet_root):
    task = data.load("partnet", root=partnet_root, labelled=2, points=60)
    assert task.classes == ("chair_back/surface/bar", "chair_seat", "footrest/top")
    assert task.levels["level 1"] == ("chair_back", "chair_seat", "other")
    assert task.levels["level 2"] == ("chair_back/surface", "chair_seat", "footrest/top")
    assert task.parents == {"level 1": (0, 1, 2), "level 2": (0, 1, 2), "level 3": (0, 1, 2)}
    cloud = task.train.read(0)
    assert cloud.points.shape == (60, 6)
    assert torch.bincount(cloud.label.long(), minlength=256)[[0, 1, 2, 255]].tolist() == [24, 12, 12, 12]
    assert task.train.read(0, label=False).label is None and "Chair" in task.protocol
    fewer = data.load("partnet", root=partnet_root, labelled=2, points=40, val="test", substituted=2)
    assert len(fewer.train.read(fewer.labelled[-1]).label) == 40 and fewer.val.ids == ["8"]


def test_merged_parts_are_those_of_the_tree():
    found = dict(merged(TREE, MAPPING))
    assert found["chair"] == [3, 4, 9, 6, 8] and found["chair/chair_back"] == [3, 4, 9]
    assert found["chair/chair_back/surface/bar"] == [4], "of several nodes of one name the last; the reader takes all"
    assert [leaves for name, leaves in merged(TREE, MAPPING) if name.endswith("/bar")] == [[3], [4]]


def test_partnet_that_is_broken(partnet_root):
    with pytest.raises(S4Error, match=r"no parts of the category 'Lamp' in .*: Chair"):
        data.load("partnet", root=partnet_root, category="Lamp")
    task, folder = data.load("partnet", root=partnet_root, labelled="all"), partnet_root / "data_v0" / "42"
    label = folder / "point_sample" / "sample-points-all-label-10000.txt"
    label.write_text("3\n4\n")
    with pytest.raises(S4Error, match="60 points but 2 labels"):
        task.train.read(0)
    (folder / "result.json").write_text("[{")
    label.write_text("3\n" * 60)
    with pytest.raises(S4Error, match=r"result\.json is damaged"):
        task.train.read(0)
    assert task.train.read(0, label=False).label is None
    shutil.rmtree(folder)
    with pytest.raises(S4Error, match=r"1 of 3 objects of Chair.train.json \(first: 42\) not in"):
        data.load("partnet", root=partnet_root)
    shutil.rmtree(partnet_root / "data_v0")
    with pytest.raises(S4Error, match=r"data is not a folder\. Expected: .*data_v0"):
        data.load("partnet", root=partnet_root)


def test_how_to_come_by_them_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("S4KIT_DATA", str(tmp_path))
    for name, said in (("shapenetpart", "register at https://shapenet.org"), ("partnet", "git clone")):
        with pytest.raises(S4Error, match=f"{name} is not at .*{said}"):
            data.load(name)
        with pytest.raises(S4Error, match=f"cannot be downloaded by the kit. .*{said}"):
            data.get(name)
