"""ScanNet and S3DIS in their true layouts: right, and wrong in the ways that happen."""

import json
import shutil

import numpy as np
import pytest
import torch

import s4kit.data as data
from s4kit.errors import S4Error

VERTICES = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("alpha", "u1")]
NAMES = {"<f4": "float", "u1": "uchar", "<u2": "ushort"}


def ply(fields, rows):
    """A mesh as the release stores it, with one face behind its vertices."""
    head = [f"property {NAMES[kind]} {name}" for name, kind in fields]
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}", *head, "element face 1"]
    lines += ["property list uchar int vertex_indices", "end_header"]
    return ("\n".join(lines) + "\n").encode() + np.array(rows, fields).tobytes() + b"\x03" + bytes(12)


def scan(rng, count=400):
    """Vertices on a floor (z = 0) and of two boxes above it, by quarters; the classes and segments of the release."""
    places = rng.uniform(0, 0.8, (count, 3)) * (1, 1, 0)
    which = np.arange(count) % 4  # floor, a chair, a table, something that no class is for
    places += np.array([[0, 0, 0], [0, 0, 1], [4, 0, 0.5], [0, 5, 1]])[which]
    return places, np.array([2, 5, 7, 40])[which], 10 * which


@pytest.fixture
def scannet_root(tmp_path, monkeypatch):
    monkeypatch.setenv("S4KIT_CACHE", str(tmp_path / "cache"))
    rng, root = np.random.default_rng(0), tmp_path / "scannet"
    names = [f"scene000{k}_00" for k in range(4)]
    for name in names:
        folder = root / "scans" / name
        folder.mkdir(parents=True)
        places, label, segment = scan(rng)
        colour = np.full((len(places), 4), 200, np.uint8)
        rows = [(*place, *of) for place, of in zip(places, colour)]
        (folder / f"{name}_vh_clean_2.ply").write_bytes(ply(VERTICES, rows))
        rows = [(*row, one) for row, one in zip(rows, label)]
        (folder / f"{name}_vh_clean_2.labels.ply").write_bytes(ply([*VERTICES, ("label", "<u2")], rows))
        (folder / f"{name}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": segment.tolist()}))
        groups = [{"objectId": k, "label": "x", "segments": [10 * (k + 1)]} for k in range(3)]
        (folder / f"{name}.aggregation.json").write_text(json.dumps({"segGroups": groups}))
    (root / "scannetv2_train.txt").write_text("\n".join(names[:3]) + "\n")
    (root / "scannetv2_val.txt").write_text(names[3] + "\n")
    return root


def test_scannet(scannet_root):
    task = data.load("scannet", root=scannet_root, labelled=1, points=300)
    assert task.num_classes == 20 and len(task.train) == 3 and task.val.ids == ["scene0003_00"]
    assert task.evaluation.things == tuple(range(2, 20)) and "300 points a scan" in task.protocol
    cloud, ids = task.train.read(0), task.train.objects(0)
    assert cloud.points.shape == (300, 6) and ids.shape == (300,)
    chair, table, floor = (task.classes.index(name) for name in ("chair", "table", "floor"))
    assert set(cloud.label.tolist()) == {floor, chair, table, 255}
    assert set((ids[cloud.label == chair] // 1000).tolist()) == {chair} and (ids[cloud.label == 255] == 255).all()
    assert (ids[cloud.label == floor] == 0).all()
    heights = {name: cloud.points[cloud.label == c, 1].mean() for name, c in (("chair", chair), ("floor", floor))}
    assert heights["chair"] - heights["floor"] == pytest.approx(1, abs=1e-3), "z of the file is y here"
    assert (cloud.points[cloud.label == floor, 4] > 0.5).float().mean() > 0.9, "the floor looks up"
    again = data.load(**json.loads(json.dumps(task.config)))
    assert torch.equal(again.train.read(0).points, cloud.points) and again.labelled == task.labelled


def test_scannet_without_labels_is_still_unlabelled(scannet_root):
    task = data.load("scannet", root=scannet_root, labelled=["scene0000_00"], points=300)
    for file in (scannet_root / "scans" / "scene0001_00").glob("*.json"):
        file.unlink()
    assert task.train.read(1, label=False).points.shape == (300, 6)
    with pytest.raises(S4Error, match=r"segs\.json is missing"):
        task.train.read(1)


def test_scannet_that_is_broken(scannet_root):
    folder = scannet_root / "scans" / "scene0000_00"
    task = data.load("scannet", root=scannet_root, labelled="all", points=300, cache=False)
    mesh, labels = (folder / f"scene0000_00_vh_clean_2{end}" for end in (".ply", ".labels.ply"))
    whole = mesh.read_bytes()
    broken = {
        whole[:-2000]: "is cut off: of its 400 vertices",
        b"ply\nformat ascii 1.0\nend_header\nx": "no binary .* PLY",
        whole.replace(b"float z", b"float w"): "does not begin with vertices that have x, y, z",
    }
    for held, said in broken.items():
        mesh.write_bytes(held)
        with pytest.raises(S4Error, match=said):
            data.load("scannet", root=scannet_root, labelled="all", points=300, cache=False).train.read(0)
    mesh.write_bytes(whole)
    segments = folder / "scene0000_00_vh_clean_2.0.010000.segs.json"
    for text, said in (("{", "is damaged"), ('{"x": 1}', "cannot be read"), ('{"segIndices": [1, 2]}', "400 vertices")):
        segments.write_text(text)
        with pytest.raises(S4Error, match=said):
            task.train.read(0)
    labels.unlink()
    with pytest.raises(S4Error, match="is missing"):
        task.train.objects(0)
    mesh.unlink()
    with pytest.raises(S4Error, match=r"1 of the 3 scans of scannetv2_train\.txt are missing \(first: scene0000_00\)"):
        data.load("scannet", root=scannet_root)
    (scannet_root / "scannetv2_val.txt").unlink()
    with pytest.raises(S4Error, match=r"1 of the 3 scans"):
        data.load("scannet", root=scannet_root)
    shutil.rmtree(scannet_root / "scans")
    with pytest.raises(S4Error, match=r"scans is not a folder\. Expected"):
        data.load("scannet", root=scannet_root)


@pytest.fixture
def s3dis_root(tmp_path, monkeypatch):
    monkeypatch.setenv("S4KIT_CACHE", str(tmp_path / "cache"))
    rng, root = np.random.default_rng(0), tmp_path / "s3dis" / "Stanford3dDataset_v1.2_Aligned_Version"
    for area in range(1, 7):
        folder = root / f"Area_{area}" / "office_1" / "Annotations"
        folder.mkdir(parents=True)
        for name, at in (("floor_1", 0), ("chair_1", 1), ("chair_2", 2), ("stairs_1", 3)):
            places = rng.uniform(0, 1, (100, 3)) * (1, 1, 0) + (at, 0, at)
            rows = np.column_stack([places, np.full((100, 3), 128)])
            (folder / f"{name}.txt").write_text("".join(" ".join(f"{v:g}" for v in row) + "\n" for row in rows))
    return root.parent


def test_s3dis(s3dis_root):
    task = data.load("s3dis", root=s3dis_root, labelled=2, points=256, area=6)
    assert task.val.ids == ["Area_6/office_1"] and len(task.train) == 5 and "scored on area 6" in task.protocol
    cloud, ids = task.val.read(0), task.val.objects(0)
    names = {task.classes[c] for c in cloud.label.tolist()}
    assert names == {"floor", "chair", "clutter"} and len(ids.unique()) == 4
    assert torch.equal(ids // 1000, cloud.label.int()), "all classes have objects"
    high = {name: cloud.points[cloud.label == task.classes.index(name), 1].mean() for name in ("floor", "clutter")}
    assert high["clutter"] - high["floor"] == pytest.approx(3, abs=1e-3)


def test_s3dis_that_is_broken(s3dis_root):
    with pytest.raises(S4Error, match="no area 7"):
        data.load("s3dis", root=s3dis_root, area=7)
    task = data.load("s3dis", root=s3dis_root, labelled="all", points=256)
    folder = s3dis_root / "Stanford3dDataset_v1.2_Aligned_Version" / "Area_1" / "office_1" / "Annotations"
    file = folder / "chair_1.txt"
    whole = file.read_text()
    for text, said in (("1 2 3 4 5\x106 7\n", "no table of numbers"), ("1 2 3\n", "no rows of 6")):
        file.write_text(text)
        with pytest.raises(S4Error, match=said):
            task.train.read(0)
    file.write_text(whole)
    assert task.train.read(0).label is not None
    for one in folder.glob("*.txt"):
        one.unlink()
    with pytest.raises(S4Error, match=r"holds no \*\.txt"):
        data.load("s3dis", root=s3dis_root, labelled="all", points=256).train.read(0)
    shutil.rmtree(folder)
    with pytest.raises(S4Error, match=r"no folder of .*Area_1 holds Annotations"):
        data.load("s3dis", root=s3dis_root)
    shutil.rmtree(folder.parents[1])
    with pytest.raises(S4Error, match="Area_1 is not a folder"):
        data.load("s3dis", root=s3dis_root)


def test_how_to_come_by_them_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("S4KIT_DATA", str(tmp_path))
    for name, said in (("scannet", "terms of use"), ("s3dis", "form to be filled in")):
        with pytest.raises(S4Error, match=f"{name} is not at .*{said}"):
            data.load(name)
        with pytest.raises(S4Error, match=f"cannot be downloaded by the kit. .*{said}"):
            data.get(name)
